"""What the tasks with a cube share: its place in the observation, when a goal is met, the rewards and the stages."""

import math
from abc import abstractmethod
from typing import NamedTuple

import numpy as np

from env import rewards
from env.contacts import CLEARANCE, CubeContacts, Hold
from env.model import CUBE_HALF
from env.task import ARM_FIELDS, ArmTask, ObservationField
from env.workspace import PAN_AXIS

SPAWN = np.array([0.40, -0.10, CUBE_HALF])
SPAWN_SPREAD = 0.03
"""The cube starts anywhere in SPAWN ± SPAWN_SPREAD in x and y, m."""
AIR_GOAL = CUBE_HALF + CLEARANCE
"""A goal higher than this, m, lies in the air: a cube on the table does not meet it, however near it comes, and one in
the air meets no goal on the table."""
REACHED = 0.03
"""Metres between grasp point and cube from which the gripper counts as being there."""
LIFT_HEIGHT = 0.02
"""Metres above its rest from which a pinched cube counts as lifted."""
LOST_RADIUS = 0.45
"""Metres from the pan axis beyond which the arm cannot follow the cube."""


class CubeState(NamedTuple):
    """What a step's reward, stages and curves are judged by, beyond the goals."""

    contacts: CubeContacts
    hold: Hold
    height: float
    """Of the cube above its rest, m."""
    to_grasp_point: float
    """m."""
    lost: bool
    """Out of the arm's reach or off the table."""

    @property
    def lifted(self) -> bool:
        return self.contacts.pinched and self.height > LIFT_HEIGHT


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

    def _examine(self) -> CubeState:
        sim = self.sim
        contacts = sim.cube_contacts()
        x, y, z = cube = sim.cube_position.tolist()
        return CubeState(
            contacts=contacts,
            hold=sim.cube_hold(contacts),
            height=z - CUBE_HALF,
            to_grasp_point=math.dist(sim.grasp_point.tolist(), cube),
            lost=math.hypot(x - PAN_AXIS[0], y - PAN_AXIS[1]) > LOST_RADIUS or z < 0,
        )

    def _met(self, distance, desired, info):
        """Near the goal and held there: on the table lying still or pinched, in the air pinched clear of the table."""
        in_air = desired[..., 2] > AIR_GOAL
        return (distance <= self.threshold) & (info["cube_hold"] == Hold.TABLE + in_air)

    def _before_step(self):
        return self._potential() if self.reward == "sparse-reach" else 0.0

    def _potential(self) -> float:
        """Of the two fingers' mean distance from the cube. Fingers that hold it are closest, so the reach potential
        pays for closing them around the cube, and not for standing next to it."""
        fixed, moving = self.sim.pad_positions
        cube = self.sim.cube_position.tolist()
        distance = 0.5 * (math.dist(fixed.tolist(), cube) + math.dist(moving.tolist(), cube))
        return rewards.reach_potential(distance, self.config.reach_weight, self.config.reach_scale)

    def _reward_info(self, before, after):
        info = {"cube_hold": np.array(after.hold, np.float32)}
        if self.reward == "sparse-reach":
            info["potentials"] = np.array((before, self._potential()), np.float32)
        elif self.reward == "staged":
            info |= {
                "reach_distance": np.array(after.to_grasp_point, np.float32),
                "pinched": np.array(after.contacts.pinched, np.float32),
                "cube_height": np.array(after.height, np.float32),
                "cube_lost": np.array(after.lost, np.float32),
            }
        return info

    def _metrics(self, after):
        return {"cube_lost": float(after.lost), "penetration_mm_max": 1e3 * after.contacts.overlap}

    def _terms(self, distance, success, desired, info):
        if self.reward == "staged":
            return self._staged_terms(distance, success, info)
        terms = {"sparse": rewards.sparse(success)}
        if self.reward == "sparse-reach":
            potentials = info["potentials"]
            terms["shaping"] = self._shaping(potentials[..., 0], potentials[..., 1], success)
        return terms

    def _staged_terms(self, distance: np.ndarray, success: np.ndarray, info: rewards.Info) -> dict[str, np.ndarray]:
        return rewards.staged(
            info["reach_distance"],
            info["pinched"],
            info["cube_height"],
            distance,
            success,
            info["cube_lost"],
            LIFT_HEIGHT,
            self.config.staged,
        )
