"""Holds Hindsight Experience Replay: the episode buffer, goal relabelling, what both tell about goal diversity."""

from her.buffer import Episode, ReplayBuffer, RowLog, Step
from her.diversity import goal_displacement, goal_health
from her.relabel import HERConfig, hindsight_rows, n_step_return, policy_input, sample, stored_info

__all__ = [
    "Episode",
    "HERConfig",
    "ReplayBuffer",
    "RowLog",
    "Step",
    "goal_displacement",
    "goal_health",
    "hindsight_rows",
    "n_step_return",
    "policy_input",
    "sample",
    "stored_info",
]
