"""Moves servo targets along waypoints that were written by hand, through the agent's own actions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from env.so101.simulation import MAX_TARGET_CHANGE


@dataclass(frozen=True)
class Waypoint:
    """Says where the servos' targets go next, what for, and how fast.

    arm: (5,) rad. gripper: rad. steps: control steps to take from the waypoint before, at least. gripper_speed: rad a
    control step at most.
    """

    phase: str
    arm: np.ndarray
    gripper: float
    steps: int = 1
    gripper_speed: float = MAX_TARGET_CHANGE


class Script:
    """Follows waypoints, and holds the last.

    The arm's joints go in a straight line from one to the next, except that one which would be late hurries.
    """

    def __init__(self, waypoints: list[Waypoint]):
        self._coming: Iterator[Waypoint] = iter(waypoints)
        self._last = waypoints[-1]
        self._waypoint = next(self._coming)
        self._steps = 0

    @property
    def phase(self) -> str:
        return self._waypoint.phase

    def act(self, servo_target: np.ndarray) -> np.ndarray:
        """Returns the action (6,) in [-1, 1] to take where the servos' targets are at (6,) rad."""
        if self._arrived(servo_target) and (following := next(self._coming, None)):
            self._waypoint, self._steps = following, 0
        waypoint = self._waypoint
        done, self._steps = ease(self._steps / waypoint.steps), self._steps + 1
        share = (ease(self._steps / waypoint.steps) - done) / (1 - done) if done < 1 else 1.0
        to_go = waypoint.arm - servo_target[:5]
        late = np.abs(to_go) > MAX_TARGET_CHANGE * (waypoint.steps - self._steps)
        arm = np.clip(np.where(late, to_go, to_go * share), -MAX_TARGET_CHANGE, MAX_TARGET_CHANGE)
        speed = waypoint.gripper_speed
        gripper = np.clip(waypoint.gripper - servo_target[5], -speed, speed)
        return np.append(arm, gripper) / MAX_TARGET_CHANGE

    def rehearse(self, servo_target: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Returns what act would return, step by step, until the last waypoint is reached: phases, and actions (6,).

        It plays the script, which is of no use any more after that. servo_target: (6,) rad, where it begins.
        """
        target, steps = servo_target.copy(), []
        while not (self._waypoint is self._last and self._arrived(target)):
            action = self.act(target)
            steps.append((self.phase, action))
            target += MAX_TARGET_CHANGE * action
        return steps

    def _arrived(self, servo_target: np.ndarray) -> bool:
        there = np.abs(self._waypoint.arm - servo_target[:5]).max() < 1e-6
        return bool(there) and self._steps >= self._waypoint.steps


def ease(time: float) -> float:
    """Returns how much of a movement is done at `time` in [0, 1]: slow at both ends, so that the arm won't overshoot.

    Source: Flash & Hogan 1985, "The coordination of arm movements: an experimentally confirmed mathematical model"
    (minimum jerk).
    """
    time = min(time, 1.0)
    return time**3 * (10 - 15 * time + 6 * time**2)
