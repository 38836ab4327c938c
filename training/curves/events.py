"""Appends records to TensorBoard's event files, and ends no run because of the disk.

torch.utils.tensorboard.SummaryWriter fails two promises (tests/training/curves/test_events.py): on a full disk its
thread dies with a traceback, and after the clock was set back its file's name comes before the earlier ones.
"""

import io
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from training.progress import say


class EventFile:
    """Writes one process's event file in `directory`, begun at the first record.

    A record that cannot be written is lost and said once, and the next one begins a new file: TensorBoard reads no file
    past a torn record. Where the file is deleted, a new one is begun with the record at hand. The directory is opened
    once: moved, it is written to where it has gone, and one that was made in its place belongs to another run. All but
    `sync` belongs into one thread.

    What earlier files hold of `purge_step` and later steps is void.
    """

    def __init__(self, directory: Path, purge_step: int):
        self._directory = directory
        self._descriptor = os.open(directory, os.O_RDONLY)
        self._purge_step = purge_step
        self._path: Path | None = None
        self._last_name = ""
        self._file: io.FileIO | None = None
        self._size = 0
        self._failing = False
        self._sync_failing = False

    def add(self, summary: Summary, step: int) -> None:
        """Appends one record, past every buffer of this process. Never raises because of the disk."""
        try:
            if self._file is not None and self._path.name not in os.listdir(self._descriptor):
                say(f"{self._path} has been deleted; the curves go on in a new file")
                self._abandon()
            if self._file is None:
                self._begin()
            self._append(Event(wall_time=time.time(), step=step, summary=summary))
            self._purge_step = step + 1
            self._failing = False
        except OSError as error:
            if not self._failing:
                where = self._path or self._directory
                say(f"{where}: {error.strerror or error}; the curves have a gap until they can be written again")
            self._failing = True
            self._abandon()

    def sync(self) -> None:
        """Returns when every record outlives a power cut, or has said that it may not. From any thread."""
        path = self._path
        if path is None:
            return
        try:
            with open(path, "r+b", buffering=0, opener=self._open) as file:
                os.fsync(file.fileno())
            os.fsync(self._descriptor)
            self._sync_failing = False
        except FileNotFoundError:
            pass  # `add` tells of it
        except OSError as error:
            if not self._sync_failing:
                say(f"{path}: {error.strerror}; after a power cut the curves may have a gap")
            self._sync_failing = True

    def close(self) -> None:
        """Closes the file. Nothing can be added after that."""
        self._close_file()
        os.close(self._descriptor)

    def _open(self, path: str, flags: int) -> int:
        return os.open(Path(path).name, flags, 0o666, dir_fd=self._descriptor)

    def _begin(self) -> None:
        self._size = 0
        # After the last one even where that is deleted: whoever has read it looks for later names.
        path = self._directory / _next_name([*os.listdir(self._descriptor), self._last_name])
        self._file, self._path = io.FileIO(path, "xb", opener=self._open), path
        self._last_name = path.name
        now = time.time()
        self._append(
            Event(wall_time=now, file_version="brain.Event:2"),
            Event(wall_time=now, step=self._purge_step, session_log=SessionLog(status=SessionLog.START)),
        )

    def _append(self, *events: Event) -> None:
        buffer = io.BytesIO()
        for event in events:
            RecordWriter(buffer).write(event.SerializeToString())
        rest = buffer.getbuffer()
        while rest:
            rest = rest[self._file.write(rest) :]
        self._size += len(buffer.getvalue())

    def _abandon(self) -> None:
        """Leaves the file as it is, or removes it where it has no whole record."""
        if self._file is not None:
            self._close_file()
            if not self._size:
                with suppress(OSError):
                    os.unlink(self._path.name, dir_fd=self._descriptor)
        self._file = self._path = None

    def _close_file(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


def _next_name(others: list[str]) -> str:
    """Returns a name after all others: TensorBoard reads files in the order of their names, whatever the clock says."""
    names = (re.match(r"events\.out\.tfevents\.([0-9]{10})\.", name) for name in others)
    seconds = max([int(time.time()), *(int(name[1]) + 1 for name in names if name)])
    return f"events.out.tfevents.{seconds:010d}.{os.getpid()}"
