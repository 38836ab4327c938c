"""Other people's environments: found by name, and tried before anything depends on them."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from env.protocol import GOAL_KEYS, EnvError, EnvFailed, EnvSpec, GoalEnv, info_arrays


class _Wrong(Exception):
    """What does not follow the protocol, in words."""


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
    """Resets `env`, takes one step, asks for a batch of rewards, and checks every shape. Raises EnvError, EnvFailed.

    The environment is somewhere in an episode afterwards: reset it before use.
    """
    try:
        return _try(getattr(env, "unguarded", env))
    except EnvError:
        raise
    except _Wrong as wrong:
        raise EnvError(f"--env {name}: {wrong} (README, 'Your own environment')") from None
    except Exception as error:  # other people's code fails in its own ways; the sentence says in which
        kind = EnvFailed if isinstance(error, OSError) else EnvError
        raise kind(f"--env {name}: trying it failed: {type(error).__name__}: {error}") from error


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise _Wrong(sentence)


def _try(env: GoalEnv) -> EnvSpec:
    for attribute in ("obs_dim", "goal_dim", "action_dim", "max_episode_steps"):
        value = getattr(env, attribute, None)
        _require(
            isinstance(value, (int, np.integer)) and value >= 1,
            f"the environment's {attribute} must be a positive whole number, and is {value!r}",
        )
    _check_actions(env)
    obs, reward, info = _one_step(env)
    arrays = info_arrays(info)
    _check_info(info, arrays)
    _check_goal_functions(env, obs, reward, arrays)
    goal_scale, fingerprint = getattr(env, "goal_scale", 1.0), getattr(env, "fingerprint", None)
    _require(
        np.shape(goal_scale) == () and np.isfinite(goal_scale) and goal_scale > 0,
        f"goal_scale must be a positive number, and is {goal_scale!r}",
    )
    _require(
        fingerprint is None or isinstance(fingerprint, str), f"fingerprint must be a string, and is {fingerprint!r:.80}"
    )
    _return_range(env, 0.98)
    return EnvSpec(
        obs_dim=int(env.obs_dim),
        goal_dim=int(env.goal_dim),
        action_dim=int(env.action_dim),
        max_episode_steps=int(env.max_episode_steps),
        info_shapes={key: value.shape for key, value in arrays.items()},
        goal_scale=float(goal_scale),
        fingerprint=fingerprint,
    )


def return_range(env: GoalEnv, gamma: float) -> tuple[float, float] | None:
    """Lowest and highest return that the environment's reward allows with discount `gamma`; None where it does not say.

    Raises EnvError where what it says cannot be.
    """
    try:
        return _return_range(env, gamma)
    except _Wrong as wrong:
        raise EnvError(str(wrong)) from None


def _return_range(env: GoalEnv, gamma: float) -> tuple[float, float] | None:
    if not hasattr(env, "return_range"):
        return None
    bounds = _call("return_range(gamma)", env.return_range, gamma)
    _require(
        bounds is None or (np.shape(bounds) == (2,) and bool(np.isfinite(bounds).all()) and bounds[0] < bounds[1]),
        f"return_range(gamma) must be None or two finite numbers, the lower first; with {gamma} it is {bounds!r:.80}",
    )
    return bounds


def _check_actions(env: GoalEnv) -> None:
    space = getattr(env, "action_space", None)
    for limit, bound in (("low", -1.0), ("high", 1.0)):
        ends = getattr(space, limit, bound)
        _require(
            bool(np.all(np.asarray(ends) == bound)),
            f"actions are in [-1, 1], and its action_space.{limit} is {np.unique(ends)}; rescale them in a "
            "wrapper, whose action_space says so",
        )


def _one_step(env: GoalEnv) -> tuple[Mapping[str, np.ndarray], float, Mapping[str, Any]]:
    result = env.reset(seed=0)
    _require(isinstance(result, tuple) and len(result) == 2, "reset(seed=…) must return (obs, info)")
    _check_obs(env, result[0], "the observation from reset")
    result = env.step(np.zeros(env.action_dim, np.float32))
    whole = isinstance(result, tuple) and len(result) == 5
    _require(whole, "step must return (obs, reward, terminated, truncated, info)")
    obs, reward, _, _, info = result
    _check_obs(env, obs, "the observation from step")
    finite = np.shape(reward) == () and bool(np.isfinite(reward))
    _require(finite, f"the reward must be a finite number, not {reward!r}")
    _require("is_success" in info, 'info must hold "is_success"')
    return obs, reward, info


def _check_obs(env: GoalEnv, obs: Any, source: str) -> None:
    dims = {"observation": env.obs_dim, "achieved_goal": env.goal_dim, "desired_goal": env.goal_dim}
    _require(isinstance(obs, Mapping) and set(GOAL_KEYS) <= set(obs), f"{source} must hold {', '.join(GOAL_KEYS)}")
    for key, size in dims.items():
        shape = np.shape(obs[key])
        _require(shape == (size,), f"{key} of {source} must have shape ({size},), and has {shape}")
        _require(bool(np.isfinite(obs[key]).all()), f"{key} of {source} holds a number that is not finite")


def _check_info(info: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> None:
    for group in (info, info.get("metrics", {}), info.get("stages", {})):
        for key in group:
            _require(isinstance(key, str) and "|" not in key, f"info's {key!r}: names are strings without |")
    for key, value in arrays.items():
        _require(value.dtype.kind in "biuf", f"info's array {key!r} must hold numbers, and is of type {value.dtype}")


def _check_goal_functions(
    env: GoalEnv, obs: Mapping[str, np.ndarray], reward: float, arrays: dict[str, np.ndarray]
) -> None:
    info = {key: np.stack([value, value]).astype(np.float32) for key, value in arrays.items()}
    goals = [np.stack([obs[key]] * 2).astype(np.float32) for key in ("achieved_goal", "desired_goal")]
    for name in ("compute_reward", "compute_terminated", "is_success"):
        if name != "compute_reward" and getattr(env, name, None) is None:
            continue
        given = f"{name}(achieved_goal, desired_goal, info) of 2 transitions, info's arrays as float32,"
        judged = np.asarray(_call(given, getattr(env, name), *goals, info))
        _require(judged.shape == (2,), f"{name} of 2 transitions must return shape (2,), and returned {judged.shape}")
        _require(
            name != "compute_reward" or bool(np.allclose(judged, reward, rtol=1e-4, atol=1e-4)),
            f"compute_reward gives {judged[0]:g} for a step that was rewarded {float(reward):g}: relabelled "
            "transitions would be taught with other rewards than real ones",
        )


def _call(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except OSError:
        raise
    except Exception as error:  # other people's code fails in its own ways; the sentence says in which
        raise _Wrong(f"{what} failed: {type(error).__name__}: {error}") from error
