"""Finds other people's environments by name, and looks at every answer of theirs."""

import importlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from env.protocol import GOAL_KEYS, EnvError, GoalEnv, SimulationDiverged, info_arrays

GOAL_FUNCTIONS = ("compute_reward", "compute_terminated", "is_success")
SIZES = ("obs_dim", "goal_dim", "action_dim", "max_episode_steps")
CALLS = ("state_dict", "load_state_dict", "close")


def load_factory(name: str) -> Callable[[], GoalEnv]:
    """Returns the callable that MODULE:CALLABLE names. The working directory is searched last. Raises EnvError."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise EnvError(f"--env {name}: it takes a module and a callable of it, as MODULE:CALLABLE")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        with blaming(name, f"importing {module_name}", OSError):
            module = importlib.import_module(module_name)
    except (ModuleNotFoundError, TypeError, ValueError) as error:  # the last two: what importlib makes of '..a'
        theirs = getattr(error, "name", None)  # they may be missing a module of their own
        missing = theirs is not None and f"{module_name}.".startswith(f"{theirs}.")
        why = f"there is no module '{module_name}' in {os.getcwd()} or installed"
        why = why if missing else f"importing {module_name} failed: {error}"
        raise EnvError(f"--env {name}: {why}") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise EnvError(f"--env {name}: '{attribute}' is no callable of {module.__file__}")
    return factory


def empty_standard_input() -> None:
    """Lets an environment that asks the user, and a program that it starts, read an end of file: nobody may be there.

    For a command's main() alone: whatever else reads standard input in this process finds it empty, too.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:  # it is 0 where standard input was closed
        os.close(null)


