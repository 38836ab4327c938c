"""Looks inside a run for its curves, through generators of its own: the run goes on as if nobody had looked."""

import numpy as np
import torch

import her
from sac import SAC, Batch, Inspection, inspect
from training.batches import Replay
from training.config import TrainConfig
from training.curves.pictures import goal_coverage


def look_inside(agent: SAC, replay: Replay, config: TrainConfig, env_steps: int) -> Inspection:
    """Returns curves and histograms, by their tags, of what hindsight and the agent look like by now.

    Needs stored episodes.
    """
    rng = np.random.default_rng((config.seed, env_steps))
    replay, goals = replay.drawn_by(rng), {}
    if replay.judge.goal_dim:
        health = her.goal_health(replay.buffer, 1024, config.her, getattr(replay.judge, "is_success", None))
        goals = {f"her/{name}": value for name, value in health.items()}
    if not agent.updates:
        return Inspection(goals, {})
    batches = replay.to_batches(replay.draw(config.batch_size), 1, agent.device)
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
