"""Makes environments and an agent of a configuration, the same for training and for evaluating."""

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from checkpoints import Manifest
from env import (
    TASKS,
    EnvSpec,
    GoalEnv,
    GoalKind,
    TaskConfig,
    VectorEnv,
    VectorEnvWorkers,
    close_envs,
    is_custom,
    make_envs,
    make_vector,
    probe,
)
from errors import UserError
from her import ReplayBuffer
from sac import SAC
from training.config import TrainConfig
from training.recipes import from_stored

LEARNERS_CORES = 2
"""Cores that --env-workers auto leaves to the learner."""
ENVS_OF_A_WORKER = 4
"""Environments that it gives a process at least: what they compute together takes as long as the physics of two."""
LONGEST_HORIZON = 100
"""Steps. Beyond it critics learn from little but their own guesses."""


def trained_with(manifest: Manifest, path: Path) -> TrainConfig:
    """Returns the configuration of the run that made the checkpoint at `path`. Raises UserError."""
    return from_stored(manifest.config, path)


def training_environments(config: TrainConfig, spec: EnvSpec) -> VectorEnv | VectorEnvWorkers:
    """Makes the environments that the run learns in: in processes of their own, or in this one. Raises EnvError."""
    arguments = (config.env, config.num_envs, config.task, config.reward, spec, config.env_args)
    return VectorEnvWorkers(*arguments, workers=env_workers(config)) if config.overlap else make_vector(*arguments)


def env_workers(config: TrainConfig) -> int:
    """Returns how many processes the environments step in: as the run was told, or as many as are of use here."""
    if config.env_workers != "auto":
        return config.env_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - LEARNERS_CORES, config.num_envs // ENVS_OF_A_WORKER))


def evaluation_environments(config: TrainConfig, count: int, goal: GoalKind) -> tuple[list[GoalEnv], EnvSpec]:
    """Makes `count` environments of the run's task with goals of kind `goal`, and tries them.

    Episodes begin in the task's own start state, whatever training does. Raises EnvError.
    """
    # The built-in tasks need no second one, to judge what the first was paid.
    made = max(count, 2) if is_custom(config.env) else count
    envs = make_envs(config.env, made, evaluated_task(config.task, goal), config.reward, config.env_args)
    with ExitStack() as failed:
        failed.callback(close_envs, envs)
        spec = probe(envs[0], config.env, envs[-1], hindsight=config.her.strategy != "none")
        failed.pop_all()
    close_envs(envs[count:])
    return envs[:count], spec


def evaluated_task(task: TaskConfig, goal: GoalKind) -> TaskConfig:
    """Returns what evaluations make of the task that is trained on."""
    return replace(task, goal=goal, scripted_starts=0.0)


def evaluation_goal(env: str, asked: GoalKind) -> GoalKind:
    """Returns the kind of goals to evaluate on: what was asked for, where a built-in task has more than one word."""
    return TASKS[env].goal_kinds[0] if env in TASKS and asked == "own" else asked


def discount(config: TrainConfig, spec: EnvSpec) -> float:
    """Returns gamma, by default of a horizon 1 / (1 - gamma) that is half an episode long, and at most LONGEST."""
    if config.gamma != "auto":
        return float(config.gamma)
    return 1 - 1 / min(max(spec.max_episode_steps / 2, 2), LONGEST_HORIZON)


def make_agent(config: TrainConfig, spec: EnvSpec, device: torch.device, seed: int) -> SAC:
    """Makes an untrained agent for the environment. Raises UserError where its networks do not fit into memory."""
    try:
        inputs = spec.obs_dim + 3 * spec.goal_dim
        return SAC(inputs, spec.action_dim, config.sac, device, seed, graphs=config.graph == "auto")
    except RuntimeError as error:  # what PyTorch raises when an allocation fails
        raise UserError(f"--sac.hidden {config.sac.hidden}: no such networks on {device}: {error}") from error


def make_buffer(config: TrainConfig, spec: EnvSpec, rng: np.random.Generator) -> ReplayBuffer:
    """Makes an empty buffer that fits the environments. Raises UserError where not even one episode would fit in."""
    dims = {"observation": spec.obs_dim, "goal": spec.goal_dim, "action": spec.action_dim}
    try:
        return ReplayBuffer(config.her.capacity, config.num_envs, spec.max_episode_steps, dims, spec.info_shapes, rng)
    except (ValueError, MemoryError) as error:
        raise UserError(f"--her.capacity {config.her.capacity}: {error}") from error


def expected_sizes(agent: SAC, buffer: ReplayBuffer, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Returns {part: tree} of agent and buffer, with the shapes that the checkpoint of `manifest` must have."""
    # Generators of a CPU and of a GPU have states of different sizes.
    of_agent = {name: tree for name, tree in agent.state_dict().items() if name != "generator"}
    staging_rows = manifest.values.get("buffer", {}).get("staging_rows")
    return {"agent": of_agent, "buffer": buffer.sizes(staging_rows)}
