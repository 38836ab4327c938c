"""Stored episodes tell about their goals what is known of them by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from her import HERConfig, ReplayBuffer, goal_displacement, goal_health


def test_a_goal_that_never_moved_has_displacement_zero():
    for desired in (0.0, 0.7):  # also where it was met from the start
        assert goal_displacement(np.full((5, 3), 0.7, np.float32), np.full((5, 3), desired)) == (0, False)


def test_the_farthest_point_counts_not_the_last_and_not_the_path():
    path = np.array([[1.0, 1.0], [4.0, 5.0], [1.0, 1.0], [2.0, 1.0]])
    assert goal_displacement(path, np.full((4, 2), 9.0)) == (pytest.approx(5.0), True)


@pytest.mark.parametrize("unit", [1.0, 1e-4, 1e4])
def test_moved_is_a_tenth_of_the_way_to_the_goal_whatever_the_unit(unit):
    path, desired = unit * np.array([[0.0, 0.0], [0.3, 0.0], [0.0, 0.0]]), unit * np.array([[0.0, 1.0]] * 3)
    assert goal_displacement(path, 2.9 * desired) == (pytest.approx(0.3 * unit), True)
    assert goal_displacement(path, 3.1 * desired) == (pytest.approx(0.3 * unit), False)


LENGTH = 4


def stored(paths: list[list[float]], goal: float, calm: float = 1.0, rewards=(0.0,) * LENGTH) -> ReplayBuffer:
    """Stores episodes of LENGTH steps on a line, all with the same desired goal and with `calm` as info/calm."""
    buffer = ReplayBuffer(
        1000, 1, LENGTH, {"observation": 1, "goal": 1, "action": 1}, {"calm": ()}, np.random.default_rng(0)
    )

    def obs(place: float) -> dict[str, np.ndarray]:
        places = {"observation": place, "achieved_goal": place, "desired_goal": goal}
        return {key: np.full((1, 1), value, np.float32) for key, value in places.items()}

    for path in paths:
        for t in range(LENGTH):
            step = SimpleNamespace(
                next_obs=obs(path[t + 1]),
                reward=np.full(1, rewards[t]),
                terminated=np.array([False]),
                truncated=np.array([t == LENGTH - 1]),
                info={"calm": np.full(1, calm)},
                diverged=np.array([False]),
            )
            buffer.add(obs(path[t]), np.zeros((1, 1)), step)
    return buffer


def near_and_calm(achieved, desired, info):
    return (np.abs(achieved - desired)[..., 0] <= 0.25) & (info["calm"] > 0.5)


def health(buffer: ReplayBuffer, is_success=near_and_calm, strategy="final"):
    return goal_health(buffer, 500, HERConfig(strategy=strategy), is_success)


def test_where_nothing_moves_every_hindsight_goal_is_trivial():
    found = health(stored([[0.0] * 5] * 3, goal=2.0))
    assert (found["trivial_share"], found["unmet_share"], found["goal_cells"]) == (1.0, 0.0, 1)
    assert (found["success_real"], found["success_hindsight"]) == (0.0, 1.0)
    assert (found["distance_real"], found["distance_hindsight"]) == (2.0, 0.0)


def test_where_everything_moves_none_is_and_the_last_step_alone_meets_it():
    found = health(stored([[0.0, 1.0, 2.0, 3.0, 4.0]] * 3, goal=4.0))
    assert (found["trivial_share"], found["unmet_share"], found["goal_cells"]) == (0.0, 0.0, 4)
    assert found["success_real"] == found["success_hindsight"] == pytest.approx(0.25, abs=0.07)
    assert found["distance_hindsight"] == pytest.approx(1.5, abs=0.2)


def test_cells_on_either_side_of_0_are_two():
    assert health(stored([[0.0, -0.1, 0.1, -0.2, 0.2]], goal=4.0))["goal_cells"] == 2


def test_half_and_half():
    found = health(stored([[0.0] * 5, [0.0, 1.0, 2.0, 3.0, 4.0]], goal=4.0))
    assert found["trivial_share"] == pytest.approx(0.5, abs=0.1)


def test_goals_from_states_that_do_not_meet_them_are_unmet_and_so_neither_trivial():
    found = health(stored([[0.0] * 5] * 3, goal=0.0, calm=0.0))
    assert (found["trivial_share"], found["unmet_share"], found["success_real"], found["success_hindsight"]) == (
        0.0,
        1.0,
        0.0,
        0.0,
    )


def test_without_is_success_shares_are_left_out_and_distances_known():
    found = health(stored([[0.0, 1.0, 2.0, 3.0, 4.0]], goal=4.0), is_success=None)
    assert found.keys() == {"goal_cells", "distance_real", "distance_hindsight", "reward_variety"}
    assert found["distance_real"] == pytest.approx(1.5, abs=0.2)


@pytest.mark.parametrize(("rewards", "variety"), [((-1, -1, -1, -1), 0), ((-1, -1, -1, 0), 0.25), ((1, 2, 3, 4), 0.75)])
def test_variety_is_the_share_of_rewards_that_are_not_the_commonest(rewards, variety):
    found = health(stored([[0.0] * 5] * 3, goal=2.0, rewards=rewards))
    assert found["reward_variety"] == pytest.approx(variety, abs=0.06)


def test_without_hindsight_the_goals_that_it_would_pick_are_looked_at():
    assert health(stored([[0.0] * 5], goal=2.0), strategy="none")["trivial_share"] == 1.0


def test_a_view_draws_by_itself_and_leaves_the_buffers_generator_alone():
    buffer = stored([[0.0, 1.0, 2.0, 3.0, 4.0]] * 3, goal=4.0)
    before = buffer.rng.bit_generator.state
    first, second = (health(buffer.drawn_by(np.random.default_rng(1))) for _ in range(2))
    assert first == second != health(buffer.drawn_by(np.random.default_rng(2)))
    assert buffer.rng.bit_generator.state == before
