"""The sums behind the curves."""

import numpy as np
import pytest
import torch

from env import VectorStep
from training.curves.meters import RolloutMeter, UpdateMeter

NONE = np.zeros(2, bool)
"""Whose goals the run chose."""
GOES_ON, ENDS = [False, False], [True, True]


def step(reward, ended, success=(False, False), diverged=(False, False), height=(0.0, 0.0)):
    """The stage "lifted" is a height of more than 1."""
    return VectorStep(
        next_obs={},
        reward=np.array(reward, np.float32),
        terminated=np.zeros(2, bool),
        truncated=np.array(ended),
        success=np.array(success),
        diverged=np.array(diverged),
        info={},
        metrics={"height": np.array(height), "height_max": np.array(height)},
        stages={"lifted": np.array(height) > 1},
    )


def test_returns_and_lengths_are_those_of_whole_episodes():
    meter = RolloutMeter(2)
    meter.add(step([-1, -1], [False, True], height=(0.0, 3.0)), NONE)
    meter.add(step([-1, -2], [True, False], success=(True, False), height=(4.0, 1.0)), NONE)
    values = meter.values()
    assert values["rollout/ep_rew_mean"] == pytest.approx((-1 - 2) / 2)
    assert values["rollout/ep_len_mean"] == pytest.approx(1.5)
    assert values["rollout/success_rate"] == pytest.approx(0.5)
    assert values["env/height"] == pytest.approx((3.0 + 2.0) / 2)


def test_a_diverged_episode_is_counted_and_enters_no_mean():
    meter = RolloutMeter(2)
    meter.add(step([-50, -1], [False, False]), NONE)
    meter.add(step([0, -1], [False, False], diverged=(True, False)), NONE)
    meter.add(step([-1, -1], [True, True]), NONE)
    assert meter.values()["env/diverged_episodes"] == 1
    assert meter.values()["rollout/ep_rew_mean"] == pytest.approx((-1 - 3) / 2)


def test_a_maximum_is_the_largest_of_an_episodes_steps_and_the_curve_their_mean():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], GOES_ON, height=(2.0, 0.5)), NONE)
    meter.add(step([0, 0], GOES_ON, height=(5.0, 0.25)), NONE)
    meter.add(step([0, 0], ENDS, height=(3.0, 0.125)), NONE)
    assert meter.values()["env/height_max"] == pytest.approx((5.0 + 0.5) / 2)
    assert meter.values()["env/height"] == pytest.approx((10.0 / 3 + 0.875 / 3) / 2)


def test_only_a_name_that_ends_in_max_is_a_maximum():
    meter = RolloutMeter(2)
    for value, ended in ((1.0, GOES_ON), (3.0, ENDS)):
        values = np.full(2, value)
        metrics = {"max_height": values, "maximum": values, "height_max_mm": values, "height_max": values}
        meter.add(step([0, 0], ended)._replace(metrics=metrics), NONE)
    curves = {name: value for name, value in meter.values().items() if "max" in name}
    assert curves == {"env/max_height": 2.0, "env/maximum": 2.0, "env/height_max_mm": 2.0, "env/height_max": 3.0}


def test_a_maximum_may_be_negative():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], GOES_ON, height=(-2.0, -7.0)), NONE)
    meter.add(step([0, 0], [True, False], height=(-3.0, -6.0)), NONE)
    assert meter.values()["env/height_max"] == -2.0
    meter.add(step([0, 0], ENDS, height=(-4.0, -8.0)), NONE)  # of the first, a new episode: the old -2 is forgotten
    assert meter.values()["env/height_max"] == pytest.approx((-2.0 - 4.0 - 6.0) / 3)


def test_a_metric_is_that_of_the_steps_and_environments_that_report_it():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], GOES_ON, height=(np.nan, -5.0)), NONE)
    meter.add(step([0, 0], ENDS, height=(np.nan, np.nan)), NONE)
    assert meter.values()["env/height"] == meter.values()["env/height_max"] == -5.0
    meter.add(step([0, 0], GOES_ON, height=(-1.0, np.nan)), NONE)
    meter.add(step([0, 0], ENDS, height=(-3.0, np.nan)), NONE)
    assert meter.values()["env/height"] == (-5.0 - 2.0) / 2
    assert meter.values()["env/height_max"] == (-5.0 - 1.0) / 2
    assert meter.values()["rollout/ep_len_mean"] == 2


def test_a_metric_that_the_last_step_does_not_report_is_there_all_the_same():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], GOES_ON, height=(4.0, 6.0)), NONE)
    meter.add(step([0, 0], ENDS)._replace(metrics={}), NONE)
    assert meter.values()["env/height"] == meter.values()["env/height_max"] == 5.0


