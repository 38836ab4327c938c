"""From stored episodes to what the agent learns from."""

import numpy as np
import torch

import her
from env import EnvError, GoalEnv
from sac import Batch
from training.config import TrainConfig

UPDATES_AT_ONCE = 16
"""Updates whose batches are drawn, relabelled and handed over together, at most."""


def draw(
    buffer: her.ReplayBuffer, relabel_env: GoalEnv, config: TrainConfig, env_steps: int, size: int
) -> her.GoalBatch:
    """Draws `size` transitions, relabelled as `config` asks for after `env_steps`, with rewards of `relabel_env`.

    Raises EnvError.
    """
    batch = her.sample(
        buffer,
        size,
        config.her,
        relabel_env.compute_reward,
        getattr(relabel_env, "compute_terminated", None),
        getattr(relabel_env, "is_success", None),
        gamma=config.gamma,
        n_step=config.n_step,
        env_steps=env_steps,
    )
    if not np.isfinite(batch.reward).all():
        raise EnvError(f"compute_reward of {config.env} returned a number that is not finite for a hindsight goal")
    return batch


def to_batches(batch: her.GoalBatch, count: int, goal_scale: float, device: torch.device) -> Batch:
    """Turns goal-conditioned transitions (K · B, …) into K batches (K, B, …) of the plain ones that SAC learns from."""
    arrays = (
        her.policy_input(batch.observation, batch.achieved_goal, batch.desired_goal, goal_scale),
        batch.action,
        batch.reward,
        her.policy_input(batch.next_observation, batch.next_achieved_goal, batch.desired_goal, goal_scale),
        batch.terminated,
        batch.discount,
    )
    # Each K-th row to the same batch: the relabelled rows come first, and every batch is to have its share of them.
    dealt = (np.ascontiguousarray(array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1)) for array in arrays)
    return Batch(*(torch.from_numpy(array).to(device) for array in dealt))