@contextmanager
def blaming(name: str, what: str, kind: type[Exception] = Exception) -> Iterator[None]:
    """Turns an exception of `kind` from the environment `name` into an EnvError: `what` failed, and how.

    So it does with a SystemExit, which would end the run as if all were well, and with a KeyboardInterrupt that is not
    the user's.
    """
    try:
        yield
    except EnvError:
        raise
    except (kind, SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise
        lasting = isinstance(error, Exception) and not isinstance(error, OSError)  # what is not plugged in may be later
        how = f"{what} failed: {in_a_line(error)}"
        raise EnvError(f"--env {name}: {how}", status=2 if lasting else 1) from error


def in_a_line(error: BaseException) -> str:
    """Returns an exception's kind and text as one line that no terminal obeys, and the kind alone of one without."""
    try:
        text = str(error)
    except Exception:  # somebody's own __str__
        text = "without a text"
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"{type(error).__name__}: {' '.join(printable.split()):.500}"


class Guarded:
    """Wraps an environment, and raises EnvError where its answer is not the protocol's.

    Observations may be anything that NumPy takes for an array, such as lists. They come out as float32. A number in
    them that is not finite raises SimulationDiverged, as does such a reward or array of `info`: the episode is
    worthless, and the next may do better. Metrics and stages that are not finite are left out.

    Everything else is the wrapped environment's. That includes its errors, whose tracebacks its author wants to see,
    except for those that would be taken for ours: an OSError, a SystemExit and a KeyboardInterrupt become an EnvError.

    Args:
        env: what a factory of somebody else's made.
        name: what --env says.
    """

    met_goals_end_episodes = False
    """Whether meeting a goal is what ends an episode. It takes the place of a compute_terminated that is not there."""

    def __init__(self, env: GoalEnv, name: str):
        self.unguarded = env
        self.name = name
        self._steps = 0
        self._process = os.getpid()

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "unguarded":  # asked for before __init__, by copy and pickle
            raise AttributeError(attribute)
        if attribute in SIZES:  # as they were when they were first asked for: all else was made to fit
            setattr(self, attribute, getattr(self.unguarded, attribute))
            return getattr(self, attribute)
        unknown = attribute == "compute_terminated" and getattr(self.unguarded, attribute, None) is None
        if unknown and self.met_goals_end_episodes:
            return self.is_success
        value = getattr(self.unguarded, attribute)
        checks = dict.fromkeys(GOAL_FUNCTIONS, self._judge) | dict.fromkeys(CALLS, self._call)
        checks |= {"render": self._render}
        return value if value is None or attribute not in checks else partial(checks[attribute], attribute, value)

    def reset(self, seed: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self._steps = 0
        answer = self._call("reset", self.unguarded.reset, **({} if seed is None else {"seed": seed}))
        self.require(isinstance(answer, tuple) and len(answer) == 2, "reset must return (obs, info)")
        return self._observed("reset", answer[0]), answer[1]

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        answer = self._call("step", self.unguarded.step, action)
        whole = isinstance(answer, tuple) and len(answer) == 5
        self.require(whole, "step must return (obs, reward, terminated, truncated, info)")
        obs, reward, terminated, truncated, info = answer
        obs = self._observed("step", obs)
        self._finite("step", "reward", reward, ())
        terminated, truncated = self._flag("terminated", terminated), self._flag("truncated", truncated)
        told = isinstance(info, Mapping) and ("is_success" in info or not self.goal_dim)
        self.require(told, 'step must give an info with "is_success"')
        if "is_success" in info:
            self._flag('info["is_success"]', info["is_success"])
        for key, array in info_arrays(info).items():
            self._finite("step", f"info's array {key}", array, array.shape)
        for_curves = {key: self._for_curves(key, info[key]) for key in ("metrics", "stages") if key in info}
        self._steps += 1
        in_time = terminated or truncated or self._steps <= self.max_episode_steps
        self.require(in_time, "step goes on after max_episode_steps; it must say truncated then")
        return obs, float(reward), terminated, truncated, {**info, **for_curves}

    def tell_success_by_reward(self, more_than: float) -> None:
        """Gives the environment, where it has none, an is_success: a goal is met where it is paid `more_than` that."""
        if getattr(self, "is_success", None) is None:
            self.is_success = lambda *goals_and_info: self.compute_reward(*goals_and_info) > more_than

    def require(self, condition: Any, sentence: str) -> None:
        """Raises EnvError with the sentence unless the condition holds."""
        if not condition:
            in_a_line = " ".join(sentence.split())  # arrays are shown in several
            raise EnvError(f"--env {self.name}: {in_a_line} (README, 'Your own environment')")

    def _call(self, method: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with blaming(self.name, method, OSError):
            result = function(*args, **kwargs)
        if os.getpid() != self._process:
            os._exit(0)  # a process that it forked and that came back here: there is one run, and that is another's
        return result

    def _observed(self, method: str, obs: Any) -> dict[str, np.ndarray]:
        whole = isinstance(obs, Mapping) and set(GOAL_KEYS) <= set(obs)
        self.require(whole, f"{method} must give an observation with {', '.join(GOAL_KEYS)}")
        sizes = (self.obs_dim, self.goal_dim, self.goal_dim)
        return {key: self._finite(method, key, obs[key], (n,)) for key, n in zip(GOAL_KEYS, sizes, strict=True)}

    def _finite(self, method: str, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Returns `value` as float32. Raises SimulationDiverged where it is not finite."""
        array = self._numbers(method, name, value, shape, np.float32)
        if not np.isfinite(array).all():
            raise SimulationDiverged(f"{method} gave {value!r:.60} for {name}; it must be finite")
        return array

    def _flag(self, name: str, value: Any) -> bool:
        told = f"step gave {value!r:.60} for {name}; it must be True or False, or 1 or 0"
        self.require(self._numbers("step", name, value, (), float) in (0, 1), told)
        return bool(value)

    def _numbers(self, method: str, name: str, value: Any, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Returns `value` as an array, a copy: some environments go on writing into what they gave."""
        try:
            array = None if np.iscomplexobj(value) else np.array(value, dtype)
        except (OverflowError, TypeError, ValueError):
            array = None
        meant = f"numbers of shape {shape}" if shape else "one number"
        self.require(array is not None, f"{method} gave {value!r:.60} for {name}; it must be {meant}")
        self.require(array.shape == shape, f"{method} gave {name} of shape {array.shape}; it must be {meant}")
        return array

    def _for_curves(self, group: str, given: Any) -> dict[str, float]:
        """Returns the finite numbers of info["metrics"] or info["stages"]. None stands for none of them."""
        known = given is None or isinstance(given, Mapping)
        self.require(known, f"info[{group!r}] must be a dict of numbers, and is {given!r:.60}")
        one = group.removesuffix("s")
        numbers = {key: self._numbers("step", f"{one} {key}", value, (), float) for key, value in (given or {}).items()}
        return {key: float(value) for key, value in numbers.items() if math.isfinite(value)}

    def _render(self, method: str, function: Callable[..., Any], *args: Any) -> Any:
        """Returns the frame. Lists of whole numbers become the array that is meant."""
        frame = self._call(method, function, *args)
        if not isinstance(frame, (list, tuple)):
            return frame
        with blaming(self.name, f"{method}: making an array of what it returned"):
            return np.array(frame, np.uint8)

    def _judge(self, method: str, function: Callable[..., Any], *args: Any) -> np.ndarray:
        judged, shape = np.asarray(self._call(method, function, *args)), args[0].shape[:1]
        told = f"{method} of {shape[0]} transitions must return shape {shape}, and returned {judged.shape}"
        self.require(judged.shape == shape, told)
        self.require(judged.dtype.kind in "biuf" and np.isfinite(judged).all(), f"{method} must return finite numbers")
        told = f"{method} must return bools, or ones and zeros, and returned {judged.min()} to {judged.max()}"
        self.require(method == "compute_reward" or ((judged == 0) | (judged == 1)).all(), told)
        return judged
