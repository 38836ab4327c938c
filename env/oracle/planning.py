"""Plans a scripted policy from a task's first state: the poses of a grasp, and of what comes before and after.

It needs no more than the agent observes. docs/physics.md tells where the numbers come from.
"""

import itertools
import math

import numpy as np

from env.oracle.kinematics import InverseKinematics
from env.oracle.script import Script, Waypoint
from env.so101.model import CUBE_HALF
from env.so101.simulation import CONTROL_STEP, MAX_TARGET_CHANGE
from env.so101.workspace import PAN_AXIS
from env.tasks.base import ArmTask
from env.tasks.cube import AIR_GOAL

CARRY_PHASE = "carry"
OPEN, SHUT = 0.22, -0.17
"""Gripper angles, rad. Open, its pads are 34 mm apart; told to shut, they squeeze with all their force."""
WIDEST = 1.3
"""Widest gripper angle, rad, to come in with."""
STEEPEST, FLATTEST = math.radians(60), math.radians(-10)
"""Slants of the fingers that are tried, rad below the horizontal."""
GRASP_HEIGHT = 0.011
"""m: a millimetre above a resting cube's centre, which keeps the fingers clear of the table."""
BACK_OFF = 0.035
"""Metres behind the cube, along the fingers, where the gripper begins to come in."""
ASIDE = 0.005
"""Metres that the fixed finger keeps from the cube while it comes in: a finger that meets the cube pushes it away."""
LIFT = 0.04
"""Metres by which the cube is lifted before it travels."""
ABOVE = 0.03
"""Metres above its place on the table from which the cube comes down."""
DROP = 0.002
"""Metres above the table at which the lowest edge of it is let go."""
COME_IN, RISE, CARRY, LOWER = 0.2, 0.3, 0.6, 0.2
"""Speeds of the grasp point, m/s."""
TURN = 3.0
"""Speed of the fastest joint, rad/s."""
LEAST_SECONDS = 0.18
"""Seconds that any movement near the cube takes at least: the servos are springs with little damping, and a quick stop
makes the arm bounce."""
REACH_STEPS = 16
PINCH_STEPS, PINCH_SPEED = 15, 0.015
"""Control steps in which the gripper closes while the arm centres it, and the jaw's speed, rad a control step. How
hard the jaw strikes is how deep it goes. A faster arm would knock the cube away with its fixed finger."""
SETTLE = 1
"""Control steps to wait before the cube is let go."""


class Unreachable(ValueError):
    """Says that the arm has no pose for something that the script needs."""


def plan(task: ArmTask, ik: InverseKinematics, opening: float = OPEN) -> Script:
    """Returns a script for the episode that `task` has just begun. Raises Unreachable.

    A grasp comes to the cube with its gripper at `opening` rad, from OPEN to WIDEST.
    """
    if not task.has_cube:
        return Script(plan_reach(ik, task.goal))
    return Script(plan_grasp(ik, task.sim.cube_position.copy(), task.goal, opening))


def plan_reach(ik: InverseKinematics, goal: np.ndarray) -> list[Waypoint]:
    """Brings the grasp point to `goal` (3,) m, in whatever orientation. Raises Unreachable."""
    ahead = _facing(goal, lift=0.0, elbow=0.0, wrist=0.0, roll=0.0)
    for lift, elbow in itertools.product((0.0, 0.6, -0.6), repeat=2):
        joints = ik.solve(goal, None, ahead + np.array([0, lift, elbow, 0, 0]))
        if joints is not None:
            return [Waypoint("reach", joints, 0.0)]
    raise Unreachable(f"no pose brings the grasp point to {place(goal)}")


