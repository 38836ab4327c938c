"""What decides the bits of a run besides its options: kept with each checkpoint, compared when one is continued."""

import hashlib
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sac import SAC, describe_device
from training.config import TrainConfig
from training.resume.run_directory import Start

ROOT = Path(__file__).parents[2]
ROOMS = ("sac", "her", "env", "training")
PACKAGES = ("torch", "mujoco", "numpy")


def current_versions(agent: SAC, env: str) -> dict[str, str]:
    """Returns the packages, this code, somebody's own environment `env`, the processor, and how updates run."""
    device = agent.device
    return {name: importlib.metadata.version(name) for name in PACKAGES} | {
        "code": code_hash(),
        **environment_hash(env),
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "updates": "compiled" if agent.compiled else "eager",
        "threads": str(torch.get_num_threads()),
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
    }


def code_hash() -> str:
    """The first 12 hex digits of the SHA-256 over everything that training runs through."""
    sha256 = hashlib.sha256()
    for path in [ROOT / "train.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]:
        sha256.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return sha256.hexdigest()[:12]


def environment_hash(env: str) -> dict[str, str]:
    """Returns the same over the modules that were imported from the folder of MODULE:CALLABLE, as {MODULE: hash}."""
    module = env.partition(":")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return {}
    files = {Path(each.__file__) for each in list(sys.modules.values()) if getattr(each, "__file__", None)}
    sha256 = hashlib.sha256()
    for path in sorted(path for path in files if path.parent == Path(file).parent and path.is_file()):
        sha256.update(path.name.encode() + path.read_bytes())
    return {module: sha256.hexdigest()[:12]}


def how_started(
    agent: SAC, config: TrainConfig, start: Start, env_steps: int, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns, as JSON holds it, who starts or goes on with a run here and now, with what, and where it comes from."""
    started = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "env_steps": env_steps,
        "argv": sys.argv,
        **git_state(ROOT),
        "machine": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "device": describe_device(agent.device),
        "versions": current_versions(agent, config.env),
        "notes": list(notes),
    }
    if not start.own:
        started |= {"branched_from": str(start.checkpoint), "changed": start.changed}
    return started


def git_state(root: Path) -> dict[str, Any]:
    """Returns the commit of the checkout `root`, and whether anything in it is otherwise. {} where it is none."""
    if not (root / ".git").exists():  # an installed copy may lie in somebody else's repository
        return {}
    try:
        commit, changes = (
            subprocess.run(["git", "-C", root, *command], capture_output=True, text=True, timeout=10, check=True).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit.strip(), "dirty": bool(changes)}


def version_notes(saved: Mapping[str, str], running: Mapping[str, str]) -> list[str]:
    """A sentence for each thing in which a checkpoint was saved otherwise than it is continued: its bits may differ."""
    return [
        f"saved with {name} {saved[name]}, running {now}: the continued run may not be bit-exact"
        for name, now in running.items()
        if name in saved and saved[name] != now
    ]
