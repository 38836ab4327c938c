"""The whole path, small: start, stop, resume, refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import checkpoints
import train
from env.tasks.cube import CubeTask
from training.analysis.verify_resume import compare, scalars

ROOT = Path(train.__file__).parent
SMALL = ["--no-video", "--no-compile", "--sac.hidden", "32", "32", "--sac.batch-size", "32",
         "--num-envs", "4", "--warmup", "200", "--eval.episodes", "3", "--log.every", "100"]  # fmt: skip
SHORT = ["--task.max-episode-steps", "20"]


@pytest.fixture
def run(monkeypatch, capsys):
    """train.py in this process, with small networks; its exit code must be `code`. Returns what it said on stderr."""

    def call(*options, code=0):
        built_in = not any(":" in str(option) for option in options)
        monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, *(SHORT if built_in else []), *map(str, options)])
        exit_code = 0
        capsys.readouterr()
        try:
            train.main()
        except SystemExit as leaving:
            exit_code = leaving.code
        captured = capsys.readouterr()
        print(captured.out)
        assert exit_code == code, captured.err
        return captured.err

    return call


def parts(path):
    """The SHA-256 of each file of a checkpoint, its segments included, and every number in it but for the curves'."""
    manifest = checkpoints.read_manifest(path)
    return manifest.files, manifest.logs, manifest.values | {"curves": None}


@pytest.mark.parametrize("env", ["reach", "pick-place"])
def test_a_run_continued_from_half_way_is_the_run_that_never_stopped(env, tmp_path, run):
    def evaluated_at(steps):  # a run's last step is evaluated, so both must be at this one
        return ["--env", env, "--steps", steps, "--eval.every", 604]

    run(*evaluated_at(1200), "--run", tmp_path / "whole")
    # 604 is no multiple of the episode, or the log cadence: every episode is in progress.
    run(*evaluated_at(604), "--run", tmp_path / "halves")
    run(*evaluated_at(1200), "--run", tmp_path / "halves")
    whole, halves = (tmp_path / name / "checkpoints" / "step_000001200" for name in ("whole", "halves"))
    assert parts(whole) == parts(halves)
    rows = list(compare(tmp_path / "whole", tmp_path / "halves"))
    assert [name for name, left, right, _ in rows if left != right] == []
    assert rows[-1][0] == f"curves · {len(scalars(tmp_path / 'whole'))} points"


@pytest.mark.parametrize("env", ["reach", "pick-place"])
def test_environments_that_step_beside_the_update_come_to_the_bits_of_those_that_take_turns(env, tmp_path, run):
    for name in ("overlap", "no-overlap"):
        run("--env", env, "--steps", 1200, f"--{name}", "--updates-per-step", 1, "--run", tmp_path / name)
    rows = compare(tmp_path / "overlap", tmp_path / "no-overlap")
    assert [name for name, left, right, _ in rows if left != right] == []


