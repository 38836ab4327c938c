"""Saving beside training: the state of that instant, one save at a time, and no failure that ends a run."""

import copy
import threading

import numpy as np
import pytest

from checkpoints import (
    CheckpointError,
    CheckpointWriter,
    list_checkpoints,
    load,
    newest_valid,
    read_manifest,
    verify,
)


@pytest.fixture
def told() -> list[str]:
    """What the writer had to complain of."""
    return []


@pytest.fixture
def writer(tmp_path, told):
    """A writer into tmp_path that keeps two checkpoints."""
    writer = CheckpointWriter(tmp_path, 2, told.append)
    yield writer
    writer.close()


def step_path(writer, step):
    return writer.root / f"step_{step:09d}"


def test_a_save_returns_before_it_is_written(samples, writer, told):
    go = threading.Event()
    writer.save(10, samples.state(), samples.ABOUT, 0.5, before=lambda: go.wait(60))
    assert writer.last_good is None
    assert list_checkpoints(writer.root) == []
    go.set()
    writer.wait()
    assert writer.last_good == 10
    restored, manifest = load(step_path(writer, 10))
    samples.assert_same(samples.state(), restored)
    assert manifest.success == 0.5
    assert told == []


def test_what_is_saved_is_the_state_at_the_call(samples, writer):
    class Ring(samples.RowLog):
        """Rows that are views of an array, which training goes on writing into."""

        def __init__(self):
            super().__init__(0, 20)
            self.rows = super().read(0, 20)

        def read(self, first, last):
            return {key: column[first:last].copy() for key, column in self.rows.items()}

    state = samples.state()
    state["buffer"]["rows"] = Ring()
    before = copy.deepcopy(state)
    go = threading.Event()
    writer.save(10, state, samples.ABOUT, None, before=lambda: go.wait(60))
    state["agent"]["actor"]["net.0.weight"][:] = 7
    state["agent"]["log_alpha"][()] = 7
    state["agent"]["generator"]["state"][:] = 7
    state["agent"]["generator"]["device"] = "cuda"
    state["counters"]["env_steps"] = 8
    state["counters"]["nested"]["deeper"]["new"] = 1
    for column in state["buffer"]["rows"].rows.values():
        column[:] = 1
    state["buffer"]["transposed"][:] = 7
    go.set()
    writer.wait()
    samples.assert_same(before, load(step_path(writer, 10))[0])


def test_lists_in_the_state_are_copied_too(samples, writer):
    state = samples.state() | {"meters": {"windows": {"return": [1.0, 2.0]}, "deep": [[1], {"x": [2]}]}}
    before = copy.deepcopy(state)
    go = threading.Event()
    writer.save(10, state, samples.ABOUT, None, before=lambda: go.wait(60))
    state["meters"]["windows"]["return"].append(3.0)
    state["meters"]["deep"][1]["x"][0] = 3
    go.set()
    writer.wait()
    samples.assert_same(before, load(step_path(writer, 10))[0])


def test_one_save_is_in_flight_at_most(samples, writer):
    seen = []

    class Watched(samples.RowLog):
        def read(self, first, last):
            seen.append(writer.last_good)
            return super().read(first, last)

    second = samples.state()
    second["buffer"]["rows"] = Watched(0, 25)
    go = threading.Event()
    writer.save(10, samples.state(), samples.ABOUT, None, before=lambda: go.wait(60))
    thread = threading.Thread(target=lambda: writer.save(20, second, samples.ABOUT, None))
    thread.start()
    thread.join(0.2)  # as long as the first takes, the second must wait with even its copies
    go.set()
    thread.join()
    writer.wait()
    assert seen
    assert set(seen) == {10}
    assert [read_manifest(path).step for path in list_checkpoints(writer.root)] == [10, 20]


def test_close_waits_for_the_save_in_flight(samples, tmp_path, told):
    writer = CheckpointWriter(tmp_path, 2, told.append)
    go = threading.Event()
    writer.save(10, samples.state(), samples.ABOUT, None, before=lambda: go.wait(60))
    threading.Timer(0.1, go.set).start()
    writer.close()
    verify(step_path(writer, 10))


def test_what_must_come_first_comes_first_and_its_failure_fails_the_save(samples, writer, told):
    def fail():
        raise OSError(28, "No space left on device", "curves/events.out")

    writer.save(10, samples.state(), samples.ABOUT, None)
    writer.save(20, samples.state(), samples.ABOUT, None, before=fail)
    writer.wait()
    assert told == [
        "checkpoint of step 20 NOT saved: curves/events.out: No space left on device; training goes on, and tries "
        "again at the next checkpoint; the newest good one is step 10"
    ]
    assert writer.last_good == 10
    assert newest_valid(writer.root) == (step_path(writer, 10), [])
    writer.save(30, samples.state(), samples.ABOUT, None)
    writer.wait()
    assert len(told) == 1
    assert newest_valid(writer.root) == (step_path(writer, 30), [])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"counters": {"loss": float("nan")}}, "ValueError: Out of range float values are not JSON compliant"),
        ({"counters": {"path": object()}}, "TypeError: Object of type object is not JSON serializable"),
        ({"../agent": {}}, "ValueError: a part of a state cannot be called '../agent'"),
        ({"words": {"x": np.array(["a"])}}, "rror: "),
    ],
)
def test_a_failure_of_any_kind_is_told_once_and_survived(samples, writer, told, bad, reason):
    writer.save(1_000, samples.state(), samples.ABOUT, None)
    writer.save(2_000, samples.state() | bad, samples.ABOUT, None)
    writer.wait()
    (sentence,) = told
    assert sentence.startswith("checkpoint of step 2,000 NOT saved: ")
    assert reason in sentence
    assert sentence.endswith("the newest good one is step 1,000")
    assert "\n" not in sentence
    assert list_checkpoints(writer.root) == [step_path(writer, 1000)]
    writer.save(3_000, samples.state(), samples.ABOUT, None)
    writer.wait()
    assert newest_valid(writer.root) == (step_path(writer, 3000), [])


