"""Rollouts and their statistics."""

import numpy as np
import pytest

from env import TaskConfig, make_envs
from training.evaluation import Episode, mean_interval, record_episodes, run_episodes, summarise, wilson_interval


def drift(inputs):
    """A deterministic policy that depends on what it sees."""
    return np.tanh(inputs[:, :6] + inputs[:, -3:].repeat(2, axis=1)).astype(np.float32)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_is_the_published_one(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_mean_interval_is_the_normal_one():
    interval = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    half = 1.96 * np.sqrt(5 / 3) / 2
    assert [interval[key] for key in ("mean", "low", "high")] == pytest.approx([2.5, 2.5 - half, 2.5 + half], abs=1e-4)


def test_the_summary_tells_held_from_once():
    episodes = [Episode(True, True, -1.0, 10), Episode(False, True, -3.0, 10), Episode(False, False, -5.0, 10)]
    summary = summarise(episodes)
    assert summary["success"]["rate"] == pytest.approx(1 / 3)
    assert summary["success_once"]["rate"] == pytest.approx(2 / 3)
    assert summary["return"]["mean"] == pytest.approx(-3.0)


def test_an_episode_depends_on_its_own_seed_alone():
    envs = make_envs("reach", 4, TaskConfig(max_episode_steps=12), "sparse-reach", 0.98)
    together = list(run_episodes(envs, drift, 10.0, 6, seed=100))
    alone = [next(run_episodes(envs[:1], drift, 10.0, 1, seed=100 + i)) for i in range(6)]
    assert together == alone
    assert len({episode.ret for episode in together}) == 6


def test_recorded_episodes_are_the_evaluated_ones(monkeypatch):
    (env,) = make_envs("reach", 1, TaskConfig(max_episode_steps=5), "sparse", 0.98)
    points = []
    monkeypatch.setattr(env, "render", lambda: points.append(env.sim.grasp_point.copy()))
    assert len(list(record_episodes(env, drift, 10.0, 2, seed=7))) == 12
    list(run_episodes([env], drift, 10.0, 2, seed=7))
    np.testing.assert_array_equal(points[-1], env.sim.grasp_point)
