"""States the goal-environment protocol (Gymnasium's GoalEnv convention). env/check.py checks who follows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from errors import UserError

GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


class EnvError(UserError):
    """Says that an environment does not exist, does not follow the protocol, or (status 1) could not go on."""


class SimulationDiverged(RuntimeError):
    """Says that the simulation met a NaN or an absurd number. Its state is worthless: drop the episode."""


class GoalEnv(Protocol):
    """Lists what train.py needs of an environment.

    Observations are {"observation": (O,), "achieved_goal": (G,), "desired_goal": (G,)}, float32. Actions are
    (action_dim,) in [-1, 1]. An `action_space`, where there is one, says so as well.

    info["is_success"] says whether the goal holds now: True or False, or 1 or 0. Every NumPy array in `info` is stored
    with the transition, as float32. compute_reward and the like get it back with a leading batch axis. They may depend
    on their arguments alone: another instance is asked. Plain Python numbers are not stored. Two optional dicts are for
    curves. info["metrics"] holds numbers, each an episode's mean, or its largest where the name ends in _max.
    info["stages"] holds bools, what an episode goes through on its way to success. Each counts where it happened at any
    step. A number there that is not finite was not reported. Anywhere else NaN drops the episode, as SimulationDiverged
    does.

    A goal_dim of 0 stands for a task without goals: its goals are empty, and it needs neither compute_reward nor
    info["is_success"].

    Optional, each with a default: `state_dict` and `load_state_dict` (a resumed run starts a fresh episode),
    `render` (no videos), `close` (nothing is called at the end),
    `compute_terminated(achieved_goal, desired_goal, info)` (where met goals, and nothing else, end the episodes that
    are seen, hindsight's do, too; else no goal ends an episode),
    `is_success(achieved_goal, desired_goal, info)` (where rewards take two values, a goal is met where it is paid the
    higher one; otherwise hindsight takes any state as a goal),
    `fingerprint` (None: a string that names the simulated model, with another of which a run is not continued).
    """

    obs_dim: int
    goal_dim: int
    action_dim: int
    max_episode_steps: int

    def reset(self, seed: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]: ...

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]: ...

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Mapping[str, np.ndarray]
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class EnvSpec:
    """Holds what is known of an environment after it was tried.

    reward_values: what an unmet and a met goal are paid, where all rewards that were seen are one of two. lacks: the
    members that it does not have and would gain from, each with what is so without.
    """

    obs_dim: int
    goal_dim: int
    action_dim: int
    max_episode_steps: int
    info_shapes: dict[str, tuple[int, ...]]
    fingerprint: str | None
    tells_success: bool = True
    reward_values: tuple[float, float] | None = None
    lacks: dict[str, str] = field(default_factory=dict)


def info_arrays(info: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the entries of `info` that are stored with a transition: the NumPy arrays."""
    return {key: value for key, value in info.items() if isinstance(value, np.ndarray)}
