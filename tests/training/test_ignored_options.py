"""Options without effect are named; and no option is named that has one."""

import sys
from dataclasses import replace

import numpy as np
import pytest

import train
from env import TASKS, make_envs
from training.command_line import has_effect, ignored_options, parse
from training.recipes import recipe


@pytest.mark.parametrize(
    ("options", "names", "reason"),
    [
        (
            "--her.strategy none --her.k 9 --her.proposed-goals 0.5",
            ["her.k", "her.proposed-goals"],
            "--her.strategy none",
        ),
        ("--her.strategy none --her.no-skip-met-at-start", ["her.skip-met-at-start"], "--her.strategy none"),
        ("--env reach --task.scripted-astray 0", ["task.scripted-astray"], "no scripted starts"),
        ("--env push --task.scripted-starts 0 --task.scripted-until 9", ["task.scripted-until"], "no scripted starts"),
        ("--env reach --task.no-reach-per-finger", ["task.reach-per-finger"], "--env reach"),
        ("--env push --task.retry-missed 0", ["task.retry-missed"], "--env push"),
        ("--env pick-place --task.goal air --task.retry-missed 1", ["task.retry-missed"], "--task.goal air"),
        ("--env push --reward sparse --task.potential 9 9 9", ["task.potential"], "--reward sparse"),
        ("--env pick-place --reward staged --sac.no-clip-target", ["sac.clip-target"], "--reward staged"),
        ("--sac.backup-entropy --n-step 1 --sac.no-clip-target", ["sac.clip-target"], "--sac.backup-entropy"),
    ],
)
def test_an_option_without_effect_is_named_with_what_makes_it_so(options, names, reason):
    told = ignored_options(parse(options.split()))
    assert [note.split()[0] for note in told] == [f"--{name}" for name in names]
    assert all(f"has no effect with {reason}" in note for note in told)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--env pick-place --task.goal mix --task.retry-missed 0 --task.scripted-astray 0 --task.potential 14 1 6",
        "--env push --reward staged --her.strategy none",
        "--env point_env:PointEnv --her.k 2 --sac.no-clip-target",
    ],
)
def test_nothing_is_said_of_options_with_effect_nor_of_defaults(options):
    assert ignored_options(parse(options.split())) == []


@pytest.mark.parametrize("reward", ["sparse", "sparse-reach", "staged"])
@pytest.mark.parametrize("name", TASKS)
def test_what_is_said_to_have_no_effect_on_the_reward_has_none_and_the_rest_has_one(name, reward):
    def rewards(task):
        (env,) = make_envs(name, 1, task, reward)
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        return [env.step(rng.uniform(-1, 1, 6))[1] for _ in range(20)]

    config = replace(recipe(name), reward=reward, task=replace(recipe(name).task, scripted_starts=0.0))
    usual = rewards(config.task)
    for option, value in (("potential", (3.0, 14.0, 6.0)), ("reach_per_finger", False)):
        same = rewards(replace(config.task, **{option: value})) == usual
        assert same != has_effect(f"task.{option.replace('_', '-')}", config), option


def test_a_run_says_so_when_it_starts(tmp_path, monkeypatch, capsys):
    options = ["--no-video", "--no-compile", "--no-overlap", "--sac.hidden", "8", "--num-envs", "2", "--warmup", "100"]
    options += ["--task.max-episode-steps", "10", "--eval.episodes", "1", "--steps", "200", "--run", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train.py", *options, "--her.strategy", "none", "--her.k", "9"])
    train.main()
    assert "--her.k has no effect with --her.strategy none\n" in capsys.readouterr().out
