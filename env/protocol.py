"""The goal-environment protocol (Gymnasium's GoalEnv convention); env/probe.py checks that an object follows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


class EnvError(ValueError):
    """An environment that does not exist or does not follow the protocol."""


class EnvFailed(EnvError):
    """An environment that follows the protocol, and could not go on: as it is, another try may do better."""


class GoalEnv(Protocol):
    """What train.py needs of an environment.

    Observations are {"observation": (O,), "achieved_goal": (G,), "desired_goal": (G,)}, float32. In `info`, every
    NumPy array is stored with the transition, as float32, and handed back to compute_reward and the like, with a
    leading batch axis; plain Python numbers are not. info["is_success"] says whether the goal holds now. Two
    optional dicts are for curves: info["metrics"] of numbers, each an episode's mean, or its largest where the name
    ends in _max; info["stages"] of bools, what an episode goes through on its way to success, each counting where
    it happened at any step.

    Actions are (action_dim,) in [-1, 1]; an `action_space`, where there is one, says so as well.

    Optional, each with a default: `state_dict` and `load_state_dict` (a resumed run starts a fresh episode),
    `render` (no videos), `compute_terminated(achieved_goal, desired_goal, info)` (no goal ends an episode),
    `is_success(achieved_goal, desired_goal, info)` (hindsight keeps goals that an episode's start met already),
    `goal_scale` (1.0: what brings a difference of goals to about 1), `return_range(gamma)` (None: lowest and
    highest possible return with that discount), `fingerprint` (None: a string that is another where the simulated
    model is another; a run is not continued with it).
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
    """Sizes of an environment, as found by trying it."""

    obs_dim: int
    goal_dim: int
    action_dim: int
    max_episode_steps: int
    info_shapes: dict[str, tuple[int, ...]]
    goal_scale: float
    fingerprint: str | None


def info_arrays(info: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The entries of `info` that are stored with a transition: the NumPy arrays."""
    return {key: value for key, value in info.items() if isinstance(value, np.ndarray)}
