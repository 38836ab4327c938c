"""What a run may be told, and what a resumed run may not."""

from dataclasses import replace
from pathlib import Path

import pytest
from training.options import differences

from env import TaskConfig, make_envs
from her import HERConfig
from sac import SACConfig
from training.config import ConfigError, TrainConfig, config_from_dict


def test_the_learning_rate_falls_when_the_task_is_learnt_and_what_is_given_stands():
    decay = {env: TrainConfig(env=env).resolved().sac.lr_decay_after for env in ("reach", "push", "pick-place", "a:b")}
    assert decay == {"reach": 2_000, "push": 40_000, "pick-place": 80_000, "a:b": 40_000}
    assert TrainConfig(env="reach", sac=SACConfig(lr_decay_after=7)).resolved().sac.lr_decay_after == 7


def test_hindsight_becomes_rarer_in_pick_place_and_what_is_given_stands():
    late = {env: TrainConfig(env=env).resolved().her.late_ratio for env in ("reach", "push", "pick-place", "a:b")}
    assert late == {"reach": None, "push": 0.5, "pick-place": 0.5, "a:b": None}
    assert TrainConfig(env="pick-place", her=HERConfig(late_ratio=0.8)).resolved().her.late_ratio == 0.8


@pytest.mark.parametrize("given", [{"ratio": 0.2}, {"ratio": 0.0}, {"k": 0}, {"k": 1}])
def test_who_asks_for_less_hindsight_does_not_get_more_of_it_late_in_a_run(given):
    config = HERConfig(**given)
    resolved = TrainConfig(env="pick-place", her=config).resolved().her
    assert resolved.relabelled_share(10**9) == resolved.relabelled_share(0) == config.relabelled_share(0)


@pytest.mark.parametrize(
    ("env", "steps", "warmup", "updates_per_step", "scripted_starts", "target_entropy"),
    [
        ("reach", 20_000, 1_000, 0.25, 0.0, None),
        ("push", 200_000, 3_000, 0.4, 0.8, -6.0),
        ("pick-place", 400_000, 3_000, 0.4, 0.8, -6.0),
        ("fetch:Reach", 100_000, 1_000, 0.25, None, None),
    ],
)
def test_defaults_are_filled_in_by_task(env, steps, warmup, updates_per_step, scripted_starts, target_entropy):
    config = TrainConfig(env=env, seed=3).resolved()
    assert (config.steps, config.warmup, config.updates_per_step) == (steps, warmup, updates_per_step)
    assert config.task.scripted_starts == scripted_starts
    assert config.task.scripted_until == (100_000 if env == "push" else 200_000)
    assert config.sac.target_entropy == target_entropy
    if env != "fetch:Reach":
        assert config.reward == "sparse-reach"
        assert config.run == f"runs/{env}-sparse-reach-3"


@pytest.mark.parametrize("env", ["reach", "push", "pick-place"])
def test_what_is_given_is_no_default(env):
    task = TaskConfig(scripted_starts=0.0)
    given = TrainConfig(
        env=env, steps=70_000, warmup=500, updates_per_step=1.5, task=task, sac=SACConfig(target_entropy=-4.0)
    )
    config = given.resolved()
    assert (config.steps, config.warmup, config.updates_per_step) == (70_000, 500, 1.5)
    assert config.task.scripted_starts == 0.0
    assert config.sac.target_entropy == -4.0
    assert config.resolved() == config


