"""A disk that is full or broken: the save fails in one sentence, the older checkpoint stays good, the next succeeds."""

import errno
import os
import shutil
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from checkpoints import CheckpointWriter, list_checkpoints, load, newest_valid, read_manifest, verify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths of descriptors are read from /proc")


def saved_state(samples, step: int) -> dict:
    """Of its own at every step; the log's window moves on by a segment and a half."""
    return samples.state(seed=step, first=step, last=step + 30)


def assert_nothing_is_left_over(root: Path) -> None:
    """Only whole checkpoints, and only segments that they name."""
    paths = list_checkpoints(root)
    named = {s.name(log) for path in paths for log, entry in read_manifest(path).logs.items() for s in entry.segments}
    assert set(root.iterdir()) == {*paths, root / "segments"}
    assert {path.name for path in (root / "segments").iterdir()} == named
    for path in paths:
        verify(path)
        parts = read_manifest(path).files
        assert {file.name for file in path.iterdir()} == {"manifest.json", *(f"{part}.safetensors" for part in parts)}


class Run:
    """A run that has saved steps 12, 24 and 36, keeps two of them, and is about to save step 48."""

    def __init__(self, root: Path, samples):
        self.root, self.samples, self.told = root, samples, []
        self.writer = CheckpointWriter(root, 2, self.told.append)
        for step in (12, 24, 36):
            self.save(step)
        assert self.told == []

    @classmethod
    def resumed(cls, source: Path, root: Path, samples) -> "Run":
        """The same, from a copy of the directory of such a run."""
        run = cls.__new__(cls)
        run.root, run.samples, run.told = root, samples, []
        shutil.copytree(source, root)
        run.writer = CheckpointWriter(root, 2, run.told.append, read_manifest(run.path(36)))
        return run

    def save(self, step: int) -> None:
        self.writer.save(step, saved_state(self.samples, step), self.samples.ABOUT, None)
        self.writer.wait()

    def path(self, step: int) -> Path:
        return self.root / f"step_{step:09d}"

    def check_after_failure(self, reason: str) -> None:
        """After a save of step 48 that may have failed: what was told is true, and the next save mends everything."""
        failed = [sentence for sentence in self.told if "NOT saved" in sentence]
        if self.writer.last_good == 48:
            assert not failed
        else:
            (sentence,) = failed
            assert sentence.startswith("checkpoint of step 48 NOT saved: ")
            assert reason in sentence
            assert sentence.endswith("the newest good one is step 36")
        assert not any("\n" in sentence for sentence in self.told)
        verify(self.path(36))
        newest, problems = newest_valid(self.root)
        assert newest in ([self.path(48)] if self.writer.last_good == 48 else [self.path(36), self.path(48)])
        assert problems == []
        self.told.clear()
        self.save(60)
        self.writer.close()
        assert self.told == []
        assert newest_valid(self.root) == (self.path(60), [])
        self.samples.assert_same(saved_state(self.samples, 60), load(self.path(60))[0])
        assert_nothing_is_left_over(self.root)
        assert self.path(60) in list_checkpoints(self.root)
        assert len(list_checkpoints(self.root)) == 2


def test_every_single_call_to_the_disk_may_fail(samples, tmp_path, disk_calls, short_segments, no_flush):
    source = Run(tmp_path / "source", samples).root
    calls = []
    run = Run.resumed(source, tmp_path / "whole", samples)
    with disk_calls.watched(run.root, before=calls.append):
        run.save(48)
    assert run.told == []
    kinds = [call.kind for call in calls]
    assert set(kinds) == {"create", "write", "close", "sync", "rename", "remove", "mkdir", "rmdir", "look"}
    assert kinds.count("write") == 5  # two segments, two parts, the manifest

    told = set()
    for number, (call, code) in enumerate(zip(calls, cycle((errno.ENOSPC, errno.EIO)), strict=False)):
        run = Run.resumed(source, tmp_path / str(number), samples)
        coming = iter(range(len(calls)))

        def fail(call, coming=coming, number=number, code=code):
            if next(coming, None) == number:
                raise OSError(code, os.strerror(code), call.path)

        with disk_calls.watched(run.root, before=fail):
            run.save(48)
        assert len(run.told) <= 1, run.told
        if run.told:
            told.add(call.kind)
        run.check_after_failure(os.strerror(code))
        shutil.rmtree(run.root)
    assert told >= set(kinds) - {"look"}


