"""A training episode tries a goal in the air again that another one missed."""

from itertools import pairwise

import numpy as np
import pytest

from env.so101.model import CUBE_HALF
from env.tasks.pick_place import FIXED_GOAL, MIX

STILL = np.zeros(6)


@pytest.fixture
def mixed(make_task):
    """Provides mixed(retry): pick-place on its mixture of goals. Episodes last 2 steps: all in the air are missed."""

    def make(retry):
        task = make_task("pick-place", goal="mix", retry_missed=retry, max_episode_steps=2)
        task.reset(seed=0)
        return task

    return make


def play(task):
    """Lets an episode pass. Returns its goal, m, and whether that was in the air and drawn at random."""
    goal = task.goal.copy()
    while not task.step(STILL)[3]:
        pass
    task.reset()
    return goal, goal[2] > CUBE_HALF and not np.array_equal(goal, FIXED_GOAL)


def goals_in_air(task, episodes):
    return [goal for goal, in_air in (play(task) for _ in range(episodes)) if in_air]


def repeats(goals):
    return np.mean([np.array_equal(goal, last) for last, goal in pairwise(goals)])


def test_a_missed_goal_is_the_next_one_in_the_air(mixed):
    goals = goals_in_air(mixed(1.0), 60)
    assert len(goals) > 20
    assert repeats(goals) > 0.9  # unless the cube begins there the next time


def test_it_is_so_with_the_probability_asked_for(mixed):
    assert repeats(goals_in_air(mixed(0.5), 600)) == pytest.approx(0.5, abs=0.1)
    assert repeats(goals_in_air(mixed(0.0), 200)) == 0


def test_a_missed_goal_waits_for_the_next_one_in_the_air(mixed):
    """The shares of the mixture are what they are without."""
    task = mixed(1.0)
    in_air = np.mean([play(task)[1] for _ in range(1000)])
    assert in_air == pytest.approx(MIX["air"], abs=0.05)


def test_a_place_that_cannot_be_reached_takes_at_most_four_times_its_share(mixed, monkeypatch):
    """Each of its goals comes 1 + 3/4 + 9/16 + … times, the others once."""

    def share(retry):
        task = mixed(retry)
        behind = lambda goal: goal[..., 1] < -0.15  # noqa: E731
        monkeypatch.setattr(task, "_met", lambda distance, desired, info: ~behind(desired))
        return np.mean([behind(goal) for goal in goals_in_air(task, 2000)])

    p = share(0.0)
    assert 0.05 < p < 0.3
    assert share(0.75) == pytest.approx(4 * p / (1 + 3 * p), abs=0.06)


def test_a_missed_goal_is_as_far_from_the_cube_as_any(mixed):
    task = mixed(0.75)  # always, it would be one goal from the first to the last
    nearest = 1.0
    for _ in range(2000):
        nearest = min(nearest, np.linalg.norm(task.goal - task.sim.cube_position))
        play(task)
    assert nearest >= 2 * task.threshold - 1e-3


def test_a_goal_that_is_met_at_the_end_is_not_tried_again(mixed, monkeypatch):
    task = mixed(1.0)
    monkeypatch.setattr(task, "_met", lambda distance, *_: np.ones_like(distance, bool))
    assert repeats(goals_in_air(task, 100)) == 0


def test_an_episode_with_a_seed_depends_on_that_alone(mixed):
    task = mixed(1.0)
    afresh = []
    for seed in range(40):
        task.reset(seed=seed)
        afresh.append(task.goal.copy())
    for seed, goal in enumerate(afresh):
        for _ in range(2):
            play(task)
        task.reset(seed=seed)
        np.testing.assert_array_equal(task.goal, goal)


def test_a_restored_state_knows_what_was_missed(mixed):
    task, twin = mixed(1.0), mixed(1.0)
    for episode in range(30):
        state = task.state_dict()
        twin.load_state_dict(state)
        for _ in range(2):
            np.testing.assert_array_equal(play(twin)[0], play(task)[0], err_msg=f"episode {episode}")
