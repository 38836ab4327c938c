"""Measures how well a cube is held: the overlap and the slip of a grasp, for any policy."""

import math
from typing import Any

import numpy as np

from env.so101.contacts import Hold, arm_overlap
from env.so101.simulation import Simulation
from env.tasks.cube import CubeTask


class GraspWatch:
    """Wraps a task with a cube: info["metrics"] also tell how the grasp holds that meets a goal in the air.

    held_overlap_mm_max: how deep arm and cube enter each other at any physics step (2 ms) while the goal is met in the
    grip, mm. slip_mm_max: how far the cube's centre has moved in the gripper's frame since the goal was first met
    without a break since, mm. Both are missing where the cube is not held at its goal. Looking at each physics step
    takes time: it is for evaluations.
    """

    def __init__(self, task: CubeTask):
        self.task = task
        self._overlap = 0.0
        """Deepest overlap of the current control step, m."""
        self._caught: np.ndarray | None = None
        """Place of the cube in the gripper, (3,) m, when it came to be held at its goal. None while it is not."""
        task.sim.after_physics_step = self._look

    def reset(self, seed: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self._caught = None
        return self.task.reset(seed)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self._overlap = 0.0
        *result, info = self.task.step(action)
        held = info["is_success"] and info["cube_hold"] == Hold.GRIP
        now = cube_in_gripper(self.task.sim)
        if held and self._caught is not None:
            slip = math.dist(now, self._caught)
            info["metrics"] |= {"held_overlap_mm_max": 1e3 * self._overlap, "slip_mm_max": 1e3 * slip}
        elif held:
            self._caught = now
        else:
            self._caught = None
        return *result, info

    def _look(self) -> None:
        sim = self.task.sim
        self._overlap = max(self._overlap, arm_overlap(sim.model, sim.data))


def cube_in_gripper(sim: Simulation) -> np.ndarray:
    """Returns the cube's centre from the grasp point, (3,) m along the gripper's axes."""
    return sim.gripper_axes.T @ (sim.cube_position - sim.grasp_point)
