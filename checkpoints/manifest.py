"""A checkpoint tells of itself in one JSON file, which names every other file with its size and hash.

Its size is bounded, its own hash is checked, no name in it leads out of the directory, and nothing in it can run code.
What passes that was written by this code, and is trusted.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from checkpoints.disk import TEMPORARY, CheckpointError, read_file

FORMAT = 3
READ = (2, 3)
"""Formats that this code reads. 2 did not say when a checkpoint was saved."""
MANIFEST = "manifest.json"
LIMIT = 2 * 2**20
"""Bytes that a manifest may have, enough for the segments of 60 million rows; one of 16 MB takes seconds to parse."""
_NAME = re.compile(r"step_([0-9]{9,})")  # nine digits or more: what :09d writes
_PART = re.compile(r"[a-z][a-z0-9_]{0,63}")
SEGMENT_FILE = re.compile(rf"[a-z0-9_-]+-[0-9]{{12}}-[0-9]{{12}}-[0-9a-f]{{16}}\.safetensors({re.escape(TEMPORARY)})?")
"""Names of segments' files, those begun included."""


class FormatError(CheckpointError):
    """Other code wrote the checkpoint. It is not damaged: falling back to an older one would lose steps."""


@dataclass(frozen=True)
class File:
    """Holds the size in bytes and the SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """Names one file of a log, which holds rows `first` … `last` - 1 and never changes once it is written."""

    first: int
    last: int
    size: int
    sha256: str

    def name(self, log: str) -> str:
        """Returns its file's name. Its content decides it, so checkpoints can share a file, and none is overwritten."""
        return f"{log.replace('|', '-')}-{self.first:012d}-{self.last:012d}-{self.sha256[:16]}.safetensors"


@dataclass(frozen=True)
class LogEntry:
    """Tells where a log's rows from `first` on lie, in order. The first segment may hold rows before them."""

    first: int
    segments: list[Segment]


@dataclass(frozen=True)
class Manifest:
    """Tells of one checkpoint: how far the run that wrote it had come, with what, and where its state lies.

    success: the evaluation's rate at this very step, or None. Of a task that tells no success it is the mean return.
    fingerprint: of the simulated model, or None. files: of the parts that hold arrays, by part. logs: by joined key.
    values: the parts' numbers and strings. saved: when, in UTC (ISO 8601), or "" where nobody knows.
    """

    step: int
    success: float | None
    fingerprint: str | None
    config: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, File]
    logs: dict[str, LogEntry]
    values: dict[str, Any]
    format: int = FORMAT
    saved: str = ""

    def encode(self) -> bytes:
        """Returns it as JSON, its own hash included. Raises ValueError, TypeError for what could not be read again."""
        content = asdict(self)
        encoded = _spelt(content | {"sha256": _digest(content)})
        if len(encoded) > LIMIT:
            raise ValueError(f"a manifest of {len(encoded)} bytes: large numbers of values belong into arrays")
        _decoded(_authentic(encoded), encoded)
        return encoded


_KNOWN = {field.name for field in fields(Manifest)} | {"sha256"}


def part_file(part: str) -> str:
    """Returns the name of the file that holds the arrays of one part of a state. Raises ValueError."""
    if not _PART.fullmatch(part):
        raise ValueError(f"a part of a state cannot be called {part!r:.80}")
    return f"{part}.safetensors"


def has_manifest(path: Path) -> bool:
    """Tells whether `path` is a finished checkpoint. One that may not be looked at counts: reading it will say why."""
    try:
        os.stat(path / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_manifest(path: Path) -> Manifest:
    """Returns the manifest of the checkpoint directory `path`. Raises CheckpointError."""
    if not has_manifest(path):
        raise CheckpointError(f"{path} is no checkpoint: it has no {MANIFEST}")
    file = path / MANIFEST
    data = read_file(file, LIMIT)
    try:
        content = _authentic(data)
        if content.get("format") not in READ:
            raise FormatError(
                f"{file} has format {content.get('format')!r:.20}, and this code reads up to {FORMAT}; "
                "use the code that wrote it"
            )
        if unknown := sorted(content.keys() - _KNOWN):
            raise FormatError(f"{file} says what this code does not know ({', '.join(unknown):.80}); use a newer one")
        manifest = _decoded(content, data)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({error!s:.200}); use an older checkpoint") from error
    named = step_of(path)
    if named is not None and named != manifest.step:
        raise CheckpointError(f"{path} holds step {manifest.step:,}: it was renamed; give it back the name of its step")
    return manifest


def step_of(path: Path) -> int | None:
    """Returns the step of a checkpoint's name, or None for every other name, `step_000000300.bak` among them."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def _spelt(content: dict[str, Any]) -> bytes:
    # An item a line, as far as the faster one of Python's two JSON encoders goes.
    return json.dumps(content, allow_nan=False, separators=(",\n", ": ")).encode()


def _authentic(data: bytes) -> dict[str, Any]:
    """Returns what a manifest of any format says, if its hash is right: a flipped bit must not pass for another format.

    Raises ValueError, LookupError, TypeError, AttributeError, RecursionError where it is none.
    """
    content = json.loads(data)
    if content["sha256"] != _digest({name: item for name, item in content.items() if name != "sha256"}):
        raise ValueError("its SHA-256 is not the one it states")
    return content


def _decoded(content: dict[str, Any], data: bytes) -> Manifest:
    """Returns `content`, read from `data`, as a manifest. Raises ValueError where a name in it cannot be one."""
    # The hash is of the content: a flipped bit in the spelling of a number does not show in it.
    if _spelt(content) != data:
        raise ValueError("it is not spelt as it was written")
    del content["sha256"]
    files = {part: File(**entry) for part, entry in content["files"].items()}
    logs = {
        log: LogEntry(entry["first"], [Segment(**segment) for segment in entry["segments"]])
        for log, entry in content["logs"].items()
    }
    for part in (*files, *content["values"]):
        part_file(part)
    for name in (segment.name(log) for log, entry in logs.items() for segment in entry.segments):
        if not SEGMENT_FILE.fullmatch(name):
            raise ValueError(f"a segment cannot be called {name!r:.80}")
    return Manifest(**content | {"files": files, "logs": logs})


def _digest(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a manifest's content without the digest, the same before writing and after reading."""
    return hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()
