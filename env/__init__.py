"""The SO-101 arm in raw MuJoCo: simulation, tasks, and the protocol that any environment can follow."""

from env.so101.rendering import RenderingUnavailable, choose_backend

choose_backend()  # MuJoCo reads MUJOCO_GL when it is imported, which the next lines do

from env.make import DEFAULT_REWARD, TASKS, is_custom, make_envs  # noqa: E402
from env.probe import probe  # noqa: E402
from env.process import VectorEnvProcess, make_vector  # noqa: E402
from env.protocol import EnvError, EnvFailed, EnvSpec, GoalEnv  # noqa: E402
from env.so101.simulation import SimulationDiverged  # noqa: E402
from env.tasks.base import GoalKind, Reward, TaskConfig  # noqa: E402
from env.vector import VectorEnv, VectorStep  # noqa: E402

__all__ = [
    "DEFAULT_REWARD",
    "TASKS",
    "EnvError",
    "EnvFailed",
    "EnvSpec",
    "GoalEnv",
    "GoalKind",
    "RenderingUnavailable",
    "Reward",
    "SimulationDiverged",
    "TaskConfig",
    "VectorEnv",
    "VectorEnvProcess",
    "VectorStep",
    "is_custom",
    "make_envs",
    "make_vector",
    "probe",
]