def test_a_run_without_a_compiler_says_so_and_trains(tmp_path, run, monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr("torch.compile", broken)
    run("--compile", "--steps", 400, "--run", tmp_path / "r")
    assert "the update is not compiled and so takes twice the time: no C++ compiler\n" in capsys.readouterr().out
    assert checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")


def test_another_seed_is_another_run(tmp_path, run):
    for seed in (0, 1):
        run("--steps", 400, "--seed", seed, "--run", tmp_path / str(seed))
    states = [checkpoints.load(tmp_path / str(seed) / "checkpoints" / "step_000000400")[0] for seed in (0, 1)]
    weights = [state["agent"]["actor"]["net.0.weight"] for state in states]
    assert not np.array_equal(*weights)
    different = {name for name, left, right, _ in compare(tmp_path / "0", tmp_path / "1") if left != right}
    assert {"agent · actor", "agent · critic_target", "buffer · rows", "envs"} <= different
    assert "agent · updates" not in different


def test_a_complete_run_says_so_and_changes_nothing(tmp_path, run, capsys):
    run("--steps", 400, "--run", tmp_path / "r")
    capsys.readouterr()

    def times():
        files = (path for path in (tmp_path / "r").rglob("*") if path.name != ".lock")
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    run("--steps", 400, "--run", tmp_path / "r")
    assert "is complete: 400 of 400 steps" in capsys.readouterr().out
    assert times() == before


def test_curves_go_on_over_the_steps_of_the_whole_run(tmp_path, run):
    run("--steps", 600, "--run", tmp_path / "r")
    run("--steps", 1000, "--run", tmp_path / "r")
    events = EventAccumulator(str(tmp_path / "r"))
    events.Reload()
    logged = [event.step for event in events.Scalars("rollout/ep_rew_mean")]
    assert logged == list(range(100, 1001, 100))
    tags = set(events.Tags()["scalars"])
    assert {"rollout/ep_len_mean", "rollout/success_rate", "train/actor_loss", "train/critic_loss", "train/ent_coef",
            "train/n_updates", "time/fps", "eval/mean_reward", "eval/success_rate", "her/goal_moved_rate",
            "env/reward_sparse", "env/reward_progress", "funnel/1_approached", "funnel/2_reached", "funnel/3_held",
            "eval_funnel/1_approached", "eval_funnel/2_reached", "eval_funnel/3_held"} <= tags  # fmt: skip


def test_the_newest_and_the_best_checkpoints_are_kept(tmp_path, run):
    options = ["--checkpoint.every", 200, "--checkpoint.keep", 2, "--eval.every", 400]
    run("--steps", 1600, "--run", tmp_path / "r", *options)
    kept = checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")
    success = {path.name: checkpoints.read_manifest(path).success for path in kept}
    assert list(success)[-2:] == ["step_000001400", "step_000001600"]
    assert len(success) <= 3
    assert any(value is not None for value in success.values())


@pytest.mark.parametrize("env", ["reach", "push", "pick-place"])
@pytest.mark.parametrize("options", [("--reward", "staged"), ("--reward", "sparse"), ("--her.strategy", "none")])
def test_every_task_trains_with_every_reward_and_without_her(env, options, tmp_path, run):
    run("--env", env, "--steps", 300, "--run", tmp_path / "r", *options)
    assert len(checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")) >= 1


def test_another_configuration_is_refused_by_name_and_nothing_is_written(tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    message = run("--steps", 800, "--run", tmp_path / "r", "--sac.lr", "0.01", code=train.REFUSED)
    assert "--sac.lr: 0.0005, now 0.01" in message
    message = run("--steps", 800, "--run", tmp_path / "r", "--env", "push", code=train.REFUSED)
    assert "--env: reach, now push" in message
    message = run("--steps", 800, "--run", tmp_path / "r", "--resume", "never", code=train.REFUSED)
    assert "already holds a run" in message
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()} == before


def test_a_run_whose_task_has_changed_since_is_refused_with_what_to_do(tmp_path, monkeypatch, run):
    run("--env", "push", "--steps", 400, "--num-envs", 1, "--run", tmp_path / "r")
    stored = CubeTask._reward_info
    more = {"weather": np.zeros((), np.float32)}
    monkeypatch.setattr(CubeTask, "_reward_info", lambda self, before, after: stored(self, before, after) | more)
    message = run("--env", "push", "--steps", 800, "--num-envs", 1, "--run", tmp_path / "r", code=train.REFUSED)
    assert "does not fit push as it is now: the saved buffer" in message
    assert "info/weather" in message
    assert "continue it with the code that wrote it" in message


def test_a_directory_of_something_else_is_left_alone(tmp_path, run):
    (tmp_path / "thesis.tex").write_text("precious")
    assert "is no run of this program" in run("--run", tmp_path, code=train.REFUSED)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_newest_checkpoint_is_passed_over_aloud(tmp_path, run, capsys):
    options = ["--run", tmp_path / "r", "--checkpoint.every", 200]
    run("--steps", 600, *options)
    newest = tmp_path / "r" / "checkpoints" / "step_000000600" / "agent.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    run("--steps", 800, *options)
    output = capsys.readouterr().out
    assert "passed over" in output
    assert "agent.safetensors is cut short" in output
    assert "from step 400" in output


def test_when_no_checkpoint_is_good_the_run_is_refused_not_started_again(tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r")
    for file in (tmp_path / "r" / "checkpoints").rglob("buffer.safetensors"):
        file.write_bytes(b"")
    message = run("--steps", 800, "--run", tmp_path / "r", code=train.REFUSED)
    assert "no checkpoint of" in message
    assert "buffer.safetensors" in message


def test_a_checkpoint_named_by_path_starts_a_branch(tmp_path, run):
    run("--steps", 600, "--run", tmp_path / "r", "--checkpoint.every", 200)
    middle = tmp_path / "r" / "checkpoints" / "step_000000400"
    message = run("--steps", 600, "--run", tmp_path / "r", "--resume", middle, code=train.REFUSED)
    assert "newer than step_000000400" in message
    message = run("--run", tmp_path / "other", "--resume", middle, "--sac.lr", 0.1, code=train.REFUSED)
    assert "or --run without --resume to start anew" in message
    run("--steps", 600, "--run", tmp_path / "branch", "--resume", middle)
    end = "checkpoints/step_000000600"
    assert parts(tmp_path / "branch" / end) == parts(tmp_path / "r" / end)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--env", "juggle"], "no such task; there are reach, push, pick-place"),
        (["--env", "nowhere:make"], "there is no module 'nowhere'"),
        (["--task.goal", "table"], "this task has no 'table' goals"),
        (["--eval.goal", "fixed"], "this task has no 'fixed' goals"),
        (["--steps", "150"], "the first 200 steps are random warm-up"),
        (["--resume", "no/such/checkpoint"], "there is no such checkpoint"),
        (["--her.capacity", "104"], "give 105 or more"),
        (["--her.capacity", "1000000000000000"], "give a smaller one"),
        (["--steps", "300", "--num-envs", "20"], "the first episodes of 20 environments, which take 400"),
        (["--eval.seed", "-5"], "--eval.seed -5"),
        (["--updates-per-step", "inf"], "--updates-per-step inf: must be a finite number"),
        (["--updates-per-step", "1e308"], "--updates-per-step 1e+308: is more than 100"),
        (["--updates-per-step", "1e-9"], "ends before the first update"),
        (
            ["--num-envs", "40", "--warmup", "100", "--steps", "800"],
            "which take 800, with 0.25 a step",
        ),
        (["--steps", "204", "--updates-per-step", "1"], "ends before the first update"),
        (["--num-envs", "100000", "--steps", "100000000"], "--num-envs 100000: is more than 4,096"),
        (
            ["--num-envs", "4096", "--updates-per-step", "9"],
            "36,864 updates between",
        ),
        (["--steps", "9" * 400], "is more than 1,000,000,000,000"),
        (["--num-envs", "9" * 400], "is more than 4,096"),
        (["--sac.backup-entropy"], "--sac.backup-entropy --sac.n-step 4: the entropy"),
        (["--sac.batch-size", "1000000000"], "--sac.batch-size 1000000000: is more than 1,048,576"),
        (["--sac.n-step", "10000000"], "--sac.n-step 10000000: is more than 10,000"),
        (["--sac.hidden", "256", "100000000"], "--sac.hidden 100000000: is more than 65,536"),
        (["--task.reach-weight", "1e39"], "--task.reach-weight 1e+39: is more than 1,000,000"),
        (["--task.scripted-starts", "0.5"], "--task.scripted-starts 0.5: reach has no cube to be grasped"),
        (["--env", "push", "--task.scripted-starts", "1.5"], "is a share of the episodes, from 0 to 1"),
        (["--task.scripted-until", "0"], "--task.scripted-until 0: must be at least 1"),
        (["--task.reach-weight", "-1"], "--task.reach-weight -1.0: must not be negative"),
        (["--task.action-slope", "0"], "--task.action-slope 0.0: must lie between 0 and 1"),
        (["--task.action-slope", "1.5"], "--task.action-slope 1.5: must lie between 0 and 1"),
        (["--sac.average-tau", "0"], "--sac.average-tau 0.0: must lie between 0 and 1"),
        (["--sac.n-step", "0"], "--sac.n-step 0: must be at least 1"),
        (["--sac.target-entropy", "nan"], "--sac.target-entropy nan: must be a finite number"),
        (["--env", "math:sqrt"], "calling it failed: TypeError"),
        (["--env", "anything:of_mine", "--eval.goal", "air"], "--eval.goal is the built-in tasks'"),
        (["--env", "anything:of_mine", *SHORT], "--task.* is the built-in tasks'"),
        (["--task.max-episode-steps", "0"], "at least 1 step"),
    ],
)
def test_bad_options_get_one_sentence_and_leave_nothing_behind(options, sentence, tmp_path, run):
    message = run("--run", tmp_path / "r", *options, code=train.REFUSED)
    assert sentence in message
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_cuda_that_is_not_there_is_refused(tmp_path, run):
    if train.torch.cuda.is_available():
        pytest.skip("there is a GPU")
    # A card may be missing after a failed reset: that a restart can cure.
    assert "sees no GPU" in run("--run", tmp_path / "r", "--device", "cuda", code=1)


def test_a_policy_gone_mad_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch, run):
    options = ["--run", tmp_path / "r", "--checkpoint.every", 200]
    run("--steps", 400, *options)
    learn = train.learn

    def poisoned(state, config):
        learn(state, config)
        with train.torch.no_grad():
            state.agent.log_alpha.fill_(float("nan"))

    monkeypatch.setattr(train, "learn", poisoned)
    message = run("--steps", 800, *options, code=train.REFUSED)
    assert "not finite" in message
    assert "the last good checkpoint is of step 400" in message
    checkpoints.verify(tmp_path / "r" / "checkpoints" / "step_000000400")


