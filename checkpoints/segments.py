"""A log lies on the disk in immutable files of up to SEGMENT_ROWS rows, shared by all checkpoints that need them.

The rows are cut at multiples of SEGMENT_ROWS, so which file a row comes to lie in does not depend on when the run was
saved. A checkpoint adds the files that have filled up since the last one, and one for the rows begun. Nothing older is
written again.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from checkpoints.manifest import LogEntry, Segment
from checkpoints.tensors import check_like, read_arrays
from checkpoints.tree import Columns, Log

SEGMENTS = "segments"
SEGMENT_ROWS = 4096


def cuts(first: int, last: int) -> list[tuple[int, int]]:
    """Returns rows first … last - 1 as ranges that end at multiples of SEGMENT_ROWS, but for the last one."""
    inner = range((first // SEGMENT_ROWS + 1) * SEGMENT_ROWS, last, SEGMENT_ROWS)
    edges = [first, *inner, last]
    return [(a, b) for a, b in pairwise(edges) if a < b]


@dataclass(frozen=True)
class LogSnapshot:
    """Holds what a log is at one instant: its first row, and by ranges of rows what it is made of."""

    first: int
    old: dict[tuple[int, int], Segment]
    """Segments that are on the disk already."""
    new: dict[tuple[int, int], Columns]
    """Copies of the rows still to be written."""


def snapshot(log: Log, name: str, known: list[Segment], directory: Path) -> LogSnapshot:
    """Copies the rows of `log` that no segment of `known` in `directory` holds."""
    by_end = {segment.last: segment for segment in known}
    old, new = {}, {}
    for first, last in cuts(log.first, log.last):
        segment = by_end.get(last)
        # One that begins earlier does as well: the rows before `first` have been given up since it was written.
        if segment and first - SEGMENT_ROWS < segment.first <= first and _is_there(directory, name, segment):
            old[first, last] = segment
        else:
            new[first, last] = log.read(first, last)
    return LogSnapshot(log.first, old, new)


class StoredLog:
    """Reads the log of the joined key `name` out of a checkpoint, one file at a time, each byte checked.

    Its columns must have the dtypes and row shapes of `expected`. None trusts whatever the files hold.
    """

    def __init__(self, directory: Path, name: str, entry: LogEntry, expected: Log | None):
        self.first = entry.first
        self.last = entry.segments[-1].last if entry.segments else entry.first
        self._segments = entry.segments
        self._directory = directory
        self._name = name
        self._expected = None if expected is None else expected.read(expected.first, expected.first)
        self._read: tuple[Segment, Columns] | None = None

    def read(self, first: int, last: int) -> Columns:
        """Returns rows first … last - 1 as {column: (last - first, …)}. Raises CheckpointError, IndexError."""
        if not self.first <= first <= last <= self.last:
            raise IndexError(f"rows {first} to {last} of {self._name}, which holds {self.first} to {self.last}")
        pieces = []
        for segment in self._segments:
            if segment.first < last and first < segment.last:
                columns = self._segment(segment)
                rows = slice(max(first, segment.first) - segment.first, min(last, segment.last) - segment.first)
                pieces.append({key: column[rows] for key, column in columns.items()})
        return {key: np.concatenate([piece[key] for piece in pieces]) for key in (pieces[0] if pieces else ())}

    def _segment(self, segment: Segment) -> Columns:
        if self._read is None or self._read[0] != segment:
            self._read = segment, self._load(segment)
        return self._read[1]

    def _load(self, segment: Segment) -> Columns:
        path = self._directory / segment.name(self._name)
        if self._expected is None:
            return read_arrays(path, segment.size, segment.sha256, None)
        row_bytes = sum(column.itemsize * math.prod(column.shape[1:]) for column in self._expected.values())
        # No file holds more than SEGMENT_ROWS, whatever rows it claims, and a header of less than a MiB.
        columns = read_arrays(path, segment.size, segment.sha256, 2 * SEGMENT_ROWS * row_bytes + 2**20)
        check_like(path, columns, self._expected, segment.last - segment.first)
        return columns


def _is_there(directory: Path, name: str, segment: Segment) -> bool:
    """Tells whether the file still has its size: somebody may have tidied up during the run."""
    try:
        return (directory / segment.name(name)).stat().st_size == segment.size
    except OSError:
        return False
