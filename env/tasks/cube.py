"""Says what the tasks with a cube share: its place in the observation, when a goal is met, the rewards."""

from abc import abstractmethod
from typing import NamedTuple

import numpy as np

from env.so101.contacts import CLEARANCE, CubeContacts, Hold
from env.so101.model import CUBE_HALF
from env.so101.simulation import Scene
from env.so101.workspace import PAN_AXIS
from env.tasks import rewards
from env.tasks.base import ARM_FIELDS, ArmTask, ObservationField
from env.tasks.rewards import goal_distance

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
PINCHING = np.array([[-0.0125, 0.0, 0.0], [0.0125, 0.0, 0.0]])
"""Where the centres of the fixed and the moving pad are from the centre of a cube that they pinch, m in the gripper's
frame, whose x axis is the direction in which it closes: half a cube and half a pad away."""
PAD_THICKNESS = 0.005
"""m."""
OPEN_ENOUGH = 0.03
"""Metres between the pads: the cube, and 5 mm on either side of it."""
PAD_OFFSET_SCALE = 0.02
"""Metres. Millimetres decide a grasp, which networks would not see on the scale of a table."""
LOST_RADIUS = 0.45
"""Metres from the pan axis beyond which the arm cannot follow the cube."""


class CubeState(NamedTuple):
    """Holds what a step's rewards, stages and curves are judged by, beyond the goals, (N,) each."""

    contacts: CubeContacts
    hold: np.ndarray
    """A Hold, int."""
    height: np.ndarray
    """Of the cube above its rest, m."""
    to_grasp_point: np.ndarray
    """m."""
    potential: np.ndarray
    """What the progress term of sparse-reach compares."""
    lost: np.ndarray
    """Out of the arm's reach or off the table."""

    @property
    def lifted(self) -> np.ndarray:
        return self.contacts.pinched & (self.height > LIFT_HEIGHT)