def test_an_environment_of_ones_own_has_no_reward_option():
    assert TrainConfig(env="fetch:Reach").resolved().run == "runs/fetch-Reach-0"
    with pytest.raises(ConfigError, match="fetch:Reach brings its own"):
        TrainConfig(env="fetch:Reach", reward="sparse").resolved()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_envs": 0}, "--num-envs 0"),
        ({"steps": 500}, "--steps 500: the first 1000 steps are random warm-up"),
        ({"warmup": 0}, "--warmup 0"),
        ({"seed": -1}, "--seed -1"),
        ({"updates_per_step": 0.0}, "--updates-per-step 0.0"),
        ({"warmup_hold": 0.5}, "--warmup-hold 0.5"),
        ({"task": TaskConfig(scripted_starts=1.01)}, "--task.scripted-starts 1.01: is a share of the episodes"),
        ({"task": TaskConfig(scripted_starts=-0.1)}, "--task.scripted-starts -0.1: must not be negative"),
        ({"task": TaskConfig(scripted_starts=float("nan"))}, "--task.scripted-starts nan: must be a finite number"),
        ({"task": TaskConfig(scripted_until=0)}, "--task.scripted-until 0: must be at least 1"),
        ({"her": HERConfig(ratio=-0.1)}, "--her.ratio -0.1: must lie between 0 and 1"),
        ({"her": HERConfig(late_ratio=1.5)}, "--her.late-ratio 1.5: must lie between 0 and 1"),
        ({"her": HERConfig(late_from=0)}, "--her.late-from 0: must be at least 1"),
        ({"task": TaskConfig(pinch_weight=-4.0)}, "--task.pinch-weight -4.0: must not be negative"),
        ({"task": TaskConfig(reach_scale=0.0)}, "--task.reach-scale 0.0: must be positive"),
        ({"task": TaskConfig(action_slope=0.0)}, "--task.action-slope 0.0: must lie between 0 and 1"),
        ({"task": TaskConfig(action_slope=1.5)}, "--task.action-slope 1.5: must lie between 0 and 1"),
        ({"task": TaskConfig(action_slope=-0.2)}, "--task.action-slope -0.2: must not be negative"),
        ({"task": TaskConfig(action_slope=float("nan"))}, "--task.action-slope nan: must be a finite number"),
        ({"sac": SACConfig(gamma=1.0)}, "--sac.gamma 1.0"),
        ({"sac": SACConfig(average_tau=0.0)}, "--sac.average-tau 0.0: must lie between 0 and 1"),
        ({"sac": SACConfig(average_tau=1.1)}, "--sac.average-tau 1.1: must lie between 0 and 1"),
        ({"sac": SACConfig(n_step=0)}, "--sac.n-step 0: must be at least 1"),
        ({"sac": SACConfig(hidden=())}, "--sac.hidden"),
        ({"sac": SACConfig(lr=float("nan"))}, "--sac.lr nan"),
        ({"sac": SACConfig(batch_size=0)}, "--sac.batch-size 0"),
    ],
)
def test_impossible_options_are_refused_by_name(change, named):
    with pytest.raises(ConfigError) as caught:
        replace(TrainConfig(), **change).resolved()
    assert named in str(caught.value)


def test_json_and_back():
    config = TrainConfig(env="push", sac=SACConfig(hidden=(64, 32), target_entropy=-2.5)).resolved()
    assert config_from_dict(config.to_dict(), Path("config.json")) == config


def test_a_configuration_of_other_code_is_refused_with_the_file_named():
    content = TrainConfig().resolved().to_dict()
    content["sac"]["optimism"] = 1.0
    with pytest.raises(ConfigError, match=r"config\.json.*optimism"):
        config_from_dict(content, Path("config.json"))


def test_differences_name_what_would_make_it_another_run_and_nothing_else():
    old = TrainConfig().resolved()
    allowed = replace(old, steps=99_999, device="cpu", video=False, eval=replace(old.eval, every=7))
    assert differences(old.to_dict(), allowed.to_dict()) == []
    other = replace(old, num_envs=8, sac=replace(old.sac, lr=0.1))
    assert differences(old.to_dict(), other.to_dict()) == ["--num-envs: 16, now 8", "--sac.lr: 0.0005, now 0.1"]


@pytest.mark.parametrize(
    ("env", "goal", "evaluated", "length"), [("reach", "air", "air", 50), ("pick-place", "mix", "fixed", 100)]
)
def test_to_say_what_the_task_decides_makes_no_other_run(env, goal, evaluated, length):
    unsaid = TrainConfig(env=env).resolved()
    entropy = make_envs(env, 1, unsaid.task, "sparse")[0].action_dim / -2 if env == "reach" else -6.0
    said = replace(
        unsaid,
        task=replace(unsaid.task, goal=goal, max_episode_steps=length),
        sac=replace(unsaid.sac, target_entropy=entropy),
        eval=replace(unsaid.eval, goal=evaluated),
    )
    assert differences(unsaid.to_dict(), said.to_dict()) == differences(said.to_dict(), unsaid.to_dict()) == []
    (told,) = differences(unsaid.to_dict(), replace(said, eval=replace(said.eval, goal="table")).to_dict())
    assert told == f"--eval.goal: {evaluated}, now table"
