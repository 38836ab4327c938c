"""Rollouts, and what is said of them."""

import numpy as np
import pytest

from env import SimulationDiverged, TaskConfig, make_envs
from training.evaluation.rollout import Episode, record_episodes, run_episodes, summarise
from training.evaluation.statistics import mean_interval, wilson_interval


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
    assert (
        mean_interval(np.array([2.0])) == mean_interval(np.array([2.0, 2.0])) == {"mean": 2.0, "low": 2.0, "high": 2.0}
    )
    interval = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    half = 1.96 * np.sqrt(5 / 3) / 2
    assert [interval[key] for key in ("mean", "low", "high")] == pytest.approx([2.5, 2.5 - half, 2.5 + half], abs=1e-4)


def test_the_summary_tells_held_from_once():
    episodes = [Episode(True, True, -1.0, 10), Episode(False, True, -3.0, 10), Episode(False, False, -5.0, 10)]
    summary = summarise(episodes)
    assert summary["success"]["rate"] == pytest.approx(1 / 3)
    assert summary["success_once"]["rate"] == pytest.approx(2 / 3)
    assert summary["return"]["mean"] == pytest.approx(-3.0)
    assert "funnel" not in summary
    assert "largest" not in summary


def info(success=False, depth=None, **stages):
    metrics = {} if depth is None else {"depth_mm_max": depth, "speed": 1e6}
    return {"is_success": success, "metrics": metrics, "stages": stages}


def test_an_episode_is_the_sum_of_its_steps():
    episode = Episode()
    for reward, step in (
        (-1.0, info(False, -3.0, touched=False, lifted=False)),
        (0.0, info(True, -1.0, touched=True, lifted=False)),
        (-1.0, info(False, -2.0, touched=False, lifted=False)),
    ):
        episode = episode.after(reward, step)
    assert episode == Episode(False, True, -2.0, 3, {"touched": True, "lifted": False}, {"depth_mm": -1.0})


def test_an_episode_without_stages_and_metrics_is_one_too():
    assert Episode().after(-1.0, {"is_success": True}) == Episode(True, True, -1.0, 1, {}, {})


def test_the_funnel_is_the_share_of_episodes_that_went_through_each_stage():
    steps = (
        [info(True, 0.5, touched=True, placed=True), info(True, 0.25, touched=False, placed=True)],
        [info(True, 0.75, touched=True, placed=True), info(False, 0.0, touched=True, placed=False)],
        [info(False, 0.125, touched=True, placed=False)],
        [info(False, 0.0, touched=False, placed=False)],
    )
    episodes = []
    for infos in steps:
        episode = Episode()
        for step in infos:
            episode = episode.after(-1.0, step)
        episodes.append(episode)
    summary = summarise(episodes)
    assert summary["funnel"] == {"touched": 0.75, "placed": 0.5, "held": 0.25}
    assert list(summary["funnel"]) == ["touched", "placed", "held"]
    assert summary["largest"] == {"depth_mm": 0.75}


def test_the_largest_of_negative_values_is_negative_and_an_episode_cut_short_has_none():
    episodes = [Episode().after(0.0, info(depth=-2.0)), Episode(), Episode().after(0.0, info(depth=-3.0))]
    assert summarise(episodes)["largest"] == {"depth_mm": -2.0}


def test_an_episode_that_diverges_keeps_what_it_went_through_and_has_failed():
    (task,) = make_envs("pick-place", 1, TaskConfig(max_episode_steps=5), "sparse")

    class Failing:
        reset = task.reset

        def step(self, action):
            if task.steps == 3:
                raise SimulationDiverged("on purpose")
            obs, reward, terminated, truncated, told = task.step(action)
            return obs, reward, terminated, truncated, told | {"is_success": True, "stages": {"reached": True}}

    env = Failing()
    (episode,) = run_episodes([env], drift, 1, seed=0)
    assert (episode.success, episode.success_once, episode.length, episode.stages) == (
        False,
        True,
        4,
        {"reached": True},
    )


def test_run_episodes_tells_the_stages_and_the_largest_of_each_episode():
    envs = make_envs("pick-place", 2, TaskConfig(max_episode_steps=5), "sparse")
    for episode in run_episodes(envs, drift, 3, seed=0):
        assert tuple(episode.stages) == envs[0].stages
        assert episode.largest == {"penetration_mm": 0.0}


def test_an_episode_depends_on_its_own_seed_alone():
    envs = make_envs("reach", 4, TaskConfig(max_episode_steps=12), "sparse-reach")
    together = list(run_episodes(envs, drift, 6, seed=100))
    alone = [next(run_episodes(envs[:1], drift, 1, seed=100 + i)) for i in range(6)]
    assert together == alone
    assert len({episode.ret for episode in together}) == 6


def test_recorded_episodes_are_the_evaluated_ones(monkeypatch):
    (env,) = make_envs("reach", 1, TaskConfig(max_episode_steps=5), "sparse")
    points = []
    monkeypatch.setattr(env, "render", lambda: points.append(env.sim.grasp_point.copy()))
    assert len(list(record_episodes(env, drift, 2, seed=7))) == 12
    list(run_episodes([env], drift, 2, seed=7))
    np.testing.assert_array_equal(points[-1], env.sim.grasp_point)


def test_an_episode_that_cannot_begin_has_failed_and_is_no_picture():
    class Broken:
        def reset(self, seed):
            raise SimulationDiverged("no start")

    episodes = list(run_episodes([Broken()], lambda inputs: inputs, 2, seed=0))
    assert [(episode.success, episode.length) for episode in episodes] == [(False, 0)] * 2
    assert list(record_episodes(Broken(), lambda inputs: inputs, 2, seed=0)) == []
