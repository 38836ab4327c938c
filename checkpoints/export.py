"""The policy of a checkpoint is written alone, as checkpoints/pretrained/ holds it."""

import os
import shutil
import tempfile
from pathlib import Path

from checkpoints.disk import CheckpointError
from checkpoints.manifest import read_manifest
from checkpoints.store import About, load, save

POLICY = ("actor_average", "normalizer")
"""The parts of an agent that its deterministic policy needs."""


def export_policy(source: Path, target: Path, command: str) -> None:
    """Writes the policy alone of checkpoint `source` into the directory `target`.

    Its configuration, its success and `command`, which made it, go with it. An older export is replaced. Raises
    CheckpointError where `target` is anything else, and leaves it as it is.
    """
    if os.path.lexists(target) and not _is_export(target):
        raise CheckpointError(f"{target} is there already and is no exported policy; name another directory")
    state, manifest = load(source, only=["agent"])
    if not set(POLICY) <= state["agent"].keys():
        raise CheckpointError(f"{source} holds no such policy: older code wrote it; train it again")
    policy = {"agent": {name: state["agent"][name] for name in POLICY}}
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
