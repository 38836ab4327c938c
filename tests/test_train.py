"""The whole path, small: start, stop, resume, refuse."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import checkpoints
import evaluate
import her
import train
import training.state
from env.tasks.cube import CubeTask
from training.analysis.open_run import open_run
from training.command_line import parse
from training.stopping import AGAIN

ROOT = Path(train.__file__).parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from verify_resume import compare, scalars  # noqa: E402

SMALL = ["--no-video", "--no-compile", "--sac.hidden", "32", "32", "--batch-size", "32",
         "--num-envs", "4", "--warmup", "200", "--eval.episodes", "3", "--log.every", "100"]  # fmt: skip
SHORT = ["--task.max-episode-steps", "20"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(monkeypatch, capsys):
    """train.py in this process, with small networks, which must end with `status`. Returns all that it said."""

    def call(*options, status=0):
        short = [] if any(":" in str(option) for option in options) else SHORT  # those are for the built-in tasks
        monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, *short, *map(str, options)])
        ended = 0
        capsys.readouterr()
        try:
            train.main()
        except SystemExit as leaving:
            ended = leaving.code
        said = capsys.readouterr()
        print(said.out)
        assert ended == status, said.err
        return said.out + said.err

    return call


def contents(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def different(left, right):
    """The parts in which the last checkpoints or the curves of two runs differ."""
    return [name for name, one, other, _ in compare(left, right) if one != other]


@pytest.mark.parametrize("env", [pytest.param("reach", marks=pytest.mark.slow), "pick-place"])
def test_a_run_continued_from_half_way_is_the_run_that_never_stopped(env, tmp_path, run):
    # A run's last step is evaluated, so both must be at this one. It is no multiple of the episode, or the log cadence:
    # every episode is in progress.
    options = ["--env", env, "--eval.every", 604]
    run(*options, "--steps", 1200, "--run", tmp_path / "whole")
    run(*options, "--steps", 604, "--run", tmp_path / "halves")
    assert "from step 604" in run(*options, "--steps", 1200, "--env-workers", 3, "--run", tmp_path / "halves")
    whole, halves = (
        checkpoints.read_manifest(tmp_path / name / "checkpoints" / "step_000001200") for name in ("whole", "halves")
    )
    assert (whole.files, whole.logs, whole.values) == (halves.files, halves.logs, halves.values)
    assert different(tmp_path / "whole", tmp_path / "halves") == []
    assert len(scalars(tmp_path / "halves")) > 500


@pytest.mark.parametrize("env", ["reach", pytest.param("pick-place", marks=pytest.mark.slow)])
def test_environments_that_step_beside_the_update_come_to_the_bits_of_those_that_take_turns(env, tmp_path, run):
    for name in ("overlap", "no-overlap"):
        run("--env", env, "--steps", 800, f"--{name}", "--updates-per-step", 1, "--run", tmp_path / name)
    assert different(tmp_path / "overlap", tmp_path / "no-overlap") == []


def test_a_run_without_a_compiler_says_so_and_trains(tmp_path, run, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr("torch.compile", broken)
    said = run("--compile", "--steps", 400, "--run", tmp_path / "r")
    assert "the update is not compiled and so takes twice the time: no C++ compiler; install" in said
    assert checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")


def test_another_seed_is_another_run(tmp_path, run):
    for seed in (0, 1):
        run("--steps", 400, "--seed", seed, "--run", tmp_path / str(seed))
    names = different(tmp_path / "0", tmp_path / "1")
    assert {"agent · actor", "agent · critic_target", "buffer · rows", "envs"} <= set(names)
    assert "agent · updates" not in names


def test_a_complete_run_says_so_and_changes_nothing(tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r")

    def times():
        files = (path for path in (tmp_path / "r").rglob("*") if path.name != ".lock")
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    assert "is complete: 400 of 400 steps" in run("--steps", 400, "--run", tmp_path / "r")
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


def test_how_many_to_keep_holds_for_a_complete_run_too(tmp_path, run):
    run("--steps", 800, "--run", tmp_path / "r", "--checkpoint.every", 200, "--checkpoint.keep", 4)
    assert "is complete" in run("--steps", 800, "--run", tmp_path / "r", "--checkpoint.keep", 1)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")] == ["step_000000800"]


@pytest.mark.parametrize("env", ["reach", "push", "pick-place"])
@pytest.mark.parametrize("options", [("--reward", "staged"), ("--reward", "sparse"), ("--her.strategy", "none")])
def test_every_task_trains_with_every_reward_and_without_her(env, options, tmp_path, run):
    run("--env", env, "--steps", 300, "--run", tmp_path / "r", *options)
    assert len(checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")) >= 1


# What is refused


def test_another_configuration_is_refused_by_name_and_nothing_is_written(tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r")
    before = contents(tmp_path)
    for options, told in (
        (["--sac.lr", "0.01"], "--sac.lr: 0.0005, now 0.01"),
        (["--env", "push"], "--env: reach, now push"),
        (["--resume", "never"], "already holds a run"),
    ):
        assert told in run("--steps", 800, "--run", tmp_path / "r", *options, status=2)
    assert contents(tmp_path) == before


def test_a_run_whose_task_has_changed_since_is_refused_with_what_to_do(tmp_path, monkeypatch, run):
    options = ["--env", "push", "--num-envs", 1, "--run", tmp_path / "r"]
    run(*options, "--steps", 400)
    stored = CubeTask._reward_info

    def with_weather(self, before, after):
        return stored(self, before, after) | {"weather": np.zeros(len(before), np.float32)}

    monkeypatch.setattr(CubeTask, "_reward_info", with_weather)
    said = run(*options, "--steps", 800, status=2)
    assert "does not fit this run: " in said
    assert "info/weather is missing there" in said
    assert "use the code and the options that wrote it" in said


def test_a_damaged_newest_checkpoint_is_passed_over_aloud_and_without_a_good_one_nothing_is_begun_again(tmp_path, run):
    options = ["--run", tmp_path / "r", "--checkpoint.every", 200]
    run("--steps", 600, *options)
    newest = tmp_path / "r" / "checkpoints" / "step_000000600" / "agent.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    said = run("--steps", 800, *options)
    assert "passed over" in said
    assert "agent.safetensors is cut short" in said
    assert "from step 400" in said
    for file in (tmp_path / "r" / "checkpoints").rglob("buffer.safetensors"):
        file.write_bytes(b"")
    said = run("--steps", 1000, *options, status=2)
    assert "no checkpoint of" in said
    assert "buffer.safetensors" in said


def test_a_checkpoint_named_by_path_starts_a_branch(tmp_path, run):
    run("--steps", 600, "--run", tmp_path / "r", "--checkpoint.every", 200)
    middle = tmp_path / "r" / "checkpoints" / "step_000000400"
    said = run("--steps", 600, "--run", tmp_path / "r", "--resume", middle, status=2)
    assert "newer than step_000000400" in said
    run("--steps", 600, "--run", tmp_path / "branch", "--resume", middle)
    names = different(tmp_path / "branch", tmp_path / "r")
    assert [name for name in names if not name.startswith("curves")] == []


def test_a_branch_needs_a_step_to_take_and_a_run_is_no_branch_of_itself(tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r", "--checkpoint.every", 200)
    said = run("--steps", 400, "--run", tmp_path / "branch", "--resume", tmp_path / "r", status=2)
    assert "stands at step 400; give more --steps to branch" in said
    newest = tmp_path / "r" / "checkpoints" / "step_000000400"
    (newest / "agent.safetensors").write_bytes(b"")
    said = run("--steps", 600, "--run", tmp_path / "r", "--resume", tmp_path / "r")
    assert "passed over: " in said
    assert "from step 200" in said
    shutil.rmtree(tmp_path / "r" / "checkpoints")
    assert "stopped before its first checkpoint" in run("--steps", 600, "--run", tmp_path / "r")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--env", "juggle"], "no such task; there are reach, push, pick-place"),
        (["--env", "nowhere:make"], "there is no module 'nowhere'"),
        (["--env", "math:sqrt"], "calling it failed: TypeError"),
        (["--env", "anything:of_mine", *SHORT], "--task.*: is for the built-in tasks, and not for anything:of_mine"),
        (["--task.goal", "table"], "this task has no goals of kind table"),
        (["--eval.goal", "fixed"], "this task has no goals of kind fixed"),
        (["--task.scripted-starts", "0.5"], "--task.scripted-starts 0.5: reach has no cube to be grasped"),
        (["--her.k", "-1"], "--her.k -1.0: must be at least 0"),
        (["--sac.hidden", "256", "100000000"], "--sac.hidden 100000000: must be at most 65,536"),
        (["--steps", "150"], "the first 200 steps are random warm-up"),
        (["--steps", "300", "--num-envs", "20"], "the first episodes of 20 environments, which take 400"),
        (["--steps", "204", "--updates-per-step", "1"], "ends before the first update"),
        (["--steps", "9" * 400], "must be at most 1,000,000,000,000"),
        (["--updates-per-step", "1e-9"], "ends before the first update"),
        (["--her.capacity", "104"], "give 105 or more"),
        (["--her.capacity", "1000000000000000"], "--her.capacity 1000000000000000: Unable to allocate"),
        (["--sac.backup-entropy", "--n-step", "4"], "--sac.backup-entropy --n-step 4: the entropy"),
    ],
)
def test_bad_options_get_one_sentence_and_leave_nothing_behind(options, sentence, tmp_path, run):
    said = run("--run", tmp_path / "r", *options, status=2)
    assert sentence in said
    assert (said.count("\n"), said[:10]) == (1, "train.py: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(train.torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_not_there_is_refused(tmp_path, run):
    # A card may be missing after a failed reset, which a restart can cure; a build without one stays so.
    status = 1 if torch.version.cuda or torch.version.hip else 2
    assert "sees no GPU" in run("--run", tmp_path / "r", "--device", "cuda", status=status)


# What ends a run


def test_a_policy_gone_mad_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch, run):
    options = ["--run", tmp_path / "r", "--checkpoint.every", 200]
    run("--steps", 400, *options)
    learn = train.learn

    def poisoned(state, config):
        learn(state, config)
        with train.torch.no_grad():
            state.agent.log_alpha.fill_(float("nan"))

    monkeypatch.setattr(train, "learn", poisoned)
    said = run("--steps", 800, *options, status=2)
    assert "not finite" in said
    assert "the last good checkpoint is of step 400" in said
    checkpoints.verify(tmp_path / "r" / "checkpoints" / "step_000000400")


def test_an_environment_without_state_trains_and_its_resumed_run_says_what_is_lost(tmp_path, monkeypatch, run):
    shutil.copy(Path(__file__).parent / "point_env.py", tmp_path / "point_env.py")
    monkeypatch.chdir(tmp_path)
    told = "point_env:PointEnv has no state_dict (a resumed run begins fresh episodes), no render (no videos)\n"
    for steps in (400, 600):
        said = run("--env", "point_env:PointEnv", "--steps", steps)
        assert said.count(told) == 1
        assert "fresh episode:" not in said
        assert "no video:" not in said
    assert (tmp_path / "runs" / "point_env-PointEnv-0" / "config.json").exists()


FAILURES = {
    "LookupError": ("raise LookupError('the gripper is not plugged in')", "LookupError: the gripper is not plugged in"),
    "OSError": ("raise OSError('the gripper is not plugged in')", "OSError: the gripper is not plugged in; "),
    "killed": ("os.kill(os.getpid(), 9)", "the process that the environments step in ended (signal 9, Killed); "),
}


@pytest.mark.parametrize(
    ("overlap", "name"),
    [
        ("--overlap", "LookupError"),
        ("--overlap", "killed"),
        pytest.param("--overlap", "OSError", marks=pytest.mark.slow),
        pytest.param("--no-overlap", "LookupError", marks=pytest.mark.slow),
    ],
)
def test_an_environment_that_fails_ends_the_run_with_status_1_and_the_same_line_goes_on(overlap, name, tmp_path):
    """Where its code is wrong, its author sees the traceback; what is not plugged in is a sentence."""
    failure, told = FAILURES[name]
    shutil.copy(Path(__file__).parent / "point_env.py", tmp_path / "point_env.py")
    fails_once = f"""
        import glob, os
        from point_env import PointEnv

        class FailsOnce(PointEnv):
            trained = 0

            def step(self, action):
                self.trained += 1
                saved = glob.glob("runs/fails_once-FailsOnce-0/checkpoints/step_*/manifest.json")
                if saved and self.trained > 50 and not os.path.exists("failed"):
                    open("failed", "x").close()
                    {failure}
                return super().step(action)
    """
    (tmp_path / "fails_once.py").write_text(textwrap.dedent(fails_once))
    command = [sys.executable, ROOT / "train.py", *SMALL, "--env", "fails_once:FailsOnce", "--steps", "1000", overlap]

    def start():
        line = [*command, "--checkpoint.every", "100"]
        return subprocess.run(line, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)

    failed = start()
    assert failed.returncode == 1, failed.stderr
    assert told in failed.stderr
    assert ("Traceback" in failed.stderr) == ('fails_once.py", line' in failed.stderr) == (name == "LookupError")
    assert "the last good checkpoint is of step" in failed.stderr.splitlines()[-1]
    again = start()
    assert again.returncode == 0, again.stderr
    assert "done: 1,000 steps" in again.stdout


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of environments of somebody's own, and makes its directory the working directory."""

    def write(name, code):
        shutil.copy(Path(__file__).parent / "point_env.py", tmp_path / "point_env.py")
        (tmp_path / f"{name}.py").write_text("from point_env import *\n" + textwrap.dedent(code))
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
        for stale in ("point_env", name):
            monkeypatch.delitem(sys.modules, stale, raising=False)

    return write


