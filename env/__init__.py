"""Simulates the SO-101 arm in raw MuJoCo, with its tasks, and states the protocol that any environment can follow."""

from env.so101.rendering import choose_backend

choose_backend()  # MuJoCo reads MUJOCO_GL when it is imported, which the next lines do

from env.check import probe  # noqa: E402
from env.foreign import empty_standard_input  # noqa: E402
from env.make import is_custom, keyword_arguments, make_envs  # noqa: E402
from env.packing import packed  # noqa: E402
from env.process import VectorEnvWorkers, make_vector  # noqa: E402
from env.protocol import EnvError, EnvSpec, GoalEnv, SimulationDiverged  # noqa: E402
from env.tasks import TASKS  # noqa: E402
from env.tasks.base import GoalKind, Reward, TaskConfig  # noqa: E402
from env.vector import VectorEnv, VectorStep, close_envs  # noqa: E402

__all__ = [
    "TASKS",
    "EnvError",
    "EnvSpec",
    "GoalEnv",
    "GoalKind",
    "Reward",
    "SimulationDiverged",
    "TaskConfig",
    "VectorEnv",
    "VectorEnvWorkers",
    "VectorStep",
    "close_envs",
    "empty_standard_input",
    "is_custom",
    "keyword_arguments",
    "make_envs",
    "make_vector",
    "packed",
    "probe",
]