def test_a_key_that_cannot_be_written_is_the_callers_mistake_and_costs_nothing(samples, writer, told):
    writer.save(10, samples.state(), samples.ABOUT, None)
    with pytest.raises(ValueError, match="no string without"):
        writer.save(20, {"agent": {"a|b": 1}}, samples.ABOUT, None)
    writer.save(30, samples.state(), samples.ABOUT, None)
    writer.wait()
    assert told == []
    assert [read_manifest(path).step for path in list_checkpoints(writer.root)] == [10, 30]


def test_a_first_save_that_fails_leaves_nothing_and_says_that_there_is_no_older_one(samples, writer, told):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("checkpoints.store.write_file", full)
        writer.save(10, samples.state(), samples.ABOUT, None)
        writer.wait()
    (sentence,) = told
    assert "No space left on device" in sentence
    assert sentence.endswith("there is no older one")
    assert writer.last_good is None
    assert list(writer.root.iterdir()) == []


def test_a_first_save_that_could_not_even_begin_is_told_once(samples, tmp_path, told):
    def fail():
        raise OSError(28, "No space left on device", "curves/events.out")

    writer = CheckpointWriter(tmp_path / "checkpoints", 2, told.append)
    writer.save(10, samples.state(), samples.ABOUT, None, before=fail)
    writer.wait()
    assert len(told) == 1
    writer.save(20, samples.state(), samples.ABOUT, None)
    writer.close()
    assert len(told) == 1
    assert newest_valid(writer.root) == (step_path(writer, 20), [])


def test_a_resumed_run_knows_its_newest_good_one(samples, tmp_path, told):
    resumed = read_manifest(samples.store(tmp_path, 10))
    writer = CheckpointWriter(tmp_path, 2, told.append, resumed)
    assert writer.last_good == 10
    writer.save(20, samples.state() | {"bad": {"x": float("nan")}}, samples.ABOUT, None)
    writer.close()
    assert told[0].endswith("the newest good one is step 10")
    assert list_checkpoints(tmp_path) == [tmp_path / "step_000000010"]


def test_old_checkpoints_go_after_the_new_one_is_there(samples, writer, told, monkeypatch):
    from checkpoints import writer as module

    newest = []

    def prune(root, keep, step):
        newest.append((step, newest_valid(root)[0]))

    monkeypatch.setattr(module, "prune", prune)
    for step in (10, 20):
        writer.save(step, samples.state(), samples.ABOUT, None)
    writer.wait()
    assert newest == [(10, step_path(writer, 10)), (20, step_path(writer, 20))]
    assert told == []


def test_readers_beside_the_writer_see_a_checkpoint_whole_or_gone(samples, tmp_path, told, short_segments, no_flush):
    writer = CheckpointWriter(tmp_path, 1, told.append)
    done, crashes, seen = threading.Event(), [], set()

    def read():
        while not done.is_set():
            try:
                for path in list_checkpoints(tmp_path):
                    try:
                        verify(path)
                        state, manifest = load(path)
                        last = state["buffer"]["rows"].last
                        samples.assert_same(
                            samples.RowLog(last - 20, last).read(last - 20, last),
                            state["buffer"]["rows"].read(last - 20, last),
                        )
                        seen.add(manifest.step)
                    except CheckpointError:
                        # It has been removed meanwhile; being damaged while it is there would be another matter.
                        assert not (path / "manifest.json").exists()
                newest_valid(tmp_path)
            except BaseException as error:
                crashes.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for step in range(1, 81):
        writer.save(step, samples.state(first=step * 5, last=step * 5 + 20), samples.ABOUT, None)
    writer.close()
    done.set()
    for reader in readers:
        reader.join()
    assert (crashes, told) == ([], [])
    assert seen, "the readers never got to read one"


def test_another_state_of_a_step_that_is_saved_costs_nothing_and_comes_to_nothing(samples, writer, told):
    writer.save(10, samples.state(1), samples.ABOUT, None)
    writer.wait()
    writer.save(10, samples.state(2), samples.ABOUT, 0.5)
    writer.wait()
    samples.assert_same(samples.state(1), load(step_path(writer, 10))[0])
    assert told == []
