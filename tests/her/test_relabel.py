"""Relabelling does what a loop does one transition at a time, from the same stored rows."""

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

import her
from her import HERConfig, ReplayBuffer, hindsight_rows, policy_input
from her.relabel import REDRAWS

MAX_STEPS, THRESHOLD = 8, 0.25
ALWAYS = 1e9
"""A k with which every row of a batch is relabelled."""
STRATEGIES = ("future", "final", "episode")
GAMMA = 0.9


def sample(buffer, size, config, compute_reward, compute_terminated=None, is_success=None, **n_step):
    """Returns a batch by the names of what it holds, each (B, …)."""
    rows, goals, relabelled = her.sample(buffer, size, config, is_success)
    gamma, n = n_step.get("gamma", GAMMA), n_step.get("n_step", 1)
    judges = compute_reward, compute_terminated
    reward, terminated, steps = her.n_step_return(buffer, rows, goals, relabelled, *judges, gamma, n)
    columns = {name: buffer.rows[name] for name in ("observation", "achieved_goal")}
    return SimpleNamespace(
        **{name: column[rows] for name, column in columns.items()},
        **{f"next_{name}": column[rows + steps] for name, column in columns.items()},
        desired_goal=goals,
        action=buffer.rows["action"][rows],
        reward=reward,
        terminated=terminated,
        discount=gamma**steps,
        relabelled=relabelled,
    )


def near(achieved, desired, info=None):
    return np.linalg.norm(achieved - desired, axis=-1) <= THRESHOLD


def is_success(achieved, desired, info):
    """Depends on goals and on the stored info, so that a mix-up of any of them shows."""
    return near(achieved, desired) & (info["cost"] < 0.7)


def compute_reward(achieved, desired, info):
    return is_success(achieved, desired, info).astype(np.float32) - 1 - info["cost"]


compute_terminated = is_success


def filled_buffer(episodes: int = 40, terminate: bool = True, seed: int = 0) -> ReplayBuffer:
    """Stores random walks on a plane, cut off after MAX_STEPS, or ended by success where `terminate` says so."""
    rng = np.random.default_rng(seed)
    buffer = ReplayBuffer(
        200, 1, MAX_STEPS, {"observation": 1, "goal": 2, "action": 1}, {"cost": ()}, np.random.default_rng(seed)
    )
    identity = count()
    for _ in range(episodes):
        place, goal = rng.uniform(-0.5, 0.5, (2, 1, 2)).astype(np.float32)
        obs = {"observation": np.full((1, 1), next(identity)), "achieved_goal": place, "desired_goal": goal}
        for t in range(1, rng.integers(2, MAX_STEPS + 1) + 1):
            place = place + rng.normal(0, 0.2, (1, 2)).astype(np.float32)
            next_obs = {"observation": np.full((1, 1), next(identity)), "achieved_goal": place, "desired_goal": goal}
            info = {"cost": rng.uniform(0, 1, 1).astype(np.float32)}
            terminated = near(place, goal) & terminate
            step = SimpleNamespace(
                reward=compute_reward(place, goal, info),
                next_obs=next_obs,
                terminated=terminated,
                truncated=np.array([t == MAX_STEPS]),
                info=info,
                diverged=np.array([False]),
            )
            buffer.add(obs, rng.uniform(-1, 1, (1, 1)), step)
            obs = next_obs
            if terminated[0]:
                break
        else:
            buffer.discard_staged(0)  # an episode that neither ended nor was cut off
    return buffer


def met_at_start(buffer: ReplayBuffer, row: int, source: int) -> bool:
    """Tells whether the goal that row `source` achieved held where the episode of `row` began."""
    first = row - buffer.steps_before[row]
    cost = buffer.rows["info/cost"][first]  # of the transition that leaves the start
    return bool(is_success(buffer.rows["achieved_goal"][first], buffer.rows["achieved_goal"][source], {"cost": cost}))


