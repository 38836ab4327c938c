"""A checkpoint comes back as it was written, or says which of its files is not what was written."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from checkpoints import (
    About,
    CheckpointError,
    FormatError,
    find,
    list_checkpoints,
    list_unfinished,
    load,
    newest_valid,
    prune,
    read_manifest,
    save,
    step_of,
    verify,
)

FILES = ("agent.safetensors", "buffer.safetensors", "manifest.json")


# There and back


def test_state_comes_back_as_it_was(samples, tmp_path):
    restored, manifest = load(samples.store(tmp_path))
    samples.assert_same(samples.state(), restored)
    assert (manifest.step, manifest.success) == (10, 0.5)
    assert About(manifest.config, manifest.versions, manifest.fingerprint) == samples.ABOUT


def test_generators_state_of_128_bits_comes_back_whole(samples, tmp_path):
    restored, _ = load(samples.store(tmp_path))
    rng = np.random.default_rng(1)
    rng.bit_generator.state = restored["buffer"]["rng"]
    expected = np.random.default_rng(0)
    expected.bit_generator.state = samples.state()["buffer"]["rng"]
    np.testing.assert_array_equal(rng.random(5), expected.random(5))
    assert restored["buffer"]["rng"]["state"]["state"] > 2**64


def test_numpy_numbers_come_back_with_their_type_as_arrays_without_axes(samples, tmp_path):
    numbers = {"i": np.int64(3), "f": np.float32(0.1), "b": np.bool_(True)}
    path = save(tmp_path, 1, {"numbers": numbers}, About())
    samples.assert_same({key: np.asarray(value) for key, value in numbers.items()}, load(path)[0]["numbers"])


def test_arrays_may_hold_what_is_not_finite(samples, tmp_path):
    odd = {"arrays": {"x": np.array([np.nan, np.inf, -0.0])}}
    samples.assert_same(odd, load(save(tmp_path, 1, odd, About()))[0])


def test_one_part_can_be_loaded_alone_even_where_others_are_damaged(samples, tmp_path):
    path = samples.store(tmp_path)
    (path / "buffer.safetensors").write_bytes(b"")
    for file in (tmp_path / "segments").iterdir():
        file.unlink()
    restored, _ = load(path, only=["agent"])
    samples.assert_same(samples.state()["agent"], restored["agent"])
    assert set(restored) == {"agent"}
    verify(path, only=["agent"])
    assert newest_valid(tmp_path, only=["agent"]) == (path, [])
    assert newest_valid(tmp_path)[0] is None


def test_a_part_that_is_not_there_is_named(samples, tmp_path):
    with pytest.raises(CheckpointError, match="holds no replay, weather"):
        load(samples.store(tmp_path), only=["weather", "agent", "replay"])


def test_the_same_step_saved_again_replaces_the_first(samples, tmp_path):
    samples.store(tmp_path, seed=1)
    path = samples.store(tmp_path, seed=2)
    samples.assert_same(samples.state(2), load(path)[0])
    assert list_checkpoints(tmp_path) == [path]


def test_arrays_lie_in_one_file_for_each_part_that_has_any(samples, tmp_path):
    assert sorted(file.name for file in samples.store(tmp_path).iterdir()) == sorted(FILES)


def test_a_state_without_a_log_makes_no_segments(tmp_path):
    path = save(tmp_path, 1, {"agent": {"x": np.ones(3)}}, About())
    assert list(tmp_path.iterdir()) == [path]


# What cannot be written


@pytest.mark.parametrize(
    "bad",
    [
        {"counters": {"loss": float("nan")}},
        {"counters": {"loss": float("inf")}},
        {"counters": {"path": Path("x")}},
        {"agent": {"a|b": 1}},
        {"agent": {"objects": np.array([object()])}},
        {"agent": {"words": np.array(["a", "b"])}},
        {"agent": {str(i): np.zeros(1) for i in range(20_000)}},
        {"../agent": {}},
        {"Agent": {"x": np.zeros(1)}},
    ],
)
def test_a_state_that_cannot_be_written_costs_no_older_checkpoint(samples, tmp_path, bad):
    path = samples.store(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((ValueError, TypeError, KeyError, SafetensorError)):
        save(tmp_path, 10, samples.state() | bad, samples.ABOUT)
    assert sorted(tmp_path.rglob("*")) == before
    samples.assert_same(samples.state(), load(path)[0])


# What is expected


def test_a_part_far_larger_than_expected_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = save(tmp_path, 1, {"agent": {"x": np.zeros(5_000_000, np.float32)}}, About())
    monkeypatch.setattr("checkpoints.store._SLACK", 2**20)
    with pytest.raises(CheckpointError, match=r"agent\.safetensors has 200000\d\d bytes, far more than"):
        load(path, expected={"agent": {"x": np.zeros(5, np.float32)}})
    load(path)


def test_next_to_what_is_expected_there_may_be_more(samples, tmp_path):
    path = samples.store(tmp_path, last=30)
    expected = {"agent": {"actor": samples.state()["agent"]["actor"]}, "buffer": {"rows": samples.RowLog(5, 9)}}
    samples.assert_same(samples.state(last=30), load(path, expected=expected)[0])
    samples.assert_same(
        samples.state()["agent"], load(path, only=["agent"], expected=expected | {"new": {}})[0]["agent"]
    )


def test_arrays_alone_are_compared(samples, tmp_path):
    expected = samples.state(seed=7)
    expected["agent"]["updates"] = "many"
    samples.assert_same(samples.state(), load(samples.store(tmp_path), expected=expected)[0])


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("agent", "log_alpha", np.zeros(1, np.float32), r"log_alpha is float32 \(\) there, and float32 \(1,\) here"),
        ("agent", "log_alpha", np.zeros(()), r"log_alpha is float32 \(\) there, and float64 \(\) here"),
        ("agent", "optimizer", {"m": np.zeros(3)}, r"optimizer\|m is missing there, and float64 \(3,\) here"),
        ("agent", "actor", {"net.0.weight": np.zeros((1, 4, 5), np.float32)},
         r"actor\|net.0.weight is float32 \(1, 4, 3\) there, and float32 \(1, 4, 5\) here"),
        ("counters", "best", np.zeros(2), r"best is missing there, and float64 \(2,\) here"),
    ],
)  # fmt: skip
def test_an_array_of_another_kind_is_named_with_both_shapes(samples, tmp_path, part, key, value, message):
    path, expected = samples.store(tmp_path), samples.state()
    expected[part][key] = value
    with pytest.raises(CheckpointError, match=rf"{part}\.safetensors does not fit this run: {message}") as caught:
        load(path, expected=expected)
    assert caught.value.status == 2


def test_a_part_or_a_log_that_is_expected_and_not_there_is_named(samples, tmp_path):
    path = samples.store(tmp_path)
    with pytest.raises(CheckpointError, match="step_000000010 holds no weather"):
        load(path, expected={"weather": {}})
    with pytest.raises(CheckpointError, match="step_000000010 holds no more in buffer; use the code that wrote it"):
        load(path, expected={"buffer": {"more": samples.RowLog(0, 0)}})


# Which one to go on from


def test_an_unfinished_checkpoint_does_not_count(samples, tmp_path):
    finished, unfinished = samples.store(tmp_path, 10), samples.store(tmp_path, 20)
    (unfinished / "manifest.json").unlink()
    assert list_checkpoints(tmp_path) == [finished]
    assert list_unfinished(tmp_path) == [unfinished]
    assert newest_valid(tmp_path) == (finished, [])


def test_saving_over_an_unfinished_checkpoint_makes_it_whole(samples, tmp_path):
    path = samples.store(tmp_path)
    (path / "manifest.json").unlink()
    (path / "left_over.safetensors.tmp").write_bytes(b"half")
    samples.assert_same(samples.state(), load(samples.store(tmp_path))[0])
    assert not (path / "left_over.safetensors.tmp").exists()


@pytest.mark.parametrize("name", FILES)
def test_the_newest_that_is_good_is_found_and_what_is_wrong_with_newer_ones_told(samples, tmp_path, name):
    good = samples.store(tmp_path, 10)
    bad = [samples.store(tmp_path, step) for step in (20, 30)]
    for path in bad:
        (path / name).write_bytes((path / name).read_bytes()[:-3])
    found, problems = newest_valid(tmp_path)
    assert found == good
    assert [str(path / name) in problem for path, problem in zip(reversed(bad), problems, strict=True)] == [True, True]


def test_another_codes_checkpoint_is_not_passed_over(samples, tmp_path):
    samples.store(tmp_path, 10)
    newer, newest = samples.store(tmp_path, 20), samples.store(tmp_path, 30)
    (newer / "manifest.json").write_bytes(samples.foreign_manifest({"format": 1, "step": 20}))
    assert newest_valid(tmp_path) == (newest, [])
    (newest / "agent.safetensors").write_bytes(b"short")
    with pytest.raises(FormatError, match=r"step_000000020/manifest\.json has format 1, and this code reads up to 3"):
        newest_valid(tmp_path)


def test_a_run_directory_stands_for_its_newest_good_checkpoint_and_a_checkpoint_for_itself(samples, tmp_path):
    good, bad = (samples.store(tmp_path / "checkpoints", step) for step in (10, 20))
    (bad / "agent.safetensors").write_bytes(b"short")
    found, (problem,) = find(tmp_path)
    assert found == good
    assert str(bad) in problem
    assert find(bad) == (bad, [])
    with pytest.raises(CheckpointError, match=r"nowhere: no such run directory or checkpoint$"):
        find(tmp_path / "nowhere")
    (good / "agent.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"can be used; .*20/agent.*; .*10/agent.* is cut short"):
        find(tmp_path)


def test_where_nothing_is_there_nothing_is_found(tmp_path):
    assert newest_valid(tmp_path / "nowhere") == (None, [])
    assert list_checkpoints(tmp_path) == []


def test_checkpoints_are_listed_by_step_whatever_their_number_of_digits(samples, tmp_path):
    paths = [samples.store(tmp_path, step) for step in (10**9, 10**9 - 1, 20, 3)]
    assert list_checkpoints(tmp_path) == paths[::-1]
    assert [step_of(path) for path in paths] == [10**9, 10**9 - 1, 20, 3]


@pytest.mark.parametrize("name", ["step_000000300.bak", "step_old", "step_300", "my_step_000000300"])
def test_a_directory_of_another_name_is_no_checkpoint_and_is_never_removed(samples, tmp_path, name):
    samples.store(tmp_path, 300).rename(tmp_path / name)
    paths = [samples.store(tmp_path, step) for step in (1, 2)]
    assert step_of(tmp_path / name) is None
    assert list_checkpoints(tmp_path) == paths
    prune(tmp_path, keep=1, newest=2)
    assert (tmp_path / name / "manifest.json").is_file()


def test_a_directory_that_may_not_be_read_is_not_taken_for_an_empty_one(samples, tmp_path, monkeypatch):
    samples.store(tmp_path)

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("checkpoints.store.os.scandir", forbidden)  # root may read everything
    for reader in (list_checkpoints, list_unfinished, newest_valid, lambda root: prune(root, 1, 10)):
        with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\); make it readable"):
            reader(tmp_path)


def test_a_file_where_the_checkpoints_should_be_is_named(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(CheckpointError, match="checkpoints cannot be read"):
        list_checkpoints(tmp_path / "checkpoints")


def test_a_checkpoint_that_may_not_be_read_counts_and_says_so(samples, tmp_path, monkeypatch):
    good, locked = samples.store(tmp_path, 10), samples.store(tmp_path, 20)

    def guarded(function):
        def call(path, *args, **kwargs):
            if str(path).startswith(f"{locked}{os.sep}"):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **kwargs)

        return call

    monkeypatch.setattr("os.stat", guarded(os.stat))
    monkeypatch.setattr("os.open", guarded(os.open))
    assert list_checkpoints(tmp_path) == [good, locked]
    found, (problem,) = newest_valid(tmp_path)
    assert found == good
    assert "cannot be read (Permission denied)" in problem


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_checkpoint_directory_may_be_a_link(samples, tmp_path):
    samples.store(tmp_path / "elsewhere").rename(tmp_path / "moved")
    (tmp_path / "elsewhere" / "step_000000010").symlink_to(tmp_path / "moved")
    assert read_manifest(list_checkpoints(tmp_path / "elsewhere")[0]).step == 10


def test_segments_that_several_checkpoints_share_can_be_verified_once(samples, tmp_path, short_segments):
    older, newer = samples.store(tmp_path, 10), samples.store(tmp_path, 20)
    seen: set[str] = set()
    verify(older, verified=seen)
    assert seen == {path.name for path in (tmp_path / "segments").iterdir()}
    for path in (tmp_path / "segments").iterdir():
        path.write_bytes(b"short")
    verify(newer, verified=seen)
    with pytest.raises(CheckpointError, match="segments/buffer-rows-"):
        verify(newer)
