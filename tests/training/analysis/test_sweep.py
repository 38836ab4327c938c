"""Sweeps: what a specification means, what is refused before anything starts, and runs that are killed on the way."""

import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import checkpoints
from errors import UserError
from training.analysis.sweep import __main__ as sweep
from training.analysis.sweep import runner, slurm
from training.analysis.sweep.runner import Record, read_record, write_record
from training.analysis.sweep.spec import check_directories, read_spec
from training.command_line import parse

ROOT = Path(sweep.__file__).parents[3]
PROGRAM = [sys.executable, "-m", "training.analysis.sweep"]
POINT = """
import os, time
import numpy as np

class Point:
    obs_dim, goal_dim, action_dim, max_episode_steps = 2, 2, 2, 20

    def reset(self, seed=None):
        self.rng = self.rng if seed is None else np.random.default_rng(seed)
        self.steps, (self.at, self.goal) = 0, self.rng.uniform(-1, 1, (2, 2))
        return self.obs(), {}

    def step(self, action):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        self.steps, self.at = self.steps + 1, np.clip(self.at + 0.1 * action, -1, 1)
        reward = self.compute_reward(self.at, self.goal, {})
        return self.obs(), reward, False, self.steps == self.max_episode_steps, {"is_success": reward == 0}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return np.where(np.linalg.norm(achieved_goal - desired_goal, axis=-1) < 0.1, 0.0, -1.0)

    def obs(self):
        return {"observation": self.at, "achieved_goal": self.at, "desired_goal": self.goal}

    def state_dict(self):
        return {"at": self.at, "goal": self.goal, "steps": self.steps, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.at, self.goal, self.steps = state["at"], state["goal"], state["steps"]
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = state["rng"]
"""
"""An environment that takes its time where PAUSE says so, and is the same otherwise."""
SMALL = """
env = "point:Point"
[options]
steps = 600
warmup = 100
num-envs = 4
video = false
compile = false
sac.hidden = [16]
her.strategy = "none"
eval.every = 300
eval.episodes = 2
checkpoint.every = 60
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with the module `point`, in which commands are typed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    (tmp_path / "point.py").write_text(POINT)
    return tmp_path


@pytest.fixture
def written(here):
    """Writes a specification, and returns its path."""

    def write(text, name="s.toml"):
        (here / name).write_text(textwrap.dedent(text))
        return Path(name)

    return write


@pytest.fixture
def run(here, monkeypatch, capsys):
    """The command, in this process: returns its exit status, what it printed, and what it said on stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sweep", *map(str, words)])
        status = 0
        try:
            sweep.main()
        except SystemExit as leaving:
            status = leaving.code
        out, error = capsys.readouterr()
        return status, out, error.strip()

    return run