def useful(buffer: ReplayBuffer, row: int, source: int, config: HERConfig, success_of) -> bool:
    """Tells whether the goal that row `source` achieved teaches something: met there, and not at the start already."""
    if success_of is None:
        return True
    achieved, cost = buffer.rows["achieved_goal"][source], buffer.rows["info/cost"][source - 1]
    met = bool(is_success(achieved, achieved, {"cost": cost}))
    return met and not (config.skip_met_at_start and met_at_start(buffer, row, source))


def by_hand(buffer: ReplayBuffer, size: int, config: HERConfig, terminated_of, success_of, n_step=1) -> list[dict]:
    """Returns what `sample` should return, transition by transition. Draws from buffer.rng in the same order."""
    share = round(size * config.relabelled_share)
    drawn, waiting = {}, list(range(share))
    for _ in range(1 + REDRAWS):
        rows = buffer.sample_rows(len(waiting))
        before, after = buffer.steps_before[rows], buffer.steps_after[rows]
        sources = hindsight_rows(config.strategy, rows, before, after, buffer.rng) if waiting else []
        still = []
        for i, row, source in zip(waiting, rows, sources, strict=True):
            drawn[i] = (row, source)
            if not useful(buffer, row, source, config, success_of):
                still.append(i)
        waiting = still
    fresh = dict(zip(waiting, buffer.sample_rows(len(waiting)), strict=True))
    rows = [*(fresh.get(i, drawn[i][0]) for i in range(share)), *buffer.sample_rows(size - share)]
    sources = [drawn[i][1] for i in range(share)]
    batch = []
    for i, row in enumerate(rows):
        stored = {key: column[row] for key, column in buffer.rows.items()}
        goal, relabelled = stored["desired_goal"], False
        if i < share and i not in fresh:
            goal, relabelled = buffer.rows["achieved_goal"][sources[i]], True
        total, at = 0.0, row
        for step in range(n_step):
            reward, terminated = buffer.rows["reward"][at], buffer.rows["terminated"][at]
            if relabelled:
                cost = buffer.rows["info/cost"][at]
                success = is_success(buffer.rows["achieved_goal"][at + 1], goal, {"cost": cost})
                reward = float(success) - 1 - cost
                if terminated_of is not None:
                    terminated = success
            total += GAMMA**step * reward
            at += 1
            if terminated or buffer.steps_after[at] == 0:
                break
        batch.append(
            {
                "observation": stored["observation"],
                "achieved_goal": stored["achieved_goal"],
                "desired_goal": goal,
                "action": stored["action"],
                "reward": total,
                "next_observation": buffer.rows["observation"][at],
                "next_achieved_goal": buffer.rows["achieved_goal"][at],
                "terminated": terminated,
                "discount": GAMMA ** (at - row),
                "relabelled": relabelled,
            }
        )
    return batch


def stand_still(buffer: ReplayBuffer, one_in: int) -> ReplayBuffer:
    """Returns the same buffer, in which nothing moves but in one episode of so many."""
    for i, start in enumerate(np.flatnonzero((buffer.steps_before == 0) & (buffer.steps_after > 0))):
        if i % one_in:
            end = start + buffer.steps_after[start] + 1
            buffer.rows["achieved_goal"][start:end] = buffer.rows["achieved_goal"][start]
    return buffer


