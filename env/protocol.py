"""The goal-environment protocol (Gymnasium's GoalEnv convention), and a check that an object really follows it."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
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
    NumPy array is stored with the transition and handed back to compute_reward, with a leading batch axis; plain
    Python numbers are not. info["is_success"] says whether the goal holds now. Two optional dicts are for curves:
    info["metrics"] of numbers, each an episode's mean, or its largest where the name ends in _max; info["stages"] of
    bools, what an episode goes through on its way to success, each counting where it happened at any step.

    Actions are (action_dim,) in [-1, 1].

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


def load_factory(name: str) -> Callable[[], GoalEnv]:
    """The callable that MODULE:CALLABLE names, looked for in the working directory too. Raises EnvError."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise EnvError(f"--env {name}: it takes a module and a callable of it, as MODULE:CALLABLE")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise EnvError(f"--env {name}: importing {module_name} failed: {error}") from error
        raise EnvError(f"--env {name}: there is no module '{module_name}' in {os.getcwd()} or installed") from error
    except (TypeError, ValueError) as error:  # what importlib makes of '..a' and the like
        raise EnvError(f"--env {name}: importing {module_name} failed: {error}") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise EnvError(f"--env {name}: '{attribute}' is no callable of {module.__file__}")
    return factory


def probe(env: GoalEnv, name: str) -> EnvSpec:
    """Resets `env`, takes one step, asks for a batch of rewards, and checks every shape. Raises EnvError.

    The environment is somewhere in an episode afterwards: reset it before use.
    """
    try:
        return _probe(getattr(env, "unguarded", env), name)
    except EnvError:
        raise
    except Exception as error:  # other people's code fails in its own ways; the sentence says in which
        raise EnvError(f"--env {name}: trying it failed: {type(error).__name__}: {error}") from error


def _probe(env: GoalEnv, name: str) -> EnvSpec:

    def require(condition: bool, sentence: str) -> None:
        if not condition:
            raise EnvError(f"--env {name}: {sentence} (README, 'Your own environment')")

    for attribute in ("obs_dim", "goal_dim", "action_dim", "max_episode_steps"):
        value = getattr(env, attribute, None)
        require(
            isinstance(value, (int, np.integer)) and value >= 1,
            f"the environment's {attribute} must be a positive whole number, and is {value!r}",
        )
    dims = {"observation": env.obs_dim, "achieved_goal": env.goal_dim, "desired_goal": env.goal_dim}

    def check_obs(obs: Any, source: str) -> None:
        require(isinstance(obs, Mapping) and set(GOAL_KEYS) <= set(obs), f"{source} must hold {', '.join(GOAL_KEYS)}")
        for key, size in dims.items():
            shape = np.shape(obs[key])
            require(shape == (size,), f"{key} of {source} must have shape ({size},), and has {shape}")
            require(bool(np.isfinite(obs[key]).all()), f"{key} of {source} holds a number that is not finite")

    result = env.reset(seed=0)
    require(isinstance(result, tuple) and len(result) == 2, "reset(seed=…) must return (obs, info)")
    check_obs(result[0], "the observation from reset")
    result = env.step(np.zeros(env.action_dim, np.float32))
    require(
        isinstance(result, tuple) and len(result) == 5, "step must return (obs, reward, terminated, truncated, info)"
    )
    obs, reward, _, _, info = result
    check_obs(obs, "the observation from step")
    require(np.shape(reward) == () and bool(np.isfinite(reward)), f"the reward must be a finite number, not {reward!r}")
    require("is_success" in info, 'info must hold "is_success"')

    for group in (info, info.get("metrics", {}), info.get("stages", {})):
        for name in group:
            require(isinstance(name, str) and "|" not in name, f"info's {name!r}: names are strings without |")
    space = getattr(env, "action_space", None)
    for limit, bound in (("low", -1.0), ("high", 1.0)):
        ends = getattr(space, limit, bound)
        require(
            bool(np.all(np.asarray(ends) == bound)),
            f"actions are in [-1, 1], and its action_space.{limit} is {np.unique(ends)}; rescale them in a wrapper",
        )

    arrays = info_arrays(info)
    for key, value in arrays.items():
        require(value.dtype.kind in "biuf", f"info's array {key!r} must hold numbers, and is of type {value.dtype}")
    # As the buffer will keep it: a function that needs whole numbers or bools for an index must make them.
    pair = {key: np.stack([value, value]).astype(np.float32) for key, value in arrays.items()}
    goals = [np.stack([obs[key]] * 2).astype(np.float32) for key in ("achieved_goal", "desired_goal")]
    batch = np.asarray(env.compute_reward(*goals, pair))
    require(batch.shape == (2,), f"compute_reward of 2 transitions must return shape (2,), and returned {batch.shape}")
    require(
        bool(np.allclose(batch, reward, rtol=1e-4, atol=1e-4)),
        f"compute_reward gives {batch[0]:g} for a step that was rewarded {float(reward):g}: relabelled transitions "
        "would be taught with other rewards than real ones",
    )
    for optional in ("compute_terminated", "is_success"):
        if function := getattr(env, optional, None):
            try:
                shape = np.shape(function(*goals, pair))
            except TypeError as error:
                require(False, f"{optional} must take (achieved_goal, desired_goal, info): {error}")
            require(shape == (2,), f"{optional} of 2 transitions must return shape (2,), and returned {shape}")
    goal_scale = getattr(env, "goal_scale", 1.0)
    require(
        np.shape(goal_scale) == () and np.isfinite(goal_scale) and goal_scale > 0,
        f"goal_scale must be a positive number, and is {goal_scale!r}",
    )
    if hasattr(env, "return_range"):
        bounds = env.return_range(0.98)
        require(
            bounds is None or (np.shape(bounds) == (2,) and bool(np.isfinite(bounds).all()) and bounds[0] < bounds[1]),
            f"return_range(gamma) must be None or two finite numbers, the lower first, and is {bounds!r:.80}",
        )
    fingerprint = getattr(env, "fingerprint", None)
    require(
        fingerprint is None or isinstance(fingerprint, str), f"fingerprint must be a string, and is {fingerprint!r:.80}"
    )
    return EnvSpec(
        obs_dim=int(env.obs_dim),
        goal_dim=int(env.goal_dim),
        action_dim=int(env.action_dim),
        max_episode_steps=int(env.max_episode_steps),
        info_shapes={key: value.shape for key, value in arrays.items()},
        goal_scale=float(goal_scale),
        fingerprint=fingerprint,
    )