def pids(path):
    """Lists the processes that train in the run directory `path`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(path) in words and any(word.endswith(b"train.py") for word in words):
            found.append(int(process.name))
    return found


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def final(path):
    """Returns the hash of the state with which a run has ended."""
    return checkpoints.digest(checkpoints.load(checkpoints.list_checkpoints(path / "checkpoints")[-1])[0])


# What a specification means


def test_each_combination_of_the_grid_and_each_seed_is_a_run_that_its_name_tells_apart(written):
    path = written("""
        env = "reach"
        seeds = [0, 7]
        [options]
        steps = 2e4
        [grid]
        sac.lr = [1e-4, 3e-4]
        sac.hidden = [[64, 64], [32]]
        her.skip_met_at_start = [true]
    """)
    points = read_spec(path).points
    assert len(points) == 8
    assert points[3].name == "sac.lr=0.0001,sac.hidden=32,her.skip-met-at-start=true,seed=7"
    assert points[3].job.run == Path("runs/s").absolute() / points[3].name
    assert (points[3].config.sac.lr, points[3].config.sac.hidden, points[3].config.seed) == (1e-4, (32,), 7)
    for point in points:  # the command that is typed means what was checked
        assert parse([*point.job.train, "--run", str(point.job.run)]) == point.config


def test_a_list_has_runs_of_their_own_names_and_options_on_top_of_all_runs(written):
    path = written("""
        env = "pick-place"
        runs = "elsewhere"
        threads = 3
        [options]
        n-step = 2
        env-args = []
        [[list]]
        [[list]]
        name = "paper"
        n-step = 1
        sac.backup-entropy = true
        [[list]]
        env = "reach"
        gamma = "auto"
    """)
    points = {point.name: point for point in read_spec(path).points}
    assert list(points) == ["default,seed=0", "paper,seed=0", "env=reach,gamma=auto,seed=0"]
    assert [point.config.n_step for point in points.values()] == [2, 1, 2]
    assert [point.config.env for point in points.values()] == ["pick-place", "pick-place", "reach"]
    assert points["env=reach,gamma=auto,seed=0"].config.reward == "sparse-reach"
    assert {point.job.threads for point in points.values()} == {3}
    for point in points.values():
        assert parse([*point.job.train, "--run", str(point.job.run)]) == point.config


BAD = {
    "no such option": ("[options]\nsac.lrr = 1", "s.toml: train.py has no option sac.lrr; did you mean sac.lr?"),
    "a kind": ("[options]\nsac.lr = 'fast'", "s.toml, seed=0: 'fast' is no float (sac.lr)"),
    "a fraction": ("[options]\nsteps = 1.5", "s.toml, seed=0: 1.5 is no int (steps)"),
    "a word": ("[options]\nreward = 'no'", "'no' is none of 'sparse', 'sparse-reach', "),
    "a date": ("[options]\nsac.lr = 2020-01-01", "is no float (sac.lr)"),
    "out of bounds": ("[grid]\nsac.lr = [-1.0]", "s.toml, sac.lr=-1.0,seed=0: --sac.lr -1.0: must be more than 0"),
    "two at odds": ("[options]\nn-step = 2\nsac.backup-entropy = true", "would be left out; give --n-step 1"),
    "its own": ("[options]\nrun = 'there'", "run is not an option of a sweep, which gives each run its own"),
    "its own seed": ("[grid]\nseed = [1]", "seed is not an option of a sweep"),
    "one name": ("[grid]\nsac.lr = [1e-4, 0.0001]", "two runs would be called sac.lr=0.0001,seed=0; "),
    "one seed": ("seeds = [1, 1]", "two runs would be called seed=1; "),
    "a path": ("[[list]]\nname = '../there'", "'../there,seed=0' is no name for a run"),
    "long": ("[[list]]\nname = '" + "a" * 250 + "'", "257 characters, and 200 are the most"),
    "one value": ("[grid]\nsac.lr = 1e-4", "grid: sac.lr = 0.0001: give a list of values to try"),
    "twice": ("[grid]\nsac.lr = [1e-4]\n[[list]]\nsac.lr = 1e-3", "sac.lr stands in the grid and in the list"),
    "no such entry": ("sedes = [1]", "s.toml: a sweep has no entry sedes; did you mean seeds?"),
    "seeds of another kind": ("seeds = 3", "s.toml: seeds must be a list of whole numbers"),
    "a seed below": ("seeds = [-1]", "--seed -1: must be at least 0"),
    "no TOML": ("[options", "s.toml is not TOML: "),
    "two ways": ("[grid]\nsac.lr = [1e-4]\n[search]\ntrials = 3", "has a search and a grid or a list as well"),
    "no space": ("[search]\ntrials = 3", "search has no space"),
    "no trial": ("[search]\ntrials = 0", "search: trials must be at least 1"),
    "no such pruner": ("[search]\npruner = 'best'", "search: pruner = 'best' is none of median, none"),
    "an end out of bounds": ("[search.space]\ngamma = {low = 0.9, high = 1.5}", "--gamma 1.5: must be less than 1"),
    "the wrong way": ("[search.space]\nsac.lr = {low = 1e-2, high = 1e-3}", "sac.lr: low must be a number, and high a"),
    "a logarithm": ("[search.space]\nher.k = {low = 0, high = 3, log = true}", "log = true takes a low above 0"),
    "a step between": ("[search.space]\nbatch-size = {low = 8, high = 16, step = 0.5}", "whole where low and high are"),
    "nowhere": ("runs = ''", "runs must name a directory of the sweep's own"),
    "half": ("[search.space]\nsac.lr = {low = 0.1}", "sac.lr: takes low, high, and maybe log or step"),
    "no choice": ("[search.space]\nsac.lr = 3", "sac.lr = 3: give a list of choices, or low and high"),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused_in_a_sentence_before_anything_starts(text, sentence, written, run):
    status, out, error = run(written(f'env = "reach"\n{text}\n'))
    assert (status, out) == (2, "")
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert not Path("runs").exists()


def test_a_file_that_is_not_there_is_refused(run):
    assert run("none.toml") == (2, "", "training.analysis.sweep: none.toml: cannot be read (No such file or directory)")


def test_options_without_effect_are_told_of(written, capsys):
    path = written('env = "reach"\n[grid]\nher.k = [1.0, 2.0]\nher.strategy = ["none"]\n')
    told = sweep.notes(read_spec(path).points)
    assert told == ["--her.k has no effect with --her.strategy none (her.k=1.0,her.strategy=none,seed=0)"]


# Directories that hold something else


def make_run(path, config):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config.to_dict()))


def test_a_directory_that_holds_another_run_is_refused(written):
    spec = read_spec(written('env = "reach"\nseeds = [0, 1]\n'))
    make_run(spec.points[1].job.run, parse(["--env", "reach", "--seed", "1", "--sac.tau", "0.5"]))
    with pytest.raises(UserError, match=r"seed=1 holds another run \(--sac.tau: 0.5, here 0.0"):
        check_directories(spec.runs, spec.points)


def test_runs_of_something_else_in_the_same_directory_are_refused_and_those_of_this_sweep_are_not(written):
    spec = read_spec(written('env = "reach"\n'))
    other = spec.runs / "other"
    make_run(other, parse(["--env", "reach"]))
    with pytest.raises(UserError, match=r"^runs/s holds other, which is another's run; give another directory"):
        check_directories(spec.runs, spec.points)
    write_record(other, Record(tries=1))  # an earlier specification had it
    check_directories(spec.runs, spec.points)
    spec.points[0].job.run.mkdir()
    (spec.points[0].job.run / "letter.txt").touch()
    with pytest.raises(UserError, match="is there already and is no run"):
        check_directories(spec.runs, spec.points)


def test_without_slurm_nothing_is_submitted(written, run, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    status, _, error = run(written('env = "reach"\n'), "--on", "slurm")
    assert (status, "there is no sbatch here" in error) == (2, True)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("partitoin = 'a'", "[slurm]: Unavailable parameter(s): ['partitoin']"),
        ("runs_per_job = 0", "runs_per_job must"),
        ("setup = 'module load rocm'", "[slurm]: setup must be a list of lines"),
    ],
)
def test_what_slurm_cannot_take_is_refused(text, sentence, written, run, here, monkeypatch):
    pytest.importorskip("submitit")
    for program in ("sbatch", "srun", "squeue"):
        (here / program).write_text("#!/bin/sh\n")
        (here / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=":")
    status, _, error = run(written(f'env = "reach"\n[slurm]\n{text}\n'), "--on", "slurm")
    assert (status, sentence in error) == (2, True), error


def test_two_sweeps_of_one_directory_are_kept_apart(written, run):
    path = written('env = "reach"\n')
    holds = "import sys; from pathlib import Path; from training.analysis.sweep.runner import exclusively\n"
    holds += "with exclusively(Path('runs/s')): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert run(path)[::2] == (
            1,
            "training.analysis.sweep: runs/s is being swept already by another process; wait for it, or stop it",
        )


# Runs


def kill_once(path, number=signal.SIGKILL):
    """Kills the process that trains in `path`, in a thread, once a checkpoint is there."""

    def kill():
        wait_for(lambda: checkpoints.list_checkpoints(path / "checkpoints"))
        for pid in pids(path):
            os.kill(pid, number)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_run_that_is_killed_is_tried_again_and_one_that_is_complete_left_alone(written, run):
    path = written(SMALL)
    (point,) = read_spec(path).points
    assert run("status", path)[1].splitlines()[1].split()[:5] == ["seed=0", "missing", "0", "of", "600"]
    killing = kill_once(point.job.run)
    status, out, _ = run(path)
    killing.join()
    record = read_record(point.job.run)
    assert (status, record.tries, record.status) == (0, 2, 0)
    assert out.splitlines() == ["1 run: 1 missing", f"{point.job.run}: complete", "1 run: 1 complete"]
    row = run("status", path)[1].splitlines()[1].split()
    assert row[:5] == ["seed=0", "complete", "600", "of", "600"]
    assert "success" in row  # the last sentence
    assert run(path) == (0, "1 run: 1 complete\n1 run: 1 complete\n", "")
    assert read_record(point.job.run) == record


def test_what_no_restart_can_cure_is_tried_again_only_where_that_is_asked_for(written, run):
    path = written(SMALL.replace("point:Point", "nowhere:Point"))
    (point,) = read_spec(path).points
    status, out, _ = run(path)
    assert status == 2
    assert "failed for good" in out
    assert "nowhere" in read_record(point.job.run).sentence
    assert run(path)[:2] == (2, "1 run: 1 failed\n1 run: 1 failed\n")
    assert read_record(point.job.run).tries == 1
    run(path, "--again")
    assert read_record(point.job.run).tries == 2


@pytest.mark.slow
def test_adding_a_seed_to_a_finished_sweep_starts_exactly_one_run(written, run):
    path = written("seeds = [0, 1, 2]\n" + SMALL)
    assert run(path, "--jobs", "2")[0] == 0
    path = written("seeds = [0, 1, 2, 3]\n" + SMALL)
    status, out, _ = run(path)
    assert status == 0
    assert out.splitlines()[0] == "4 runs: 3 complete, 1 missing"
    assert [read_record(point.job.run).tries for point in read_spec(path).points] == [1, 1, 1, 1]


@pytest.mark.slow
def test_runs_that_are_killed_at_random_end_with_the_bits_of_those_that_are_not(written, run, monkeypatch):
    text = "seeds = [0, 1, 2, 3]\n" + SMALL
    assert run(written(text, "whole.toml"), "--jobs", "2")[0] == 0
    path = written(text, "killed.toml")
    points = read_spec(path).points
    ended, rng, kills = threading.Event(), random.SystemRandom(), []
    monkeypatch.setattr(runner, "PAUSE", 0.1)
    monkeypatch.setattr(runner, "TRIES", 100)

    def kill():
        while len(kills) < 12 and not ended.wait(rng.uniform(0.5, 2)):
            running = [pid for point in points for pid in pids(point.job.run)]
            if running:
                kills.append(rng.choice(running))
                os.kill(kills[-1], signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    status, out, _ = run(path, "--jobs", "2")
    ended.set()
    killing.join()
    assert (status, len(kills) > 3) == (0, True), out
    for point in points:
        assert final(point.job.run) == final(Path("runs/whole") / point.name)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_sweep_has_its_runs_save_and_leave_and_the_same_line_goes_on(number, written):
    path = written("seeds = [0, 1, 2]\n" + SMALL.replace("steps = 600", "steps = 900"))
    points = read_spec(path).points
    environment = os.environ | {"PAUSE": "0.005"}
    with subprocess.Popen([*PROGRAM, path, "--jobs", "2"], env=environment, stdout=subprocess.PIPE, text=True) as going:
        for point in points[:2]:
            wait_for(lambda point=point: checkpoints.list_checkpoints(point.job.run / "checkpoints"))
        going.send_signal(number)
        out, _ = going.communicate(timeout=600)
    assert going.returncode == 128 + number
    assert out.splitlines()[-1] == "3 runs: 2 cut, 1 missing"
    assert all(not pids(point.job.run) for point in points)
    ended = subprocess.run([*PROGRAM, path, "--jobs", "3"], capture_output=True, text=True, timeout=900)
    assert ended.stdout.splitlines()[-1] == "3 runs: 3 complete"


@pytest.mark.slow
def test_runs_that_a_killed_sweep_has_left_are_waited_for(written, run):
    path = written(SMALL.replace("steps = 600", "steps = 2000"))
    (point,) = read_spec(path).points
    with subprocess.Popen([*PROGRAM, path], env=os.environ | {"PAUSE": "0.001"}) as killed:
        wait_for(lambda: checkpoints.list_checkpoints(point.job.run / "checkpoints"))
        killed.kill()
    assert run("status", path)[1].splitlines()[-1] == "1 run: 1 running"
    assert run(path, "--jobs", "1")[0] == 0
    assert read_record(point.job.run).tries == 2


# Search


SEARCH = (
    SMALL
    + """
