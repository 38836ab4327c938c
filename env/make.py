"""Environments by name."""

import ast
import os
from collections.abc import Callable, Sequence
from typing import Any

from env.foreign import Guarded, blaming, load_factory
from env.oracle.kinematics import InverseKinematics
from env.oracle.starts import ScriptedStarts
from env.protocol import EnvError, GoalEnv
from env.so101.model import ArmModel
from env.tasks import TASKS
from env.tasks.base import Reward, TaskConfig

SEVERAL = "a run takes several: --num-envs to train in, others to evaluate, and one to judge hindsight's goals"


def is_custom(name: str) -> bool:
    """Tells whether `name` is gym:ID or MODULE:CALLABLE, and no built-in task."""
    return ":" in name


def keyword_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Returns what --env-args KEY=VALUE … gives: Python's literals as such, all else as strings. Raises EnvError."""
    arguments: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise EnvError(f"--env-args {word}: each must be KEY=VALUE, with the name of an argument for KEY")
        if key in arguments:
            raise EnvError(f"--env-args {word}: {key} is given twice")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            arguments[key] = value
    return arguments


def make_envs(
    name: str, count: int, task: TaskConfig, reward: Reward, env_args: Sequence[str] = (), among: int | None = None
) -> list[GoalEnv]:
    """Makes `count` environments. Those of a built-in task share one MjModel. Raises EnvError.

    name: a built-in task, or gym:ID or MODULE:CALLABLE, which is called once for each environment, with `env_args`
    (keyword_arguments). `task` and `reward` belong to the built-in tasks. among: how many a run has in all, whose steps
    the scripted starts count together; `count` by default.
    """
    if is_custom(name):
        factory, arguments = _factory(name), keyword_arguments(env_args)
        envs, process = [], os.getpid()
        for i in range(count):
            calling = f"calling it with {', '.join(env_args)}" if env_args else "calling it"
            with blaming(name, f"making instance {i + 1} ({SEVERAL})" if i else calling):
                envs.append(factory(**arguments))
            if os.getpid() != process:
                os._exit(0)  # what it forked came back here
        if len(set(map(id, envs))) < count:
            told = "it returned the same object twice; each call must make an environment"
            raise EnvError(f"--env {name}: {told} ({SEVERAL})")
        return [Guarded(env, name) for env in envs]
    if name not in TASKS:
        raise EnvError(
            f"--env {name}: no such task; there are {', '.join(TASKS)}, gym:ID, or MODULE:CALLABLE for your own"
        )
    kind = TASKS[name]
    model = ArmModel.load(kind.has_cube)
    envs = [kind(model, task, reward) for _ in range(count)]
    if task.scripted_starts:
        if not kind.has_cube:
            raise EnvError(f"--task.scripted-starts {task.scripted_starts}: {name} has no cube to be grasped")
        ik, until = InverseKinematics(model), task.scripted_until / (among or count)
        for env in envs:
            env.starts = ScriptedStarts(ik, task.scripted_starts, until, task.scripted_astray)
    return envs


def _factory(name: str) -> Callable[..., GoalEnv]:
    """Returns what makes environments of gym:ID or MODULE:CALLABLE. Raises EnvError."""
    if not name.startswith("gym:"):
        return load_factory(name)
    try:
        with blaming(name, "importing it"):
            from env.gymnasium_env import load_gym_factory  # not everybody has Gymnasium

            return load_gym_factory(name)
    except EnvError as error:
        if getattr(error.__cause__, "name", None) != "gymnasium":
            raise
        raise EnvError(f"--env {name}: needs Gymnasium; pip install -e '.[gym]' brings it") from error
