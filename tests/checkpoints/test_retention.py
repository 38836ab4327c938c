"""Which checkpoints stay, and which segments with them."""

from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints import list_checkpoints, newest_valid, prune, read_manifest, verify
from checkpoints.manifest import Manifest
from checkpoints.retention import ARCHIVE_EVERY, kept

EMPTY = Manifest(0, None, None, {}, {}, {}, {}, {})


def kept_steps(checkpoints: dict[int, float | None], keep: int) -> list[int]:
    """Of checkpoints by step, with their success, the steps that stay."""
    manifests = {Path(str(step)): replace(EMPTY, step=step, success=rate) for step, rate in checkpoints.items()}
    return sorted(int(path.name) for path in kept(manifests, keep))


def steps(root: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in list_checkpoints(root)]


@pytest.mark.parametrize(
    ("checkpoints", "keep", "expected"),
    [
        ({}, 3, []),
        ({1: None, 2: None, 3: None, 4: None}, 2, [3, 4]),
        ({1: 0.9, 2: 0.1, 3: 0.2, 4: 0.3}, 2, [1, 3, 4]),
        ({1: 0.9, 2: 0.9, 3: 0.2, 4: 0.3}, 1, [2, 4]),
        ({1: 0.1, 2: 0.2, 3: 0.3, 4: 0.9}, 1, [4]),
        ({1: 0.0, 2: None, 3: None, 4: None}, 1, [1, 4]),
        ({1: 0.5, 2: 0.6}, 5, [1, 2]),
    ],
)
def test_the_newest_and_the_best_stay(checkpoints, keep, expected):
    assert kept_steps(checkpoints, keep) == expected


def test_the_first_after_each_multiple_of_100_000_steps_stays_for_good():
    assert ARCHIVE_EVERY == 100_000
    saved = dict.fromkeys([90_000, 99_999, 100_000, 110_000, 199_999, 200_016, 200_032, 400_000, 410_000, 410_016])
    assert kept_steps(saved, 1) == [100_000, 200_016, 400_000, 410_016]


def test_what_stays_does_not_change_when_pruning_is_done_after_every_save():
    saved: dict[int, float | None] = {}
    for step in range(7_000, 500_000, 7_000):
        saved[step] = None
        saved = dict.fromkeys(kept_steps(saved, 3))
    assert list(saved) == [105_000, 203_000, 301_000, 406_000, 483_000, 490_000, 497_000]


def test_pruning_removes_the_others_whole(samples, tmp_path):
    for step, success in enumerate((0.9, 0.1, 0.2, 0.3), 1):
        samples.store(tmp_path, step, success)
    prune(tmp_path, keep=2, newest=4)
    assert steps(tmp_path) == [1, 3, 4]
    assert len(list(tmp_path.iterdir())) == 4  # and the segments


def test_steps_of_more_digits_are_newer_than_those_of_fewer(samples, tmp_path):
    for step in (10**9, 10**9 - 1):
        samples.store(tmp_path, step, None)
    prune(tmp_path, keep=1, newest=10**9)
    assert steps(tmp_path) == [10**9 - 1, 10**9]  # the older one opens its 100,000 steps
    samples.store(tmp_path, 10**9 - 2, None)
    prune(tmp_path, keep=1, newest=10**9)
    assert steps(tmp_path) == [10**9 - 2, 10**9]


def test_checkpoints_of_later_steps_are_left_alone_until_the_run_has_passed_them(samples, tmp_path):
    for step in (10, 20, 30, 40, 50):
        samples.store(tmp_path, step, None)
    samples.store(tmp_path, 25, None)  # it fell back to 20: 30 and later were damaged
    prune(tmp_path, keep=2, newest=25)
    assert steps(tmp_path) == [20, 25, 30, 40, 50]
    samples.store(tmp_path, 45, None)
    prune(tmp_path, keep=2, newest=45)
    assert steps(tmp_path) == [40, 45, 50]


def test_the_segments_of_later_checkpoints_stay_with_them(samples, tmp_path, short_segments):
    samples.store(tmp_path, 10, last=20)
    later = samples.store(tmp_path, 30, first=40, last=60)
    samples.store(tmp_path, 20, last=30)
    prune(tmp_path, keep=1, newest=20)
    assert steps(tmp_path) == [20, 30]
    verify(later)


def test_a_checkpoint_that_cannot_be_read_is_none_of_the_newest(samples, tmp_path):
    for step in (1, 2, 3, 4, 5):
        samples.store(tmp_path, step, None)
    for step in (4, 5):
        (tmp_path / f"step_00000000{step}" / "manifest.json").write_text("{")
    prune(tmp_path, keep=2, newest=5)
    assert steps(tmp_path) == [2, 3, 4, 5]
    assert newest_valid(tmp_path)[0] == tmp_path / "step_000000003"


def test_a_checkpoint_that_cannot_be_read_goes_once_it_is_older_than_the_newest(samples, tmp_path):
    for step in (1, 2, 3):
        path = samples.store(tmp_path, step, 0.5)
    (tmp_path / "step_000000001" / "manifest.json").write_text("{")
    prune(tmp_path, keep=1, newest=3)
    assert list_checkpoints(tmp_path) == [path]


def test_a_checkpoint_that_cannot_be_read_just_now_keeps_its_segments(samples, tmp_path, short_segments):
    samples.store(tmp_path, 10, None, last=20)
    locked = samples.store(tmp_path, 30, None, first=40, last=60)
    manifest = (locked / "manifest.json").rename(tmp_path / "aside")
    (locked / "manifest.json").mkdir()  # the disk's cable is loose, say
    samples.store(tmp_path, 20, None, last=30)
    prune(tmp_path, keep=1, newest=30)
    assert steps(tmp_path) == [20, 30]
    (locked / "manifest.json").rmdir()
    manifest.rename(locked / "manifest.json")
    verify(locked)
    prune(tmp_path, keep=1, newest=30)
    assert steps(tmp_path) == [30]
    named = {s.name(log) for log, entry in read_manifest(locked).logs.items() for s in entry.segments}
    assert {path.name for path in (tmp_path / "segments").iterdir()} == named


def test_pruning_removes_what_was_never_finished(samples, tmp_path):
    for step in (1, 2, 3):
        path = samples.store(tmp_path, step, None)
    (tmp_path / "step_000000001" / "manifest.json").unlink()
    prune(tmp_path, keep=2, newest=3)
    assert steps(tmp_path) == [2, 3]
    (path / "manifest.json").unlink()
    prune(tmp_path, keep=2, newest=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segments", "step_000000002"]


def test_where_no_checkpoint_is_left_no_segments_are_either(samples, tmp_path):
    path = samples.store(tmp_path)
    (path / "manifest.json").unlink()
    prune(tmp_path, keep=3, newest=10)
    assert list(tmp_path.iterdir()) == []