[search]
trials = 3
[search.space]
sac.lr = {low = 1e-4, high = 1e-2, log = true}
sac.hidden = [[16], [8, 8]]
batch-size = {low = 32, high = 64}
"""
)


@pytest.mark.slow
def test_a_search_that_is_cut_goes_on_in_its_runs_and_has_as_many_trials_as_were_asked_for(written, run):
    optuna = pytest.importorskip("optuna")
    path = written("seeds = [0, 1]\n" + SEARCH)
    first = Path("runs/s/trial-0000,seed=0")
    with subprocess.Popen([*PROGRAM, path, "--jobs", "1"], env=os.environ | {"PAUSE": "0.003"}) as cut:
        wait_for(lambda: checkpoints.list_checkpoints(first / "checkpoints"))
        cut.terminate()
    assert cut.returncode == 128 + signal.SIGTERM
    began = json.loads((first / "config.json").read_text())
    status, out, _ = run(path, "--jobs", "2")
    assert (status, "best of 3 complete trials" in out) == (0, True), out
    assert read_record(first).tries == 2
    now = json.loads((first / "config.json").read_text())
    assert [now[name] for name in ("sac", "batch_size")] == [began[name] for name in ("sac", "batch_size")]
    runs = sorted(run.name for run in Path("runs/s").iterdir() if (run / "config.json").exists())
    # The trial that was cut has another number the second time, and the directory of the first.
    assert runs == [f"trial-000{trial},seed={seed}" for trial in (0, 2, 3) for seed in range(2)]
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{Path('runs/s/.sweep/study.db').absolute()}")
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert len(complete) == 3
    assert sorted(complete[0].intermediate_values) == [300, 600, 900, 1200]
    assert run("status", path)[1].splitlines()[-1] == "6 runs: 6 complete"
    assert run(path)[0] == 0
    assert len(study.trials) == 4  # the one that was cut, too


@pytest.mark.slow
def test_a_search_whose_process_is_killed_goes_on_with_its_trial(written, run):
    pytest.importorskip("optuna")
    path = written(SEARCH.replace("trials = 3", "trials = 1"))
    first = Path("runs/s/trial-0000,seed=0").absolute()
    with subprocess.Popen([*PROGRAM, path, "--jobs", "1"], env=os.environ | {"PAUSE": "0.003"}) as killed:
        wait_for(lambda: checkpoints.list_checkpoints(first / "checkpoints"))
        killed.kill()
        for pid in pids(first):
            os.kill(pid, signal.SIGKILL)
    assert run(path)[0] == 0
    assert [run.name for run in Path("runs/s").iterdir() if (run / "config.json").exists()] == [first.name]


# A cluster


def test_groups_share_a_job_of_the_cluster():
    assert slurm.together([1, 2, 3, 4, 5], 2) == [(1, 2), (3, 4), (5,)]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The module slurm_cluster, and the environment of a cluster that is up, which commands have from here on."""
    pytest.importorskip("submitit")
    spec = importlib.util.spec_from_file_location("slurm_cluster", Path(__file__).parent / "slurm_cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if reason := module.missing():
        pytest.skip(reason)
    directory = tmp_path / "slurm"
    directory.mkdir()
    with module.cluster(directory) as environment:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, environment[name])
        yield module, environment


