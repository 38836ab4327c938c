"""Makes pushing small: a point pushes a disc to a place, and a run learns it in a minute, so that ten seeds can tell.

python benchmarks/foreign.py --only SmallPush --seeds 0 1 2 3 4 5 6 7 8 9 --jobs 2

What is hard about FetchPush is hard here: reward tells nothing but met or not, the disc is out of the point's reach at
first, random actions move it in few episodes, and it lies still afterwards.
"""

import numpy as np

REACH, STEP, THRESHOLD = 0.12, 0.08, 0.1
"""Distance that the point keeps from the disc's centre, farthest that it goes in a step, distance that meets a goal."""


class SmallPush:
    """Follows the protocol of env/protocol.py. Observation: point, disc, disc minus point; goal: where the disc is."""

    obs_dim, goal_dim, action_dim, max_episode_steps = 6, 2, 2, 50

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.point, self.disc, self.goal = np.zeros((3, 2))
        self.steps = 0

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.point = self.rng.uniform(-0.05, 0.05, 2)
        self.disc = self.point
        while np.linalg.norm(self.disc - self.point) < 0.2:
            self.disc = self.rng.uniform(-0.4, 0.4, 2)
        self.goal = self.rng.uniform(-0.6, 0.6, 2)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.point = np.clip(self.point + STEP * np.clip(action, -1, 1), -1.5, 1.5)
        way = self.disc - self.point
        distance = np.linalg.norm(way)
        if distance < REACH:
            self.disc = self.point + REACH * way / max(distance, 1e-6)
        self.steps += 1
        reward = float(self.compute_reward(self.disc, self.goal, {}))
        return self._observe(), reward, False, self.steps >= self.max_episode_steps, {"is_success": reward == 0}

    def _observe(self):
        observation = np.concatenate([self.point, self.disc, self.disc - self.point])
        return {"observation": observation, "achieved_goal": self.disc.copy(), "desired_goal": self.goal.copy()}

    def compute_reward(self, achieved_goal, desired_goal, info):
        """Returns 0 where the disc is at the goal and -1 elsewhere, (…, 2) and (…, 2) to (…)."""
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > THRESHOLD).astype(np.float32)

    def state_dict(self):
        places = {"point": self.point.copy(), "disc": self.disc.copy(), "goal": self.goal.copy()}
        return places | {"steps": self.steps, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.point, self.disc, self.goal = (state[name].copy() for name in ("point", "disc", "goal"))
        self.steps, self.rng.bit_generator.state = state["steps"], state["rng"]
