"""What the stored episodes tell about the goals that hindsight can teach."""

import numpy as np


def goal_displacement(achieved_goals: np.ndarray) -> float:
    """The farthest that an episode's achieved goal got from where it started, in the goal's unit. (T + 1, G) to ().

    Where it is 0, every goal that hindsight could pick is the one that holds from the start: there is nothing to learn.
    """
    return float(np.linalg.norm(achieved_goals - achieved_goals[0], axis=-1).max())
