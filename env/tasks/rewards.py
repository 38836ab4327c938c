"""Computes reward terms, vectorised over leading batch axes. The same functions serve step and relabelling.

Lengths are in m.
"""

from collections.abc import Mapping

import numpy as np

FAR = 1.0
"""Metres from which the reach potential is level: farther than the arm can be from anything that it reaches."""
Info = Mapping[str, np.ndarray]
"""What a transition holds beyond its goals, arrays (…) with the batch's leading axes."""


REACH_SCALE = 0.05
"""Metres within which the reach potential gets steep."""
REACH, GRASP, LIFT, HEIGHT, PLACE, SUCCESS, LOST = 1.0, 1.0, 2.0, 10.0, 2.0, 10.0, 1.0
"""Weights of the staged reward, the reference project's. Reach and place are per metre as penalties, height per metre,
the others while their stage lasts."""


def goal_distance(achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
    """Returns the Euclidean distance of goals, (…, 3) and (…, 3) to (…)."""
    return np.sqrt(np.square(achieved - desired).sum(-1))  # np.linalg.norm takes half as long again for one row


def sparse(success: np.ndarray) -> np.ndarray:
    """Returns 0 where the goal is met and -1 elsewhere, (…) to (…)."""
    return success - np.float32(1)


def reach_potential(distance: np.ndarray, weight: float) -> np.ndarray:
    """Returns Phi = -weight log(1 + distance / REACH_SCALE), (…) m to (…).

    The gain of coming nearer, weight / (REACH_SCALE + distance), is large where the last centimetres count, and never
    fades to nothing far away. Beyond FAR it stays what it is there: so its range is known, and what it can add to a
    return bounds the critics' target.
    """
    return -weight * np.log1p(np.minimum(distance, FAR) / REACH_SCALE)


def opening_potential(clear: np.ndarray, enough: float, weight: float) -> np.ndarray:
    """Returns Phi = -weight max(0, 1 - clear / enough) of grippers that have `clear` (…) m between their pads."""
    return -weight * np.maximum(0.0, 1 - clear / enough)


def progress(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns Phi(s') - Phi(s), for potentials Phi(s) `before` and Phi(s') `after`, all (…).

    gamma Phi(s') - Phi(s) would leave the optimal policy as it is (Ng, Harada & Russell 1999, "Policy invariance under
    reward transformations", theorem 1), and every advantage with it: it guides only until the critic has learnt it, as
    if Q had begun at Phi (Wiewiora 2003, "Potential-based shaping and Q-value initialization are equivalent"). This
    keeps (1 - gamma) Phi(s') of each step, the cost of standing where the potential is low.
    """
    return after - before


def staged(
    reach_distance: np.ndarray,
    grasped: np.ndarray,
    height: np.ndarray,
    paid_height: np.ndarray,
    goal_distance: np.ndarray,
    success: np.ndarray,
    lost: np.ndarray,
    lift_height: float,
) -> dict[str, np.ndarray]:
    """Returns the five stages of the reference project, each term by name. Every argument and term is (…).

    grasped, success and lost are 0 or 1. height is the cube's above its rest, and paid_height as much of it as is paid
    for. A cube counts as lifted when it is pinched by both jaws `lift_height` above its rest: thrown up, or pushed up
    by one jaw, it is not.
    """
    lifted = grasped * (height > lift_height)
    return {
        "reach": -REACH * reach_distance,
        "grasp": GRASP * grasped,
        "lift": lifted * (LIFT + HEIGHT * paid_height),
        "place": -PLACE * goal_distance * lifted,
        "success": SUCCESS * success,
        "lost": -LOST * lost,
    }
