"""Writes, verifies, lists and restores training states. pretrained/ holds the policies that come along."""

from checkpoints.disk import CheckpointError, make_directory, sync_directory, write_file
from checkpoints.export import NETWORKS, POLICY, PRETRAINED, export_policy, find_policy
from checkpoints.manifest import FormatError, Manifest, has_manifest, read_manifest
from checkpoints.retention import best, prune, remove
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
from checkpoints.tree import digest, not_finite
from checkpoints.writer import CheckpointWriter

__all__ = [
    "NETWORKS",
    "POLICY",
    "PRETRAINED",
    "About",
    "CheckpointError",
    "CheckpointWriter",
    "FormatError",
    "Manifest",
    "best",
    "digest",
    "export_policy",
    "find",
    "find_policy",
    "has_manifest",
    "list_checkpoints",
    "list_unfinished",
    "load",
    "make_directory",
    "newest_valid",
    "not_finite",
    "prune",
    "read_manifest",
    "remove",
    "save",
    "step_of",
    "sync_directory",
    "verify",
    "write_file",
]
