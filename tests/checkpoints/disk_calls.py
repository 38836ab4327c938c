"""What the checkpoints do to the disk, call by call: to be recorded, or to be made to fail."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from checkpoints import disk


@dataclass(frozen=True)
class Call:
    """kind: create, write, close, sync, rename, remove, mkdir or rmdir; or look, which changes nothing.

    path, target: relative to the directory that is watched; target: a renamed file's new name; data: what is written.
    """

    kind: str
    path: str
    data: bytes = b""
    target: str = ""


def ignore(call: Call) -> None:
    """For calls in which nobody is interested."""


@contextmanager
def watched(root: Path, before: Callable[[Call], None] = ignore, after: Callable[[Call], None] = ignore) -> Iterator:
    """While it lasts, every call below `root` is handed to `before`, which may raise OSError in its place, then done,
    then handed to `after`. Nothing is truly flushed: whoever watches knows what would have been.

    A failing write leaves half of its data, as a disk that fills up does. Needs Linux: descriptors get their paths
    from /proc.
    """
    root = root.resolve()

    def below(path, dir_fd=None) -> str | None:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif dir_fd is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        path = Path(os.path.abspath(path))
        return str(path.relative_to(root)) if path.is_relative_to(root) else None

    def watch(kind: str, function: Callable, instead: Callable | None = None) -> Callable:
        def call(path=".", *arguments, dir_fd=None, **options):
            options |= {} if dir_fd is None else {"dir_fd": dir_fd}
            place = below(path, dir_fd)
            if place is None:
                return function(path, *arguments, **options)
            this = Call(kind, place, target=below(arguments[0]) if kind == "rename" else "")
            before(this)
            result = (instead or function)(path, *arguments, **options)
            after(this)
            return result

        return call

    class File:
        """What disk.py opens to write."""

        def __init__(self, path, mode, buffering):
            assert (mode, buffering) == ("wb", 0)
            self.place = below(path)
            before(Call("create", self.place))
            self.file = open(path, mode, buffering=buffering)  # noqa: SIM115
            after(Call("create", self.place))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()
            before(Call("close", self.place))

        def fileno(self):
            return self.file.fileno()

        def write(self, data):
            call = Call("write", self.place, bytes(data))
            try:
                before(call)
            except OSError:
                self.file.write(data[: len(data) // 2])
                raise
            self.file.write(data)
            after(call)
            return len(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "open", File, raising=False)
        patch.setattr(os, "fsync", watch("sync", os.fsync, instead=lambda descriptor: None))
        for kind, names in (
            ("rename", ("replace", "rename")),
            ("remove", ("unlink", "remove")),
            ("mkdir", ("mkdir",)),
            ("rmdir", ("rmdir",)),
            ("look", ("open", "read", "scandir", "listdir", "stat")),
        ):
            for name in names:
                patch.setattr(os, name, watch(kind, getattr(os, name)))
        yield
