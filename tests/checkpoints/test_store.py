"""A checkpoint comes back as it was written, or says which of its files is not what was written."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from checkpoints import (
    CheckpointError,
    export_policy,
    list_checkpoints,
    load,
    newest_valid,
    prune,
    read_manifest,
    save,
    verify,
)

CONFIG, VERSIONS = {"env": "reach", "sac": {"hidden": [256, 256], "lr": 1e-3}}, {"torch": "2.9"}


def state(seed: int = 0) -> dict:
    """Everything that a training state is made of."""
    rng = np.random.default_rng(seed)
    return {
        "agent": {
            "actor": {"net.0.weight": rng.normal(size=(1, 4, 3)).astype(np.float32)},
            "log_alpha": np.array(-1.5, np.float32),
            "optimizer": {},
            "updates": 3 * 10**9,
            "generator": {"device": "cpu", "state": rng.integers(0, 256, 16, np.uint8)},
        },
        "buffer": {
            "rows": {"terminated": rng.random(5) < 0.5, "observation": np.zeros((0, 7), np.float32)},
            "steps_before": np.arange(5, dtype=np.int32),
            "staged": np.arange(2, dtype=np.int64),
            "transposed": rng.normal(size=(3, 2)).T,
            "rng": rng.bit_generator.state,
        },
        "counters": {"env_steps": 7, "best": None, "done": False, "rate": 0.1 + 0.2, "nested": {"deeper": {}}},
        "nothing": {},
    }


def store(root: Path, step: int = 10, success: float | None = 0.5, seed: int = 0) -> Path:
    return save(root, step, state(seed), CONFIG, VERSIONS, success)


def assert_same(left, right, path="state") -> None:
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), path
        np.testing.assert_array_equal(left, right, err_msg=path)
    else:
        assert left == right, path


# There and back


def test_state_comes_back_as_it_was(tmp_path):
    restored, manifest = load(store(tmp_path))
    assert_same(state(), restored)
    assert (manifest.step, manifest.success, manifest.config, manifest.versions) == (10, 0.5, CONFIG, VERSIONS)


def test_generators_state_of_128_bits_comes_back_whole(tmp_path):
    restored, _ = load(store(tmp_path))
    rng = np.random.default_rng(1)
    rng.bit_generator.state = restored["buffer"]["rng"]
    expected = np.random.default_rng(0)
    expected.bit_generator.state = state()["buffer"]["rng"]
    np.testing.assert_array_equal(rng.random(5), expected.random(5))
    assert restored["buffer"]["rng"]["state"]["state"] > 2**64


def test_numpy_numbers_come_back_as_pythons(tmp_path):
    path = save(tmp_path, 1, {"numbers": {"i": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True)}}, {}, {})
    assert_same({"i": 3, "f": 0.5, "b": True}, load(path)[0]["numbers"])


def test_one_entry_can_be_loaded_alone_even_where_others_are_damaged(tmp_path):
    path = store(tmp_path)
    (path / "buffer.safetensors").write_bytes(b"")
    restored, _ = load(path, only=["agent"])
    assert_same(state()["agent"], restored["agent"])
    assert set(restored) == {"agent"}


def test_an_entry_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="holds no replay, weather"):
        load(store(tmp_path), only=["weather", "agent", "replay"])


def test_the_same_step_saved_again_replaces_the_first(tmp_path):
    store(tmp_path, seed=1)
    path = store(tmp_path, seed=2)
    assert_same(state(2), load(path)[0])
    assert list_checkpoints(tmp_path) == [path]


# Damage

FILES = ("agent.safetensors", "buffer.safetensors", "manifest.json")


def test_arrays_lie_in_one_file_for_each_entry_that_has_any(tmp_path):
    assert sorted(file.name for file in store(tmp_path).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("reader", [verify, load])
def test_a_file_cut_short_is_named(tmp_path, name, reader):
    path = store(tmp_path)
    whole = (path / name).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (path / name).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=name):
            reader(path)
    (path / name).write_bytes(whole)
    reader(path)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_found_and_its_file_named(tmp_path, name):
    path = store(tmp_path)
    whole = (path / name).read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), min(len(whole), 300), replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        (path / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            verify(path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    path = store(tmp_path)
    (path / name).unlink()
    for reader in (verify, load):
        with pytest.raises(CheckpointError, match=name):
            reader(path)


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}", '{"format": 1}'])
def test_a_manifest_that_is_none_is_named(tmp_path, content):
    path = store(tmp_path)
    (path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        verify(path)


def test_a_manifest_edited_by_hand_is_found(tmp_path):
    path = store(tmp_path)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"env_steps": 7', '"env_steps": 8'))
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        load(path)


def test_a_format_from_the_future_is_refused(tmp_path):
    path = store(tmp_path)
    (path / "manifest.json").write_text(json.dumps({"format": 2, "contents": "unknown to this code"}))
    with pytest.raises(CheckpointError, match="format 2, and this code reads format 1"):
        verify(path)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: None])
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path, make):
    path = tmp_path / "step_000000001"
    make(path)
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        load(path)


# What cannot be written


@pytest.mark.parametrize(
    "bad",
    [
        {"counters": {"loss": float("nan")}},
        {"counters": {"loss": float("inf")}},
        {"counters": {"path": Path("x")}},
        {"agent": {"a|b": 1}},
        {"agent": {"objects": np.array([object()])}},
    ],
)
def test_a_state_that_cannot_be_written_costs_no_older_checkpoint(tmp_path, bad):
    path = store(tmp_path)
    with pytest.raises((ValueError, TypeError, SafetensorError)):
        save(tmp_path, 10, state() | bad, CONFIG, VERSIONS)
    assert_same(state(), load(path)[0])


def test_arrays_may_hold_what_is_not_finite(tmp_path):
    odd = {"arrays": {"x": np.array([np.nan, np.inf, -0.0])}}
    assert_same(odd, load(save(tmp_path, 1, odd, {}, {}))[0])


# Which one to go on from


def test_an_unfinished_checkpoint_does_not_count(tmp_path):
    finished = store(tmp_path, 10)
    unfinished = store(tmp_path, 20)
    (unfinished / "manifest.json").unlink()
    assert list_checkpoints(tmp_path) == [finished]
    assert newest_valid(tmp_path) == (finished, [])


def test_saving_over_an_unfinished_checkpoint_makes_it_whole(tmp_path):
    path = store(tmp_path)
    (path / "manifest.json").unlink()
    (path / "left_over.safetensors.tmp").write_bytes(b"half")
    assert_same(state(), load(store(tmp_path))[0])
    assert not (path / "left_over.safetensors.tmp").exists()


@pytest.mark.parametrize("name", FILES)
def test_the_newest_that_is_good_is_found_and_what_is_wrong_with_newer_ones_told(tmp_path, name):
    good = store(tmp_path, 10)
    bad = [store(tmp_path, step) for step in (20, 30)]
    for path in bad:
        (path / name).write_bytes((path / name).read_bytes()[:-3])
    found, problems = newest_valid(tmp_path)
    assert found == good
    assert [str(path / name) in problem for path, problem in zip(reversed(bad), problems, strict=True)] == [True, True]


def test_where_nothing_is_there_nothing_is_found(tmp_path):
    assert newest_valid(tmp_path / "nowhere") == (None, [])
    assert list_checkpoints(tmp_path) == []


def test_checkpoints_are_listed_by_step(tmp_path):
    paths = [store(tmp_path, step) for step in (100_000, 20, 3)]
    assert list_checkpoints(tmp_path) == paths[::-1]


def test_steps_of_more_digits_are_listed_after_those_of_fewer(tmp_path):
    paths = [store(tmp_path, step) for step in (10**9, 10**9 - 1)]
    assert list_checkpoints(tmp_path) == paths[::-1]
    prune(tmp_path, keep=1)
    assert list_checkpoints(tmp_path) == paths[:1]  # the best of equals is the latest


@pytest.mark.parametrize("name", ["step_000000300.bak", "step_old", "step_300", "my_step_000000300"])
def test_a_directory_of_another_name_is_no_checkpoint_and_is_never_removed(name, tmp_path):
    store(tmp_path, 300).rename(tmp_path / name)
    paths = [store(tmp_path, step) for step in (1, 2)]
    assert list_checkpoints(tmp_path) == paths
    prune(tmp_path, keep=1)
    assert (tmp_path / name / "manifest.json").is_file()


def test_a_directory_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    store(tmp_path)

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("checkpoints.store.os.scandir", forbidden)  # root may read everything
    for reader in (list_checkpoints, newest_valid, lambda root: prune(root, 1)):
        with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\); make it readable"):
            reader(tmp_path)


def test_a_file_where_the_checkpoints_should_be_is_named(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(CheckpointError, match="checkpoints cannot be read"):
        list_checkpoints(tmp_path / "checkpoints")


def test_a_checkpoint_that_may_not_be_read_counts_and_says_so(tmp_path, monkeypatch):
    good, locked = store(tmp_path, 10), store(tmp_path, 20)
    stat, read_bytes = os.stat, Path.read_bytes

    def guarded(function):
        def call(path, *args, **kwargs):
            if str(path).startswith(f"{locked}{os.sep}"):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **kwargs)

        return call

    monkeypatch.setattr("checkpoints.store.os.stat", guarded(stat))
    monkeypatch.setattr(Path, "read_bytes", guarded(read_bytes))
    assert list_checkpoints(tmp_path) == [good, locked]
    found, (problem,) = newest_valid(tmp_path)
    assert found == good
    assert "cannot be read (Permission denied)" in problem


# Which ones to keep


@pytest.mark.parametrize(
    ("successes", "keep", "kept"),
    [
        ([None, None, None, None], 2, [3, 4]),
        ([0.9, 0.1, 0.2, 0.3], 2, [1, 3, 4]),
        ([0.9, 0.9, 0.2, 0.3], 1, [2, 4]),
        ([0.1, 0.2, 0.3, 0.9], 1, [4]),
        ([0.0, None, None, None], 1, [1, 4]),
        ([0.5, 0.6], 5, [1, 2]),
    ],
)
def test_the_newest_and_the_best_are_kept(tmp_path, successes, keep, kept):
    for step, success in enumerate(successes, 1):
        store(tmp_path, step, success)
    prune(tmp_path, keep)
    assert [read_manifest(path).step for path in list_checkpoints(tmp_path)] == kept
    assert len(list(tmp_path.iterdir())) == len(kept)


def test_a_damaged_checkpoint_does_not_stop_the_pruning(tmp_path):
    for step in (1, 2, 3):
        path = store(tmp_path, step, success=0.5)
    (tmp_path / "step_000000001" / "manifest.json").write_text("{")
    prune(tmp_path, keep=1)
    assert list_checkpoints(tmp_path) == [path]


def test_pruning_removes_what_was_never_finished(tmp_path):
    for step in (1, 2, 3):
        path = store(tmp_path, step, success=None)
    (tmp_path / "step_000000001" / "manifest.json").unlink()
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000002", "step_000000003"]
    (path / "manifest.json").unlink()
    prune(tmp_path, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000002"]


# The policy alone


def test_export_holds_the_policy_and_how_it_was_made_and_nothing_else(tmp_path):
    source = store(tmp_path / "run", success=0.75)
    export_policy(source, tmp_path / "pretrained" / "reach", "python train.py")
    restored, manifest = load(tmp_path / "pretrained" / "reach")
    assert_same({"agent": {"actor": state()["agent"]["actor"]}}, restored)
    assert (manifest.step, manifest.success) == (10, 0.75)
    assert manifest.config == CONFIG | {"command": "python train.py"}
    assert [path.name for path in (tmp_path / "pretrained").iterdir()] == ["reach"]


def test_export_beside_its_source_leaves_the_source_as_it_was(tmp_path):
    source = store(tmp_path)
    export_policy(source, tmp_path / "policy", "python train.py")
    assert_same(state(), load(source)[0])
    assert (tmp_path / "policy" / "manifest.json").is_file()


def test_export_replaces_an_older_export(tmp_path):
    for seed in (1, 2):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        export_policy(store(tmp_path / "run", seed=seed), tmp_path / "policy", "python train.py")
    assert_same(state(2)["agent"]["actor"], load(tmp_path / "policy")[0]["agent"]["actor"])


@pytest.mark.parametrize(
    "kind", ["directory", "empty directory", "file", "checkpoint", "foreign manifest", "dead link"]
)
def test_export_leaves_alone_what_is_no_export(kind, tmp_path):
    source, target = store(tmp_path / "run"), tmp_path / "precious"
    match kind:
        case "file":
            target.write_text("thesis")
        case "checkpoint":
            store(tmp_path).rename(target)
        case "dead link":
            target.symlink_to(tmp_path / "nowhere")
        case _:
            target.mkdir()
            if kind != "empty directory":
                (target / ("manifest.json" if kind == "foreign manifest" else "thesis.tex")).write_text("{}")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(CheckpointError, match="precious is there already and is no exported policy; name another"):
        export_policy(source, target, "python train.py")
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before
