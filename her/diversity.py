"""Statistics of the stored episodes that tell which goals hindsight can teach."""

import math
from typing import NamedTuple

import numpy as np

from her.buffer import ReplayBuffer
from her.relabel import (
    GoalFunction,
    HERConfig,
    achieved_goal_is_success,
    hindsight_rows,
    met_at_episode_start,
    stored_info,
)


class GoalHealth(NamedTuple):
    """Holds statistics of a sample of stored transitions and of the hindsight goals that could be theirs.

    A share is nan where the environment has no is_success.
    """

    trivial: float
    """Share of hindsight goals that held at their episode's start already: doing nothing meets them."""
    unmet: float
    """Share of hindsight goals that the state they come from does not meet (a cube in flight, where it is to lie)."""
    cells: int
    """In how many cells of the goal space the sampled achieved goals lie."""
    success_real: float
    """Share of transitions that meet the goal they were made for."""
    success_hindsight: float
    """Share of transitions that meet their hindsight goal."""
    distance_real: float
    """Mean distance from the achieved to the desired goal, in the goal's unit."""
    distance_hindsight: float
    """Mean distance from the achieved to the hindsight goal."""
    reward_variety: float
    """Share of transitions whose stored reward is not the commonest: 0 where nothing is told from anything."""


def goal_displacement(achieved_goals: np.ndarray) -> float:
    """Returns how far an episode's achieved goals (T + 1, G) got from the first, at most, in the goal's unit.

    Where it is 0, every goal that hindsight could pick is the one that holds from the start: there is nothing to learn.
    """
    return float(np.linalg.norm(achieved_goals - achieved_goals[0], axis=-1).max())


def distinct_cells(goals: np.ndarray, side: float) -> int:
    """Counts the cells of a grid with that `side`, in the goal's unit, that hold at least one of the goals (M, G)."""
    return len(np.unique(np.floor(goals / side).astype(np.int64), axis=0))


def goal_health(
    buffer: ReplayBuffer, size: int, config: HERConfig, is_success: GoalFunction | None, cell: float
) -> GoalHealth:
    """Measures what hindsight finds in `buffer` before any goal is drawn again, from `size` of its transitions.

    `cell` is the side of a cell in the goal's unit. Draws from buffer.rng: hand in a view of the buffer (drawn_by)
    where the run must not notice.
    """
    strategy = "future" if config.strategy == "none" else config.strategy
    achieved, desired = buffer.rows["achieved_goal"], buffer.rows["desired_goal"]
    rows = buffer.sample_rows(size)
    sources = hindsight_rows(strategy, rows, buffer.steps_before[rows], buffer.steps_after[rows], buffer.rng)
    reached, hindsight, real = achieved[rows + 1], achieved[sources], desired[rows]

    def share(flags: np.ndarray | None) -> float:
        return math.nan if flags is None else float(np.mean(flags))

    info = stored_info(buffer, rows)
    _, counts = np.unique(buffer.rows["reward"][rows], return_counts=True)
    return GoalHealth(
        trivial=share(is_success and met_at_episode_start(buffer, rows, hindsight, is_success)),
        unmet=share(is_success and ~achieved_goal_is_success(buffer, sources, is_success)),
        cells=distinct_cells(reached, cell),
        success_real=share(is_success and is_success(reached, real, info)),
        success_hindsight=share(is_success and is_success(reached, hindsight, info)),
        distance_real=float(np.linalg.norm(reached - real, axis=-1).mean()),
        distance_hindsight=float(np.linalg.norm(reached - hindsight, axis=-1).mean()),
        reward_variety=1 - float(counts.max()) / size,
    )
