"""Looks inside a run for its curves, through generators of its own: the run goes on as if nobody had looked."""

import numpy as np
import torch

import her
from env import GoalEnv
from sac import SAC, Batch, Inspection, inspect
from training.batches import draw, to_batches
from training.config import TrainConfig
from training.curves.pictures import goal_coverage


def look_inside(
    agent: SAC, buffer: her.ReplayBuffer, relabel_env: GoalEnv, config: TrainConfig, env_steps: int, goal_scale: float
) -> Inspection:
    """Returns curves and histograms, by their tags, of what hindsight and the agent look like by now.

    Needs stored episodes. goal_scale: see env/protocol.py.
    """
    rng = np.random.default_rng((config.seed, env_steps))
    view = buffer.drawn_by(rng)
    cell = 1 / (5 * goal_scale)  # a fifth of a typical distance of goals: 2 cm for the built-in tasks
    goals = {}
    if relabel_env.goal_dim:
        health = her.goal_health(view, 1024, config.her, getattr(relabel_env, "is_success", None), cell)
        goals = {f"her/{name}": value for name, value in health.items()}
    if not agent.updates:
        return Inspection(goals, {})
    drawn = draw(view, relabel_env, config, env_steps, config.batch_size)
    batches = to_batches(view, relabel_env, config, drawn, 1, goal_scale, agent.device)
    generator = torch.Generator(agent.device).manual_seed(int(rng.integers(2**63)))
    inspection = inspect(agent, Batch(*(array[0] for array in batches)), generator)
    return Inspection(goals | inspection.curves, inspection.histograms)


def draw_goals(buffer: her.ReplayBuffer, seed: int, env_steps: int) -> np.ndarray:
    """Draws a picture (H, W, 3) uint8 of the goals that stored episodes achieved, and of those they had.

    However many there are, it shows a sample of 20,000.
    """
    view = buffer.drawn_by(np.random.default_rng((seed, env_steps)))
    rows, columns = view.sample_rows(20_000), view.rows
    return goal_coverage(columns["achieved_goal"][rows], columns["desired_goal"][rows])