def starts(path):
    """What config.json says of each time that the run in the directory `path` was started."""
    return json.loads((path / "config.json").read_text())["starts"]


def test_resume_alone_takes_the_runs_own_options(tmp_path, run, monkeypatch):
    run("--env", "pick-place", "--steps", 400, "--run", tmp_path / "r", "--sac.lr", 0.001, "--her.k", 2)
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume", str(tmp_path / "r")])
    assert replace(parse(sys.argv[1:]), resume="never") == replace(
        parse(["--run", str(tmp_path / "r"), *SMALL, *SHORT, "--env", "pick-place", "--steps", "400", "--sac.lr",
               "0.001", "--her.k", "2"]), resume="never"
    )  # fmt: skip
    assert "is complete: 400 of 400 steps" in run("--resume", tmp_path / "r")
    assert "from step 400" in run("--resume", tmp_path / "r" / "checkpoints" / "step_000000400", "--steps", 600)
    assert "no/such: is neither a run directory nor a checkpoint" in run("--resume", tmp_path / "no/such", status=2)
    assert not (tmp_path / "no").exists()


def test_a_branch_changes_options_and_says_so_wherever_somebody_looks(tmp_path, run):
    run("--steps", 600, "--run", tmp_path / "r")
    changes = ["--sac.lr", 0.1, "--updates-per-step", 2, "--seed", 5]
    branch = ["--resume", tmp_path / "r", "--run", tmp_path / "b", *changes]
    said = run(*branch, "--steps", 800)
    newest = tmp_path / "r" / "checkpoints" / "step_000000600"
    changed = "--sac.lr: 0.0005, now 0.1; --seed: 0, now 5; --updates-per-step: 1.0, now 2.0"
    assert f"branched from {newest}, step 600; changed: {changed}" in said
    (first,) = starts(tmp_path / "b")
    assert (first["branched_from"], first["env_steps"]) == (str(newest), 600)
    assert first["changed"] == {"sac.lr": [0.0005, 0.1], "seed": [0, 5], "updates-per-step": [1.0, 2.0]}
    told = EventAccumulator(str(tmp_path / "b"), {"tensors": 0}).Reload().Tensors("started/text_summary")
    assert '"branched_from"' in told[0].tensor_proto.string_val[0].decode()
    updates = [checkpoints.load(path, only=["agent"])[0]["agent"]["updates"] for path in (
        newest, tmp_path / "b" / "checkpoints" / "step_000000800")]  # fmt: skip
    assert updates[1] - updates[0] == pytest.approx(2 * 200, abs=8)  # nothing is made up for
    assert "from step 800" in run(*branch, "--steps", 900)
    assert "from step 900" in run("--resume", tmp_path / "b", "--steps", 1000)
    assert [start["env_steps"] for start in starts(tmp_path / "b")] == [600, 800, 900]


