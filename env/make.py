"""Environments by name."""

from env.foreign import Guarded, load_factory
from env.oracle.kinematics import InverseKinematics
from env.oracle.starts import ScriptedStarts
from env.protocol import EnvError, GoalEnv
from env.so101.model import ArmModel
from env.tasks.base import ArmTask, Reward, TaskConfig
from env.tasks.pick_place import PickPlace
from env.tasks.push import Push
from env.tasks.reach import Reach

TASKS: dict[str, type[ArmTask]] = {"reach": Reach, "push": Push, "pick-place": PickPlace}


def is_custom(name: str) -> bool:
    return ":" in name


def make_envs(name: str, count: int, task: TaskConfig, reward: Reward) -> list[GoalEnv]:
    """Makes `count` environments. Those of a built-in task share one MjModel. Raises EnvError.

    name: a built-in task, or MODULE:CALLABLE, which is called once for each environment. `task` and `reward` belong to
    the built-in tasks.
    """
    if is_custom(name):
        factory = load_factory(name)
        try:
            envs = [factory() for _ in range(count)]
        except Exception as error:  # other people's code fails in its own ways; the sentence says in which
            status = 1 if isinstance(error, OSError) else 2
            raise EnvError(f"--env {name}: calling it failed: {type(error).__name__}: {error}", status) from error
        if len(set(map(id, envs))) < count:
            raise EnvError(f"--env {name}: it returned the same object twice; each call must make an environment")
        return [Guarded(env, name) for env in envs]
    if name not in TASKS:
        raise EnvError(f"--env {name}: no such task; there are {', '.join(TASKS)}, or MODULE:CALLABLE for your own")
    kind = TASKS[name]
    model = ArmModel.load(kind.has_cube)
    envs = [kind(model, task, reward) for _ in range(count)]
    if task.scripted_starts:
        if not kind.has_cube:
            raise EnvError(f"--task.scripted-starts {task.scripted_starts}: {name} has no cube to be grasped")
        ik = InverseKinematics(model)
        for env in envs:
            env.starts = ScriptedStarts(ik, task.scripted_starts, task.scripted_until / count, task.scripted_astray)
    return envs
