"""Carries a 2 cm cube from one side of the arm's reach to the other: pick-place, the reference task."""

from typing import Any

import numpy as np

from env.so101.model import CUBE_HALF, ArmModel
from env.so101.workspace import Sector
from env.tasks.base import Reward, TaskConfig
from env.tasks.cube import REACHED, CubeTask
from env.tasks.push import TABLE_ANGLE, TABLE_RADIUS
from env.tasks.rewards import goal_distance

FIXED_GOAL = np.array([0.40, 0.10, 0.04])
"""The reference task's target, m."""
AIR_HEIGHT = (0.03, 0.15)
NEAR = 0.12
"""Metres from the cube within which the mixture's near goals lie on the table."""
MIX = {"fixed": 0.30, "near": 0.20, "air": 0.50}
"""Shares of the training goals. The near ones are what a first push can reach: without them no real goal is ever met,
and nothing but the potential tells the policy what the cube is for."""


class PickPlace(CubeTask):
    """Asks for the cube held within 3 cm of the goal (CubeTask). Observation: CubeTask.fields.

    The cube starts 20 cm from the reference target and 37–41 cm from the pan axis, close to where the arm's reach ends.
    """

    goal_kinds = ("fixed", "table", "air", "mix")
    goal_sector = Sector(TABLE_RADIUS, TABLE_ANGLE, height=(CUBE_HALF, AIR_HEIGHT[1]))
    threshold = 0.03
    stages = ("reached", "touched", "pinched", "lifted", "carried", "placed")

    def __init__(self, model: ArmModel, config: TaskConfig, reward: Reward):
        super().__init__(model, config, reward)
        self._goal_in_air = False
        """Whether the mixture chose a goal in the air for this episode."""
        self._missed: np.ndarray | None = None
        """The last such goal, where it was missed, until the next one is drawn."""

    def reset(self, seed: int | None = None):
        if seed is not None:
            self._goal_in_air, self._missed = False, None
        return super().reset(seed)

    def _count_step(self, kept, success):
        ended = super()._count_step(kept, success)
        if ended and self._goal_in_air and not success:
            self._missed = self.goal.copy()
        return ended

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"goal_in_air": self._goal_in_air, "missed": self._missed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._goal_in_air = state["goal_in_air"]
        self._missed = None if state["missed"] is None else state["missed"].copy()

    def _stages(self, scene, after, goal, success):
        contacts, lifted = after.contacts, after.lifted
        over_goal = goal_distance(scene.cube_position[:, :2], goal[:, :2]) <= self.threshold
        reached = after.to_grasp_point <= REACHED
        return reached, contacts.touched, contacts.pinched, lifted, lifted & over_goal, success

    def _draw_goal(self, cube):
        kind = self.goal_kind
        if kind == "mix":
            kind = self.rng.choice(list(MIX), p=list(MIX.values()))
            self._goal_in_air = kind == "air"
            if self._goal_in_air:
                # Forgotten whether it is tried again or not: a goal that cannot be met would come back for ever.
                missed, self._missed = self._missed, None
                again = missed is not None and self.rng.random() < self.config.retry_missed
                if again and self._is_away_from(cube, missed):
                    return missed
        if kind == "fixed":
            return FIXED_GOAL.copy()
        sector = Sector(TABLE_RADIUS, TABLE_ANGLE, AIR_HEIGHT if kind == "air" else (CUBE_HALF, CUBE_HALF))
        while True:
            goal = self._draw_away_from(cube, lambda: sector.draw(self.rng))
            if kind != "near" or goal_distance(goal, cube) <= NEAR:
                return goal