class CubeTask(ArmTask):
    """Asks for the cube's centre at the goal."""

    has_cube = True
    fields = (
        *ARM_FIELDS,
        ObservationField("cube minus grasp point", 3, "m", 10.0),
        ObservationField("tanh of fixed pad from its side of the cube, gripper's frame, per 2 cm", 3, "1", 1.0, False),
        ObservationField("tanh of moving pad from its side of the cube, gripper's frame, per 2 cm", 3, "1", 1.0, False),
        ObservationField("cube position", 3, "m", 5.0),
        ObservationField("cube's x axis", 3, "1", 1.0, in_reference=False),
        ObservationField("cube's y axis", 3, "1", 1.0, in_reference=False),
        ObservationField("cube's linear velocity", 3, "m/s", 2.0, in_reference=False),
        ObservationField("cube's angular velocity (in its own frame)", 3, "rad/s", 0.1, in_reference=False),
    )

    def _reset_scene(self) -> None:
        spread = SPAWN_SPREAD * self.rng.uniform(-1, 1, 2)
        cube = SPAWN + np.array([*spread, 0.0])
        self.sim.reset(cube)
        self.goal = self._draw_goal(cube)

    @abstractmethod
    def _draw_goal(self, cube: np.ndarray) -> np.ndarray:
        """Draws a goal (3,) for an episode in which the cube starts at `cube` (3,)."""

    def _achieved_goal(self, scene):
        return scene.cube_position

    def _measure(self, scene):
        pad_offsets = np.tanh(self._pad_offsets(scene) / PAD_OFFSET_SCALE)
        return (
            *self._measure_arm(scene),
            scene.cube_position - scene.grasp_point,
            pad_offsets[:, 0],
            pad_offsets[:, 1],
            scene.cube_position,
            scene.cube_axes[:, :, 0],
            scene.cube_axes[:, :, 1],
            scene.cube_velocity[:, :3],
            scene.cube_velocity[:, 3:],
        )

    def _examine(self, scene) -> CubeState:
        height = scene.cube_position[:, 2]
        from_pan_axis = goal_distance(scene.cube_position[:, :2], PAN_AXIS)
        return CubeState(
            contacts=scene.contacts,
            hold=scene.cube_hold,
            height=height - CUBE_HALF,
            to_grasp_point=goal_distance(scene.grasp_point, scene.cube_position),
            potential=self._potential(scene) if self.reward == "sparse-reach" else np.zeros_like(height),
            lost=(from_pan_axis > LOST_RADIUS) | (height < 0),
        )

    def _to_keep(self, after):
        return after.potential

    def _met(self, distance, desired, info):
        """Asks for the cube near the goal and held: on the table lying still or pinched, in the air pinched clear."""
        in_air = desired[..., 2] > AIR_GOAL
        return (distance <= self.threshold) & (info["cube_hold"] == Hold.TABLE + in_air)

    def _pad_offsets(self, scene: Scene) -> np.ndarray:
        """Returns where the centres of the fixed and the moving pad are from where they pinch the cube, each on its own
        side of it along the direction in which the gripper closes; (N, 2, 3) m in the gripper's frame."""
        return (scene.pad_positions - scene.cube_position[:, None]) @ scene.gripper_axes - PINCHING

    def _potential(self, scene: Scene) -> np.ndarray:
        """Adds up the potentials of the fingers' distance from the cube, of being open for it, of pinching it, (N,).

        Per finger, what counts is how far each pad is from its own side of the cube, axis by axis, on average: then
        fingers that are shut next to the cube are worse than open ones around it. Being open counts from afar, too: a
        policy that has first learnt to carry has learnt to shut its fingers, and comes to the cube with a fist.
        """
        config = self.config
        if config.reach_per_finger:
            distance = np.abs(self._pad_offsets(scene)).reshape(-1, 6).sum(1) / 2
        else:
            distance = goal_distance(scene.grasp_point, scene.cube_position)
        near, pinch, opening = config.potential
        fixed, moving = scene.pad_positions[:, 0], scene.pad_positions[:, 1]
        open_for_it = rewards.opening_potential(goal_distance(fixed, moving) - PAD_THICKNESS, OPEN_ENOUGH, opening)
        return rewards.reach_potential(distance, near) + np.where(scene.contacts.pinched, 0.0, open_for_it - pinch)

    def _reward_info(self, before, after):
        info = {"cube_hold": after.hold.astype(np.float32)}
        if self.reward == "sparse-reach":
            info["potentials"] = np.stack((before, after.potential), axis=-1).astype(np.float32)
        elif self.reward.startswith("staged"):
            info |= {
                "reach_distance": after.to_grasp_point.astype(np.float32),
                "pinched": after.contacts.pinched.astype(np.float32),
                "cube_height": after.height.astype(np.float32),
                "cube_lost": after.lost.astype(np.float32),
            }
        return info

    def _lowest_potential(self):
        _, pinch, opening = self.config.potential
        return super()._lowest_potential() - opening - pinch

    def _metrics(self, after):
        return {"cube_lost": after.lost, "penetration_mm_max": 1e3 * after.contacts.overlap}

    def _terms(self, distance, success, desired, info):
        if self.reward.startswith("staged"):
            return self._staged_terms(distance, success, desired, info)
        terms = {"sparse": rewards.sparse(success)}
        if self.reward == "sparse-reach":
            potentials = info["potentials"]
            terms["progress"] = rewards.progress(potentials[..., 0], potentials[..., 1])
        return terms

    def _staged_terms(
        self, distance: np.ndarray, success: np.ndarray, desired: np.ndarray, info: rewards.Info
    ) -> dict[str, np.ndarray]:
        height = info["cube_height"]
        # Paid without end, as in the reference, height pays best where the arm holds the cube as high as it gets.
        paid = height if self.reward == "staged-reference" else np.minimum(height, desired[..., 2] - CUBE_HALF)
        return rewards.staged(
            info["reach_distance"], info["pinched"], height, paid, distance, success, info["cube_lost"], LIFT_HEIGHT
        )