def test_an_environment_without_state_trains_and_its_resumed_run_says_what_is_lost(tmp_path, monkeypatch, run, capsys):
    shutil.copy(Path(__file__).parent / "point_env.py", tmp_path / "point_env.py")
    monkeypatch.chdir(tmp_path)
    for steps in (400, 600):
        run("--env", "point_env:PointEnv", "--steps", steps)
    output = capsys.readouterr().out
    assert "has no state_dict: 4 environments begin a fresh episode" in output
    assert (tmp_path / "runs" / "point_env-PointEnv-0" / "config.json").exists()


@pytest.mark.parametrize("overlap", ["--overlap", "--no-overlap"])
def test_an_environments_own_error_comes_with_its_traceback_and_where_the_run_could_go_on(overlap, tmp_path):
    shutil.copy(Path(__file__).parent / "point_env.py", tmp_path / "point_env.py")
    broken = """
        from point_env import PointEnv

        class Broken(PointEnv):
            def step(self, action):
                if self.steps == 15 and self.rng.random() < 0.05:
                    raise LookupError("the gripper is not plugged in")
                return super().step(action)
    """
    (tmp_path / "broken_env.py").write_text(textwrap.dedent(broken))
    options = [*SMALL, overlap, "--env", "broken_env:Broken", "--steps", "20000", "--checkpoint.every", "100"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "train.py", *options]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    saved = checkpoints.list_checkpoints(tmp_path / "runs" / "broken_env-Broken-0" / "checkpoints")
    assert 'broken_env.py", line 7, in step' in ended.stderr
    assert "LookupError: the gripper is not plugged in" in ended.stderr
    last_good = f"runs/broken_env-Broken-0: the last good checkpoint is of step {checkpoints.step_of(saved[-1]):,}"
    assert ended.stderr.splitlines()[-1] == last_good


