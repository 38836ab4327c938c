"""Brings the grasp point, between the fingertips, to a random point of the workspace: reach."""

import numpy as np

from env.so101.workspace import Sector
from env.tasks import rewards
from env.tasks.base import ARM_FIELDS, ArmTask
from env.tasks.rewards import goal_distance

APPROACHED = 0.05
"""Metres from the goal that count as on the way to it."""


class Reach(ArmTask):
    """Asks for the grasp point within 2 cm of the goal, in a scene without a cube. Observation: ARM_FIELDS."""

    has_cube = False
    fields = ARM_FIELDS
    goal_kinds = ("air",)
    goal_sector = Sector(radius=(0.16, 0.34), angle=1.0, height=(0.05, 0.30))
    threshold = 0.02
    stages = ("approached", "reached")

    def _reset_scene(self) -> None:
        self.sim.reset()
        self.goal = self._draw_away_from(self.sim.grasp_point, lambda: self.goal_sector.draw(self.rng))

    def _achieved_goal(self, scene):
        return scene.grasp_point

    def _measure(self, scene):
        return self._measure_arm(scene)

    def _examine(self, scene) -> np.ndarray:
        return scene.grasp_point.astype(np.float32)

    def _to_keep(self, after):
        return after

    def _reward_info(self, before, after):
        return {"grasp_point_before": before} if self.reward == "sparse-reach" else {}

    def _met(self, distance, desired, info):
        return distance <= self.threshold

    def _stages(self, scene, after, goal, success):
        return goal_distance(scene.grasp_point, goal) <= APPROACHED, success

    def _potential_before(self, desired, info):
        return rewards.reach_potential(goal_distance(info["grasp_point_before"], desired), self.config.potential[0])

    def _terms(self, distance, success, desired, info):
        if self.reward.startswith("staged"):
            # Nothing to grasp or lift: of the five stages, the first and the last are left.
            return {"reach": -rewards.REACH * distance, "success": rewards.SUCCESS * success}
        terms = {"sparse": rewards.sparse(success)}
        if self.reward == "sparse-reach":
            before = goal_distance(info["grasp_point_before"], desired)
            phi, next_phi = (rewards.reach_potential(d, self.config.potential[0]) for d in (before, distance))
            terms["progress"] = rewards.progress(phi, next_phi)
        return terms
