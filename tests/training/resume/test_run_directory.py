"""Which directories a run may use, which it must leave alone, and what it goes on from."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import checkpoints
from training.config import ConfigError, EvalConfig, LogConfig, TrainConfig
from training.resume.run_directory import RunDirectory, RunInUse, Start, choose_start, refuse_impossible

ROOT = Path(__file__).parents[3]


def config(run: Path, **changes) -> TrainConfig:
    return replace(TrainConfig(run=str(run)), **changes).resolved()


def start(path: Path, *steps: int, fingerprint: str | None = None, **changes) -> RunDirectory:
    """A run directory as training leaves it, with a checkpoint at each of `steps`."""
    run, own = RunDirectory(path), config(path, **changes)
    with run.lock():
        run.write_config(own)
    about = checkpoints.About(own.to_dict(), {}, fingerprint)
    for step in steps:
        state = {"progress": {"env_steps": step}, "buffer": {"rows": Rows(0, step)}}
        checkpoints.save(run.checkpoints, step, state, about)
    return run


class Rows(NamedTuple):
    """A log, as the buffer's: each row holds its own number."""

    first: int
    last: int

    def read(self, a: int, b: int) -> dict[str, np.ndarray]:
        return {"number": np.arange(a, b)}


def checkpoint_to_resume(own: TrainConfig) -> tuple[Path | None, list[str]]:
    """Where train.py would go on, and what it would say about it."""
    refuse_impossible(own, None)
    with RunDirectory(Path(own.run)).lock():
        begin = choose_start(own, None)
    return begin.checkpoint, list(begin.notes)


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


# --resume auto


def test_the_newest_checkpoint_is_where_a_run_goes_on(tmp_path):
    run = start(tmp_path / "r", 100, 200)
    assert checkpoint_to_resume(config(run.path)) == (run.checkpoints / "step_000000200", [])


def test_a_run_without_checkpoints_begins_again_and_says_so(tmp_path):
    path, notes = checkpoint_to_resume(config(start(tmp_path / "r").path))
    assert path is None
    assert "stopped before its first checkpoint" in notes[0]


def test_a_first_checkpoint_that_was_never_finished_is_no_loss(tmp_path):
    run = start(tmp_path / "r", 100)
    (run.checkpoints / "step_000000100" / "manifest.json").unlink()
    path, notes = checkpoint_to_resume(config(run.path))
    assert path is None
    assert "stopped before its first checkpoint" in notes[0]


def test_a_kill_between_two_directories_of_the_first_save_is_no_loss(tmp_path):
    run = start(tmp_path / "r")
    run.checkpoints.mkdir()
    assert "stopped before its first checkpoint" in checkpoint_to_resume(config(run.path))[1][0]
    (run.checkpoints / "step_000000100").mkdir()
    assert "stopped before its first checkpoint" in checkpoint_to_resume(config(run.path))[1][0]


@pytest.mark.parametrize("left", [None, "step_000000100.bak"])
def test_a_run_whose_checkpoints_were_taken_away_is_refused_not_started_again(left, tmp_path):
    run = start(tmp_path / "r", 100)
    (run.checkpoints / "step_000000100").rename(run.checkpoints / left if left else tmp_path / "elsewhere")
    with pytest.raises(checkpoints.CheckpointError, match="has lost its checkpoints; put them back"):
        checkpoint_to_resume(config(run.path))


def test_checkpoints_that_may_not_be_read_are_no_reason_to_start_again(tmp_path, monkeypatch):
    run = start(tmp_path / "r", 100)

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", forbidden)  # root, who may run the tests, may read everything
    with pytest.raises(checkpoints.CheckpointError, match=r"checkpoints cannot be read \(Permission denied\)"):
        checkpoint_to_resume(config(run.path))


@pytest.mark.parametrize("name", ["step_old", "step_000000900.bak"])
def test_other_names_among_the_checkpoints_are_nobodys_checkpoint(name, tmp_path):
    run = start(tmp_path / "r", 100)
    (run.checkpoints / "step_000000100").rename(run.checkpoints / name)
    start(run.path, 200)
    newest = run.checkpoints / "step_000000200"
    for resume in ("auto", str(newest)):
        assert checkpoint_to_resume(config(run.path, resume=resume)) == (newest, [])


@pytest.mark.parametrize(("change", "told"), [({"goal": "air"}, "--eval.goal: fixed, now air"),
                                              ({"episodes": 3}, "--eval.episodes: 40, now 3"),
                                              ({"seed": 5}, "--eval.seed: 1000000, now 5")])  # fmt: skip
