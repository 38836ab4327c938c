"""What a run may be told, and what a resumed run may not."""

from dataclasses import replace
from pathlib import Path

import pytest

from sac import SACConfig
from training.config import ConfigError, TrainConfig, config_from_dict, differences


def test_defaults_are_filled_in_by_task():
    config = TrainConfig(env="pick-place", seed=3).resolved()
    assert (config.steps, config.warmup, config.reward) == (400_000, 8_000, "sparse-reach")
    assert config.run == "runs/pick-place-sparse-reach-3"


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
        ({"sac": SACConfig(gamma=1.0)}, "--sac.gamma 1.0"),
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
