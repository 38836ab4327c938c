"""The few things that are done to the disk, each so that a crash or a power cut at any instant leaves old or new.

A file is written under a temporary name, flushed to the disk, and renamed; a rename counts once its directory has been
flushed as well. Reading takes a regular file of the expected size and nothing else: no pipe can block it, no device
can fill the memory.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".tmp"
_CHUNK = 1 << 20


class UnexpectedFile(ValueError):
    """A file that is not what its manifest says; the message says in which way."""


def write_file(path: Path, data: bytes) -> None:
    """Writes `data` and flushes it to the disk; only then does it get its name. Raises OSError, leaving no rest.

    The name itself is safe once sync_directory(path.parent) has returned.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        os.replace(temporary, path)
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
    """mkdir -p, each new directory flushed into the one above it."""
    missing = [parent for parent in (path, *path.parents) if not parent.is_dir()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def empty_directory(path: Path, first: str) -> None:
    """Removes what is in `path`, the file `first` before all others and for good: without it, nothing else counts."""
    (path / first).unlink(missing_ok=True)
    sync_directory(path)
    for entry in list(path.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def remove_directory(path: Path, first: str) -> None:
    """empty_directory, and then the directory itself."""
    empty_directory(path, first)
    path.rmdir()


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError, UnexpectedFile."""
    return b"".join(_chunks(path, None, limit))


def read_verified(path: Path, size: int, sha256: str) -> bytes:
    """The content of a file that must have this size and hash. Raises OSError, UnexpectedFile."""
    digest, chunks = hashlib.sha256(), []
    for chunk in _chunks(path, size, size):
        digest.update(chunk)
        chunks.append(chunk)
    _check(digest.hexdigest(), sha256)
    return b"".join(chunks)


def verify_file(path: Path, size: int, sha256: str) -> None:
    """Reads every byte of a file, in little memory. Raises OSError, UnexpectedFile where it is not the one meant."""
    digest = hashlib.sha256()
    for chunk in _chunks(path, size, size):
        digest.update(chunk)
    _check(digest.hexdigest(), sha256)


def _check(found: str, sha256: str) -> None:
    if found != sha256:
        raise UnexpectedFile("is damaged: its SHA-256 is not the manifest's")


def _chunks(path: Path, size: int | None, limit: int) -> Iterator[bytes]:
    # Non-blocking: a named pipe in the file's place would wait for its writer for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnexpectedFile("is no regular file")
        if size is not None and status.st_size != size:
            raise UnexpectedFile(f"is cut short or too long: {status.st_size} bytes instead of {size}")
        if status.st_size > limit:
            raise UnexpectedFile(f"has {status.st_size} bytes, and {limit} is the most that one can have")
        left = status.st_size
        while left:
            chunk = os.read(descriptor, min(_CHUNK, left))
            if not chunk:
                raise UnexpectedFile("became shorter while it was read")
            left -= len(chunk)
            yield chunk
    finally:
        os.close(descriptor)
