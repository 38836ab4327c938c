"""Options without effect are named; and no option is named that has one."""

import sys
from dataclasses import asdict

import numpy as np
import pytest
import tyro

import train
from env import TASKS, make_envs
from env.tasks.rewards import StagedConfig
from training.config import TrainConfig
from training.ignored_options import STAGED, unread


def notes(*options: str) -> list[str]:
    given = tyro.cli(TrainConfig, args=options)
    return unread(given, given.resolved())


@pytest.mark.parametrize(
    ("options", "names", "reason"),
    [
        ("--her.strategy none --her.ratio 0.9 --her.late-from 5000", ["her.ratio", "her.late-from"], "--her.strategy"),
        ("--her.strategy none --her.no-skip-met-at-start", ["her.skip-met-at-start"], "--her.strategy none"),
        ("--her.ratio 0.5 --her.k 8", ["her.k"], "--her.ratio"),
        ("--env reach --her.late-from 5000", ["her.late-from"], "a share of hindsight that stays as it is"),
        ("--env reach --task.scripted-astray 0", ["task.scripted-astray"], "no scripted starts"),
        ("--env push --task.scripted-starts 0 --task.scripted-until 9", ["task.scripted-until"], "no scripted starts"),
        ("--env reach --task.pinch-weight 99", ["task.pinch-weight"], "--env reach"),
        ("--env push --task.retry-missed 0", ["task.retry-missed"], "--env push"),
        ("--env pick-place --task.goal air --task.retry-missed 1", ["task.retry-missed"], "--task.goal air"),
        ("--env push --reward sparse --task.reach-weight 9", ["task.reach-weight"], "--reward sparse"),
        ("--env push --reward staged --task.staged.lift 7", ["task.staged.lift"], "--env push"),
        ("--env push --task.staged.reach 7", ["task.staged.reach"], "--reward sparse-reach"),
        ("--env pick-place --reward staged --sac.no-clip-target", ["sac.clip-target"], "--reward staged"),
        ("--env pick-place --her.ratio 0.3 --her.late-from 9", ["her.late-from"], "a share of hindsight that stays"),
        ("--sac.backup-entropy --sac.n-step 1 --sac.no-clip-target", ["sac.clip-target"], "--sac.backup-entropy"),
    ],
)
def test_an_option_without_effect_is_named_with_what_makes_it_so(options, names, reason):
    told = notes(*options.split())
    assert [note.split()[0] for note in told] == [f"--{name}" for name in names]
    assert all(f"has no effect with {reason}" in note for note in told)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--env pick-place",
        "--env push --reward staged --her.strategy none --task.staged.place 5",
        "--env pick-place --reward staged --task.staged.no-height-up-to-goal",
        "--env pick-place --task.retry-missed 0 --task.scripted-astray 0 --task.pinch-weight 1",
        "--env pick-place --task.goal mix --task.retry-missed 0 --her.late-from 9000 --her.k 2",
        "--env point_env:PointEnv --her.k 2 --sac.no-clip-target",
    ],
)
def test_nothing_is_said_of_options_with_effect_nor_of_defaults(options):
    assert notes(*options.split()) == []


@pytest.mark.parametrize("name", TASKS)
def test_the_weights_that_a_task_is_said_to_have_are_those_that_change_its_reward(name):
    """In any state at all: made up, since no episode is in all of them."""
    rng = np.random.default_rng(0)
    info = {key: rng.random(500).astype(np.float32) for key in ("reach_distance", "cube_height")}
    info["cube_hold"] = rng.integers(0, 4, 500).astype(np.float32)
    info |= {key: (rng.random(500) < 0.5).astype(np.float32) for key in ("pinched", "cube_lost")}
    achieved, desired = rng.uniform(0, 0.05, (2, 500, 3)).astype(np.float32)

    def rewards(**weights):
        config = tyro.cli(TrainConfig, args=["--env", name, "--reward", "staged"]).resolved().task
        object.__setattr__(config, "staged", StagedConfig(**weights))
        (env,) = make_envs(name, 1, config, "staged")
        return env.compute_reward(achieved, desired, info)

    as_it_is = rewards()
    usual = asdict(StagedConfig())
    changed = {key: not value if isinstance(value, bool) else value + 1 for key, value in usual.items()}
    read = {key for key, value in changed.items() if not np.array_equal(rewards(**{key: value}), as_it_is)}
    assert read == STAGED.get(name, set(usual))


def test_a_run_says_so_when_it_starts(tmp_path, monkeypatch, capsys):
    options = ["--no-video", "--no-compile", "--no-overlap", "--sac.hidden", "8", "--num-envs", "2", "--warmup", "100"]
    options += ["--task.max-episode-steps", "10", "--eval.episodes", "1", "--steps", "200", "--run", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train.py", *options, "--her.strategy", "none", "--her.k", "9"])
    train.main()
    assert "--her.k has no effect with --her.strategy none\n" in capsys.readouterr().out
