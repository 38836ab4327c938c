"""Logs in immutable files: cut at fixed rows, shared by the checkpoints, each row where it always is."""

import os
from pathlib import Path

import numpy as np
import pytest

from checkpoints import CheckpointError, CheckpointWriter, list_checkpoints, load, read_manifest, verify
from checkpoints.segments import SEGMENT_ROWS, SEGMENTS, cuts

NAME = "buffer|rows"


def segment_files(root: Path) -> dict[str, tuple[int, int]]:
    """Name of each segment's file, with what changes when it is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (root / SEGMENTS).iterdir()}


def spans(path: Path) -> list[tuple[int, int]]:
    """The rows that the segments of a checkpoint's log hold."""
    return [(segment.first, segment.last) for segment in read_manifest(path).logs[NAME].segments]


@pytest.fixture
def told() -> list[str]:
    """What the writer had to complain of."""
    return []


@pytest.fixture
def writer(tmp_path, told):
    """A writer that keeps three checkpoints."""
    writer = CheckpointWriter(tmp_path, 3, told.append)
    yield writer
    writer.close()
    assert told == []


@pytest.fixture
def save(samples, writer):
    """save(step, first, last): through the writer, a state whose log holds those rows."""

    def save(step: int, first: int, last: int) -> Path:
        writer.save(step, samples.state(first=first, last=last), samples.ABOUT, None)
        writer.wait()
        return writer.root / f"step_{step:09d}"

    return save


# Cuts


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 0, []),
        (5, 5, []),
        (0, 1, [(0, 1)]),
        (0, 8, [(0, 8)]),
        (0, 9, [(0, 8), (8, 9)]),
        (3, 20, [(3, 8), (8, 16), (16, 20)]),
        (8, 16, [(8, 16)]),
        (7, 8, [(7, 8)]),
        (9, 11, [(9, 11)]),
    ],
)
def test_rows_are_cut_at_multiples_of_the_segments_length(short_segments, first, last, expected):
    assert cuts(first, last) == expected


