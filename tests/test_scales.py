"""Rewards and goals of any unit are learnt with default options."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import train
from training.evaluation.rollout import run_episodes, summarise
from training.recipes import recipe
from training.state import TrainingState


def scaled(point_env, reward: float = 1.0, unit: float = 1.0):
    """Returns a PointEnv that pays `reward` times as much, on a square that is `unit` times as large."""

    class Scaled(point_env.PointEnv):
        def step(self, action):
            obs, _, *ended, _ = super().step(action)
            paid = float(self.compute_reward(obs["achieved_goal"], obs["desired_goal"], {}))
            return obs, paid, *ended, {"is_success": paid == 0}

        def compute_reward(self, achieved_goal, desired_goal, info):
            return reward * super().compute_reward(achieved_goal / unit, desired_goal / unit, info)

        def observe(self):
            return {key: (unit * value).astype(np.float32) for key, value in super().observe().items()}

    return Scaled


@pytest.mark.slow
@pytest.mark.parametrize(
    "scales", [{"reward": 1000.0}, {"reward": 0.001}, {"unit": 0.001}], ids=["x1000", "x0.001", "small"]
)
def test_a_point_is_learnt_whatever_the_unit_of_its_reward_and_place(scales, point_env, monkeypatch):
    monkeypatch.setitem(sys.modules, "point_env", point_env)
    monkeypatch.setattr(point_env, "Scaled", scaled(point_env, **scales), raising=False)
    config = replace(recipe("point_env:Scaled"), overlap=False)
    state = TrainingState.new(config, torch.device("cpu"))
    while state.env_steps < 6_000:
        train.collect_and_learn(state, config)
    episodes = list(run_episodes([point_env.Scaled()], state.agent.act_deterministic, 50, 10_000))
    assert summarise(episodes)["success"]["rate"] >= 0.9
