"""Brings the cube to a random point of the table: push."""

from env.so101.contacts import RESTING_SPEED, corner_speed
from env.so101.model import CUBE_HALF
from env.so101.workspace import Sector
from env.tasks import rewards
from env.tasks.cube import REACHED, CubeTask

TABLE_RADIUS, TABLE_ANGLE = (0.25, 0.40), 0.6
"""Where on the table goals lie: metres and ± radians about the pan axis; the spawn area is part of it."""


class Push(CubeTask):
    """Asks for the cube held within 3 cm of a point on the table (CubeTask). Observation: CubeTask.fields."""

    goal_kinds = ("table",)
    goal_sector = Sector(TABLE_RADIUS, TABLE_ANGLE, height=(CUBE_HALF, CUBE_HALF))
    threshold = 0.03
    stages = ("reached", "touched", "moved", "placed")

    def _draw_goal(self, cube):
        return self._draw_away_from(cube, lambda: self.goal_sector.draw(self.rng))

    def _stages(self, scene, after, goal, success):
        touched = after.contacts.touched
        moved = touched & (corner_speed(scene.cube_velocity) > RESTING_SPEED)
        return after.to_grasp_point <= REACHED, touched, moved, success

    def _staged_terms(self, distance, success, desired, info):
        # Here nothing is paid for a grasp and a lift: the cube's way to the target counts from the start.
        return {
            "reach": -rewards.REACH * info["reach_distance"],
            "place": -rewards.PLACE * distance,
            "success": rewards.SUCCESS * success,
            "lost": -rewards.LOST * info["cube_lost"],
        }
