"""What a checkpoint says of itself: one JSON file that names every other file, with its size and hash.

It is read as if a stranger had written it: sizes are bounded, names are checked, and nothing in it can run code.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from checkpoints.disk import UnexpectedFile, read_file

FORMAT = 2
MANIFEST = "manifest.json"
LIMIT = 2 * 2**20
"""Bytes that a manifest may have, enough for the segments of 60 million rows; one of 16 MB takes seconds to parse."""
_PART = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another format; the message names the file and what to do."""


class FormatError(CheckpointError):
    """A checkpoint that other code wrote. It is not damaged: falling back to an older one would lose steps."""


def unusable(file: Path, error: OSError | UnexpectedFile) -> CheckpointError:
    """What to tell of a file that cannot be read, or is not the one that was written."""
    problem = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
    return CheckpointError(f"{file} {problem}; use an older checkpoint")


@dataclass(frozen=True)
class File:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """One file of a log: its rows `first` up to, not including, `last`. Never changed once it is written."""

    first: int
    last: int
    size: int
    sha256: str

    def name(self, log: str) -> str:
        """Its content decides its name: what two checkpoints share is one file, and nothing is ever overwritten."""
        return f"{log.replace('|', '-')}-{self.first:012d}-{self.last:012d}-{self.sha256[:16]}.safetensors"


@dataclass(frozen=True)
class LogEntry:
    """A log: its rows from `first` on lie in `segments`, in order; the first segment may hold rows before them."""

    first: int
    segments: list[Segment]


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    step: environment steps of the run so far; success: the evaluation's success rate at this very step, or None;
    fingerprint: of the model that the run simulates, or None; config, versions: of the run that wrote it;
    files: of the parts that hold arrays, by part; logs: by joined key;
    values: the parts' numbers and strings.
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

    def encode(self) -> bytes:
        """As JSON, its own hash included. Raises ValueError, TypeError for what could not be read again."""
        content = asdict(self)
        encoded = _spelt(content | {"sha256": _digest(content)})
        if len(encoded) > LIMIT:
            raise ValueError(f"a manifest of {len(encoded)} bytes: large numbers of values belong into arrays")
        _checked(_authentic(encoded), encoded)
        return encoded


def part_file(part: str) -> str:
    """The name of the file that holds the arrays of one part of a state. Raises ValueError."""
    if not _PART.fullmatch(part):
        raise ValueError(f"a part of a state cannot be called {part!r}")
    return f"{part}.safetensors"


def read_manifest(path: Path) -> Manifest:
    """The manifest of the checkpoint directory `path`. Raises CheckpointError."""
    file = path / MANIFEST
    try:
        data = read_file(file, LIMIT)
        content = _authentic(data)
        if content["format"] != FORMAT:
            raise FormatError(
                f"{file} has format {content['format']!r:.20}, and this code reads format {FORMAT}; "
                "use the code that wrote it"
            )
        return _checked(content, data)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path} is no checkpoint: it has no {MANIFEST}") from None
    except (OSError, UnexpectedFile) as error:
        raise unusable(file, error) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({error!s:.200}); use an older checkpoint") from error


def _spelt(content: dict[str, Any]) -> bytes:
    # An item a line, as far as the faster one of Python's two JSON encoders goes.
    return json.dumps(content, allow_nan=False, separators=(",\n", ": ")).encode()


def _authentic(data: bytes) -> dict[str, Any]:
    """What a manifest of any format says, if its hash is right: a flipped bit must not pass for another format.

    Raises ValueError, LookupError, TypeError, AttributeError, RecursionError where it is none.
    """
    content = json.loads(data, parse_constant=_no_number)
    unsigned = {name: item for name, item in content.items() if name != "sha256"}
    _require(content["sha256"] == _digest(unsigned), "its SHA-256 is not the one it states")
    _require(_is_count(content["format"]), "its format is no number")
    return content


def _checked(content: dict[str, Any], data: bytes) -> Manifest:
    """The manifest that `content`, read from `data`, is. Raises ValueError, LookupError, TypeError where it is none."""
    # The hash is of the content: another spelling of a number, or a key given twice, does not show in it.
    _require(_spelt(content) == data, "it is not spelt as it was written")
    del content["sha256"]
    for name in ("config", "versions", "files", "logs", "values"):
        _require(isinstance(content[name], dict), f"its {name} are no table")
    _require(_is_count(content["step"]), "its step is no count")
    success, fingerprint = content["success"], content["fingerprint"]
    _require(success is None or (type(success) in (int, float) and 0 <= success <= 1), "its success is no rate")
    _require(fingerprint is None or isinstance(fingerprint, str), "its fingerprint is no string")
    _require(all(isinstance(version, str) for version in content["versions"].values()), "its versions are no strings")
    for part, values in content["values"].items():
        _require(_PART.fullmatch(part) and isinstance(values, dict), f"{part!r:.80} is no part of a state")
    _require(content["files"].keys() <= content["values"].keys(), "it names files of parts that it does not have")
    files = {part: File(**entry) for part, entry in content["files"].items()}
    logs = {
        log: LogEntry(entry["first"], [Segment(**segment) for segment in entry["segments"]])
        for log, entry in content["logs"].items()
    }
    for entry in files.values():
        _check_file(entry)
    for log, entry in logs.items():
        _require(all(_PART.fullmatch(key) for key in log.split("|")), f"{log!r:.80} is no name of a log")
        _require(log.split("|")[0] in content["values"], f"{log!r:.80} belongs to no part of the state")
        _require(_is_count(entry.first), f"the first row of {log} is no count")
        for segment in entry.segments:
            _check_file(segment)
            _require(_is_count(segment.first) and _is_count(segment.last), "a segment's rows are no counts")
            _require(segment.first < segment.last < 10**12, "a segment holds no rows")
        follow = all(before.last == after.first for before, after in pairwise(entry.segments))
        begins = not entry.segments or entry.segments[0].first <= entry.first < entry.segments[0].last
        _require(follow and begins, f"rows of {log} are missing")
    return Manifest(**content | {"files": files, "logs": logs})


def _check_file(entry: File | Segment) -> None:
    _require(_is_count(entry.size), "a size is no count")
    _require(isinstance(entry.sha256, str) and bool(_SHA256.fullmatch(entry.sha256)), "a SHA-256 is none")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _require(condition: Any, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content, the digest itself left out: the same before writing and after reading."""
    return hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()