@pytest.mark.parametrize(("still", "skip"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("terminated_of", [None, compute_terminated])
@pytest.mark.parametrize("strategy", [*STRATEGIES, "none"])
@pytest.mark.parametrize("n_step", [1, 3, MAX_STEPS + 1])
def test_batch_equals_one_relabelled_by_hand(n_step, strategy, terminated_of, skip, still):
    config = HERConfig(strategy=strategy, k=2, skip_met_at_start=skip)
    fast, slow = (stand_still(filled_buffer(), 4) if still else filled_buffer() for _ in range(2))
    for size in (1, 7, 256):
        batch = sample(fast, size, config, compute_reward, terminated_of, is_success, n_step=n_step)
        for i, expected in enumerate(by_hand(slow, size, config, terminated_of, is_success, n_step)):
            for name, value in expected.items():
                np.testing.assert_allclose(getattr(batch, name)[i], value, rtol=1e-6, err_msg=name)


def test_drawing_a_batch_changes_nothing_stored():
    buffer = filled_buffer()
    before = {key: column.copy() for key, column in buffer.rows.items()}
    batch = sample(buffer, 256, HERConfig(), compute_reward, compute_terminated, is_success)
    for column in vars(batch).values():
        column[:] = 0  # nor does what its owner does with it
    for key, column in buffer.rows.items():
        np.testing.assert_array_equal(column, before[key], err_msg=key)


# Which rows goals come from


@pytest.mark.parametrize(
    ("strategy", "allowed"),
    [
        # A transition that leaves row 12 of an episode in rows 10 … 15, five transitions: states 0 … 5.
        ("future", {13, 14, 15}),
        ("final", {15}),
        ("episode", {11, 12, 13, 14, 15}),
    ],
)
def test_goals_come_from_every_allowed_row_and_no_other(strategy, allowed):
    rows, before, after = np.full(4000, 12), np.full(4000, 2, np.int32), np.full(4000, 3, np.int32)
    drawn, counts = np.unique(
        hindsight_rows(strategy, rows, before, after, np.random.default_rng(0)), return_counts=True
    )
    assert set(drawn) == allowed
    np.testing.assert_allclose(counts / 4000, 1 / len(allowed), atol=0.03)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_goals_come_from_the_same_episode_whatever_its_length(strategy):
    buffer = filled_buffer()
    rows = np.repeat(np.flatnonzero(buffer.steps_after > 0), 50)
    before, after = buffer.steps_before[rows], buffer.steps_after[rows]
    sources = hindsight_rows(strategy, rows, before, after, np.random.default_rng(0))
    first_allowed = {"future": rows + 1, "final": rows + after, "episode": rows - before + 1}[strategy]
    assert (sources >= first_allowed).all()
    assert (sources <= rows + after).all()
    if strategy != "final":
        assert set(sources[rows == rows[0]]) == set(range(first_allowed[0], rows[0] + after[0] + 1))


def test_an_unknown_strategy_is_named():
    with pytest.raises(ValueError, match="'past' names no hindsight strategy"):
        hindsight_rows("past", *np.zeros((3, 2), int), np.random.default_rng(0))


# How many


@pytest.mark.parametrize(
    ("config", "share"),
    [
        (HERConfig(k=4), 0.8),
        (HERConfig(k=1), 0.5),
        (HERConfig(k=0), 0.0),
        (HERConfig(k=1 / 3), 0.25),
        (HERConfig(strategy="none", k=1), 0.0),
    ],
)
def test_share_of_relabelled_transitions(config, share):
    assert config.relabelled_share == pytest.approx(share)
    batch = sample(filled_buffer(), 100, config, compute_reward)
    assert batch.relabelled.sum() == round(100 * share)


# What a new goal changes


def test_transitions_that_keep_their_goal_keep_their_stored_reward():
    buffer = filled_buffer()
    buffer.rows["reward"][:] = 777  # what no reward function would say
    batch = sample(buffer, 100, HERConfig(k=1), compute_reward, compute_terminated)
    assert (batch.reward[~batch.relabelled] == 777).all()
    assert (batch.reward[batch.relabelled] <= 0).all()


def test_success_that_ended_an_episode_is_judged_anew_for_the_new_goal():
    buffer = filled_buffer()
    batch = sample(buffer, 2000, HERConfig(k=ALWAYS), compute_reward, compute_terminated)
    at = {float(observation): row for row, observation in enumerate(buffer.rows["observation"][: buffer.used, 0])}
    rows = np.array([at[float(o)] for o in batch.observation[:, 0]])
    success = is_success(batch.next_achieved_goal, batch.desired_goal, {"cost": buffer.rows["info/cost"][rows]})
    np.testing.assert_array_equal(batch.terminated, success)
    stored = buffer.rows["terminated"][rows]
    assert (batch.terminated[~stored] == 1).any()  # reached something without ending the real episode
    assert (batch.terminated[~stored] == 0).any()


def test_a_time_limit_is_never_a_termination():
    buffer = filled_buffer(terminate=False)
    assert len(buffer) > 0
    for config in (HERConfig(k=ALWAYS), HERConfig("none")):
        assert not sample(buffer, 500, config, compute_reward).terminated.any()


def test_goals_met_at_the_start_are_skipped_only_where_the_environment_can_tell():
    def relabelled(config, success_of):
        batch = sample(filled_buffer(), 1000, config, compute_reward, compute_terminated, success_of)
        return batch.relabelled.mean()

    assert relabelled(HERConfig(k=ALWAYS), None) == 1
    assert relabelled(HERConfig(k=ALWAYS, skip_met_at_start=False), near) == 1
    assert 0.9 < relabelled(HERConfig(k=ALWAYS), near) < 1  # drawn again and again, and a few in vain


def test_hindsight_looks_for_the_few_episodes_in_which_the_goal_moved():
    buffer = filled_buffer()
    stand_still(buffer, 4)
    once = sample(buffer, 4000, HERConfig(k=ALWAYS, skip_met_at_start=False), compute_reward, None, near)
    moved = (once.achieved_goal != once.desired_goal).any(1).mean()
    found = sample(buffer, 4000, HERConfig(k=ALWAYS), compute_reward, None, near).relabelled.mean()
    assert moved < 0.3
    assert found > 2 * moved


def test_an_episode_that_moved_nothing_keeps_its_real_goals():
    buffer = filled_buffer()
    buffer.rows["achieved_goal"][:] = 0.1
    batch = sample(buffer, 100, HERConfig(k=ALWAYS), compute_reward, compute_terminated, near)
    assert not batch.relabelled.any()


def test_what_hindsight_cannot_use_leaves_its_place_to_rows_drawn_as_real_goals_are():
    """One episode in 4 moves: hindsight shuns the others, and the rows that keep real goals must not lean to those."""
    buffer = stand_still(filled_buffer(), 4)
    still = {
        row
        for start in np.flatnonzero((buffer.steps_before == 0) & (buffer.steps_after > 0))
        for row in range(start, start + buffer.steps_after[start])
        if (buffer.rows["achieved_goal"][start : row + 2] == buffer.rows["achieved_goal"][start]).all()
    }
    everywhere = np.isin(buffer.sample_rows(20_000), list(still)).mean()
    drawn = [her.sample(buffer, 2_000, HERConfig(k=ALWAYS), near) for _ in range(30)]
    rows, _, relabelled = (np.concatenate(column) for column in zip(*drawn, strict=True))
    kept = np.isin(rows[~relabelled], list(still))
    assert len(kept) > 1_000
    assert kept.mean() == pytest.approx(everywhere, abs=0.04)


def test_whether_the_start_met_a_goal_is_told_by_its_own_transition():
    """Nothing moves, so every goal is where its episode starts; and yet it is met there only if the info says so."""
    buffer = filled_buffer()
    buffer.rows["achieved_goal"][:] = 0.1
    first = np.flatnonzero((buffer.steps_before == 0) & (buffer.steps_after > 1))
    met = np.arange(len(first)) % 2 == 0
    for start, start_met in zip(first, met, strict=True):
        rest = slice(start + 1, start + buffer.steps_after[start] + 1)
        buffer.rows["info/cost"][start] = 0.0 if start_met else 1.0
        buffer.rows["info/cost"][rest] = 1.0 if start_met else 0.0  # the other way round: no other row will do
    expected = {
        float(buffer.rows["observation"][row, 0])
        for start in first[~met]
        for row in range(start, start + buffer.steps_after[start])
    }
    only = np.flatnonzero((buffer.steps_before == 0) & (buffer.steps_after == 1))
    buffer.rows["info/cost"][only] = 0.0
    batch = sample(buffer, 4000, HERConfig(k=ALWAYS), compute_reward, compute_terminated, is_success)
    assert set(batch.observation[batch.relabelled, 0].tolist()) == expected
    assert 0 < len(expected) < len(buffer)


def test_policy_input_is_the_observation_both_goals_and_the_way_between_them():
    x = policy_input(np.array([[1.0, 2.0]]), np.array([[0.1, 0.2, 0.3]]), np.array([[0.2, 0.0, 0.3]]))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, [[1, 2, 0.1, 0.2, 0.3, 0.2, 0.0, 0.3, 0.1, -0.2, 0]], atol=1e-6)
