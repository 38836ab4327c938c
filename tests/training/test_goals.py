"""Goals of the run's own choice: which episodes get one, which they are, and what judges them."""

import copy
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import train
from her import HERConfig
from sac import SACConfig
from training.goals import GoalChooser
from training.recipes import PICK_PLACE, PUSH, recipe
from training.state import TrainingState

CPU = torch.device("cpu")


@pytest.fixture
def trained(point_env, monkeypatch):
    """trained(steps=120, name="PointEnv", **options): a state after that many steps, and its configuration."""
    monkeypatch.setitem(sys.modules, "point_env", point_env)

    def make(steps: int = 120, name: str = "PointEnv", **options):
        usual = {"num_envs": 4, "warmup": 80, "batch_size": 16, "overlap": False, "sac": SACConfig(hidden=(8,))}
        config = replace(recipe(f"point_env:{name}"), **(usual | options))
        state = TrainingState.new(config, CPU)
        while state.env_steps < steps:
            train.collect_and_learn(state, config)
        return state, config

    return make


def chosen_goals(state, config, times: int = 50):
    """Returns how an episode begins (…, G), and what the chooser makes of its goal, (…, G) and (…) bool, often."""
    begins, goals, chosen = [], [], []
    for seed in range(times):
        state.envs.reset(list(range(4 * seed, 4 * seed + 4)))
        obs = copy.deepcopy(state.envs.obs)
        state.goals.forget(range(4))
        state.goals.put_into(obs, state.replay(config))
        begins.append(obs["achieved_goal"])
        goals.append(obs["desired_goal"])
        chosen.append(state.goals.chosen.copy())
    return np.concatenate(begins), np.concatenate(goals), np.concatenate(chosen)


def test_before_the_first_stored_episode_all_goals_are_the_environments(trained):
    state, config = trained(40)
    assert state.goals.share == 0.9
    assert not chosen_goals(state, config)[2].any()


def test_goals_of_the_runs_own_are_not_met_where_the_episode_begins_and_lie_on_a_stored_way_from_there(trained):
    state, config = trained()
    begins, goals, chosen = chosen_goals(state, config)
    way = (goals - begins)[chosen]
    assert chosen.sum() > 100
    assert (state.relabel_env.compute_reward(begins[chosen], goals[chosen], {}) == -1).all()
    buffer = state.buffer
    rows = np.flatnonzero(buffer.steps_after > 0)
    places = buffer.rows["achieved_goal"]
    stored = places[rows + 1] - places[rows - buffer.steps_before[rows]]
    assert (np.abs(stored[None] - way[:, None]).max(-1).min(1) < 1e-5).all()


@pytest.mark.parametrize("met", [0.0, 0.5, 1.0])
def test_the_share_of_them_falls_as_the_environments_goals_are_met(trained, met):
    state, config = trained()
    state.goals.successes.clear()
    state.goals.successes.extend([1.0] * int(50 * met) + [0.0] * int(50 * (1 - met)))
    assert chosen_goals(state, config)[2].mean() == pytest.approx(0.9 * (1 - met), abs=0.12)


def test_only_an_episode_that_begins_gets_another_goal(trained):
    state, config = trained()
    before, replay = state.goals.goals.copy(), state.replay(config)
    state.goals.begins[:] = [True, False, False, False]
    rng = state.goals.rng.bit_generator.state
    state.goals.chosen[:] = True
    obs = copy.deepcopy(state.envs.obs)
    state.goals.put_into(obs, replay)
    np.testing.assert_array_equal(obs["desired_goal"][1:], before[1:])
    assert state.goals.rng.bit_generator.state != rng
    assert not state.goals.begins.any()


def test_rewards_success_and_what_is_stored_are_told_by_the_chosen_goal(trained):
    state, config = trained()
    chooser, replay = state.goals, state.replay(config)
    chooser.successes.clear()
    chooser.chosen[:] = [True, True, False, False]
    achieved = np.zeros((4, 2), np.float32)
    chooser.goals[:] = [[0.05, 0], [0.5, 0], [9, 9], [9, 9]]
    real = np.array([[7, 7], [0, 0], [0, 0], [7, 7]], np.float32)
    step = SimpleStep(achieved, real)
    judged = chooser.judged(step, replay)
    assert judged.success.tolist() == [True, False, True, False]
    assert judged.reward.tolist() == [0, -1, 0, -1]
    np.testing.assert_array_equal(judged.next_obs["desired_goal"], [*chooser.goals[:2], *real[2:]])
    np.testing.assert_array_equal(step.next_obs["desired_goal"], real)  # the environments' own stays
    assert list(chooser.successes) == [1.0, 0.0]  # of the environments' goals alone
    assert chooser.begins.all()


