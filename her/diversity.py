"""Statistics of the stored episodes that tell which goals hindsight can teach."""

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

MOVED = 0.1
"""Share of the way to the desired goal, as far as it was at first, that an achieved goal must get to count as moved."""


def goal_displacement(achieved_goals: np.ndarray, desired_goals: np.ndarray) -> tuple[float, bool]:
    """Returns how far an episode's achieved goals (T + 1, G) got from the first, at most, and whether that is MOVED.

    The distance is in the goal's unit. Where it is 0, every goal that hindsight could pick is the one that holds from
    the start: there is nothing to learn.
    """
    displacement = np.linalg.norm(achieved_goals - achieved_goals[0], axis=-1).max()
    return float(displacement), bool(displacement > MOVED * np.linalg.norm(desired_goals[0] - achieved_goals[0]))


def goal_health(
    buffer: ReplayBuffer, size: int, config: HERConfig, is_success: GoalFunction | None
) -> dict[str, float]:
    """Measures what hindsight finds in `buffer` before any goal is drawn again, from `size` of its transitions.

    Draws from buffer.rng: hand in a view of the
    buffer (drawn_by) where the run must not notice. Returns, by name:

    goal_cells: how many cells the achieved goals lie in, whose side is a tenth of distance_real.
    distance_real, distance_hindsight: mean distance from the achieved to the desired or the hindsight goal.
    reward_variety: share of transitions whose stored reward is not the commonest, 0 where nothing is told apart.

    and, where is_success can tell:

    trivial_share: share of hindsight goals that held at their episode's start already: doing nothing meets them.
    unmet_share: share of those that the state they come from does not meet (a cube in flight, where it is to lie).
    success_real, success_hindsight: share of transitions that meet the goal they were made for, or the hindsight one.
    """
    strategy = "future" if config.strategy == "none" else config.strategy
    achieved, desired = buffer.rows["achieved_goal"], buffer.rows["desired_goal"]
    rows = buffer.sample_rows(size)
    sources = hindsight_rows(strategy, rows, buffer.steps_before[rows], buffer.steps_after[rows], buffer.rng)
    reached, hindsight, real = achieved[rows + 1], achieved[sources], desired[rows]
    _, counts = np.unique(buffer.rows["reward"][rows], return_counts=True)
    distance = np.linalg.norm(reached - real, axis=-1).mean()
    health = {
        "goal_cells": len(np.unique(np.floor(reached / (distance / 10 or 1.0)).astype(np.int64), axis=0)),
        "distance_real": distance,
        "distance_hindsight": np.linalg.norm(reached - hindsight, axis=-1).mean(),
        "reward_variety": 1 - counts.max() / size,
    }
    if is_success is not None:
        info = stored_info(buffer, rows)
        health |= {
            "trivial_share": met_at_episode_start(buffer, rows, hindsight, is_success).mean(),
            "unmet_share": 1 - achieved_goal_is_success(buffer, sources, is_success).mean(),
            "success_real": np.mean(is_success(reached, real, info)),
            "success_hindsight": np.mean(is_success(reached, hindsight, info)),
        }
    return {name: float(value) for name, value in health.items()}
