"""States are written so that a half-written one never counts, and read so that no damage passes.

    checkpoints/
        segments/                       rows of the logs, each in one file for all checkpoints that need it
        step_000010000/
            agent.safetensors           one file for each part of the state that holds arrays
            manifest.json               names all of them, with size and hash; and holds everything that is no array

The manifest is renamed into place last, and nothing else makes a directory a checkpoint. Nothing in it can run code.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.disk import (
    CheckpointError,
    empty_directory,
    make_directory,
    sync_directory,
    verify_file,
    write_file,
)
from checkpoints.manifest import (
    MANIFEST,
    File,
    FormatError,
    LogEntry,
    Manifest,
    Segment,
    has_manifest,
    part_file,
    read_manifest,
    step_of,
)
from checkpoints.segments import SEGMENTS, LogSnapshot, StoredLog, snapshot
from checkpoints.tensors import check_like, encode, read_arrays
from checkpoints.tree import SEPARATOR, join, split

State = Mapping[str, Mapping[str, Any]]
_SLACK = 256 * 2**20
"""Bytes that a part's file may have beyond 16 times the arrays that are expected in it."""


@dataclass(frozen=True)
class About:
    """Tells what a checkpoint holds of its run besides the state. Its fields are Manifest's."""

    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """Holds a state of one instant in memory of its own, so that the run may go on while it is written."""

    step: int
    success: float | None
    about: About
    arrays: dict[str, dict[str, np.ndarray]]
    values: dict[str, Any]
    logs: dict[str, LogSnapshot]


def take_snapshot(
    root: Path,
    step: int,
    state: State,
    about: About,
    success: float | None = None,
    known: Mapping[str, LogEntry] | None = None,
) -> Snapshot:
    """Copies `state`, but for the rows that `known` logs in `root` hold already.

    Raises ValueError where a key in it cannot be one.
    """
    known = known or {}
    arrays, values, logs = {}, {}, {}
    for part, tree in state.items():
        found, part_logs, numbers = split(tree)
        values[part] = deepcopy(numbers)  # lists are as live as arrays
        arrays[part] = {key: np.array(array, order="C") for key, array in found.items()}
        for key, log in part_logs.items():
            name = f"{part}{SEPARATOR}{key}"
            logs[name] = snapshot(log, name, known[name].segments if name in known else [], root / SEGMENTS)
    return Snapshot(step, success, about, arrays, values, logs)