def test_a_branch_of_another_seed_goes_its_own_way(tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r")
    rows = []
    for seed in (0, 5):
        branch = tmp_path / f"b{seed}"
        run("--resume", tmp_path / "r", "--run", branch, "--steps", 600, "--seed", seed)
        rows.append(open_run(branch).buffer.rows["action"][:800])
    assert not np.array_equal(*rows)


@pytest.mark.parametrize(
    "options", [["--num-envs", 8], ["--sac.hidden", 16], ["--reward", "sparse"], ["--init", "reach"]]
)
def test_a_branch_keeps_its_runs_task_and_sizes(options, tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r")
    said = run("--resume", tmp_path / "r", "--run", tmp_path / "b", *options, status=2)
    assert "cannot be continued with another task or other sizes (" in said
    assert f"--init {tmp_path / 'r'}/checkpoints/step_000000400" in said
    told = "is a run of reach, and --env push another task; leave --env out"
    assert told in run("--resume", tmp_path / "r", "--run", tmp_path / "b", "--env", "push", status=2)


def test_what_a_refusal_offers_can_be_copied(tmp_path, run, monkeypatch):
    run("--steps", 400, "--run", tmp_path / "a run")
    monkeypatch.chdir(tmp_path)
    said = run("--steps", 600, "--run", tmp_path / "a run", "--sac.lr", 0.01, "--her.no-skip-met-at-start", status=2)
    ways = re.findall(r"with: python train.py (--resume [^;]+)", said)
    assert ways == [
        "--resume 'a run'",
        "--resume 'a run' --run NEW --her.no-skip-met-at-start --sac.lr 0.01 --steps 600",
    ]
    assert "is complete" in run(*shlex.split(ways[0]))
    assert "branched from " in run(*shlex.split(ways[1]))


def test_a_run_begins_with_the_networks_of_another_and_its_own_experience(tmp_path, run):
    run("--steps", 600, "--run", tmp_path / "r", "--reward", "staged", "--her.strategy", "none")
    said = run("--steps", 404, "--run", tmp_path / "new", "--init", tmp_path / "r", "--seed", 1, "--reward", "staged")
    assert f"begins with the networks of {tmp_path / 'r'}/checkpoints/step_000000600 (reach, step 600)" in said
    old, new = (checkpoints.load(checkpoints.find(tmp_path / name)[0])[0] for name in ("r", "new"))
    assert new["progress"]["reward_scale"] == old["progress"]["reward_scale"]
    assert new["agent"]["normalizer"]["count"] == old["agent"]["normalizer"]["count"] + 404
    assert "from step 404" in run("--steps", 804, "--run", tmp_path / "new", "--init", tmp_path / "r", "--seed", 1,
                                  "--reward", "staged")  # fmt: skip
    run("--steps", 804, "--run", tmp_path / "whole", "--init", tmp_path / "r", "--seed", 1, "--reward", "staged",
        "--eval.every", 404)  # fmt: skip
    names = different(tmp_path / "new", tmp_path / "whole")
    assert [name for name in names if not name.startswith("curves")] == []


def test_the_first_actions_of_a_run_that_begins_with_networks_are_theirs(tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r")
    run("--steps", 404, "--run", tmp_path / "new", "--init", tmp_path / "r", "--her.proposed-goals", 0)
    opened = open_run(tmp_path / "new")
    agent = open_run(tmp_path / "r").agent
    agent.generator = torch.Generator().manual_seed(int(np.random.SeedSequence(0).spawn(5)[0].generate_state(1)[0]) + 1)
    rows = np.flatnonzero(opened.buffer.steps_before[:84] == 0)[:4]  # the first of each of the four environments
    inputs = her.policy_input(
        *(opened.buffer.rows[key][rows] for key in ("observation", "achieved_goal", "desired_goal"))
    )
    agent.see(inputs)
    np.testing.assert_allclose(agent.act(inputs), opened.buffer.rows["action"][rows], atol=1e-5)


def test_networks_that_do_not_fit_or_are_not_there_are_one_sentence(tmp_path, run):
    run("--steps", 400, "--run", tmp_path / "r")
    for options, told in (
        (
            ["--sac.hidden", 16],
            f"--init {tmp_path / 'r'}: has other networks; give --sac.hidden 32 32 --sac.layer-norm",
        ),
        (["--env", "push"], "was trained for reach, whose observations, goals or actions differ: "),
        (["--init", "push"], "--init push: holds no actor, no critic, no critic_target, no log_alpha; it can be"),
    ):
        assert told in run("--steps", 400, "--run", tmp_path / "n", "--init", tmp_path / "r", *options, status=2)
    assert "no pretrained policy (" in run("--steps", 400, "--run", tmp_path / "n", "--init", "fetch", status=2)


def test_a_run_knows_who_started_it_with_what(tmp_path, run):
    for steps in (400, 600):
        run("--steps", steps, "--run", tmp_path / "r")
    first, second = starts(tmp_path / "r")
    assert (first["env_steps"], second["env_steps"]) == (0, 400)
    assert first["argv"][0] == "train.py"
    assert (first["notes"], second["notes"]) == ([], [])
    assert str(tmp_path / "r") in first["argv"]
    assert first["versions"]["torch"] == torch.__version__
    assert first["device"].startswith("cpu · ")
    assert {"time", "machine", "system", "python"} <= first.keys()
    assert ("commit" in first) == (ROOT / ".git").exists()


KEEPS = {
    "the best of nothing so far": "float('-inf') if self.steps % 2 == 0 else 0.5",
    "a long list": "list(range(200_000))",
    "what cannot be saved, later": "object() if self.taken > 100 else 0",
}


@pytest.mark.parametrize("what", KEEPS)
def test_whatever_an_environment_keeps_costs_no_checkpoint(what, tmp_path, module, run):
    module(
        "keeps",
        f"""
        class Keeps(SavablePointEnv):
            taken = 0

            def step(self, action):
                self.taken += 1
                return super().step(action)

            def state_dict(self):
                return super().state_dict() | {{"kept": {KEEPS[what]}}}

            def load_state_dict(self, state):
                super().load_state_dict(state)
    """,
    )
    options = ["--env", "keeps:Keeps", "--no-overlap", "--run", tmp_path / "r", "--checkpoint.every", 100]
    said = run(*options, "--steps", 504)
    assert "NOT saved" not in said
    assert ("kept: Object of type object is not JSON serializable" in said) == (what == "what cannot be saved, later")
    assert "from step 504" in run(*options, "--steps", 600)


@pytest.mark.parametrize(("threshold", "told"), [(0.1, False), (0.4, True)])
def test_a_run_whose_environment_pays_otherwise_now_says_so(threshold, told, tmp_path, module, run):
    module("mine", "class Mine(SavablePointEnv): pass")
    options = ["--env", "mine:Mine", "--no-overlap", "--run", tmp_path / "r"]
    run(*options, "--steps", 400)
    code = "return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > THRESHOLD).astype(np.float32)"
    code = code.replace("THRESHOLD", str(threshold))
    module(
        "mine",
        f"""
        class Mine(SavablePointEnv):
            def compute_reward(self, achieved_goal, desired_goal, info):
                {code}
    """,
    )
    said = run(*options, "--steps", 600)
    assert "saved with mine " in said  # the file's hash
    assert ("of 1,000 stored transitions otherwise than when they were made" in said) == told


@pytest.mark.parametrize("left_by", ["SystemExit(0)", "KeyboardInterrupt()"])
@pytest.mark.parametrize("while_", ["stepping", "evaluating", "making it"])
def test_an_environment_that_ends_the_program_is_a_failure_and_no_end(left_by, while_, tmp_path, module, run):
    leaves = f"""
        import glob

        class Leaves(SavablePointEnv):
            def __init__(self):
                super().__init__()
                if {while_ == "making it"}:
                    raise {left_by}

            def reset(self, seed=None):
                self.evaluated = seed is not None and seed >= 1_000_000
                return super().reset(seed)

            def step(self, action):
                if glob.glob("r/checkpoints/*/manifest.json") and self.evaluated == {while_ == "evaluating"}:
                    raise {left_by}
                return super().step(action)
    """
    module(f"leaves_{while_.split()[0]}_{left_by[:6]}", leaves)
    options = ["--env", f"leaves_{while_.split()[0]}_{left_by[:6]}:Leaves", "--no-overlap", "--run", "r"]
    said = run(*options, "--steps", 800, "--checkpoint.every", 200, "--eval.every", 600, status=1)
    assert left_by.partition("(")[0] in said
    assert "done: " not in said
    assert ("the last good checkpoint is of step " in said) == (while_ != "making it")


@pytest.mark.parametrize("meanwhile", [pytest.param("moved", marks=pytest.mark.slow), "removed and begun again"])
def test_a_run_whose_directory_is_gone_stops_and_harms_no_other(meanwhile, tmp_path, module, run):
    """An environment does it, at a time that is known: what somebody does in another terminal."""
    module(
        "tidies",
        f"""
        import os, shutil, subprocess, sys

        class Tidies(SavablePointEnv):
            trained = 0

            def step(self, action):
                Tidies.trained += 1
                if Tidies.trained == 500 and not os.path.exists("tidied"):
                    open("tidied", "x").close()
                    if {meanwhile == "moved"}:
                        os.rename("r", "elsewhere")
                    else:
                        shutil.rmtree("r")
                        subprocess.run([sys.executable, "{ROOT}/train.py", *sys.argv[1:]], check=True)
                return super().step(action)
        """,
    )
    options = ["--env", "tidies:Tidies", "--no-overlap", "--steps", 1200, "--checkpoint.every", 200]
    said = run(*options, "--run", "r", status=1)
    sentence = f"{tmp_path}/r was moved or removed, or its .lock was, while the run went on, and nothing is written"
    assert sentence in said
    assert "the last good checkpoint is of step " in said
    if meanwhile == "moved":
        assert not (tmp_path / "r").exists()
        (tmp_path / "elsewhere").rename(tmp_path / "r")
        assert "done: 1,200 steps" in run(*options, "--run", "r")
    run(*options, "--run", "whole")
    assert different(tmp_path / "whole", tmp_path / "r") == []
    assert {path.name for path in tmp_path.iterdir()} >= {"r", "whole"}
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("overlap", ["--overlap", "--no-overlap"])
def test_an_environment_that_changes_the_working_directory_changes_nothing_else(
    overlap, tmp_path, module, run, monkeypatch
):
    module(
        "wanders",
        f"""
        import os, tempfile

        os.chdir("/")

        class Wanders(SavablePointEnv):
            def step(self, action):
                os.chdir(tempfile.mkdtemp(dir="{tmp_path}/other"))
                return super().step(action)
        """,
    )
    (tmp_path / "other").mkdir()
    for name, steps, options in (("r", 400, []), ("r", 800, []), ("branch", 1200, ["--resume", "r"])):
        monkeypatch.chdir(tmp_path)
        run("--env", "wanders:Wanders", overlap, "--steps", steps, "--run", name, *options)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "r", "--episodes", "2", "--json", "result.json"])
    evaluate.main()
    assert json.loads((tmp_path / "result.json").read_text())["env_steps"] == 800
    assert checkpoints.list_checkpoints(tmp_path / "branch" / "checkpoints")[-1].name == "step_000001200"
    assert [path for path in (tmp_path / "other").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("fails", "options", "status"),
    [
        ("", [], 0),
        ("", ["--her.capacity", 10], 2),
        ("max_episode_steps = 0", [], 2),
        ("def reset(self, seed=None): return super().reset(seed) if Counted.open < 5 else open('')", [], 1),
    ],
)
def test_every_environment_is_closed_however_a_run_ends(fails, options, status, module, run):
    module(
        "counted",
        f"""
        class Counted(PointEnv):
            open = 0
            {fails}

            def __init__(self):
                super().__init__()
                Counted.open += 1

            def close(self):
                Counted.open -= 1
        """,
    )
    run("--env", "counted:Counted", "--no-overlap", "--steps", 400, "--run", "r", *options, status=status)
    assert sys.modules["counted"].Counted.open == 0


@pytest.fixture
def someone_types():
    """Standard input is full of answers meanwhile."""
    before, (reader, writer) = os.dup(0), os.pipe()
    os.write(writer, b"y" * 1000)
    os.dup2(reader, 0)
    yield
    os.dup2(before, 0)
    for descriptor in (before, reader, writer):
        os.close(descriptor)


@pytest.mark.usefixtures("someone_types")
@pytest.mark.parametrize("overlap", ["--overlap", "--no-overlap"])
def test_an_environment_finds_nobody_to_ask_but_where_it_is_debugged(overlap, tmp_path, module, run, monkeypatch):
    module(
        f"asks{overlap.replace('-', '_')}",
        """
        import subprocess

        class Asks(PointEnv):
            def __init__(self):
                super().__init__()
                with open("answers", "ab") as file:
                    subprocess.run(["head", "-c", "1"], stdout=file, timeout=10, check=True)
        """,
    )
    run("--env", f"asks{overlap.replace('-', '_')}:Asks", overlap, "--steps", 400, "--run", "r")
    answers = Path("answers").read_bytes()
    assert answers == (b"" if overlap == "--overlap" else b"y" * len(answers or b"y"))
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "r", "--episodes", "2"])
    evaluate.main()
    assert Path("answers").read_bytes() == answers


