"""Wraps what the benchmarks need of the peers, where they are installed (pip install -e '.[peers]')."""

from dataclasses import replace

import gymnasium
import numpy as np
from gymnasium import spaces

from env.protocol import GOAL_KEYS, GoalEnv, info_arrays
from training.config import TrainConfig
from training.setup import evaluation_environments, training_environments


class GymnasiumTask(gymnasium.Env):
    """Makes a training environment of ours what Gymnasium's goal environments are."""

    def __init__(self, config: TrainConfig):
        _, spec = evaluation_environments(config, 1, "own")
        self.has_goals = spec.goal_dim > 0
        self.env: GoalEnv
        (self.env,) = training_environments(replace(config, num_envs=1, overlap=False), spec).envs
        sizes = zip(GOAL_KEYS, (spec.obs_dim, spec.goal_dim, spec.goal_dim), strict=True)
        boxes = {k: spaces.Box(-np.inf, np.inf, (n,), np.float32) for k, n in sizes}
        self.observation_space = spaces.Dict(boxes) if self.has_goals else boxes["observation"]
        self.action_space = spaces.Box(-1, 1, (spec.action_dim,), np.float32)

    def reset(self, *, seed=None, options=None):
        obs, info = self.env.reset(seed)
        return self._seen(obs), info

    def step(self, action):
        obs, *rest = self.env.step(action)
        return self._seen(obs), *rest

    def _seen(self, obs):
        return obs if self.has_goals else obs["observation"]

    def compute_reward(self, achieved_goal, desired_goal, infos):
        """Takes the steps' infos as the list that Stable-Baselines3 hands over."""
        info = {key: np.stack([each[key] for each in infos]) for key in info_arrays(infos[0])}
        return self.env.compute_reward(achieved_goal, desired_goal, info)


class FixedSizes(gymnasium.Env):
    """Observations of 24 numbers and actions of 6 that mean nothing: for timing updates of the reference size."""

    observation_space = spaces.Box(-1, 1, (24,), np.float32)
    action_space = spaces.Box(-1, 1, (6,), np.float32)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}