def test_a_buffer_of_a_million_rows_is_some_250_files():
    assert len(cuts(0, 1_000_000)) == -(-1_000_000 // SEGMENT_ROWS) == 245


# What is written, and when


def test_a_log_comes_back_whole_from_segments_of_the_true_length(samples, tmp_path):
    path = samples.store(tmp_path, first=100, last=2 * SEGMENT_ROWS + 7)
    assert spans(path) == [(100, 4096), (4096, 8192), (8192, 8199)]
    restored, _ = load(path)
    samples.assert_same(samples.state(first=100, last=8199), restored)


@pytest.mark.parametrize("seed", range(5))
def test_which_file_a_row_lies_in_does_not_depend_on_when_the_run_was_saved(
    samples, tmp_path, short_segments, no_flush, seed
):
    window, end = 40, 203
    rng = np.random.default_rng(seed)
    logs = []
    for run in ("one", "another"):
        writer = CheckpointWriter(tmp_path / run, 3, pytest.fail)
        last = 0
        while last < end:
            # At least once while a segment has filled up and still lies in the window whole.
            last = min(last + int(rng.integers(1, window - short_segments + 1)), end)
            writer.save(last, samples.state(first=max(0, last - window), last=last), samples.ABOUT, None)
        writer.close()
        logs.append(read_manifest(list_checkpoints(tmp_path / run)[-1]).logs)
    assert logs[0] == logs[1]
    assert logs[0][NAME].first == end - window


def test_a_checkpoint_adds_only_the_segments_that_are_new(tmp_path, save, short_segments):
    save(1, 0, 20)
    before = segment_files(tmp_path)
    path = save(2, 0, 37)
    after = segment_files(tmp_path)
    assert before.items() <= after.items(), "a segment was written again, or removed"
    assert spans(path) == [(0, 8), (8, 16), (16, 24), (24, 32), (32, 37)]
    assert len(after) - len(before) == 3


def test_a_checkpoint_without_new_rows_adds_no_segment(tmp_path, save, short_segments):
    save(1, 0, 20)
    before = segment_files(tmp_path)
    save(2, 0, 20)
    assert segment_files(tmp_path) == before


def test_a_resumed_run_writes_no_segment_again(samples, tmp_path, save, short_segments):
    resumed = read_manifest(save(1, 0, 20))
    before = segment_files(tmp_path)
    writer = CheckpointWriter(tmp_path, 3, pytest.fail, resumed)
    writer.save(2, samples.state(first=0, last=21), samples.ABOUT, None)
    writer.close()
    assert before.items() <= segment_files(tmp_path).items()
    assert len(segment_files(tmp_path)) == len(before) + 1


def test_the_window_moves_over_the_segments_and_comes_back_exactly(samples, tmp_path, save, short_segments):
    save(1, 0, 20)
    before = segment_files(tmp_path)
    path = save(2, 11, 31)
    assert spans(path) == [(8, 16), (16, 24), (24, 31)]
    kept = [name for name in segment_files(tmp_path) if "-000000000008-000000000016-" in name]
    assert segment_files(tmp_path)[kept[0]] == before[kept[0]]
    samples.assert_same(samples.state(first=11, last=31), load(path)[0])


def test_a_window_that_left_all_stored_rows_behind_is_written_from_its_first_row(
    samples, tmp_path, save, short_segments
):
    save(1, 0, 20)
    path = save(2, 1003, 1020)
    assert spans(path) == [(1003, 1008), (1008, 1016), (1016, 1020)]
    samples.assert_same(samples.state(first=1003, last=1020), load(path)[0])


def test_a_log_that_reaches_further_back_than_before_is_written_anew_there(samples, save, short_segments):
    save(1, 11, 20)
    path = save(2, 9, 22)
    assert spans(path) == [(9, 16), (16, 22)]
    samples.assert_same(samples.state(first=9, last=22), load(path)[0])


def test_an_empty_log_keeps_its_position(samples, tmp_path):
    path = samples.store(tmp_path, first=7, last=7)
    assert not list((tmp_path / SEGMENTS).iterdir())
    log = load(path)[0]["buffer"]["rows"]
    assert (log.first, log.last) == (7, 7)


def test_two_logs_of_one_state_are_kept_apart(samples, tmp_path, short_segments):
    state = samples.state() | {"more": {"rows": samples.RowLog(2, 30, seed=5), "deep": {"er": samples.RowLog(0, 9)}}}
    writer = CheckpointWriter(tmp_path, 3, pytest.fail)
    for step in (1, 2):
        writer.save(step, state, samples.ABOUT, None)
    writer.close()
    samples.assert_same(state, load(tmp_path / "step_000000002")[0])
    assert len(list((tmp_path / SEGMENTS).iterdir())) == 3 + 4 + 2


# When they go


def test_a_segment_goes_when_no_kept_checkpoint_names_it_and_not_before(
    samples, tmp_path, save, short_segments, no_flush
):
    for step, last in enumerate(range(20, 120, 9), start=1):
        save(step, last - 20, last)
        paths = list_checkpoints(tmp_path)
        assert len(paths) == min(step, 3)
        named = {s.name(NAME) for path in paths for s in read_manifest(path).logs[NAME].segments}
        assert {path.name for path in (tmp_path / SEGMENTS).iterdir()} == named
        for path in paths:
            verify(path)


def test_a_foreign_file_among_the_segments_stays(tmp_path, save, short_segments):
    save(1, 0, 20)
    for name in ("notes.txt", "buffer-rows-000000000000-000000000008.safetensors", "keep.tmp"):
        (tmp_path / SEGMENTS / name).write_text("mine")
    for step in range(2, 6):
        save(step, step * 20, step * 20 + 20)
    assert (tmp_path / SEGMENTS / "notes.txt").read_text() == "mine"
    assert len(list((tmp_path / SEGMENTS).iterdir())) == 3 + len(
        {span for path in list_checkpoints(tmp_path) for span in spans(path)}
    )


@pytest.mark.parametrize("harm", [os.unlink, lambda path: os.truncate(path, 10)], ids=["deleted", "cut short"])
def test_a_segment_harmed_during_the_run_is_written_again_at_the_next_save(
    samples, tmp_path, save, short_segments, harm
):
    save(1, 0, 20)
    victim = tmp_path / SEGMENTS / read_manifest(tmp_path / "step_000000001").logs[NAME].segments[1].name(NAME)
    harm(victim)
    path = save(2, 0, 22)
    verify(path)
    samples.assert_same(samples.state(first=0, last=22), load(path)[0])
    verify(tmp_path / "step_000000001")  # which needs the same file


# Reading


@pytest.fixture
def stored(samples, tmp_path, short_segments):
    """A log of rows 3 … 29 in four segments, read back."""
    return load(samples.store(tmp_path, first=3, last=30))[0]["buffer"]["rows"]


@pytest.mark.parametrize(("first", "last"), [(3, 30), (3, 4), (29, 30), (8, 16), (7, 9), (5, 27), (15, 16), (16, 17)])
def test_rows_are_read_within_and_across_segments(samples, stored, first, last):
    samples.assert_same(samples.RowLog(3, 30).read(first, last), stored.read(first, last))


@pytest.mark.parametrize(("first", "last"), [(2, 5), (0, 30), (3, 31), (30, 31), (9, 8), (-1, 4)])
def test_rows_out_of_range_are_refused(stored, first, last):
    with pytest.raises(IndexError, match=r"buffer\|rows, which holds 3 to 30"):
        stored.read(first, last)


def test_rows_given_up_before_the_save_are_out_of_range_though_their_file_has_them(save, short_segments):
    save(1, 0, 20)
    log = load(save(2, 3, 20))[0]["buffer"]["rows"]
    log.read(3, 8)
    with pytest.raises(IndexError):
        log.read(2, 8)


def test_a_damaged_segment_is_named_when_its_rows_are_read_and_not_before(samples, tmp_path, stored):
    victim = next((tmp_path / SEGMENTS).glob("*-000000000016-000000000024-*"))
    whole = victim.read_bytes()
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    for content in (damaged, whole[:-1], whole + b"x", b""):
        victim.write_bytes(content)
        samples.assert_same(samples.RowLog(3, 30).read(3, 16), stored.read(3, 16))
        with pytest.raises(CheckpointError, match=victim.name):
            stored.read(12, 20)
    victim.unlink()
    with pytest.raises(CheckpointError, match=rf"{victim.name} cannot be read \(No such file"):
        stored.read(20, 21)


class OtherColumns:
    """A log of two rows in other columns."""

    first, last = 0, 2

    def __init__(self, **columns: np.ndarray):
        self.columns = columns

    def read(self, first, last):
        return {key: column[first:last] for key, column in self.columns.items()}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"reward": np.zeros(2)}, r"reward is float64 \(2,\) there, and float32 \(2,\) here"),
        ({"terminated": np.zeros(2, np.uint8)}, r"terminated is uint8 \(2,\) there, and bool \(2,\) here"),
        (
            {"observation": np.zeros((2, 4), np.float32)},
            r"observation is float32 \(2, 4\) there, and float32 \(2, 3\) here",
        ),
        ({"reward": None}, r"reward is missing there, and float32 \(2,\) here"),
    ],
)
def test_a_log_of_other_columns_is_refused_by_file_and_column(samples, tmp_path, columns, message):
    state = samples.state()
    columns = state["buffer"]["rows"].read(0, 2) | columns
    state["buffer"]["rows"] = OtherColumns(**{key: column for key, column in columns.items() if column is not None})
    path = samples.store_state(tmp_path, state)
    load(path, only=["agent"], expected=samples.state())
    with pytest.raises(
        CheckpointError, match=rf"segments/buffer-rows-\S+\.safetensors does not fit this run: {message}"
    ):
        load(path, expected=samples.state())


