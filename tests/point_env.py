"""The smallest goal environment of the protocol: a point on a square that is to be moved to a random goal."""

import numpy as np


class PointEnv:
    """Actions move the point by up to 0.1 in x and y; success is being within 0.1 of the goal."""

    obs_dim, goal_dim, action_dim, max_episode_steps = 2, 2, 2, 20

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.point, self.goal = self.rng.uniform(-1, 1, (2, 2)).astype(np.float32)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.point = np.clip(self.point + 0.1 * np.clip(action, -1, 1), -1, 1).astype(np.float32)
        self.steps += 1
        obs = self.observe()
        reward = float(self.compute_reward(self.point, self.goal, {}))
        return obs, reward, False, self.steps >= self.max_episode_steps, {"is_success": reward == 0}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.1).astype(np.float32)

    def observe(self):
        return {"observation": self.point, "achieved_goal": self.point, "desired_goal": self.goal}


class SavablePointEnv(PointEnv):
    """The same, able to tell its state, so that a resumed run goes on inside the episode."""

    def state_dict(self):
        rng = self.rng.bit_generator.state
        return {"point": self.point, "goal": self.goal, "steps": self.steps, "rng": rng}

    def load_state_dict(self, state):
        self.point, self.goal, self.steps = state["point"], state["goal"], state["steps"]
        self.rng.bit_generator.state = state["rng"]