def plan_grasp(ik: InverseKinematics, cube: np.ndarray, goal: np.ndarray, opening: float = OPEN) -> list[Waypoint]:
    """Pinches the cube that lies flat at `cube` (3,) m, and brings it to `goal` (3,) m. Raises Unreachable.

    On the table, the script lets go of it there.
    """
    slant, behind, beside, around = _approach(ik, cube)
    lifted = _pose(ik, np.append(cube[:2], GRASP_HEIGHT + LIFT), around, slant, "lift the cube at")
    waypoints = [
        Waypoint("reach", behind, opening, REACH_STEPS),
        Waypoint("come in", beside, opening, _duration(ik, behind, beside, COME_IN)),
    ]
    if opening > OPEN:  # the pinch is slow, and takes the gripper on from there
        waypoints.append(Waypoint("come in", beside, OPEN, math.ceil((opening - OPEN) / MAX_TARGET_CHANGE)))
    waypoints += [
        Waypoint("pinch", around, SHUT, PINCH_STEPS, PINCH_SPEED),
        Waypoint("lift", lifted, SHUT, _duration(ik, around, lifted, RISE)),
    ]
    if goal[2] > AIR_GOAL:
        there = _pose(ik, goal, lifted, slant, "carry the cube to")
        return [*waypoints, Waypoint(CARRY_PHASE, there, SHUT, _duration(ik, lifted, there, CARRY))]
    above = _pose(ik, goal + np.array([0, 0, ABOVE]), lifted, slant, "carry the cube above")
    drop = DROP + CUBE_HALF * math.sin(abs(ik.slant(above) - slant))  # a tilted cube's edge is lower than its face
    down = _pose(ik, goal + np.array([0, 0, drop]), above, ik.slant(above), "lower the cube to")
    return [
        *waypoints,
        Waypoint(CARRY_PHASE, above, SHUT, _duration(ik, lifted, above, CARRY)),
        Waypoint("lower", down, SHUT, _duration(ik, above, down, LOWER) + SETTLE),
        Waypoint("let go", down, OPEN),
    ]


def _approach(ik: InverseKinematics, cube: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the steepest slant that reaches the cube, and the poses (5,) behind it, beside it, and around it.

    It is steep because a slanted finger is nearer to the table with its whole length. It comes in along the fingers
    because a gripper that comes from above meets the cube's top. Raises Unreachable.
    """
    centre = np.append(cube[:2], GRASP_HEIGHT)
    for slant in np.arange(STEEPEST, FLATTEST, -math.radians(2)):
        around = ik.solve(centre, slant, _facing(cube))
        if around is None:
            continue
        _, axes = ik.forward(around)
        aside = centre - ASIDE * axes[:, 0]
        beside = ik.solve(aside, slant, around)
        behind = None if beside is None else ik.solve(aside + BACK_OFF * axes[:, 2], slant, beside)
        if behind is not None:
            return slant, behind, beside, around
    raise Unreachable(f"no slant of the gripper reaches the cube at {place(cube)}")


def _pose(ik: InverseKinematics, point: np.ndarray, start: np.ndarray, slant: float, purpose: str) -> np.ndarray:
    """Returns a pose (5,) that brings the grasp point to `point` (3,) m, near to `start` (5,) and to `slant`.

    A pose near to `start` is soon there. One near to the slant of the grasp leaves the cube as level as it was. A
    radian of the one counts as much as one of the other. Raises Unreachable.
    """
    found = []
    for other in (slant, *np.arange(FLATTEST, STEEPEST, math.radians(10))):
        joints = ik.solve(point, other, _facing(point))
        if joints is not None:
            found.append((np.abs(joints - start).max() + abs(other - slant), joints))
    if not found:
        raise Unreachable(f"no slant of the gripper can {purpose} {place(point)}")
    return min(found, key=lambda pair: pair[0])[1]


def _duration(ik: InverseKinematics, start: np.ndarray, end: np.ndarray, speed: float) -> int:
    """Returns the control steps from pose to pose (5,), no faster than `speed` m/s of the grasp point or TURN."""
    distance = math.dist(ik.forward(start)[0], ik.forward(end)[0])
    seconds = max(distance / speed, np.abs(end - start).max() / TURN, LEAST_SECONDS)
    return math.ceil(seconds / CONTROL_STEP)


def _facing(
    point: np.ndarray, lift: float = 0.3, elbow: float = 0.3, wrist: float = 0.2, roll: float = -math.pi / 2
) -> np.ndarray:
    """Returns a rough pose (5,) towards `point` to start the solver from.

    By default the gripper closes horizontally, its camera above.
    """
    pan = -math.atan2(point[1] - PAN_AXIS[1], point[0] - PAN_AXIS[0])
    return np.array([pan, lift, elbow, wrist, roll])


def place(point: np.ndarray) -> str:
    """Formats a point (3,) m for a line of text."""
    return f"({', '.join(f'{value:.3f}' for value in point)})"
