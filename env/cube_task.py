"""What the tasks with a cube share: its place in the observation, the rewards, and what is worth a curve."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np

from env import rewards
from env.model import CUBE_HALF
from env.task import ARM_FIELDS, ArmTask, ObservationField
from env.workspace import PAN_AXIS

SPAWN = np.array([0.40, -0.10, CUBE_HALF])
SPAWN_SPREAD = 0.03
"""The cube starts anywhere in SPAWN ± SPAWN_SPREAD in x and y, m."""
LIFT_HEIGHT = 0.02
"""Metres above its rest from which a pinched cube counts as lifted."""
LOST_RADIUS = 0.45
"""Metres from the pan axis beyond which the arm cannot follow the cube."""


class CubeTask(ArmTask):
    """The cube's centre is to get to the goal."""

    has_cube = True
    fields = (
        *ARM_FIELDS,
        ObservationField("cube minus grasp point", 3, "m", 10.0),
        ObservationField("cube position", 3, "m", 5.0),
        ObservationField("cube's x axis", 3, "1", 1.0),
        ObservationField("cube's y axis", 3, "1", 1.0),
        ObservationField("cube's linear velocity", 3, "m/s", 2.0),
        ObservationField("cube's angular velocity (in its own frame)", 3, "rad/s", 0.1),
    )

    def _reset_scene(self) -> None:
        spread = SPAWN_SPREAD * self.rng.uniform(-1, 1, 2)
        cube = SPAWN + np.array([*spread, 0.0])
        self.sim.reset(cube)
        self.goal = self._draw_goal(cube)

    @abstractmethod
    def _draw_goal(self, cube: np.ndarray) -> np.ndarray:
        """A goal (3,) for an episode in which the cube starts at `cube` (3,)."""

    def _achieved_goal(self) -> np.ndarray:
        return self.sim.cube_position.copy()

    def _measure(self):
        sim = self.sim
        return (
            *self._measure_arm(),
            sim.cube_position - sim.grasp_point,
            sim.cube_position,
            sim.cube_axes[:, 0],
            sim.cube_axes[:, 1],
            sim.cube_velocity,
        )

    def _cube_height(self) -> float:
        return float(self.sim.cube_position[2]) - CUBE_HALF

    def _cube_lost(self) -> bool:
        x, y, z = self.sim.cube_position
        return math.hypot(x - PAN_AXIS[0], y - PAN_AXIS[1]) > LOST_RADIUS or z < 0

    def _before_step(self):
        return self._finger_distance()

    def _finger_distance(self) -> float:
        """How far the two fingers' pads are from the cube, on average. Fingers that hold it are closest, so the reach
        potential pays for closing them around the cube, and not for standing next to it."""
        fixed, moving = self.sim.pad_positions
        cube = self.sim.cube_position
        return 0.5 * (math.dist(fixed, cube) + math.dist(moving, cube))

    def _reward_info(self, before):
        if self.reward == "sparse":
            return {}
        if self.reward == "sparse-reach":
            return {"reach_distances": np.array([before, self._finger_distance()], np.float32)}
        return {
            "reach_distance": np.array(math.dist(self.sim.grasp_point, self.sim.cube_position), np.float32),
            "grasped": np.array(all(self.sim.pads_touching_cube()), np.float32),
            "cube_height": np.array(self._cube_height(), np.float32),
            "cube_lost": np.array(self._cube_lost(), np.float32),
        }

    def _metrics(self):
        touching = self.sim.pads_touching_cube()
        pinched = all(touching)
        return {
            "touched": float(any(touching)),
            "pinched": float(pinched),
            "lifted": float(pinched and self._cube_height() > LIFT_HEIGHT),
            "cube_lost": float(self._cube_lost()),
        }

    def reward_terms(self, achieved, desired, info):
        distance = rewards.goal_distance(achieved, desired)
        if self.reward == "staged":
            return self._staged_terms(distance, info)
        terms = {"sparse": rewards.sparse(distance, self.threshold)}
        if self.reward == "sparse-reach":
            before, after = info["reach_distances"].T
            terms["shaping"] = self._shaping(before, after, self.compute_terminated(achieved, desired, info))
        return terms

    def _staged_terms(self, distance: np.ndarray, info: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return rewards.staged(
            info["reach_distance"],
            info["grasped"],
            info["cube_height"],
            distance,
            distance <= self.threshold,
            info["cube_lost"],
            LIFT_HEIGHT,
            self.config.staged,
        )
