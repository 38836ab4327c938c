"""Writes, verifies, lists and restores training states. pretrained/ holds the policies that come along."""

from pathlib import Path

from checkpoints.disk import CheckpointError, make_directory, sync_directory, write_file
from checkpoints.export import POLICY, export_policy
from checkpoints.manifest import FormatError, Manifest, read_manifest
from checkpoints.retention import prune
from checkpoints.store import (
    About,
    find,
    list_checkpoints,
    list_unfinished,
    load,
    newest_valid,
    save,
    step_of,
    verify,
)
from checkpoints.tree import check_savable, digest, not_finite
from checkpoints.writer import CheckpointWriter

PRETRAINED = Path(__file__).parent / "pretrained"

__all__ = [
    "POLICY",
    "PRETRAINED",
    "About",
    "CheckpointError",
    "CheckpointWriter",
    "FormatError",
    "Manifest",
    "check_savable",
    "digest",
    "export_policy",
    "find",
    "list_checkpoints",
    "list_unfinished",
    "load",
    "make_directory",
    "newest_valid",
    "not_finite",
    "prune",
    "read_manifest",
    "save",
    "step_of",
    "sync_directory",
    "verify",
    "write_file",
]
