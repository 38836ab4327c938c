"""A power cut at any instant of a save, on the meanest disk that POSIX allows: the last checkpoint saved is there, or
the one in progress, whole.

What a process that is killed leaves behind is the page cache; a power cut loses of it whatever was not flushed. So the
calls that saving makes to the disk are recorded, and after each of them directories are built that the disk may hold
by then: data counts once its file has been flushed after it was written, a name (made, renamed, removed) once its
directory has been. What has not been flushed may be there or not, in any mixture, files empty, half written or zeros.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from checkpoints import (
    CheckpointWriter,
    list_checkpoints,
    list_unfinished,
    load,
    make_directory,
    newest_valid,
    read_manifest,
    sync_directory,
    verify,
    write_file,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths of descriptors are read from /proc")

Image = dict[str, bytes | None]
"""What a directory holds: by relative path, a file's content, or None for a directory."""


@dataclass
class File:
    """data: in the page cache; durable: as flushed last."""

    data: bytes = b""
    durable: bytes = b""

    def flush(self) -> None:
        self.durable = self.data

    def contents(self) -> list[bytes]:
        """What may be on the disk: first what was flushed, last the meanest of what was not."""
        lost = [self.data, self.data[: len(self.data) // 2], bytes(len(self.data)), b""]
        return [self.durable] + (lost if self.data != self.durable else [])


@dataclass
class Directory:
    """entries: in the page cache; durable: as flushed last; since: what each name has stood for after that."""

    entries: dict[str, "File | Directory"] = field(default_factory=dict)
    durable: dict[str, "File | Directory"] = field(default_factory=dict)
    since: dict[str, list["File | Directory | None"]] = field(default_factory=dict)

    def put(self, name: str, node: "File | Directory | None") -> None:
        if node is None:
            del self.entries[name]
        else:
            self.entries[name] = node
        self.since.setdefault(name, []).append(node)

    def flush(self) -> None:
        self.durable, self.since = dict(self.entries), {}

    def candidates(self) -> dict[str, list["File | Directory | None"]]:
        """What each name may stand for on the disk: first what was flushed, last what the page cache has."""
        return {
            name: [self.durable.get(name), *self.since.get(name, [])] for name in sorted({*self.durable, *self.since})
        }


class Disk:
    """A disk with a page cache, to which recorded calls are done; it begins empty and flushed."""

    def __init__(self):
        self.root = Directory()

    def do(self, call) -> None:
        parent, _, name = call.path.rpartition("/")
        match call.kind:
            case "create":
                directory = self.node(parent)
                if isinstance(directory.entries.get(name), File):
                    directory.entries[name].data = b""
                else:
                    directory.put(name, File())
            case "write":
                self.node(call.path).data += call.data
            case "sync":
                self.node(call.path).flush()
            case "mkdir":
                self.node(parent).put(name, Directory())
            case "rename":
                node = self.node(call.path)
                target, _, new = call.target.rpartition("/")
                self.node(target).put(new, node)
                self.node(parent).put(name, None)
            case "remove" | "rmdir":
                self.node(parent).put(name, None)
            case _:
                raise AssertionError(f"{call.kind} is nothing that changes a disk")

    def node(self, path: str):
        node = self.root
        for name in path.split("/") if path not in ("", ".") else []:
            node = node.entries[name]
        return node

    def cached(self) -> Image:
        """What a killed process leaves."""
        return _image(self.root, lambda several: several[-1], lambda file: file.data)

    def after_power_cuts(self, rng: np.random.Generator, mixtures: int) -> Iterable[Image]:
        """What may be left: nothing that was not flushed, every name without its data, and mixtures."""
        yield _image(self.root, lambda several: several[0], lambda file: file.durable)
        yield _image(self.root, lambda several: several[-1], lambda file: file.contents()[-1])
        yield _image(
            self.root,
            lambda several: several[-1],
            lambda file: file.contents()[-2 if file.data != file.durable else -1],
        )
        yield self.cached()
        for _ in range(mixtures):
            yield _image(
                self.root,
                lambda several: several[rng.integers(len(several))],
                lambda file: file.contents()[rng.integers(len(file.contents()))],
            )


def _image(directory: Directory, name: Callable, data: Callable, prefix: str = "") -> Image:
    """One of the directories that may be there: `name` and `data` choose among what each may be."""
    image: Image = {}
    for entry, several in directory.candidates().items():
        node = name(several)
        if isinstance(node, Directory):
            image[prefix + entry] = None
            image |= _image(node, name, data, f"{prefix}{entry}/")
        elif node is not None:
            image[prefix + entry] = data(node)
    return image


def build(image: Image, path: Path) -> Path:
    path.mkdir()
    for name, content in image.items():
        if content is None:
            (path / name).mkdir()
        else:
            (path / name).write_bytes(content)
    return path


def look(path: Path) -> Image:
    return {str(entry.relative_to(path)): entry.read_bytes() if entry.is_file() else None for entry in path.rglob("*")}


# The run that is cut

SAVES = [(10, 0, 11), (20, 0, 21), (30, 7, 35), (40, 29, 52)]
"""Step, first and last row of the log: it grows, its window moves within a segment, and leaves whole ones behind."""


DAMAGED = b"damaged"


def state(samples, step: int) -> dict:
    first, last = {step: rows for step, *rows in SAVES}.get(step, (step, step + 20))
    return samples.state(seed=step, first=first, last=last)


@dataclass(frozen=True)
class Recording:
    """calls: all that were done to the disk; saved: how many calls had been done when a step's save returned."""

    calls: list
    saved: dict[int, int]

    def allowed(self, done: int) -> set[int | None]:
        """The steps that may be the newest after so many calls: the last one saved, or the one in progress."""
        last = max((step for step, at in self.saved.items() if at <= done), default=None)
        coming = min((step for step, at in self.saved.items() if at > done), default=last)
        return {last, coming}


@pytest.fixture
def recording(samples, tmp_path, disk_calls, short_segments) -> Recording:
    """A run of four saves from nothing, of which one checkpoint is kept; the third finds a directory that a crash
    has left in its place, the last a damaged checkpoint."""
    calls, saved, told = [], {}, []
    run = tmp_path / "run"
    run.mkdir()

    def record(call):
        if call.kind != "look":
            calls.append(call)

    with disk_calls.watched(run, after=record):
        writer = CheckpointWriter(run / "checkpoints", 1, told.append)
        for step, *_ in SAVES:
            if step in (30, 40):
                _leave_behind(writer.root, step, finished=step == 40)
            writer.save(step, state(samples, step), samples.ABOUT, None)
            writer.wait()
            saved[step] = len(calls)
        writer.close()
    assert told == []
    return Recording(calls, saved)


def _leave_behind(root: Path, step: int, finished: bool) -> None:
    """A directory of that step: one never finished, or a damaged checkpoint that was passed over."""
    path = root / f"step_{step:09d}"
    make_directory(path)
    for name in ("agent.safetensors", "manifest.json")[: 1 + finished]:
        write_file(path / name, DAMAGED)
    sync_directory(path)


def test_the_recording_is_complete(recording, tmp_path):
    """Else the other tests would be about another disk."""
    disk = Disk()
    for call in recording.calls:
        disk.do(call)
    assert disk.cached() == look(tmp_path / "run")
    assert {call.kind for call in recording.calls} == {"create", "write", "sync", "rename", "remove", "mkdir", "rmdir"}
    assert any("segments" in call.path for call in recording.calls if call.kind == "remove")


def test_after_a_power_cut_the_last_checkpoint_saved_is_there_or_the_one_in_progress(
    samples, tmp_path, recording, short_segments, no_flush
):
    disk, rng, known = Disk(), np.random.default_rng(0), {}
    for done in range(len(recording.calls) + 1):
        if done:
            disk.do(recording.calls[done - 1])
        for image in disk.after_power_cuts(rng, mixtures=3):
            key = frozenset(image.items())
            if key not in known:
                known[key] = newest_step(samples, build(image, tmp_path / str(len(known))))
            assert known[key] in recording.allowed(done), f"after {recording.calls[:done][-3:]}"
    assert len(known) > len(recording.calls)


def newest_step(samples, run: Path) -> int | None:
    """The step of the newest checkpoint, after having checked that it is whole, and that the run can go on."""
    root = run / "checkpoints"
    for path in list_checkpoints(root):
        # What is half written or half removed must not look like a checkpoint, nor miss a segment.
        if (path / "manifest.json").read_bytes() != DAMAGED:
            verify(path)
    path, _ = newest_valid(root)
    manifest = None if path is None else read_manifest(path)
    if path is not None:
        samples.assert_same(state(samples, manifest.step), load(path)[0])
    elif root.exists():
        # The run starts anew, which is said to be safe only where something was begun, or nothing at all.
        assert list_unfinished(root) or not list(root.iterdir())
    told = []
    writer = CheckpointWriter(root, 1, told.append, manifest)
    writer.save(50, state(samples, 50), samples.ABOUT, None)
    writer.close()
    assert told == []
    assert newest_valid(root) == (root / "step_000000050", [])
    assert not list_unfinished(root)
    return None if manifest is None else manifest.step


def test_a_power_cut_that_follows_a_kill_finds_what_was_saved_in_between(
    samples, tmp_path, recording, disk_calls, short_segments
):
    """The resumed process relies on what it finds, and part of that is in the page cache alone."""
    rng = np.random.default_rng(0)
    first = recording.saved[10]
    for done in [*range(first), *range(first, len(recording.calls), 4)]:
        disk = Disk()
        for call in recording.calls[:done]:
            disk.do(call)
        run = build(disk.cached(), tmp_path / str(done))
        root = run / "checkpoints"
        path, _ = newest_valid(root)
        told = []
        writer = CheckpointWriter(root, 1, told.append, None if path is None else read_manifest(path))

        def go_on(call, disk=disk):
            if call.kind != "look":
                disk.do(call)

        with disk_calls.watched(run, after=go_on):
            writer.save(50, state(samples, 50), samples.ABOUT, None)
            writer.close()
        assert told == []
        for number, image in enumerate(disk.after_power_cuts(rng, mixtures=1)):
            left = build(image, tmp_path / f"{done}-{number}") / "checkpoints"
            assert newest_valid(left) == (left / "step_000000050", []), f"killed after {recording.calls[:done][-1:]}"
            samples.assert_same(state(samples, 50), load(left / "step_000000050")[0])


def test_a_first_save_that_failed_is_never_taken_for_a_run_that_lost_its_checkpoints(
    samples, tmp_path, disk_calls, short_segments
):
    disk, rng, told = Disk(), np.random.default_rng(0), []
    run = tmp_path / "run"
    run.mkdir()

    def fail(call):
        if call.kind == "rename" and "manifest" in call.path:
            raise OSError(5, "Input/output error")

    def cut(call):
        if call.kind != "look":
            disk.do(call)
            for image in disk.after_power_cuts(rng, mixtures=3):
                names = {name for name in image if name.count("/") == 1}
                assert not names or any("step_" in name for name in names), f"after {call}"

    with disk_calls.watched(run, before=fail, after=cut):
        writer = CheckpointWriter(run / "checkpoints", 1, told.append)
        writer.save(10, state(samples, 10), samples.ABOUT, None)
        writer.close()
    assert len(told) == 1
    assert "NOT saved" in told[0]
    assert list((run / "checkpoints").iterdir()) == []
