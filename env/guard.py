"""Other people's environments, whose every answer is checked."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from env.protocol import GOAL_KEYS, EnvError, EnvFailed, GoalEnv

GOAL_FUNCTIONS = ("compute_reward", "compute_terminated", "is_success")


class Guarded:
    """An environment that raises EnvError where what it answers is none of the protocol's: of an evaluation that ran
    into NaN, every episode could be a success.

    Whatever else it has is the wrapped environment's, its errors included, whose tracebacks its author wants to see;
    but an OSError of its own would be taken for a failure of our output, and is an EnvFailed instead.

    Args:
        env: follows the protocol, as probe() found (env/probe.py).
        name: what --env says.
    """

    def __init__(self, env: GoalEnv, name: str):
        self.unguarded = env
        self._name = name
        self._steps = 0

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "unguarded":  # asked for before __init__, by copy and pickle
            raise AttributeError(attribute)
        value = getattr(self.unguarded, attribute)
        if attribute in GOAL_FUNCTIONS:
            return self._goal_function(attribute, value)
        return self._blaming(attribute, value) if attribute == "render" else value

    def reset(self, seed: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        with blamed_on(f"reset of {self._name}"):
            result = self.unguarded.reset() if seed is None else self.unguarded.reset(seed=seed)
        self._require(isinstance(result, tuple) and len(result) == 2, "reset", "must return (obs, info)")
        self._check(result[0], "reset")
        self._steps = 0
        return result

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        with blamed_on(f"step of {self._name}"):
            result = self.unguarded.step(action)
        whole = isinstance(result, tuple) and len(result) == 5
        self._require(whole, "step", "must return (obs, reward, terminated, truncated, info)")
        obs, reward, terminated, truncated, info = result
        self._check(obs, "step")
        self._require(np.shape(reward) == () and np.isfinite(reward), "step", f"gave {reward!r:.40} for a reward")
        told = isinstance(info, Mapping) and "is_success" in info
        self._require(told, "step", "gave an info without is_success")
        self._steps += 1
        ends = terminated or truncated or self._steps <= self.unguarded.max_episode_steps
        self._require(ends, "step", "goes on after max_episode_steps; it must say truncated then")
        return result

    def _check(self, obs: Any, method: str) -> None:
        for key in GOAL_KEYS:
            self._require(isinstance(obs, Mapping) and key in obs, method, f"gave an observation without {key}")
            size = self.unguarded.obs_dim if key == "observation" else self.unguarded.goal_dim
            shape = np.shape(obs[key])
            self._require(shape == (size,), method, f"gave {key} of shape {shape}; it must be ({size},)")
            self._require(bool(np.isfinite(obs[key]).all()), method, f"gave {key} with a number that is not finite")

    def _require(self, condition: bool, method: str, sentence: str) -> None:
        if not condition:
            raise EnvError(f"{method} of {self._name} {sentence}")

    def _goal_function(self, name: str, function: Callable[..., Any]) -> Callable[..., np.ndarray]:
        def judge(achieved: np.ndarray, desired: np.ndarray, info: Mapping[str, np.ndarray]) -> np.ndarray:
            with blamed_on(f"{name} of {self._name}"):
                judged = np.asarray(function(achieved, desired, info))
            fits = judged.shape == achieved.shape[:1]
            self._require(fits, name, f"gave shape {judged.shape} for {len(achieved)} transitions")
            return judged

        return judge

    def _blaming(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with blamed_on(f"{name} of {self._name}"):
                return method(*args)

        return call


@contextmanager
def blamed_on(method: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvFailed(f"{method} failed: {type(error).__name__}: {error}") from error
