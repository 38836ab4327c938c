"""The disk is touched here alone, each time so that a crash or a power cut at any instant leaves old or new.

A file is written under a temporary name, flushed to the disk, and renamed. A rename counts once its directory has been
flushed as well. Reading takes a regular file of the expected size and nothing else: no pipe can block it, and no device
can fill the memory.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from errors import UserError

TEMPORARY = ".tmp"
_CHUNK = 1 << 20


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or made for another run. The sentence names the file and what to do."""


def write_file(path: Path, data: bytes) -> None:
    """Writes `data`, flushes it to the disk, and only then gives it its name.

    The name itself is safe once sync_directory(path.parent) has returned. Raises OSError, and leaves no rest then.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except OSError:
            # A network file system may have done it, lost its answer, and been asked again.
            if temporary.exists() or path.read_bytes() != data:
                raise
    except OSError as error:
        error.filename = error.filename or str(path)  # a failing write does not tell which
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Flushes a directory's entries: what was created, renamed or removed in it stays so after a power cut."""
    if os.name == "nt":  # a directory cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Makes `path` and what is missing above it, each new directory flushed into the one above it."""
    missing = [parent for parent in (path, *path.parents) if not parent.is_dir()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def empty_directory(path: Path, first: str) -> None:
    """Removes what is in `path`, the file `first` before all others and for good. Without it, nothing else counts."""
    (path / first).unlink(missing_ok=True)
    sync_directory(path)
    for entry in list(path.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def remove_directory(path: Path, first: str) -> None:
    """Empties `path` as empty_directory does, and then removes the directory itself."""
    empty_directory(path, first)
    path.rmdir()


def read_file(path: Path, limit: int) -> bytes:
    """Returns the content of a regular file of at most `limit` bytes. Raises CheckpointError."""
    return b"".join(_chunks(path, limit))


def read_verified(path: Path, size: int, sha256: str) -> bytes:
    """Returns the content of a file of `size` bytes and this hash. Raises CheckpointError for every other file."""
    return b"".join(_verified_chunks(path, size, sha256))


def verify_file(path: Path, size: int, sha256: str) -> None:
    """Reads a file as read_verified does, in little memory. Raises CheckpointError."""
    for _ in _verified_chunks(path, size, sha256):
        pass


def _verified_chunks(path: Path, size: int, sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in _chunks(path, size, size):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise _unusable(path, "is damaged: its SHA-256 is not the manifest's")


def _chunks(path: Path, limit: int, size: int | None = None) -> Iterator[bytes]:
    try:
        # Non-blocking: a named pipe in the file's place would wait for its writer for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _unusable(path, "is no regular file")
            if size is not None and status.st_size != size:
                raise _unusable(path, f"is cut short or too long: {status.st_size} bytes instead of {size}")
            if status.st_size > limit:
                raise _unusable(path, f"has {status.st_size} bytes, and {limit} is the most that one can have")
            left = status.st_size
            while left:
                chunk = os.read(descriptor, min(_CHUNK, left))
                if not chunk:
                    raise _unusable(path, "became shorter while it was read")
                left -= len(chunk)
                yield chunk
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error


def _unusable(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"{path} {problem}; use an older checkpoint")
