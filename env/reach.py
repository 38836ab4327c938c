"""Reach: bring the grasp point, between the fingertips, to a random point of the workspace."""

import numpy as np

from env import rewards
from env.task import ARM_FIELDS, ArmTask
from env.workspace import polar_point


class Reach(ArmTask):
    """Success within 2 cm. The scene has no cube; observation: ARM_FIELDS."""

    has_cube = False
    fields = ARM_FIELDS
    goal_kinds = ("air",)
    training_goal = "air"
    episode_steps = 50
    threshold = 0.02

    def _reset_scene(self) -> None:
        self.sim.reset()
        self.goal = self._draw_away_from(
            self.sim.grasp_point, lambda: polar_point(self.rng, radius=(0.16, 0.34), angle=1.0, height=(0.05, 0.30))
        )

    def _achieved_goal(self) -> np.ndarray:
        return self.sim.grasp_point.copy()

    def _measure(self):
        return self._measure_arm()

    def _before_step(self):
        return self.sim.grasp_point.astype(np.float32)

    def _reward_info(self, before):
        return {"grasp_point_before": before} if self.reward == "sparse-reach" else {}

    def reward_terms(self, achieved, desired, info):
        distance = rewards.goal_distance(achieved, desired)
        if self.reward == "staged":
            # Nothing to grasp or lift: of the five stages, the first and the last are left.
            weights = self.config.staged
            return {
                "reach": -weights.reach * distance,
                "success": weights.success * (distance <= self.threshold),
            }
        terms = {"sparse": rewards.sparse(distance, self.threshold)}
        if self.reward == "sparse-reach":
            before = rewards.goal_distance(info["grasp_point_before"], desired)
            terms["shaping"] = self._shaping(before, distance, self.compute_terminated(achieved, desired, info))
        return terms