@pytest.mark.parametrize("start", range(0, 40, 3))
def test_a_disk_that_takes_nothing_any_more_takes_it_again_later(samples, tmp_path, disk_calls, short_segments, start):
    """From its call number `start` on, nothing can be created or written; removing and looking go on."""
    left = [start]

    def fail(call):
        left[0] -= 1
        if left[0] < 0 and call.kind in ("create", "write", "mkdir", "rename"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call.path)

    with disk_calls.watched(tmp_path):
        run = Run(tmp_path / "run", samples)
    with disk_calls.watched(tmp_path, before=fail):
        run.save(48)
    with disk_calls.watched(tmp_path):
        run.check_after_failure("No space left on device")


def test_a_disk_that_is_gone_altogether_is_told_and_may_come_back(samples, tmp_path, disk_calls, short_segments):
    def fail(call):
        raise OSError(errno.EIO, os.strerror(errno.EIO), call.path)

    with disk_calls.watched(tmp_path):
        run = Run(tmp_path / "run", samples)
    with disk_calls.watched(tmp_path, before=fail):
        run.save(48)
        assert len(run.told) == 2  # nor could anything be tidied up
    with disk_calls.watched(tmp_path):
        run.check_after_failure("Input/output error")


# Truly full

LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from checkpoints import About, CheckpointWriter, newest_valid, verify

def state(size):
    return {"agent": {"x": np.zeros(size, np.float32)}, "more": {"y": np.ones(10)}}

told = []
root = Path(sys.argv[1])
writer = CheckpointWriter(root, 3, told.append)
writer.save(10, state(10), About(), None)
writer.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
writer.save(20, state(1_000_000), About(), None)
writer.wait()
assert writer.last_good == 10, writer.last_good
assert newest_valid(root) == (root / "step_000000010", [])
assert [path.name for path in root.iterdir()] == ["step_000000010"]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.save(30, state(1_000_000), About(), None)
writer.close()
assert newest_valid(root) == (root / "step_000000030", [])
print(*told, sep="\\n")
"""


def test_a_file_that_may_not_grow_further_fails_the_save_and_nothing_else(tmp_path):
    line = [sys.executable, "-c", LIMITED, str(tmp_path / "run")]
    result = subprocess.run(line, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (sentence,) = result.stdout.splitlines()
    assert "checkpoint of step 20 NOT saved: " in sentence
    assert "File too large" in sentence
    assert sentence.endswith("the newest good one is step 10")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system may be mounted here ({error})")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_fails_the_saves_until_there_is_room_again(samples, small_disk):
    told = []
    writer = CheckpointWriter(small_disk / "run", 3, told.append)

    def save(step):
        state = samples.state(seed=step) | {"large": {"x": np.full(60_000, step, np.float32)}}
        writer.save(step, state, samples.ABOUT, None)
        writer.wait()

    save(10)
    assert told == []
    room = os.statvfs(small_disk)
    (small_disk / "somebody's").write_bytes(bytes(room.f_bavail * room.f_bsize - 150_000))
    for step in (20, 30):
        save(step)
        assert told.pop().startswith(f"checkpoint of step {step} NOT saved: {small_disk}/run/step_0000000{step}/large.")
        assert told == []
        assert newest_valid(writer.root) == (writer.root / "step_000000010", [])
        assert_nothing_is_left_over(writer.root)
    (small_disk / "somebody's").unlink()
    save(40)
    writer.close()
    assert told == []
    assert newest_valid(writer.root) == (writer.root / "step_000000040", [])
    assert_nothing_is_left_over(writer.root)
