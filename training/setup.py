"""From a configuration to environments and an agent: the same for training and for evaluating."""

from dataclasses import replace
from pathlib import Path

import torch

from checkpoints import Manifest
from env import EnvSpec, GoalEnv, GoalKind, TaskConfig, VectorEnv, VectorEnvProcess, make_envs, make_vector, probe
from env.make import TASKS
from env.probe import return_range
from sac import SAC
from training.config import ConfigError, TrainConfig, config_from_dict


def trained_with(manifest: Manifest, path: Path) -> TrainConfig:
    """The configuration of the run that made the checkpoint at `path`. Raises ConfigError."""
    return config_from_dict({key: value for key, value in manifest.config.items() if key != "command"}, path)


def training_environments(config: TrainConfig, spec: EnvSpec) -> VectorEnv | VectorEnvProcess:
    """The environments that the run learns in: in a process of their own, or in this one. Raises EnvError."""
    make = VectorEnvProcess if config.overlap else make_vector
    return make(config.env, config.num_envs, config.task, config.reward, spec)


def evaluation_environments(config: TrainConfig, count: int, goal: GoalKind | None) -> tuple[list[GoalEnv], EnvSpec]:
    """`count` environments of the run's task with goals of kind `goal`, and their sizes: episodes begin in the task's
    own start state, whatever training does. Raises EnvError."""
    envs = make_envs(config.env, count, evaluated_task(config.task, goal), config.reward)
    return envs, probe(envs[0], config.env)


def evaluated_task(task: TaskConfig, goal: GoalKind | None) -> TaskConfig:
    """What evaluations make of the task that is trained on."""
    return replace(task, goal=goal, scripted_starts=None)


def evaluation_goal(env: str, asked: GoalKind | None) -> GoalKind | None:
    """The kind of goals to evaluate on: what was asked for, else the task's own; None for other people's tasks."""
    return asked or (TASKS[env].goal_kinds[0] if env in TASKS else None)


def make_agent(config: TrainConfig, env: GoalEnv, spec: EnvSpec, device: torch.device, seed: int) -> SAC:
    """An untrained agent that fits the environment. Raises ConfigError where its networks do not fit into memory,
    EnvError."""
    try:
        return SAC(
            spec.obs_dim + spec.goal_dim, spec.action_dim, config.sac, return_range(env, config.sac.gamma), device, seed
        )
    except RuntimeError as error:  # what PyTorch raises when an allocation fails
        raise ConfigError(f"--sac.hidden {config.sac.hidden}: no such networks on {device}: {error}") from error
