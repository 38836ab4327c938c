"""The sums behind the curves."""

import numpy as np
import pytest
import torch

from env import VectorStep
from training.meters import RolloutMeter, UpdateMeter


def step(reward, ended, success=(False, False), diverged=(False, False), height=(0.0, 0.0)):
    return VectorStep(
        next_obs={},
        reward=np.array(reward, np.float32),
        terminated=np.zeros(2, bool),
        truncated=np.array(ended),
        success=np.array(success),
        diverged=np.array(diverged),
        info={},
        metrics={"height": np.array(height)},
    )


def test_returns_and_lengths_are_those_of_whole_episodes():
    meter = RolloutMeter(2)
    meter.add(step([-1, -1], [False, True], height=(0.0, 3.0)))
    meter.add(step([-1, -2], [True, False], success=(True, False), height=(4.0, 1.0)))
    values = meter.values()
    assert values["rollout/ep_rew_mean"] == pytest.approx((-1 - 2) / 2)
    assert values["rollout/ep_len_mean"] == pytest.approx(1.5)
    assert values["rollout/success_rate"] == pytest.approx(0.5)
    assert values["env/height"] == pytest.approx((3.0 + 2.0) / 2)


def test_a_diverged_episode_is_counted_and_enters_no_mean():
    meter = RolloutMeter(2)
    meter.add(step([-50, -1], [False, False]))
    meter.add(step([0, -1], [False, False], diverged=(True, False)))
    meter.add(step([-1, -1], [True, True]))
    assert meter.values()["env/diverged_episodes"] == 1
    assert meter.values()["rollout/ep_rew_mean"] == pytest.approx((-1 - 3) / 2)


def test_moved_goals_are_counted_from_one_centimetre():
    meter = RolloutMeter(1)
    for metres in (0.0, 0.009, 0.011, 0.2):
        meter.add_displacement(metres)
    assert meter.episodes_moved == 2
    assert meter.goal_moved_rate == 0.5


def test_a_restored_meter_goes_on_as_the_old_one():
    meter, restored = RolloutMeter(2), RolloutMeter(2)
    meter.add(step([-1, -1], [False, True]))
    meter.add_displacement(0.02)
    restored.load_state_dict(meter.state_dict())
    for each in (meter, restored):
        each.add(step([-1, -1], [True, True]))
    assert restored.values() == meter.values()


def test_update_metrics_are_means_since_the_last_point():
    meter = UpdateMeter()
    for loss in (1.0, 3.0):
        meter.add({"loss": torch.tensor(loss)})
    assert meter.pop() == {"loss": 2.0}
    assert meter.pop() == {}
