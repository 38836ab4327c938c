"""Which directories a run may use, which it must leave alone, and what it goes on from."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import checkpoints
from errors import UserError
from training.config import LogConfig, TrainConfig
from training.recipes import recipe
from training.resume.run_directory import RunDirectory, Start, choose_start

ROOT = Path(__file__).parents[3]


def config(run: Path, env: str = "reach", **changes) -> TrainConfig:
    return replace(recipe(env), run=str(run), **changes)


def start(path: Path, *steps: int, fingerprint: str | None = None, lacks: str = "", **changes) -> RunDirectory:
    """A run directory as training leaves it, with a checkpoint at each of `steps`, whose configuration lacks one
    option, as older code wrote it."""
    run, own = RunDirectory(path), config(path, **changes)
    with run.lock():
        run.write_config(own)
    content = own.to_dict()
    content.pop(lacks, None)
    for step in steps:
        state = {"progress": {"env_steps": step}, "buffer": {"rows": Rows(0, step)}}
        checkpoints.save(run.checkpoints, step, state, checkpoints.About(content, {}, fingerprint))
    return run


class Rows(NamedTuple):
    """A log, as the buffer's: each row holds its own number."""

    first: int
    last: int

    def read(self, a: int, b: int) -> dict[str, np.ndarray]:
        return {"number": np.arange(a, b)}


def begin(own: TrainConfig, fingerprint: str | None = None) -> Start:
    """Where train.py would go on, and what it would say about it."""
    run = RunDirectory(Path(own.run))
    with run.lock():
        return choose_start(run, own, fingerprint)


def refusal(own: TrainConfig, fingerprint: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        begin(own, fingerprint)
    assert (caught.value.status, str(caught.value).count("\n")) == (2, 0)
    return str(caught.value)


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


# --resume auto


def test_the_newest_checkpoint_is_where_a_run_goes_on_whatever_else_lies_beside_it(tmp_path):
    run = start(tmp_path / "r", 50, 100, 200)
    for old, new in ((50, "step_old"), (100, "step_000000900.bak")):
        (run.checkpoints / f"step_{old:09d}").rename(run.checkpoints / new)
    newest = run.checkpoints / "step_000000200"
    for resume in ("auto", str(newest)):
        assert begin(config(run.path, resume=resume)) == Start(newest)
    assert "already holds a run" in refusal(config(run.path, resume="never"))


@pytest.mark.parametrize("left", ["nothing", "an empty directory", "one without a manifest"])
def test_a_run_without_a_whole_checkpoint_begins_again_and_says_so(left, tmp_path):
    run = start(tmp_path / "r")
    if left != "nothing":
        run.checkpoints.mkdir()
    if left == "one without a manifest":
        start(run.path, 100)
        (run.checkpoints / "step_000000100" / "manifest.json").unlink()
    begun = begin(config(run.path))
    assert begun.checkpoint is None
    assert "stopped before its first checkpoint" in begun.notes[0]


@pytest.mark.parametrize("left", [None, "step_000000100.bak"])
def test_a_run_whose_checkpoints_were_taken_away_is_refused_not_started_again(left, tmp_path):
    run = start(tmp_path / "r", 100)
    (run.checkpoints / "step_000000100").rename(run.checkpoints / left if left else tmp_path / "elsewhere")
    assert "has lost its checkpoints; put them back" in refusal(config(run.path))


def test_checkpoints_that_may_not_be_read_are_no_reason_to_start_again(tmp_path, monkeypatch):
    run = start(tmp_path / "r", 100)

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", forbidden)  # root, who may run the tests, may read everything
    assert "checkpoints cannot be read (Permission denied)" in refusal(config(run.path))


@pytest.mark.parametrize("content", [None, "", "{}", '{"seed": 17}', "[" * 10_000])
def test_checkpoints_outlive_the_configuration_beside_them(content, tmp_path):
    run = start(tmp_path / "r", 100)
    if content is None:
        run.config_file.unlink()
    else:
        run.config_file.write_text(content)
    assert begin(config(run.path)).checkpoint == run.checkpoints / "step_000000100"
    assert "step_000000100 was started with other options (--seed: 0, now 1)" in refusal(config(run.path, seed=1))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "config.json cannot be read "),
        ("[" * 10_000, "config.json cannot be read "),
        ("{}", "config.json holds no configuration; "),
        ("[]", "config.json holds no configuration; "),
        ('"text"', "config.json holds no configuration; "),
        ('{"seed": 17}', "config.json holds no configuration of a run: it names no env"),
    ],
)
def test_without_checkpoints_a_configuration_that_is_none_is_refused(content, told, tmp_path):
    run = start(tmp_path / "r")
    run.config_file.write_text(content)
    assert told in refusal(config(run.path))


@pytest.mark.parametrize("name", ["x" * 300, "file/r"])
def test_a_name_that_no_directory_can_have_is_one_sentence(name, tmp_path):
    (tmp_path / "file").touch()
    assert "give another --run" in refusal(config(tmp_path / name))


