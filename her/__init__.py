"""Hindsight Experience Replay: the episode buffer, goal relabelling, and what both tell about goal diversity."""

from her.buffer import Episode, EpisodeTooLong, ReplayBuffer, RowLog, Transition
from her.diversity import goal_displacement
from her.relabel import GoalBatch, HERConfig, hindsight_rows, policy_input, sample

__all__ = [
    "Episode",
    "EpisodeTooLong",
    "GoalBatch",
    "HERConfig",
    "ReplayBuffer",
    "RowLog",
    "Transition",
    "goal_displacement",
    "hindsight_rows",
    "policy_input",
    "sample",
]