@pytest.mark.parametrize("overlap", ["--overlap", "--no-overlap"])
def test_where_an_environment_hangs_the_second_signal_ends_the_run_and_leaves_no_process(overlap, tmp_path, module):
    module(
        "hangs",
        """
        import os, time

        class Hangs(PointEnv):
            steps_so_far = 0

            def step(self, action):
                Hangs.steps_so_far += 1
                if Hangs.steps_so_far == 300:  # more than the check takes
                    open("hangs.tmp", "w").write(str(os.getpid()))
                    os.rename("hangs.tmp", "hangs")
                    while True:
                        time.sleep(1)
                return super().step(action)
        """,
    )
    command = [sys.executable, ROOT / "train.py", *SMALL, "--env", "hangs:Hangs", "--steps", "1000", overlap]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "hangs").exists, process)
    process.send_signal(signal.SIGTERM)
    time.sleep(AGAIN + 0.1)
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM has come again: leaving at once" in process.communicate(timeout=300)[1]
    assert process.returncode == 128 + signal.SIGTERM
    wait_for(lambda: not Path(f"/proc/{(tmp_path / 'hangs').read_text()}").exists())


def test_a_run_whose_episodes_may_outlast_it_says_so_at_its_start_and_at_its_end(tmp_path, module, run):
    module("long", "class Long(PointEnv):\n    max_episode_steps = 1000")
    said = run("--env", "long:Long", "--steps", 800, "--run", "a name with spaces")
    assert "episodes of up to 1,000 steps in 4 environments: the first may end after 4,000 steps only, and this" in said
    assert "nothing was learnt: no episode ended in time for an update" in said
    assert "measure it: python evaluate.py 'a name with spaces' · curves: tensorboard --logdir .\n" in said
    for env, steps in (("long:Long", 8000), ("point_env:PointEnv", 800)):
        config = parse(["--env", env, "--steps", str(steps), "--num-envs", "4", "--warmup", "200", "--no-overlap"])
        state = train.TrainingState.new(config, train.torch.device("cpu"))
        assert not any("the first may end" in note for note in train.first_notes(config, state))