FAILURES = {
    "raise OSError('the gripper is not plugged in')": "OSError: the gripper is not plugged in; ",
    "os.kill(os.getpid(), 9)": "the process that the environments step in ended (signal 9, Killed); ",
}


@pytest.mark.parametrize(("failure", "told"), FAILURES.items(), ids=["OSError", "killed"])
def test_an_environment_that_could_not_go_on_is_worth_another_start(failure, told, tmp_path):
    shutil.copy(Path(__file__).parent / "point_env.py", tmp_path / "point_env.py")
    fails_once = f"""
        import glob, os, sys
        from point_env import PointEnv

        class FailsOnce(PointEnv):
            def step(self, action):
                saved = glob.glob("runs/fails_once-FailsOnce-0/checkpoints/step_*/manifest.json")
                if saved and sys.argv[0] == "-c" and not os.path.exists("failed"):
                    open("failed", "x").close()
                    {failure}
                return super().step(action)
    """
    (tmp_path / "fails_once.py").write_text(textwrap.dedent(fails_once))
    command = [sys.executable, ROOT / "train.py", *SMALL, "--env", "fails_once:FailsOnce", "--steps", "2000"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start():
        line = [*command, "--checkpoint.every", "100"]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    failed = start()
    assert failed.returncode == 1, failed.stderr
    assert "Traceback" not in failed.stderr
    assert told in failed.stderr
    assert "the last good checkpoint is of step" in failed.stderr
    again = start()
    assert again.returncode == 0, again.stderr
    assert "done: 2,000 steps" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves_and_the_same_line_goes_on(number, tmp_path):
    # Three seconds of training at least, of which the signal finds the middle.
    command = [sys.executable, ROOT / "train.py", *SMALL, *SHORT, "--steps", "12000", "--run", tmp_path / "r"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "r" / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped and saved at step" in output
    (saved,) = checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")
    assert checkpoints.verify(saved).step < 12_000
    assert json.loads((tmp_path / "r" / "config.json").read_text())["steps"] == 12_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reach_is_learnt_with_default_options(seed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    common = {"env": environment, "check": True, "cwd": tmp_path}
    command = [sys.executable, ROOT / "train.py", "--env", "reach", "--seed", str(seed)]
    said = subprocess.run(command, **common, stdout=subprocess.PIPE, text=True).stdout
    lines = [line for line in said.splitlines() if line.startswith("step ")]
    assert all("· success" in line for line in lines), "a healthy run was diagnosed"
    result = tmp_path / "result.json"
    run_directory = f"runs/reach-sparse-reach-{seed}"
    subprocess.run([sys.executable, ROOT / "evaluate.py", run_directory, "--json", result], **common)
    assert json.loads(result.read_text())["success"]["rate"] >= 0.95


@pytest.mark.slow
def test_the_failure_in_the_documentation_says_why_it_does_not_learn(tmp_path):
    text = (ROOT / "docs/experiments.md").read_text().split("## Pick-place: the failure")[1]
    documented = text[text.index("python train.py") : text.index("\n\nSeed 0")].replace("\\\n", " ").split()
    command = [sys.executable, str(ROOT / documented[1]), *documented[2:], "--run", str(tmp_path), "--no-video"]
    command[command.index("--steps") + 1] = "10000"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=environment, check=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True).stdout
    (sentence,) = [line for line in said.splitlines() if "hindsight has nothing to work with" in line]
    assert int(sentence.split()[1].replace(",", "")) <= 10_000
