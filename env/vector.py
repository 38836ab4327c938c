"""N environments side by side, stepped in turn, each starting a new episode when one ends."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from env.protocol import GOAL_KEYS, EnvError, EnvSpec, GoalEnv, info_arrays
from env.so101.simulation import SimulationDiverged


class VectorStep(NamedTuple):
    """One step of N environments; next_obs is what the step led to, before any reset.

    next_obs: {"observation": (N, O), "achieved_goal": (N, G), "desired_goal": (N, G)} float32; reward (N,) float32;
    terminated, truncated, success, diverged (N,) bool; info: stored arrays (N, …); metrics: {name: (N,)},
    NaN where an environment reported none; stages: {name: (N,) bool}.
    """

    next_obs: dict[str, np.ndarray]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray
    diverged: np.ndarray
    info: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    stages: dict[str, np.ndarray]


class VectorEnv:
    """Steps `envs` in turn. `obs` is always what to act on next.

    An environment whose simulation diverges is marked in `diverged` and reset; its transition is no transition. A
    number that is not finite, in an observation, a reward or an info array, raises EnvError.
    """

    def __init__(self, envs: list[GoalEnv], spec: EnvSpec):
        self.envs = envs
        self.spec = spec
        n = len(envs)
        self.obs = {
            "observation": np.zeros((n, spec.obs_dim), np.float32),
            "achieved_goal": np.zeros((n, spec.goal_dim), np.float32),
            "desired_goal": np.zeros((n, spec.goal_dim), np.float32),
        }

    def __len__(self) -> int:
        return len(self.envs)

    def reset(self, seeds: list[int]) -> None:
        for i, seed in enumerate(seeds):
            self._put(self.obs, i, self.envs[i].reset(seed=seed)[0])
        self._check_finite(self.obs)

    def begin(self, actions: np.ndarray) -> None:
        """Says what the next step is, which `finish` takes: as VectorEnvProcess has it, which steps in between."""
        self._actions = actions

    def finish(self) -> VectorStep:
        return self.step(self._actions)

    def close(self) -> None:
        """Nothing here outlives the object."""

    def step(self, actions: np.ndarray) -> VectorStep:
        """Steps every environment with its row of actions (N, A); afterwards `obs` belongs to the next step."""
        n = len(self.envs)
        next_obs = {key: value.copy() for key, value in self.obs.items()}
        reward = np.zeros(n, np.float32)
        terminated, truncated, success, diverged = np.zeros((4, n), bool)
        info = {key: np.zeros((n, *shape), np.float32) for key, shape in self.spec.info_shapes.items()}
        metrics: dict[str, np.ndarray] = {}
        stages: dict[str, np.ndarray] = {}
        for i, env in enumerate(self.envs):
            try:
                # A copy: some environments scale the action they are given in place.
                obs, reward[i], terminated[i], truncated[i], step_info = env.step(actions[i].copy())
            except SimulationDiverged:
                diverged[i] = True
                self._put(self.obs, i, env.reset()[0])
                continue
            self._put(next_obs, i, obs)
            arrays = self._checked_info(i, step_info)
            success[i] = bool(step_info["is_success"])
            for key, value in arrays.items():
                info[key][i] = value
            for key, value in step_info.get("metrics", {}).items():
                number = float(value)
                if not math.isfinite(number):
                    raise _not_finite(key, i)
                metrics.setdefault(key, np.full(n, np.nan))[i] = number
            for key, value in step_info.get("stages", {}).items():
                stages.setdefault(key, np.zeros(n, bool))[i] = bool(value)
            ended = terminated[i] or truncated[i]
            self._put(self.obs, i, env.reset()[0] if ended else obs)
        self._check_finite({**next_obs, "reward": reward, **info})
        if (terminated | truncated | diverged).any():
            self._check_finite(self.obs)
        return VectorStep(next_obs, reward, terminated, truncated, success, diverged, info, metrics, stages)

    @staticmethod
    def _check_finite(arrays: dict[str, np.ndarray]) -> None:
        """One NaN in the buffer would spread over every network: nothing that is not finite gets there."""
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
                raise _not_finite(name, bad[0])

    def _checked_info(self, i: int, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays to store: at every step the same, or compute_reward would be handed what was never there."""
        arrays = info_arrays(info)
        shapes = {key: value.shape for key, value in arrays.items()}
        if shapes != self.spec.info_shapes or "is_success" not in info:
            raise EnvError(
                f"info of environment {i} must hold is_success and, at every step, the same NumPy arrays: first they "
                f"were {self.spec.info_shapes}, now {shapes}"
            )
        return arrays

    @staticmethod
    def _put(into: dict[str, np.ndarray], i: int, obs: Mapping[str, np.ndarray]) -> None:
        for key in GOAL_KEYS:
            if np.shape(obs[key]) != into[key][i].shape:
                raise EnvError(
                    f"{key} of environment {i} had shape {into[key][i].shape}, and now has {np.shape(obs[key])}"
                )
            into[key][i] = obs[key]

    def state_dict(self) -> dict[str, Any]:
        """The observations, and the state of every environment that can tell it."""
        states = {str(i): env.state_dict() for i, env in enumerate(self.envs) if hasattr(env, "state_dict")}
        return {"obs": self.obs, "envs": states}

    def load_state_dict(self, state: dict[str, Any], fresh_seeds: list[int]) -> list[int]:
        """Restores the environments; returns the indices of those that cannot be, which start a fresh episode."""
        self.obs = {key: value.copy() for key, value in state["obs"].items()}
        fresh = []
        for i, env in enumerate(self.envs):
            if str(i) in state["envs"] and hasattr(env, "load_state_dict"):
                env.load_state_dict(state["envs"][str(i)])
            else:
                self._put(self.obs, i, env.reset(seed=fresh_seeds[i])[0])
                fresh.append(i)
        return fresh


def _not_finite(name: str, env: int) -> EnvError:
    return EnvError(f"{name} of environment {env} is not finite; nothing of this step was stored")