def test_a_large_buffer_is_told(monkeypatch):
    config = parse(["--env", "reach", "--steps", "20000", "--num-envs", "4", "--no-overlap"])
    state = train.TrainingState.new(config, train.torch.device("cpu"))
    assert not any("GiB" in note for note in train.first_notes(config, state))
    monkeypatch.setattr(training.state, "LARGE", 2**20)
    (told,) = (note for note in train.first_notes(config, state) if "GiB" in note)
    assert re.match(r"the buffer takes 0\.\d GiB of memory, and its checkpoints up to 0\.0 GiB of the disk;", told)


@pytest.mark.parametrize(("episodes", "told"), [(9, True), (7, False)])
def test_an_evaluation_that_outlasts_the_training_before_it_is_told(module, run, episodes, told):
    module("long", "class Long(PointEnv):\n    max_episode_steps = 100")
    said = run("--env", "long:Long", "--steps", 400, "--eval.episodes", episodes, "--eval.every", 200)
    assert (f"an evaluation is {episodes} episodes of up to 100 steps, {episodes}00 in all" in said) == told


@pytest.mark.parametrize(("ended", "told"), [("reward == 0", True), ("self.steps == 9", False), ("False", False)])
def test_hindsights_goals_end_episodes_where_meeting_its_goal_ends_each_real_one(module, ended, told):
    module(
        "ends",
        f"""
        class Ends(PointEnv):
            def step(self, action):
                obs, reward, _, *rest = super().step(action)
                return obs, reward, {ended}, *rest
        """,
    )
    config = parse(["--env", "ends:Ends", "--updates-per-step", "0.01", "--no-overlap"])
    state = train.TrainingState.new(config, torch.device("cpu"))
    assert not hasattr(state.relabel_env, "compute_terminated")
    for _ in range(200):
        train.collect_and_learn(state, config)
    assert hasattr(state.relabel_env, "compute_terminated") == told
    restored = train.TrainingState.new(config, torch.device("cpu"))
    restored.rollouts.load_state_dict(state.rollouts.state_dict())
    assert restored.rollouts.met_goals_end_episodes == told