def test_a_log_may_have_more_columns_than_expected_and_any_rows(samples, tmp_path):
    state = samples.state()
    columns = state["buffer"]["rows"].read(0, 2)
    state["buffer"]["rows"] = OtherColumns(more=np.zeros(2), **columns)
    log = load(samples.store_state(tmp_path, state), expected=samples.state(first=100, last=100))[0]["buffer"]["rows"]
    samples.assert_same(log.read(0, 2), columns | {"more": np.zeros(2)})


def test_every_segment_is_checked_when_it_is_read(samples, tmp_path, short_segments):
    state = samples.state()
    rows = state["buffer"]["rows"].read(0, 16)

    class Changing(samples.RowLog):
        def read(self, first, last):
            return {
                key: column[first:last].astype(float if first >= 8 else column.dtype) for key, column in rows.items()
            }

    state["buffer"]["rows"] = Changing(0, 16)
    log = load(samples.store_state(tmp_path, state), expected=samples.state())[0]["buffer"]["rows"]
    log.read(0, 8)
    with pytest.raises(
        CheckpointError, match=r"000000000008-000000000016-.* does not fit this run: observation is float64"
    ):
        log.read(8, 16)


def test_a_segment_far_larger_than_such_rows_is_refused_before_it_is_read(samples, tmp_path):
    state = samples.state()
    state["buffer"]["rows"] = OtherColumns(observation=np.zeros((2, 1_000_000), np.float32))
    path = samples.store_state(tmp_path, state)
    load(path, expected=state)
    with pytest.raises(
        CheckpointError, match=r"segments/buffer-rows-\S+ has 80000\d\d bytes, far more than this run's"
    ):
        load(path, expected=samples.state())
