"""Environments by name."""

from env.foreign import Guarded, blaming, load_factory
from env.oracle.kinematics import InverseKinematics
from env.oracle.starts import ScriptedStarts
from env.protocol import EnvError, GoalEnv
from env.so101.model import ArmModel
from env.tasks import TASKS
from env.tasks.base import Reward, TaskConfig

SEVERAL = "a run takes several: --num-envs to train in, others to evaluate, and one to judge hindsight's goals"


def is_custom(name: str) -> bool:
    """Tells whether `name` is MODULE:CALLABLE, and no built-in task."""
    return ":" in name


def make_envs(name: str, count: int, task: TaskConfig, reward: Reward) -> list[GoalEnv]:
    """Makes `count` environments. Those of a built-in task share one MjModel. Raises EnvError.

    name: a built-in task, or MODULE:CALLABLE, which is called once for each environment. `task` and `reward` belong to
    the built-in tasks.
    """
    if is_custom(name):
        factory = load_factory(name)
        envs = []
        for i in range(count):
            with blaming(name, f"making instance {i + 1} ({SEVERAL})" if i else "calling it"):
                envs.append(factory())
        if len(set(map(id, envs))) < count:
            told = "it returned the same object twice; each call must make an environment"
            raise EnvError(f"--env {name}: {told} ({SEVERAL})")
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