# --resume PATH


@pytest.mark.parametrize("by", ["run", "checkpoint"])
def test_a_path_starts_a_branch_in_a_new_directory(by, tmp_path):
    run = start(tmp_path / "r", 100)
    saved = run.checkpoints / "step_000000100"
    source = {"run": run.path, "checkpoint": saved}[by]
    note = f"branched from {saved}, step 100"
    assert begin(config(tmp_path / "branch", resume=str(source))) == Start(saved, own=False, notes=(note,))
    assert [path.name for path in (tmp_path / "branch").iterdir()] == [".lock"]


@pytest.mark.parametrize("resume", ["auto", "never", "PATH"])
def test_a_directory_of_something_else_is_refused_however_the_run_begins(resume, tmp_path):
    source = start(tmp_path / "r", 100).path
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("precious")
    before = contents(tmp_path)
    own = config(tmp_path / "thesis", resume=resume.replace("PATH", str(source)))
    assert "is no run of this program" in refusal(own)
    assert contents(tmp_path) == before


def test_a_branch_whose_source_is_gone_says_what_to_do(tmp_path):
    source = start(tmp_path / "r", 100).path
    branch = start(tmp_path / "branch", resume=str(source))
    source.rename(tmp_path / "moved")
    told = "which is gone, and has no checkpoint of its own; remove it, and branch off again"
    assert told in refusal(config(branch.path))


def test_a_checkout_of_this_code_is_no_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "store.py").touch()
    assert "is no run of this program" in refusal(config(tmp_path))


def test_another_runs_directory_is_refused_as_the_place_of_a_branch(tmp_path):
    source = start(tmp_path / "r", 100).path
    other = start(tmp_path / "other", seed=1)
    before = contents(tmp_path)
    told = refusal(config(other.path, resume=str(source)))
    assert "other/config.json was started with other options (--seed: 1, now 0)" in told
    assert f"other holds a run already, which did not begin from {source};" in refusal(
        config(other.path, seed=1, resume=str(source))
    )
    assert contents(tmp_path) == before


def test_a_branch_goes_on_from_its_own_checkpoints_however_it_is_started_again(tmp_path):
    source, other = start(tmp_path / "r", 100).path, start(tmp_path / "other", 50).path
    branch = start(tmp_path / "branch", resume=str(source))
    for resume in (str(source), "auto"):  # killed before its first checkpoint
        assert begin(config(branch.path, resume=resume)).checkpoint == source / "checkpoints" / "step_000000100"
    with branch.lock():
        branch.write_config(config(branch.path))  # as starting it without its source does
    assert branch.branched_from() == str(source)
    start(branch.path, 200, resume=str(source))
    for resume in (str(source), "auto"):
        assert begin(config(branch.path, resume=resume)) == Start(branch.checkpoints / "step_000000200")
    told = refusal(config(branch.path, resume=str(other)))
    assert (
        f"already holds step_000000200, which is newer than step_000000050; to continue it, --resume {branch.path}"
        in told
    )


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("policy", "is a policy without its training, which cannot be continued; --init "),
        ("no/such", "no/such: no such run directory or checkpoint"),
    ],
)
def test_what_cannot_be_continued_is_named(path, told, tmp_path):
    networks = {name: {} for name in checkpoints.NETWORKS}
    state = {"agent": networks, "buffer": {}, "progress": {"reward_scale": 1.0}}
    about = checkpoints.About(config(tmp_path).to_dict())
    checkpoints.export_policy(checkpoints.save(tmp_path, 100, state, about), tmp_path / "policy", "python train.py")
    assert told in refusal(config(tmp_path / "new", resume=str(tmp_path / path)))


# What is not the same run


@pytest.mark.parametrize("fingerprint", [None, "b" * 64])
def test_another_model_is_refused(fingerprint, tmp_path):
    run = start(tmp_path / "r", 100, fingerprint="a" * 64)
    assert begin(config(run.path), "a" * 64) == Start(run.checkpoints / "step_000000100")
    assert "was trained on another model" in refusal(config(run.path), fingerprint)


