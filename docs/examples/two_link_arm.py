"""A task from scratch, in NumPy: an arm of two links in the plane brings its tip to a goal.

    python train.py --env docs.examples.two_link_arm:TwoLinkArm --steps 10000

Each of two joints is turned by up to 0.2 rad a step. --env-args length=0.3 makes the links shorter.
"""

import numpy as np

TOLERANCE = 0.1
"""Distance from the goal, in m, up to which it is met."""


class TwoLinkArm:
    """Follows env/protocol.py, of which these four numbers are a part."""

    obs_dim, goal_dim, action_dim, max_episode_steps = 4, 2, 2, 40

    def __init__(self, length=0.5):
        self.length = length  # of each link, in m

    def reset(self, seed=None):
        """Starts an episode. With a seed, what is random begins anew from there."""
        self.rng = self.rng if seed is None else np.random.default_rng(seed)
        self.angles = self.pose()
        self.goal = self.tip(self.pose())  # where some pose has its tip: it can be reached
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        """Turns the joints by an action (2,) in [-1, 1]."""
        self.angles = self.angles + 0.2 * action
        self.steps += 1
        obs = self.observe()
        reward = self.compute_reward(obs["achieved_goal"], obs["desired_goal"], {})
        truncated = self.steps == self.max_episode_steps  # the time is over, and nothing else ends an episode
        return obs, reward, False, truncated, {"is_success": reward == 0}

    def compute_reward(self, achieved_goal, desired_goal, info):
        """Returns 0 at the goal and -1 elsewhere, for goals (2,) or (B, 2): hindsight asks about whole batches."""
        distance = np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        return np.where(distance < TOLERANCE, 0.0, -1.0)

    def observe(self):
        """Returns what the policy sees, what it has achieved, and what it is to achieve."""
        angles = np.concatenate([np.cos(self.angles), np.sin(self.angles)])  # without a jump after a full turn
        return {"observation": angles, "achieved_goal": self.tip(self.angles), "desired_goal": self.goal}

    def pose(self):
        """Draws angles of the joints, in rad: in front of the base, the elbow bent to one side."""
        return self.rng.uniform([-1.5, 0.5], [1.5, 2.5])

    def tip(self, angles):
        """Returns where the tip is, in m from the base. The second angle counts from the first link."""
        directions = np.cumsum(angles)
        return self.length * np.array([np.cos(directions).sum(), np.sin(directions).sum()])