def write(root: Path, taken: Snapshot) -> Manifest:
    """Writes a snapshot as root/step_…, and returns its manifest.

    Raises OSError, with nothing half-written counted, and ValueError, TypeError for a state that cannot be written.
    """
    # All of it as bytes before the disk is touched: a state that cannot be written must not cost an older checkpoint.
    parts = {part: encode(arrays) for part, arrays in taken.arrays.items() if arrays}
    rows = {name: {span: encode(columns) for span, columns in log.new.items()} for name, log in taken.logs.items()}
    segments = {
        name: {span: Segment(*span, len(data), _sha256(data)) for span, data in new.items()}
        for name, new in rows.items()
    }
    manifest = Manifest(
        step=taken.step,
        success=taken.success,
        fingerprint=taken.about.fingerprint,
        config=dict(taken.about.config),
        versions=dict(taken.about.versions),
        files={part: File(len(data), _sha256(data)) for part, data in parts.items()},
        logs={
            name: LogEntry(log.first, [segment for _, segment in sorted((log.old | segments[name]).items())])
            for name, log in taken.logs.items()
        },
        values=taken.values,
        saved=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    encoded = manifest.encode()
    names = {part: part_file(part) for part in taken.values}

    path = root / f"step_{taken.step:09d}"
    if path.exists():
        # Left by a crash, or damaged and passed over: the new one replaces it. The directory stays, as it tells a run
        # whose first checkpoint was never finished from one that has lost its checkpoints.
        empty_directory(path, MANIFEST)
    make_directory(path)
    sync_directory(root.parent)  # `root` may be the work of a process that was killed before it came to this
    if rows:
        make_directory(root / SEGMENTS)
        for name, new in rows.items():
            for span, data in new.items():
                write_file(root / SEGMENTS / segments[name][span].name(name), data)
        sync_directory(root / SEGMENTS)
    for part, data in parts.items():
        write_file(path / names[part], data)
    sync_directory(path)
    write_file(path / MANIFEST, encoded)
    sync_directory(path)
    return manifest


def save(root: Path, step: int, state: State, about: About, success: float | None = None) -> Path:
    """Takes a snapshot of `state`, writes it, and returns the checkpoint's path. Raises as `write` does."""
    write(root, take_snapshot(root, step, state, about, success))
    return root / f"step_{step:09d}"


def load(path: Path, only: Iterable[str] | None = None, expected: State | None = None) -> tuple[dict, Manifest]:
    """Returns the state of a checkpoint, and its manifest.

    Every byte that is returned has been checked against the manifest, and what `expected` names against its shape and
    dtype. The caller may trust it. A log comes back as StoredLog, which checks its files when it is asked for rows.

    Args:
        only: the parts to read, instead of all.
        expected: arrays and logs, as nested as in the state, that must be there: arrays with the same shape and dtype,
            logs with columns of the same dtypes and row shapes. There may be more, and values are not compared. A
            file that is far larger than they are is refused before it is read.

    Raises CheckpointError, which names the file, the key and both shapes.
    """
    manifest = read_manifest(path)
    parts = set(manifest.values) if only is None else set(only)
    like = {part: split(tree)[:2] for part, tree in (expected or {}).items() if only is None or part in parts}
    if missing := (parts | like.keys()) - manifest.values.keys():
        raise CheckpointError(f"{path} holds no {', '.join(sorted(missing))}; it may be a policy without its training")
    state = {}
    for part in sorted(parts):
        arrays, logs = like.get(part, ({}, {}))
        leaves: dict[str, Any] = {}
        file = path / part_file(part)
        if entry := manifest.files.get(part):
            leaves |= read_arrays(file, entry.size, entry.sha256, _limit(arrays) if part in like else None)
        check_like(file, leaves, arrays)
        for name, logged in manifest.logs.items():
            owner, _, key = name.partition(SEPARATOR)
            if owner == part:
                leaves[key] = log = StoredLog(path.parent / SEGMENTS, name, logged, logs.get(key))
                if key in logs and log.first < log.last:
                    log.read(log.first, log.first + 1)  # one that does not fit is told now; the file is kept for later
        if missing := logs.keys() - leaves.keys():
            raise CheckpointError(f"{path} holds no {', '.join(sorted(missing))} in {part}; use the code that wrote it")
        state[part] = join(leaves, manifest.values[part])
    return state, manifest


def verify(path: Path, only: Iterable[str] | None = None, verified: set[str] | None = None) -> Manifest:
    """Reads every byte of a checkpoint, or of the parts named in `only`, and returns its manifest.

    Args:
        verified: names of segments that need not be read again. Those that were read are added to it.

    Raises CheckpointError, which names the first file that is not what was written.
    """
    manifest = read_manifest(path)
    parts = set(manifest.values) if only is None else set(only)
    for part, entry in manifest.files.items():
        if part in parts:
            verify_file(path / part_file(part), entry.size, entry.sha256)
    verified = set() if verified is None else verified
    for log, logged in manifest.logs.items():
        for segment in logged.segments if log.partition(SEPARATOR)[0] in parts else ():
            name = segment.name(log)
            if name not in verified:
                verify_file(path.parent / SEGMENTS / name, segment.size, segment.sha256)
                verified.add(name)
    return manifest


def list_checkpoints(root: Path) -> list[Path]:
    """Returns the checkpoint directories in `root`, oldest first, without those that were never finished.

    Empty where there is no `root`. Raises CheckpointError where it cannot be read: that is not the same as empty.
    """
    return [path for path in _directories(root) if has_manifest(path)]


def list_unfinished(root: Path) -> list[Path]:
    """Returns the checkpoint directories in `root` that were never finished, oldest first. Raises CheckpointError."""
    return [path for path in _directories(root) if not has_manifest(path)]


def newest_valid(root: Path, only: Iterable[str] | None = None) -> tuple[Path | None, list[str]]:
    """Returns the newest checkpoint that verifies (None where there is none), and what is wrong with newer ones.

    Args:
        only: the parts that are to be used.

    Raises FormatError where a newer one is not damaged but other code's, and CheckpointError where `root` cannot be
    read.
    """
    problems = []
    for path in reversed(list_checkpoints(root)):
        try:
            verify(path, only)
        except FormatError:
            raise
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def find(path: Path, only: Iterable[str] | None = None) -> tuple[Path, list[str]]:
    """Returns the checkpoint that `path` stands for, and what is wrong with newer ones.

    That is the newest one that verifies where `path` is a run directory, and else the one at `path`, as it is.
    Raises CheckpointError. `only` is newest_valid's.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run directory or checkpoint")
    if not (path / "checkpoints").is_dir():
        return path, []
    newest, problems = newest_valid(path / "checkpoints", only)
    if newest is None:
        raise CheckpointError("; ".join([f"{path} holds no checkpoint that can be used", *problems]))
    return newest, problems


def _directories(root: Path) -> list[Path]:
    """Returns the directories in `root` that are named as checkpoints are, finished or not, by step."""
    # Not Path.glob, which takes a directory that it may not read for an empty one.
    try:
        with os.scandir(root) as entries:
            paths = [root / entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{root} cannot be read ({error.strerror}); make it readable and try again") from error
    steps = {path: step for path in paths if (step := step_of(path)) is not None}
    return sorted(steps, key=steps.__getitem__)


def _limit(arrays: Mapping[str, np.ndarray]) -> int:
    """Returns the bytes that a part's file may have: next to one network may lie its targets and an optimiser."""
    return 16 * sum(array.nbytes for array in arrays.values()) + _SLACK


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