def test_a_resumed_run_keeps_its_measure_and_may_take_it_more_often(change, told, tmp_path):
    run = start(tmp_path / "r", 100, env="pick-place")
    with pytest.raises(ConfigError, match=told):
        checkpoint_to_resume(config(run.path, env="pick-place", eval=EvalConfig(**change)))
    more_often = config(run.path, env="pick-place", eval=EvalConfig(every=77))
    assert checkpoint_to_resume(more_often)[0] == run.checkpoints / "step_000000100"


@pytest.mark.parametrize("content", [None, "", "{}", '{"seed": 17}', "[" * 10_000])
def test_checkpoints_outlive_the_configuration_beside_them(content, tmp_path):
    run = start(tmp_path / "r", 100)
    if content is None:
        run.config_file.unlink()
    else:
        run.config_file.write_text(content)
    assert checkpoint_to_resume(config(run.path))[0] == run.checkpoints / "step_000000100"
    with pytest.raises(ConfigError, match=r"step_000000100 was started with other options \(--seed: 0, now 1\)"):
        checkpoint_to_resume(config(run.path, seed=1))


@pytest.mark.parametrize("content", ["", "[" * 10_000])
def test_a_configuration_that_cannot_be_read_is_one_sentence(content, tmp_path):
    run = start(tmp_path / "r")
    run.config_file.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json cannot be read .*; move the directory away"):
        checkpoint_to_resume(config(run.path))


@pytest.mark.parametrize("name", ["x" * 300, "file/r"])
def test_a_name_that_no_directory_can_have_is_one_sentence(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="give another --run"):
        checkpoint_to_resume(config(tmp_path / name))


@pytest.mark.parametrize("content", ["{}", "[]", '"text"'])
def test_an_emptied_configuration_is_said_to_be_none(content, tmp_path):
    run = start(tmp_path / "r")
    run.config_file.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json holds no configuration; move the directory away"):
        checkpoint_to_resume(config(run.path))


# --resume PATH


@pytest.mark.parametrize("by", ["run", "checkpoint"])
def test_a_path_starts_a_branch_in_a_new_directory(by, tmp_path):
    run = start(tmp_path / "r", 100)
    saved = run.checkpoints / "step_000000100"
    source = {"run": run.path, "checkpoint": saved}[by]
    assert checkpoint_to_resume(config(tmp_path / "branch", resume=str(source))) == (saved, [])
    assert [path.name for path in (tmp_path / "branch").iterdir()] == [".lock"]


@pytest.mark.parametrize("resume", ["auto", "never", "PATH"])
def test_a_directory_of_something_else_is_refused_however_the_run_begins(resume, tmp_path):
    source = start(tmp_path / "r", 100).path
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="is no run of this program"):
        checkpoint_to_resume(config(tmp_path / "thesis", resume=resume.replace("PATH", str(source))))


def test_another_runs_directory_is_refused_as_the_place_of_a_branch(tmp_path):
    source = start(tmp_path / "r", 100).path
    other = start(tmp_path / "other", seed=1)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"other.config\.json was started with other options \(--seed: 1, now 0\)"):
        checkpoint_to_resume(config(other.path, resume=str(source)))
    assert contents(tmp_path) == before


def test_a_branch_goes_on_from_its_own_checkpoints_however_it_is_started_again(tmp_path):
    source, other = start(tmp_path / "r", 100).path, start(tmp_path / "other", 50).path
    branch = start(tmp_path / "branch", resume=str(source))
    for resume in (str(source), "auto"):  # killed before its first checkpoint
        assert checkpoint_to_resume(config(branch.path, resume=resume))[0] == source / "checkpoints" / "step_000000100"
    start(branch.path, 200, resume=str(source))
    for resume in (str(source), "auto"):
        assert checkpoint_to_resume(config(branch.path, resume=resume))[0] == branch.checkpoints / "step_000000200"
    with pytest.raises(ConfigError, match="already holds step_000000200, which is newer than step_000000050"):
        checkpoint_to_resume(config(branch.path, resume=str(other)))


def test_starting_a_branch_again_without_its_source_does_not_make_it_forget(tmp_path):
    source = start(tmp_path / "r", 100).path
    branch = start(tmp_path / "branch", resume=str(source))
    branch.write_config(config(branch.path))
    assert branch.branched_from() == str(source)