def test_a_stage_counts_where_it_happened_at_any_step_of_the_episode():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], GOES_ON, height=(2.0, 0.0)), NONE)  # lifted here, and let fall again
    meter.add(step([0, 0], GOES_ON), NONE)
    meter.add(step([0, 0], ENDS), NONE)
    assert meter.values()["funnel/1_lifted"] == 0.5
    meter.add(step([0, 0], ENDS, height=(0.0, 2.0)), NONE)
    assert meter.values()["funnel/1_lifted"] == 0.5  # 2 of 4: what an episode went through does not pass to the next
    meter.add(step([0, 0], ENDS), NONE)
    assert meter.values()["funnel/1_lifted"] == pytest.approx(2 / 6)


def test_held_is_success_at_the_last_step():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], GOES_ON, success=(True, True)), NONE)
    meter.add(step([0, 0], ENDS, success=(True, False)), NONE)
    assert meter.values()["funnel/2_held"] == meter.values()["rollout/success_rate"] == 0.5


def test_the_funnel_looks_at_the_last_hundred_episodes():
    meter = RolloutMeter(2)
    for lifted in [True] * 30 + [False] * 40:
        meter.add(step([0, 0], ENDS, success=(lifted, lifted), height=(2.0 * lifted, 2.0 * lifted)), NONE)
    assert meter.values()["funnel/1_lifted"] == meter.values()["funnel/2_held"] == 20 / 100


def test_divergence_forgets_what_the_episode_went_through():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], GOES_ON, height=(9.0, 0.0)), NONE)
    meter.add(step([0, 0], GOES_ON, diverged=(True, False), height=(0.0, 2.0)), NONE)
    assert "funnel/1_lifted" not in meter.values()
    meter.add(step([0, 0], ENDS, height=(-3.0, -3.0)), NONE)
    assert meter.values()["funnel/1_lifted"] == 0.5
    assert meter.values()["env/height_max"] == pytest.approx((-3.0 + 2.0) / 2)
    assert meter.values()["env/height"] == pytest.approx((-3.0 - 1.0 / 3) / 2)


def test_a_task_without_stages_has_no_funnel():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], ENDS)._replace(stages={}, metrics={}), NONE)
    assert not any(name.startswith(("funnel/", "env/height")) for name in meter.values())


def test_moved_goals_are_counted():
    meter = RolloutMeter(1)
    assert meter.goal_moved_rate is None
    for distance, moved in ((0.0, False), (0.009, False), (0.011, True), (0.2, True)):
        meter.add_displacement(distance, moved)
    assert meter.episodes_moved == 2
    assert meter.goal_moved_rate == 0.5
    assert meter.values()["her/goal_displacement"] == pytest.approx(0.055)


def test_success_at_goals_of_the_runs_own_choice_is_a_curve_of_its_own():
    meter = RolloutMeter(2)
    meter.add(step([0, 0], ENDS, success=(True, False)), np.array([True, False]))
    meter.add(step([0, 0], [True, False], success=(True, True)), np.array([False, True]))
    values = meter.values()
    assert values["goals/success_rate"] == 1.0
    assert values["rollout/success_rate"] == 0.5
    assert values["goals/chosen_share"] == pytest.approx(1 / 3)


def test_how_episodes_with_goals_of_the_runs_own_end_tells_nothing_of_the_environments():
    meter = RolloutMeter(2)
    for met in (False, True):
        ended = step([0, 0], GOES_ON, success=(met, True))._replace(terminated=np.array([True, True]))
        meter.add(ended, np.array([True, False]))
    meter.add(step([0, 0], GOES_ON, success=(True, False)), np.array([True, False]))
    assert meter.met_goals_end_episodes


def test_a_step_without_success_is_counted_all_the_same():
    meter = RolloutMeter(2)
    meter.add(step([1, 2], ENDS)._replace(success=None), NONE)
    assert meter.values()["rollout/ep_rew_mean"] == 1.5
    assert not meter.met_goals_end_episodes


def test_a_restored_meter_goes_on_as_the_old_one():
    meter, restored = RolloutMeter(2), RolloutMeter(2)
    meter.add(step([-1, -1], [False, True], height=(-2.0, 0.0)), NONE)
    meter.add(step([-1, -1], GOES_ON, height=(2.0, -2.0)), NONE)
    meter.add_displacement(0.02, True)
    restored.load_state_dict(meter.state_dict())
    for each in (meter, restored):
        each.add(step([-1, -1], ENDS, height=(0.0, -3.0)), NONE)
    assert restored.values() == meter.values()
    assert meter.values()["funnel/1_lifted"] == pytest.approx(1 / 3)
    assert meter.values()["env/height_max"] == pytest.approx((0.0 + 2.0 - 2.0) / 3)


def test_update_metrics_are_means_since_the_last_point():
    meter = UpdateMeter()
    for loss in (1.0, 3.0):
        meter.add({"loss": torch.tensor(loss)}, 1)
    assert meter.pop() == {"loss": 2.0}
    assert meter.pop() == {}
