"""Hindsight Experience Replay: the episode buffer, goal relabelling, and what both tell about goal diversity."""

from her.buffer import Episode, ReplayBuffer, RowLog, Step
from her.diversity import GoalHealth, distinct_cells, goal_displacement, goal_health
from her.relabel import HERConfig, hindsight_rows, n_step_return, policy_input, sample

__all__ = [
    "Episode",
    "GoalHealth",
    "HERConfig",
    "ReplayBuffer",
    "RowLog",
    "Step",
    "distinct_cells",
    "goal_displacement",
    "goal_health",
    "hindsight_rows",
    "n_step_return",
    "policy_input",
    "sample",
]