def test_a_run_is_not_turned_into_a_branch_of_an_older_one(tmp_path):
    source = start(tmp_path / "r", 100).path
    branch = start(tmp_path / "branch", 100, 200)
    with pytest.raises(ConfigError, match="to continue it, leave --resume out, or give another --run") as caught:
        checkpoint_to_resume(config(branch.path, resume=str(source)))
    assert "already holds step_000000200, which is newer than step_000000100" in str(caught.value)


def test_an_exported_policy_cannot_be_continued(tmp_path):
    own = config(tmp_path / "r")
    state = {"agent": {"actor_average": {}}, "buffer": {}}
    saved = checkpoints.save(tmp_path / "r" / "checkpoints", 100, state, checkpoints.About(own.to_dict()))
    checkpoints.export_policy(saved, tmp_path / "policy", "python train.py")
    with pytest.raises(checkpoints.CheckpointError, match="policy without its training; it can be evaluated, not cont"):
        checkpoint_to_resume(config(tmp_path / "new", resume=str(tmp_path / "policy")))


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match="no/such: there is no such checkpoint"):
        checkpoint_to_resume(config(tmp_path / "r", resume="no/such"))


# What is not the same run


@pytest.mark.parametrize("fingerprint", [None, "b" * 64])
def test_another_model_is_refused(fingerprint, tmp_path):
    run = start(tmp_path / "r", 100, fingerprint="a" * 64)
    assert choose_start(config(run.path), "a" * 64) == Start(run.checkpoints / "step_000000100")
    with pytest.raises(checkpoints.CheckpointError, match="was trained on another model"):
        choose_start(config(run.path), fingerprint)


def test_a_newer_format_is_refused_and_no_older_checkpoint_taken_for_it(tmp_path):
    run = start(tmp_path / "r", 100, 200)
    manifest = run.checkpoints / "step_000000200" / "manifest.json"
    content = json.loads(manifest.read_text()) | {"format": 3}
    del content["sha256"]
    manifest.write_text(json.dumps(content | {"sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()}))
    with pytest.raises(checkpoints.CheckpointError, match="has format 3, and this code reads format 2; use"):
        checkpoint_to_resume(config(run.path))


def test_checkpoints_of_another_run_in_the_directory_are_refused(tmp_path):
    other = start(tmp_path / "other", 100, seed=1)
    run = start(tmp_path / "r")
    other.checkpoints.rename(run.checkpoints)
    with pytest.raises(ConfigError, match=r"step_000000100 was started with other options \(--seed: 1, now 0\)"):
        checkpoint_to_resume(config(run.path))


@pytest.mark.parametrize(
    "changes",
    [{"steps": 30_000}, {"device": "cpu"}, {"video": False}, {"log": LogConfig(7)}, {"watchdog": 60.0}],
)
def test_what_leaves_the_run_the_same_may_be_changed(changes, tmp_path):
    run = start(tmp_path / "r", 100)
    assert checkpoint_to_resume(config(run.path, **changes))[0] == run.checkpoints / "step_000000100"


# One process at a time

HOLDER = """
import sys
from pathlib import Path
from training.resume.run_directory import RunDirectory

with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/r."""
    pytest.importorskip("fcntl")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", HOLDER, tmp_path / "r"]
    with subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_processes_cannot_train_in_one_directory(holder, tmp_path):
    run = RunDirectory(tmp_path / "r")
    with pytest.raises(RunInUse) as caught, run.lock():
        pass
    assert f"is being trained already by process {holder.pid}; wait for it or give another --run" in str(caught.value)

    run.lock_file.unlink()  # as somebody may be tempted to
    with pytest.raises(RunInUse), run.lock():
        pass

    holder.kill()
    holder.wait()
    with run.lock():
        assert run.lock_file.read_text() == f"{os.getpid()}\n"
    with run.lock():
        pass


def test_a_directory_with_only_a_lock_is_still_a_new_one(tmp_path):
    run = RunDirectory(tmp_path / "deep" / "r")
    with run.lock():
        pass
    (run.path / "config.json.tmp").write_text("{")  # and a configuration that a crash cut short
    for resume in ("auto", "never"):
        assert checkpoint_to_resume(config(run.path, resume=resume)) == (None, [])


def test_without_locks_on_the_platform_a_run_goes_without(tmp_path, monkeypatch):
    monkeypatch.setattr("training.resume.run_directory.fcntl", None)
    run = RunDirectory(tmp_path / "r")
    with run.lock(), run.lock():
        assert run.path.is_dir()
