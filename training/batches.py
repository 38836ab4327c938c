"""Turns stored episodes into what the agent learns from."""

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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws rows (B,), the goals that they are taught (B, G), and which of these are hindsight's (B,): her.sample."""
    return her.sample(buffer, size, config.her, getattr(relabel_env, "is_success", None), env_steps)


def to_batches(
    buffer: her.ReplayBuffer,
    relabel_env: GoalEnv,
    config: TrainConfig,
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
    count: int,
    goal_scale: float,
    device: torch.device,
) -> Batch:
    """Turns K · B transitions that were drawn into K batches (K, B, …) of the plain ones that SAC learns from.

    Raises EnvError where `relabel_env` gives a reward that is not finite.
    """
    rows, goals, _ = drawn
    terminates = getattr(relabel_env, "compute_terminated", None)
    reward, terminated, steps = her.n_step_return(
        buffer, *drawn, getattr(relabel_env, "compute_reward", None), terminates, config.gamma, config.n_step
    )
    if not np.isfinite(reward).all():
        raise EnvError(f"compute_reward of {config.env} returned a number that is not finite for a hindsight goal")
    observation, achieved_goal = buffer.rows["observation"], buffer.rows["achieved_goal"]
    arrays = Batch(
        obs=her.policy_input(observation[rows], achieved_goal[rows], goals, goal_scale),
        action=buffer.rows["action"][rows],
        reward=reward,
        next_obs=her.policy_input(observation[rows + steps], achieved_goal[rows + steps], goals, goal_scale),
        terminated=terminated.astype(np.float32),
        discount=(config.gamma**steps).astype(np.float32),
    )
    # Each K-th row to the same batch: the relabelled rows come first, and every batch is to have its share of them.
    dealt = (np.ascontiguousarray(array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1)) for array in arrays)
    return Batch(*(torch.from_numpy(array).to(device) for array in dealt))