def processes_of(task):
    """Lists the processes of one job of the array that compute: the step's own, and train.py."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_its = f"SLURM_ARRAY_TASK_ID={task}".encode() in (process / "environ").read_bytes().split(b"\0")
            if is_its and (process / "cmdline").read_bytes().startswith(os.fsencode(sys.executable)):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_jobs_that_are_cut_are_queued_again_and_end_with_the_bits_of_those_that_are_not(
    written, run, cluster, monkeypatch
):
    """One gets a signal, one is killed, one comes to its time limit, and one has the time that it takes."""
    module, environment = cluster
    ways = "\n".join(f"[[list]]\nname = '{name}'" for name in ("alone", "signalled", "killed"))
    text = f"{SMALL}\n{ways}\n[[list]]\nname = 'long'\nsteps = 4000\n"
    assert run(written(text, "whole.toml"), "--jobs", "2")[0] == 0
    path = written(f"{text}[slurm]\ntime = 3\nsignal_delay_s = 90\ncpus_per_task = 1\n")
    monkeypatch.setenv("PAUSE", "0.03")
    status, out, error = run(path, "--on", "slurm")
    assert status == 0, error
    assert "submitted 4 jobs" in out
    points = read_spec(path).points
    array = module.ask(environment, "squeue", "--noheader", "--format=%F").split()[0]
    assert run(path, "--on", "slurm")[1].splitlines()[-1] == "nothing to submit"  # what is queued is left there
    saved = {point.name.partition(",")[0]: point.job.run / "checkpoints" for point in points}
    wait_for(lambda: checkpoints.list_checkpoints(saved["signalled"]))
    module.ask(environment, "scancel", "--signal=TERM", f"{array}_1")
    wait_for(lambda: checkpoints.list_checkpoints(saved["killed"]))
    for pid in processes_of(2):
        os.kill(pid, signal.SIGKILL)

    def restarts():
        shown = module.ask(environment, "scontrol", "show", "job", array)
        tasks, counts = (re.findall(rf"{name}=(\d+)", shown) for name in ("ArrayTaskId", "Restarts"))
        return [int(count) for _, count in sorted(zip(map(int, tasks), counts, strict=True))]

    # SLURM itself lets each wait for two minutes before it starts again.
    module.until(lambda: "4 complete" in run("status", path)[1], 1200)
    assert min(restarts()[1:]) >= 1
    for point in points:
        print(point.name, final(point.job.run), final(Path("runs/whole") / point.name))
        assert final(point.job.run) == final(Path("runs/whole") / point.name)
    assert run(path, "--on", "slurm")[1].splitlines()[-1] == "nothing to submit"


@pytest.mark.slow
def test_a_job_that_is_cancelled_stays_so_until_the_same_line_is_typed(written, run, cluster, monkeypatch):
    module, environment = cluster
    path = written(SMALL + "[slurm]\ntime = 10\n")
    (point,) = read_spec(path).points
    monkeypatch.setenv("PAUSE", "0.03")
    run(path, "--on", "slurm")
    wait_for(lambda: checkpoints.list_checkpoints(point.job.run / "checkpoints"))
    module.ask(environment, "scancel", "--user", "root")
    module.until(lambda: not module.ask(environment, "squeue", "--noheader"), 60)
    assert run("status", path)[1].splitlines()[-1] == "1 run: 1 cut"
    monkeypatch.setenv("PAUSE", "0")
    run(path, "--on", "slurm")
    module.until(lambda: "1 complete" in run("status", path)[1], 120)
    assert read_record(point.job.run).tries == 2
