"""The policy of a checkpoint alone: what checkpoints/pretrained/ holds."""

import os
import shutil
import tempfile
from pathlib import Path

from checkpoints.manifest import CheckpointError, read_manifest
from checkpoints.store import About, load, save


def export_policy(source: Path, target: Path, command: str) -> None:
    """Writes the policy alone of checkpoint `source` into the directory `target`, with its configuration, its
    success and the command that made it.

    Replaces an older export. Raises CheckpointError where `target` is anything else, and leaves it as it is.
    """
    if os.path.lexists(target) and not _is_export(target):
        raise CheckpointError(f"{target} is there already and is no exported policy; name another directory")
    state, manifest = load(source, only=["agent"])
    if "actor_average" not in state["agent"]:
        raise CheckpointError(f"{source} holds no averaged policy: older code wrote it; train it again")
    policy = {"agent": {"actor_average": state["agent"]["actor_average"]}}
    about = About(manifest.config | {"command": command}, manifest.versions, manifest.fingerprint)
    target.parent.mkdir(parents=True, exist_ok=True)
    # In a directory of its own: beside the target could lie the very checkpoint that it comes from.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        saved = save(Path(scratch), manifest.step, policy, about, manifest.success)
        if target.exists():
            shutil.rmtree(target)
        saved.rename(target)


def _is_export(path: Path) -> bool:
    """Whether `path` is what export_policy wrote: nobody's other directory, and no run's checkpoint."""
    try:
        return "command" in read_manifest(path).config
    except CheckpointError:
        return False