def test_a_newer_format_is_refused_and_no_older_checkpoint_taken_for_it(tmp_path):
    run = start(tmp_path / "r", 100, 200)
    manifest = run.checkpoints / "step_000000200" / "manifest.json"
    content = json.loads(manifest.read_text())
    newer = content["format"] + 1
    content |= {"format": newer}
    del content["sha256"]
    manifest.write_text(json.dumps(content | {"sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()}))
    assert f"has format {newer}, and this code reads up to {newer - 1}; use" in refusal(config(run.path))


def test_checkpoints_of_another_run_in_the_directory_are_refused(tmp_path):
    other = start(tmp_path / "other", 100, seed=1)
    run = start(tmp_path / "r")
    other.checkpoints.rename(run.checkpoints)
    assert "step_000000100 was started with other options (--seed: 1, now 0)" in refusal(config(run.path))


def test_what_leaves_the_run_the_same_may_be_changed_and_its_measure_may_not(tmp_path):
    run = start(tmp_path / "r", 100, env="pick-place")
    own = config(run.path, env="pick-place")
    allowed = {"steps": 30_000, "device": "cpu", "video": False, "log": LogConfig(7), "watchdog": 60.0}
    allowed |= {"compile": False, "overlap": False, "env_workers": 3, "eval": replace(own.eval, every=77)}
    assert begin(replace(own, **allowed)) == Start(run.checkpoints / "step_000000100")
    for change, told in (({"goal": "air"}, "--eval.goal: fixed, now air"), ({"episodes": 3}, "--eval.episodes: 40, ")):
        assert told in refusal(replace(own, eval=replace(own.eval, **change)))


def test_a_run_from_before_an_option_goes_on_with_its_default_and_is_refused_with_another(tmp_path):
    run = start(tmp_path / "r", 100, lacks="gamma")
    saved = run.checkpoints / "step_000000100"
    assert begin(config(run.path)) == Start(saved, notes=(f"{saved} is older than --gamma: as by default now",))
    assert "(--gamma: auto, now 0.9)" in refusal(config(run.path, gamma=0.9))


def test_the_bounds_of_options_hold_for_what_is_stored_too(tmp_path):
    run = start(tmp_path / "r", 100, num_envs=0)
    assert "step_000000100 holds a configuration that cannot be: --num-envs 0: must be at least 1" in refusal(
        config(run.path)
    )


# One process at a time

HOLDER = """
import sys
from pathlib import Path
from training.resume.run_directory import RunDirectory

with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_cannot_train_in_one_directory_and_the_lock_dies_with_its_owner(tmp_path):
    run = RunDirectory(tmp_path / "r")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", HOLDER, run.path]
    with subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="is being trained already by another process; wait for it or") as caught:
            run.lock().__enter__()
        assert caught.value.status == 1  # a restart after its end is welcome
        holder.kill()
    for _ in range(2):
        with run.lock():
            pass


def test_a_directory_with_only_a_lock_is_still_a_new_one(tmp_path):
    run = RunDirectory(tmp_path / "deep" / "r")
    with run.lock():
        pass
    (run.path / "config.json.tmp").write_text("{")  # and a configuration that a crash cut short
    for resume in ("auto", "never"):
        assert begin(config(run.path, resume=resume)) == Start()


@pytest.mark.parametrize("what", ["moved", "removed", "begun again", "the lock alone"])
def test_a_directory_that_is_not_the_locked_one_any_more_is_written_to_no_more(what, tmp_path):
    run = RunDirectory(tmp_path / "r")
    with run.lock():
        run.check_still_held()
        if what == "moved":
            run.path.rename(tmp_path / "elsewhere")
        elif what == "the lock alone":
            run.lock_file.unlink()
        else:
            shutil.rmtree(run.path)
        if what == "begun again":
            start(run.path)
        before = contents(tmp_path)
        for act in (run.check_still_held, lambda: run.write_config(config(run.path, seed=1))):
            with pytest.raises(UserError, match=r"was moved or removed, or its \.lock was, while the") as caught:
                act()
            assert caught.value.status == 1  # typed again, the same line begins or goes on
        assert contents(tmp_path) == before


def test_the_lock_is_not_taken_through_a_link_and_what_it_points_to_stays_as_it_is(tmp_path):
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".lock").symlink_to(tmp_path / "precious")
    assert "r/.lock is a symbolic link; remove it, or give another --run" in refusal(config(tmp_path / "r"))
    assert (tmp_path / "precious").read_text() == "years of work"


@pytest.mark.parametrize("name", [".lock", "config.json"])
def test_a_directory_in_a_files_place_is_refused_for_good(name, tmp_path):
    run = start(tmp_path / "r", 100)
    (run.path / name).unlink()
    (run.path / name).mkdir()
    with pytest.raises(UserError, match="remove it, or give another --run") as caught, run.lock():
        run.write_config(config(run.path, steps=300_000))
    assert caught.value.status == 2


def test_the_lock_is_not_left_to_a_process_that_an_environment_has_forked(tmp_path):
    run = RunDirectory(tmp_path / "r")
    code = HOLDER.replace("sys.stdin.read()", "import os, time\n    if not os.fork(): time.sleep(60)\n    os._exit(0)")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", code, run.path]
    holder = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        assert holder.wait(60) == 0
        with run.lock():
            pass
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_where_a_file_system_has_no_locks_the_run_says_so_and_trains(tmp_path, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unknown)
    with RunDirectory(tmp_path / "r").lock():
        said = capsys.readouterr().out
    assert said.startswith("this file system has no locks (No locks available): see to it that no second process")