def test_an_end_by_the_environments_own_goal_is_none_of_the_chosen_goals(trained):
    state, config = trained()
    chooser = state.goals
    chooser.chosen[:] = [True, True, False, False]
    step = SimpleStep(np.zeros((4, 2), np.float32), np.array([[7, 7], [0, 0], [0, 0], [7, 7]], np.float32))
    step.terminated[:], step.truncated[:] = True, False
    judged = chooser.judged(step, state.replay(config))
    assert judged.terminated.tolist() == [True, False, True, True]  # the first ended by something else
    assert judged.truncated.tolist() == [False, True, False, False]
    assert step.terminated.all()


class SimpleStep(SimpleNamespace):
    """A last step of episodes: by the environments' own goals, the second and the third meet it."""

    def __init__(self, achieved, desired):
        reward = -(np.linalg.norm(achieved - desired, axis=-1) > 0.1).astype(np.float32)
        super().__init__(
            next_obs={"observation": achieved, "achieved_goal": achieved, "desired_goal": desired},
            reward=reward,
            success=reward == 0,
            terminated=np.zeros(4, bool),
            truncated=np.ones(4, bool),
            diverged=np.zeros(4, bool),
            begun=np.ones(4, bool),
            info={},
        )

    def _replace(self, **changes):
        return SimpleNamespace(**(vars(self) | changes))


def test_an_episode_is_stored_with_the_goal_that_it_pursued(trained):
    state, _ = trained(800)
    goals = state.buffer.rows["desired_goal"]
    starts = np.flatnonzero((state.buffer.steps_before == 0) & (state.buffer.steps_after > 0))
    for start in starts:
        rows = slice(start, start + state.buffer.steps_after[start] + 1)
        assert (goals[rows] == goals[start]).all()
        paid = state.buffer.rows["reward"][start : rows.stop - 1]
        reached = state.buffer.rows["achieved_goal"][start + 1 : rows.stop]
        np.testing.assert_array_equal(paid, state.relabel_env.compute_reward(reached, goals[start], {}))
    assert np.abs(goals[starts]).max() > 1  # PointEnv's own lie in [-1, 1]


def test_a_restored_chooser_goes_on_with_the_same_bits_from_a_state_that_is_a_snapshot(trained):
    state, config = trained()
    saved = state.goals.state_dict()
    restored = GoalChooser(4, 2, state.goals.share, np.random.default_rng(99))
    before = copy.deepcopy(saved)
    first = chosen_goals(state, config)
    np.testing.assert_equal(saved, before)
    restored.load_state_dict(saved)
    np.testing.assert_equal(restored.state_dict(), before)
    state.goals = restored
    for one, other in zip(first, chosen_goals(state, config), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "options", [{"her": HERConfig(strategy="none")}, {"her": HERConfig(proposed_goals=0.0)}, {"name": "Dense"}]
)
def test_none_are_chosen_without_hindsight_where_rewards_take_more_than_two_values_or_where_asked_not_to(
    trained, point_env, monkeypatch, options
):
    class Dense(point_env.PointEnv):
        def compute_reward(self, achieved_goal, desired_goal, info):
            return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)

    monkeypatch.setattr(point_env, "Dense", Dense, raising=False)
    state, config = trained(**options)
    assert not chosen_goals(state, config)[2].any()


def test_none_are_chosen_where_meeting_a_goal_ends_the_episode(trained):
    state, config = trained()
    state.relabel_env.met_goals_end_episodes = True  # as a run finds out (test_train.py)
    assert not chosen_goals(state, config)[2].any()


@pytest.mark.parametrize("config", [PUSH, PICK_PLACE], ids=["push", "pick-place"])
def test_tasks_whose_episodes_begin_midway_choose_none(config):
    assert TrainingState.new(replace(config, num_envs=1, overlap=False), CPU).goals.share == 0
