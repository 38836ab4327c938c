"""The networks of a checkpoint are written alone, as checkpoints/pretrained/ holds them."""

import os
import shutil
import tempfile
from pathlib import Path

from checkpoints.disk import CheckpointError
from checkpoints.manifest import read_manifest
from checkpoints.retention import best
from checkpoints.store import About, find, list_checkpoints, load, save, verify

PRETRAINED = Path(__file__).parent / "pretrained"
POLICY = ("actor_average", "normalizer")
"""The parts of an agent that its deterministic policy needs."""
NETWORKS = (*POLICY, "actor", "critic", "critic_target", "log_alpha")
"""Those that a new run can begin with."""


def find_policy(name: str, best_one: bool = False) -> tuple[Path, list[str]]:
    """Returns the checkpoint that a run directory, a checkpoint's path, or a shipped policy's name stands for.

    And what is wrong with newer ones of that run. Of a run it is the newest good one, or the best by success. Raises
    CheckpointError.
    """
    if best_one and not (Path(name) / "checkpoints").is_dir():
        raise CheckpointError(f"--checkpoint best: is for a run directory, and {name} is none")
    if best_one:
        manifests, problems = {}, []
        for path in list_checkpoints(Path(name) / "checkpoints"):
            try:
                manifests[path] = verify(path, only=["agent"])
            except CheckpointError as error:
                problems.append(str(error))
        found = best(manifests)
        if found is None:
            raise CheckpointError(f"{name}: none of its checkpoints was evaluated; leave --checkpoint best out")
        return found, problems
    if Path(name).is_dir():
        return find(Path(name), only=["agent"])
    shipped = PRETRAINED.iterdir() if PRETRAINED.is_dir() else ()
    pretrained = sorted(entry.name for entry in shipped if entry.is_dir())
    if name in pretrained:
        return PRETRAINED / name, []
    raise CheckpointError(
        f"{name}: no such run directory or checkpoint, and no pretrained policy "
        f"({', '.join(pretrained) or 'none came with the code'})"
    )


def export_policy(source: Path, target: Path, command: str) -> None:
    """Writes the networks alone of checkpoint `source` into the directory `target`.

    Its configuration, its success and `command`, which made it, go with them. An older export is replaced. Raises
    CheckpointError where `target` is anything else, and leaves it as it is.
    """
    if os.path.lexists(target) and not _is_export(target):
        raise CheckpointError(f"{target} is there already and is no exported policy; name another directory")
    state, manifest = load(source, only=["agent"])
    if not set(NETWORKS) <= state["agent"].keys():
        raise CheckpointError(f"{source} holds no such networks: older code wrote it; train it again")
    policy = {
        "agent": {name: state["agent"][name] for name in NETWORKS},
        "progress": {"reward_scale": manifest.values["progress"]["reward_scale"]},  # what critics count in
    }
    about = About(manifest.config | {"command": command}, manifest.versions, manifest.fingerprint)
    target.parent.mkdir(parents=True, exist_ok=True)
    # In a directory of its own: beside the target could lie the very checkpoint that it comes from.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        saved = save(Path(scratch), manifest.step, policy, about, manifest.success)
        if target.exists():
            shutil.rmtree(target)
        saved.rename(target)


def _is_export(path: Path) -> bool:
    """Tells whether export_policy wrote `path`, which is then nobody's other directory, and no run's checkpoint."""
    try:
        return "command" in read_manifest(path).config
    except CheckpointError:
        return False
