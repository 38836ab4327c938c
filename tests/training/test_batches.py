"""From stored episodes to the agent's batches."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from env import EnvError, probe
from her import HERConfig
from training.batches import draw, to_batches
from training.recipes import recipe
from training.setup import make_buffer

CONFIG = replace(recipe("point_env:PointEnv"), num_envs=1, n_step=2, gamma=0.9, her=HERConfig(k=3.0, capacity=500))
LENGTH = 20


@pytest.fixture
def stored(point_env):
    """Its environment, and a buffer with ten episodes of it in which row r has seen the number r."""
    env = point_env.PointEnv()
    buffer = make_buffer(CONFIG, probe(env, CONFIG.env), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for episode in range(10):
        obs, _ = env.reset(seed=episode)
        for _ in range(LENGTH):
            action = rng.uniform(-1, 1, 2)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            ended = {"terminated": np.array([terminated]), "truncated": np.array([truncated])}
            step = SimpleNamespace(next_obs=next_obs, reward=reward, info={}, diverged=np.array([False]), **ended)
            buffer.add(obs, action, step)
            obs = next_obs
    buffer.rows["observation"][:] = np.arange(500)[:, None]
    return buffer, env


def test_batches_are_dealt_so_that_each_has_its_share_of_hindsight_and_rows_stay_whole(stored):
    buffer, env = stored
    count, size = 3, 12
    rows, goals, relabelled = drawn = draw(buffer, env, CONFIG, 0, count * size)
    assert relabelled.sum() == count * size * 3 // 4
    dealt = to_batches(buffer, env, CONFIG, drawn, count, 10.0, torch.device("cpu"))
    assert dealt.obs.shape == (count, size, 4)
    for k in range(count):
        for i in range(size):
            j = i * count + k  # each third row goes to the same batch
            row, goal = int(rows[j]), goals[j]
            steps = min(CONFIG.n_step, int(buffer.steps_after[row]))
            achieved = buffer.rows["achieved_goal"][row : row + steps + 1]
            assert dealt.obs[k, i, 0] == row
            assert dealt.next_obs[k, i, 0] == row + steps
            for inputs, reached in ((dealt.obs, achieved[0]), (dealt.next_obs, achieved[-1])):
                np.testing.assert_allclose(inputs[k, i, 2:], 10 * (goal - reached), rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(dealt.action[k, i], buffer.rows["action"][row])
            paid = sum(0.9**n * env.compute_reward(achieved[n + 1], goal, {}) for n in range(steps))
            assert dealt.reward[k, i].item() == pytest.approx(paid, abs=1e-5)
            assert dealt.discount[k, i].item() == pytest.approx(0.9**steps)
            assert dealt.terminated[k, i] == 0
    assert relabelled.reshape(size, count).sum(0).tolist() == [9, 9, 9]


def test_a_hindsight_reward_that_is_not_finite_is_blamed_on_the_environment(stored, monkeypatch):
    buffer, env = stored
    drawn = draw(buffer, env, CONFIG, 0, 16)
    monkeypatch.setattr(env, "compute_reward", lambda achieved, desired, info: np.full(len(achieved), np.nan))
    with pytest.raises(EnvError, match="compute_reward of point_env:PointEnv returned a number that is not finite"):
        to_batches(buffer, env, CONFIG, drawn, 1, 1.0, torch.device("cpu"))
