"""TensorBoard's event files of a run, written so that no crash leaves a seam in the curves.

Each process writes a file of its own. A checkpoint names the files and their sizes; a resumed run cuts them back to
these, so that a curve has one point for each step however TensorBoard reads it. A TensorBoard that was reading all
along is told where to forget: by a SessionLog, or where it knows none, by the new points themselves.
"""

import io
import os
import re
import socket
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from checkpoints import sync_directory
from training.progress import say

PENDING_BYTES = 16 * 2**20
"""How much is kept in memory while nothing can be written."""
_ANY_FILE = re.compile(r"events\.out\.tfevents\.([0-9]{10})\..*", re.DOTALL)
_OWN_FILE = re.compile(r"events\.out\.tfevents\.[0-9]{10}\.[A-Za-z0-9.-]+\.[0-9]+\.sac-her")
"""The end marks a file as one of ours: no other is ever touched."""


class EventFile:
    """One process's event file in `directory`, made at the first event: a process that logs nothing leaves none.

    Nothing here raises because of the disk: what cannot be written waits in memory for the next write, and training
    goes on. All but `sync` belongs into one thread.

    Args:
        purge_step: what a TensorBoard has read of this step and later ones is void.
    """

    def __init__(self, directory: Path, purge_step: int):
        self.directory = directory
        self._purge_step = purge_step
        self._earlier = {name: size for name, size in _own_sizes(directory).items() if size}
        self._path: Path | None = None
        self._file: io.FileIO | None = None
        self._size = 0
        self._begun = False
        self._pending: deque[bytes] = deque()
        self._dropped = 0
        self._failing = False
        self._sync_failing = False

    def add(self, summary: Summary, step: int) -> None:
        now = time.time()
        if not self._begun:
            version = Event(wall_time=now, file_version="brain.Event:2")
            start = Event(wall_time=now, step=self._purge_step, session_log=SessionLog(status=SessionLog.START))
            self._pending.append(_record(version) + _record(start))
            self._begun = True
        self._pending.append(_record(Event(wall_time=now, step=step, summary=summary)))
        self._flush()

    def position(self) -> dict[str, int]:
        """The size in bytes of each event file of the run, by name, that holds what has been logged by now."""
        self._flush()
        own = {self._path.name: self._size} if self._size else {}
        return self._earlier | own

    def sync(self) -> None:
        """Returns when the last `position` outlives a power cut, or has said that it may not. From any thread."""
        path = self._path
        if path is None:
            return
        try:
            with open(path, "r+b", buffering=0) as file:
                os.fsync(file.fileno())
            sync_directory(self.directory)
        except OSError as error:
            if not self._sync_failing:
                say(f"{path}: {_reason(error)}; after a power cut the curves may have a gap; training goes on")
            self._sync_failing = True
        else:
            self._sync_failing = False

    def close(self) -> None:
        self._flush()
        if self._pending:
            say(f"{self._name()}: the curves' last {len(self._pending)} records could not be written")
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _flush(self) -> None:
        try:
            while self._pending:
                self._write(self._pending[0])
                self._pending.popleft()
        except OSError as error:
            if self._file is not None:
                with suppress(OSError):  # the next write begins at the same place in any case
                    self._file.truncate(self._size)
            self._drop_oldest()
            if not self._failing:
                say(f"{self._name()}: {_reason(error)}; the curves wait in memory, training goes on")
            self._failing = True
            return
        if self._failing:
            lost = f"{self._dropped} records are lost" if self._dropped else "nothing is lost"
            say(f"{self._name()}: the curves are written again; {lost}")
            self._failing, self._dropped = False, 0

    def _write(self, record: bytes) -> None:
        if self._file is None:
            path = self.directory / _new_name(self.directory)
            self._file, self._path = io.FileIO(path, "xb"), path
        self._file.seek(self._size)
        view = memoryview(record)
        while view:
            view = view[self._file.write(view) :]
        self._size += len(record)

    def _drop_oldest(self) -> None:
        # Never the first: a TensorBoard that watches may have read its beginning already, and waits for the rest.
        while len(self._pending) > 2 and sum(map(len, self._pending)) > PENDING_BYTES:
            del self._pending[1]
            self._dropped += 1

    def _name(self) -> Path:
        return self._path or self.directory


def truncate(directory: Path, sizes: Mapping[str, int]) -> list[str]:
    """Cuts the run's event files in `directory` back to `sizes`, an EventFile's position; one not named, to nothing.

    Returns what is missing, in words. Raises ValueError where `sizes` cannot be an EventFile's, before anything is
    touched, and OSError.
    """
    if not isinstance(sizes, Mapping):
        raise ValueError(f"{type(sizes).__name__} instead of event files and their sizes")
    check_position(directory, sizes)
    present = _own_sizes(directory)
    for name, found in present.items():
        size = sizes.get(name, 0)
        if found > size:
            _cut(directory / name, size)
        # Not removed before it has lain empty for a whole run: a TensorBoard stays for ever at a file that is gone.
        # Nor the newest, whose name the next one's must follow.
        elif not found and name != max(present):
            (directory / name).unlink()
    sync_directory(directory)
    missing = [f"{directory / name} is missing" for name in sizes if name not in present]
    short = [
        f"{directory / name} has {present[name]} bytes instead of {size}"
        for name, size in sizes.items()
        if present.get(name, size) < size
    ]
    return missing + short


def check_position(directory: Path, sizes: Mapping[str, int]) -> None:
    """Raises ValueError where `sizes`, read from a file, cannot be the position of an EventFile in `directory`."""
    for name, size in sizes.items():
        _check(directory, name, size)


def _check(directory: Path, name: str, size: int) -> None:
    if not isinstance(name, str) or not _OWN_FILE.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an event file of this program")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{name}: {size!r} is no size of a file")
    path = directory / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path} is no regular file")


def _own_sizes(directory: Path) -> dict[str, int]:
    """Sizes of the event files that this program wrote, by name, the oldest first."""
    with os.scandir(directory) as entries:
        files = [entry for entry in entries if _OWN_FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)]
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in sorted(files, key=lambda e: e.name)}


def _cut(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    with open(descriptor, "r+b", buffering=0) as file:
        file.truncate(size)
        os.fsync(descriptor)


def _new_name(directory: Path) -> str:
    """TensorBoard reads files in the order of their names: this one's follows all others, whatever the clock says."""
    times = [int(match[1]) for name in os.listdir(directory) if (match := _ANY_FILE.fullmatch(name))]
    seconds = max([int(time.time()), *(t + 1 for t in times if t + 1 < 10**10)])
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "localhost"
    return f"events.out.tfevents.{seconds:010d}.{host}.{os.getpid()}.sac-her"


def _record(event: Event) -> bytes:
    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
