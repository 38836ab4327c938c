"""Reward terms, vectorised over leading batch axes; lengths in m. The same functions serve step and relabelling."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FAR = 1.0
"""Metres from which the reach potential is level: farther than the arm can be from anything that it reaches."""
Info = Mapping[str, np.ndarray]
"""What a transition holds beyond its goals, arrays (…) with the batch's leading axes."""


@dataclass(frozen=True)
class StagedConfig:
    """Weights of the staged reward: each term's worth in one control step."""

    reach: float = 1.0
    """Per metre between grasp point and cube, as a penalty."""
    grasp: float = 1.0
    """While both pads pinch the cube."""
    lift: float = 2.0
    """While the cube is pinched and 2 cm above its rest."""
    height: float = 10.0
    """Per metre that a lifted cube is above where it rests."""
    height_up_to_goal: bool = True
    """Pay for no more height than the goal has. Without, as in the reference: what pays best of all that is easily
    found is then to hold the cube as high as the arm gets (docs/experiments.md)."""
    place: float = 2.0
    """Per metre between cube and target, as a penalty, while the cube is lifted."""
    success: float = 10.0
    """While the goal is met."""
    lost: float = 1.0
    """Penalty while the cube is out of the arm's reach or off the table."""


def goal_distance(achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
    """Euclidean distance of goals, (…, 3) and (…, 3) to (…)."""
    return np.sqrt(np.square(achieved - desired).sum(-1))  # np.linalg.norm takes half as long again for one row


def sparse(success: np.ndarray) -> np.ndarray:
    """0 where the goal is met, -1 elsewhere, (…) to (…)."""
    return success - np.float32(1)


def reach_potential(distance: np.ndarray, weight: float, scale: float) -> np.ndarray:
    """Phi = -weight log(1 + distance / scale), (…) m to (…).

    The gain of coming nearer, weight / (scale + distance), is large where the last centimetres count, and never fades
    to nothing far away. Beyond FAR it stays what it is there: so its range is known, and what it can add to a return
    bounds the critics' target.
    """
    return -weight * np.log1p(np.minimum(distance, FAR) / scale)


def opening_potential(clear: float, enough: float, weight: float) -> float:
    """Phi = -weight max(0, 1 - clear / enough): how far a gripper is from being open, `clear` m between its pads."""
    return -weight * max(0.0, 1 - clear / enough)


def progress(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Phi(s') - Phi(s), for potentials Phi(s) `before` and Phi(s') `after`, all (…).

    gamma Phi(s') - Phi(s) would leave the optimal policy as it is (Ng, Harada & Russell 1999, "Policy invariance under
    reward transformations", theorem 1), and every advantage with it: it guides only until the critic has learnt it, as
    if Q had begun at -Phi (Wiewiora 2003, "Potential-based shaping and Q-value initialization are equivalent"). This
    keeps (1 - gamma) Phi(s') of each step, the cost of standing where the potential is low.
    """
    return after - before


def staged(
    reach_distance: np.ndarray,
    grasped: np.ndarray,
    height: np.ndarray,
    goal_height: np.ndarray,
    goal_distance: np.ndarray,
    success: np.ndarray,
    lost: np.ndarray,
    lift_height: float,
    weights: StagedConfig,
) -> dict[str, np.ndarray]:
    """The five stages of the reference project, each term by name; every argument and term (…).

    grasped, success, lost are 0 or 1; height and goal_height are the cube's and its goal's above its rest. A cube
    counts as lifted when it is pinched by both jaws `lift_height` above its rest: thrown up, or pushed up by one jaw,
    it is not.
    """
    lifted = grasped * (height > lift_height)
    paid_height = np.minimum(height, goal_height) if weights.height_up_to_goal else height
    return {
        "reach": -weights.reach * reach_distance,
        "grasp": weights.grasp * grasped,
        "lift": lifted * (weights.lift + weights.height * paid_height),
        "place": -weights.place * goal_distance * lifted,
        "success": weights.success * success,
        "lost": -weights.lost * lost,
    }