def wait_for(condition, process=None, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves_and_the_same_line_goes_on(number, tmp_path):
    # Three seconds of training at least, of which the signal finds the middle.
    command = [sys.executable, ROOT / "train.py", *SMALL, *SHORT, "--steps", "12000", "--run", tmp_path / "r"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "r" / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert "stopped and saved at step" in output
    (saved,) = checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")
    assert checkpoints.verify(saved).step < 12_000
    assert json.loads((tmp_path / "r" / "config.json").read_text())["steps"] == 12_000


def test_every_tells_of_each_multiple_once_whatever_the_stride():
    for every, stride in ((100, 4), (130, 16), (3, 16), (16, 16)):
        should = train.Every(every, stride)
        steps = [step for step in range(stride, 2001, stride) if should(step)]
        reached = {-(-multiple // stride) * stride for multiple in range(every, 2001, every)}
        assert steps == sorted(step for step in reached if step <= 2000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reach_is_learnt_in_half_of_its_default_steps(seed, tmp_path):
    common = {"env": ENVIRONMENT, "check": True, "cwd": tmp_path}
    command = [sys.executable, ROOT / "train.py", "--env", "reach", "--steps", "10000", "--seed", str(seed)]
    said = subprocess.run(command, **common, stdout=subprocess.PIPE, text=True).stdout
    lines = [line for line in said.splitlines() if line.startswith("step ")]
    assert all("· success" in line for line in lines), "a healthy run was diagnosed"
    result = tmp_path / "result.json"
    run_directory = f"runs/reach-sparse-reach-{seed}"
    subprocess.run([sys.executable, ROOT / "evaluate.py", run_directory, "--json", result], **common)
    assert json.loads(result.read_text())["success"]["rate"] >= 0.9


@pytest.mark.slow
def test_the_failure_in_the_documentation_says_why_it_does_not_learn(tmp_path):
    text = (ROOT / "docs/experiments.md").read_text().split("## Pick-place: the failure")[1]
    documented = text[text.index("python train.py") : text.index("\n\nSeed 0")].replace("\\\n", " ").split()
    command = [sys.executable, str(ROOT / documented[1]), *documented[2:], "--run", str(tmp_path), "--no-video"]
    command[command.index("--steps") + 1] = "10000"
    said = subprocess.run(command, env=ENVIRONMENT, check=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True).stdout
    (sentence,) = [line for line in said.splitlines() if "hindsight has nothing to work with" in line]
    assert int(sentence.split()[1].replace(",", "")) <= 10_000
