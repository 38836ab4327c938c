"""Reward terms are what they are by hand, and each stage is worth more than the one before."""

import numpy as np
import pytest

from env.tasks.rewards import (
    GRASP,
    HEIGHT,
    LIFT,
    PLACE,
    REACH_SCALE,
    SUCCESS,
    goal_distance,
    opening_potential,
    progress,
    reach_potential,
    sparse,
    staged,
)


def test_goal_distance_is_euclidean_over_the_last_axis():
    achieved = np.array([[[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]])
    desired = np.array([[[3.0, 4.0, 0.0], [1.0, 2.0, 3.0]]])
    np.testing.assert_allclose(goal_distance(achieved, desired), [[5.0, 0.0]])


def test_sparse_reward_is_0_where_the_goal_is_met_and_minus_1_elsewhere():
    reward = sparse(np.array([[True, False], [False, True]]))
    np.testing.assert_array_equal(reward, [[0, -1], [-1, 0]])
    assert reward.dtype == np.float32
    assert [sparse(np.bool_(met)) for met in (True, False)] == [0, -1]


def test_progress_by_hand():
    assert progress(-0.5, -0.3) == pytest.approx(0.2)
    np.testing.assert_allclose(progress(np.array([-2.0, 0.0]), np.array([-2.0, -3.0])), [0.0, -3.0])


def test_reach_potential_by_hand():
    assert REACH_SCALE == 0.05
    potential = reach_potential(np.array([0.0, 0.05, 0.45, 1.0]), weight=2.0)
    np.testing.assert_allclose(potential, [0.0, -2 * np.log(2), -2 * np.log(10), -2 * np.log(21)])


def test_opening_potential_by_hand():
    assert [opening_potential(clear, 0.03, weight=6.0) for clear in (0.0, 0.01, 0.03, 0.1)] == pytest.approx(
        [-6.0, -4.0, 0.0, 0.0]
    )


def test_the_reach_potential_falls_all_the_way_and_is_level_beyond_a_metre():
    potential = reach_potential(np.linspace(0, 1, 1000), weight=2.0)
    assert (np.diff(potential) < 0).all()
    assert (np.diff(potential, 2) > 0).all()  # the nearer, the steeper
    np.testing.assert_array_equal(reach_potential(np.array([1.0, 1.001, 1e3, np.inf]), 2.0), potential[-1])


@pytest.mark.parametrize("gamma", [0.9, 0.98])
def test_standing_where_the_potential_is_low_costs_its_share_of_it_at_each_step(gamma):
    """This tells progress from the shaping that changes no optimal policy, gamma Phi(s') - Phi(s), which telescopes."""
    lowest = -10.0
    potential = np.random.default_rng(0).uniform(lowest, 0, 101)
    discount = gamma ** np.arange(100)
    telescoped = gamma**100 * potential[-1] - potential[0]
    standing = np.sum(discount * (1 - gamma) * potential[1:])
    assert standing < 0.4 * lowest
    assert discount @ progress(potential[:-1], potential[1:]) == pytest.approx(telescoped + standing)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # grasped, height, success, lost
        ((0, 0.00, 0, 0), {"grasp": 0, "lift": 0, "place": 0, "success": 0, "lost": 0}),
        ((1, 0.00, 0, 0), {"grasp": 1, "lift": 0, "place": 0, "success": 0, "lost": 0}),
        ((1, 0.02, 0, 0), {"grasp": 1, "lift": 0, "place": 0, "success": 0, "lost": 0}),
        ((1, 0.03, 0, 0), {"grasp": 1, "lift": 2 + 10 * 0.03, "place": -2 * 0.2, "success": 0, "lost": 0}),
        ((1, 0.05, 0, 0), {"grasp": 1, "lift": 2 + 10 * 0.04, "place": -2 * 0.2, "success": 0, "lost": 0}),
        ((0, 0.05, 0, 0), {"grasp": 0, "lift": 0, "place": 0, "success": 0, "lost": 0}),
        ((1, 0.05, 1, 0), {"grasp": 1, "lift": 2 + 10 * 0.04, "place": -2 * 0.2, "success": 10, "lost": 0}),
        ((0, 0.00, 0, 1), {"grasp": 0, "lift": 0, "place": 0, "success": 0, "lost": -1}),
    ],
    ids=["nothing", "pinched", "at the lift height", "lifted", "above the goal", "thrown", "placed", "lost"],
)
def test_staged_terms(state, expected):
    grasped, height, success, lost = (np.array([value], float) for value in state)
    paid = np.minimum(height, 0.04)
    terms = staged(np.array([0.3]), grasped, height, paid, np.array([0.2]), success, lost, lift_height=0.02)
    assert {name: term[0] for name, term in terms.items()} == pytest.approx({"reach": -0.3} | expected)


@pytest.mark.parametrize(("reward", "paid"), [("staged", 0.04), ("staged-reference", 0.5)])
def test_height_is_paid_for_up_to_the_goal_and_in_the_reference_without_end(make_task, reward, paid):
    state = {"reach_distance": 0.0, "pinched": 1.0, "cube_height": 0.5, "cube_lost": 0.0, "cube_hold": 2.0}
    info = {key: np.array([value], np.float32) for key, value in state.items()}
    cube, goal = np.array([[0.4, 0.1, 0.51]]), np.array([[0.4, 0.1, 0.05]])
    terms = make_task("pick-place", reward).reward_terms(cube, goal, info)
    assert terms["lift"][0] == pytest.approx(LIFT + HEIGHT * paid)
    assert terms["place"][0] == pytest.approx(-PLACE * 0.46)


def test_no_place_is_worth_as_much_as_the_goal_but_in_the_reference():
    """The nearest of all heights at which a cube is held over it is worth most. In the reference, the highest is."""
    heights, one = np.linspace(0.021, 0.4, 50), np.ones(50)
    away = np.abs(heights - 0.03)
    missed = away > 0.03

    def total(paid_height):
        return sum(staged(0 * one, one, heights, paid_height, away, ~missed, 0 * one, 0.02).values())

    ours, references = total(np.minimum(heights, 0.03)), total(heights)
    assert ours[missed].max() < 0.3 * ours[~missed].min()
    assert ours[missed].argmax() == 0
    assert references[missed].argmax() == missed.sum() - 1


def test_each_stage_is_worth_more_than_the_one_before():
    far, near = PLACE * 0.3, PLACE * 0.02
    totals = [0, GRASP, GRASP + LIFT + HEIGHT * 0.03 - far, GRASP + LIFT + HEIGHT * 0.03 - near + SUCCESS]
    states = [(0, 0, 0.3, 0), (1, 0, 0.3, 0), (1, 0.03, 0.3, 0), (1, 0.03, 0.02, 1)]
    for (grasped, height, distance, success), total in zip(states, totals, strict=True):
        one = np.ones(1)
        arguments = (0 * one, grasped * one, height * one, height * one, distance * one, success * one, 0 * one, 0.02)
        assert sum(staged(*arguments).values())[0] == pytest.approx(total)
    assert totals == sorted(set(totals))
