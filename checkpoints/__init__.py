"""How a training state is written, verified, listed and restored; pretrained/ holds the policies that come along."""

from pathlib import Path

from checkpoints.store import (
    CheckpointError,
    Manifest,
    export_policy,
    list_checkpoints,
    list_unfinished,
    load,
    newest_valid,
    prune,
    read_manifest,
    save,
    verify,
)

PRETRAINED = Path(__file__).parent / "pretrained"

__all__ = [
    "PRETRAINED",
    "CheckpointError",
    "Manifest",
    "export_policy",
    "list_checkpoints",
    "list_unfinished",
    "load",
    "newest_valid",
    "prune",
    "read_manifest",
    "save",
    "verify",
]
