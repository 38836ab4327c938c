"""The replay buffer against a slow reference that keeps whole episodes in a list."""

from collections.abc import Iterator
from itertools import count, islice
from typing import NamedTuple

import numpy as np
import pytest

from her import EpisodeTooLong, ReplayBuffer, Transition

MAX_STEPS, DIMS, INFO = 6, {"observation": 3, "goal": 2, "action": 1}, {"speed": (2,), "mass": ()}
FLAGS = ("terminated", "truncated", "diverged")
GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


def make(capacity: int = 40, num_envs: int = 3, seed: int = 0) -> ReplayBuffer:
    return ReplayBuffer(capacity, num_envs, MAX_STEPS, DIMS, INFO, np.random.default_rng(seed))


class Step(NamedTuple):
    """One environment's step, all of its numbers made from one identity that no other step has."""

    identity: int
    terminated: bool = False
    truncated: bool = False
    diverged: bool = False


def transition(steps: list[Step]) -> Transition:
    """Steps of all environments side by side; identity i leads from state i to state i + 0.5."""
    identity = np.array([step.identity for step in steps], np.float32)
    sizes = {"observation": 3, "achieved_goal": 2, "desired_goal": 2}

    def obs(shift):
        return {key: np.repeat((identity + shift)[:, None], size, 1) for key, size in sizes.items()}

    flags = {name: np.array([getattr(step, name) for step in steps]) for name in FLAGS}
    return Transition(
        obs=obs(0.0),
        action=-identity[:, None],
        reward=2 * identity,
        next_obs=obs(0.5),
        info={"speed": np.stack([identity, -identity], 1), "mass": 3 * identity},
        **flags,
    )


class Reference:
    """What a ring of whole episodes must hold: a list of (first row, steps), the oldest first."""

    def __init__(self, capacity: int, num_envs: int):
        self.capacity, self.head = capacity, 0
        self.running: list[list[Step]] = [[] for _ in range(num_envs)]
        self.stored: list[tuple[int, list[Step]]] = []

    def add(self, steps: list[Step]) -> None:
        for env, step in enumerate(steps):
            self.running[env].append(step)
            if step.diverged:
                self.running[env] = []
            elif step.terminated or step.truncated:
                self._store(self.running[env])
                self.running[env] = []

    def _store(self, steps: list[Step]) -> None:
        if self.head + len(steps) + 1 > self.capacity:
            self.stored = [(start, old) for start, old in self.stored if start < self.head]
            self.head = 0
        rows = set(range(self.head, self.head + len(steps) + 1))
        self.stored = [(start, old) for start, old in self.stored if not rows & set(range(start, start + len(old) + 1))]
        self.stored.append((self.head, steps))
        self.head += len(steps) + 1


def random_steps(num_envs: int, rng: np.random.Generator, first: int = 1) -> Iterator[list[Step]]:
    """Rounds of steps without end; episodes end at random, by every way that there is."""
    lengths = np.zeros(num_envs, int)
    for identity in count(first, num_envs):
        steps = []
        for env in range(num_envs):
            lengths[env] += 1
            fate = rng.choice(["goes on", "terminated", "truncated", "diverged"], p=[0.72, 0.1, 0.1, 0.08])
            if fate == "goes on" and lengths[env] == MAX_STEPS:
                fate = "truncated"
            if fate != "goes on":
                lengths[env] = 0
            steps.append(Step(identity + env, **{name: fate == name for name in FLAGS}))
        yield steps


def assert_holds(buffer: ReplayBuffer, reference: Reference) -> None:
    before, after = np.zeros(buffer.capacity, int), np.zeros(buffer.capacity, int)
    for start, steps in reference.stored:
        length = len(steps)
        before[start : start + length + 1] = np.arange(length + 1)
        after[start : start + length + 1] = np.arange(length, -1, -1)
        rows = buffer.rows
        for row, step in enumerate(steps, start):
            np.testing.assert_array_equal(rows["action"][row], [-step.identity])
            assert rows["reward"][row] == 2 * step.identity
            assert rows["terminated"][row] == step.terminated
            np.testing.assert_array_equal(rows["info/speed"][row], [step.identity, -step.identity])
            assert rows["info/mass"][row] == 3 * step.identity
            for key in GOAL_KEYS:
                assert (rows[key][row] == step.identity).all()
        for key in GOAL_KEYS:
            assert (rows[key][start + length] == steps[-1].identity + 0.5).all()
    np.testing.assert_array_equal(buffer.steps_before, before)
    np.testing.assert_array_equal(buffer.steps_after, after)
    assert len(buffer) == buffer.num_transitions == np.count_nonzero(after)


@pytest.mark.parametrize(("capacity", "num_envs"), [(MAX_STEPS + 1, 1), (11, 2), (23, 3), (40, 5)])
def test_holds_what_a_list_of_episodes_would_hold(capacity, num_envs):
    for seed in range(5):
        buffer, reference = make(capacity, num_envs), Reference(capacity, num_envs)
        for steps in islice(random_steps(num_envs, np.random.default_rng(seed)), 120):
            buffer.add(transition(steps))
            reference.add(steps)
            assert_holds(buffer, reference)


def test_next_obs_is_the_next_row_of_the_same_episode():
    buffer = make()
    steps = [Step(1), Step(2), Step(3, truncated=True)]
    for step in steps:  # the states of an episode chain: what one step leads to is what the next one leaves
        one = transition([step] * 3)
        buffer.add(one._replace(next_obs={key: value + 0.5 for key, value in one.next_obs.items()}))
    rows = np.flatnonzero(buffer.steps_after > 0)
    np.testing.assert_array_equal(buffer.rows["observation"][rows + 1], buffer.rows["observation"][rows] + 1)


def test_add_tells_where_the_ended_episodes_lie():
    buffer = make()
    assert buffer.add(transition([Step(1), Step(2), Step(3)])) == []
    episodes = buffer.add(transition([Step(4, terminated=True), Step(5), Step(6, truncated=True)]))
    assert [tuple(episode) for episode in episodes] == [(0, 0, 2), (2, 3, 2)]
    np.testing.assert_array_equal(buffer.rows["reward"][[0, 1, 3, 4]], [2, 8, 6, 12])


def test_only_termination_is_stored_as_termination():
    buffer = make()
    buffer.add(
        transition([Step(1, terminated=True), Step(2, truncated=True), Step(3, terminated=True, truncated=True)])
    )
    assert buffer.rows["terminated"][[0, 2, 4]].tolist() == [True, False, True]


def test_a_diverged_episode_leaves_nothing_behind():
    buffer = make(num_envs=1)
    for step in (Step(1), Step(2), Step(3, diverged=True), Step(4), Step(5, truncated=True)):
        buffer.add(transition([step]))
    assert buffer.rows["reward"][: len(buffer)].tolist() == [8.0, 10.0]
    assert len(buffer) == 2


def test_a_divergence_in_an_episodes_last_step_drops_it_too():
    buffer = make(num_envs=1)
    buffer.add(transition([Step(1)]))
    assert buffer.add(transition([Step(2, truncated=True, diverged=True)])) == []
    assert len(buffer) == 0


def test_discarding_one_environments_episode_keeps_the_others():
    buffer = make(num_envs=2)
    buffer.add(transition([Step(1), Step(2)]))
    buffer.discard_staged(0)
    buffer.add(transition([Step(3, truncated=True), Step(4, truncated=True)]))
    kept = buffer.rows["reward"][buffer.steps_after > 0]
    assert kept.tolist() == [6.0, 4.0, 8.0]


def test_every_stored_transition_is_drawn_equally_often_and_no_other_row():
    buffer = make(capacity=53)
    for steps in islice(random_steps(3, np.random.default_rng(3)), 200):
        buffer.add(transition(steps))
    stored = np.flatnonzero(buffer.steps_after > 0)
    draws = 400 * len(stored)
    rows, counts = np.unique(buffer.sample_rows(draws), return_counts=True)
    np.testing.assert_array_equal(rows, stored)
    chi_square = ((counts - 400) ** 2 / 400).sum()
    degrees = len(stored) - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


def test_half_full_buffer_draws_no_row_that_was_never_written():
    buffer = make(capacity=1000, num_envs=1)
    buffer.add(transition([Step(1, truncated=True)]))
    assert set(buffer.sample_rows(100)) == {0}


@pytest.mark.parametrize("rounds", [0, 2, 37])
def test_restored_in_mid_episode_it_goes_on_bit_by_bit(rounds):
    original, restored = make(), make(seed=99)
    for steps in islice(random_steps(3, np.random.default_rng(2), first=1000), 50):
        restored.add(transition(steps))  # what it held before must not show
    future = random_steps(3, np.random.default_rng(1))
    for steps in islice(future, rounds):
        original.add(transition(steps))
    restored.load_state_dict(original.state_dict())
    for steps in islice(future, 30):
        for buffer in (original, restored):
            buffer.add(transition(steps))
    for name in ("steps_before", "steps_after", "staged"):
        np.testing.assert_array_equal(getattr(original, name), getattr(restored, name))
    stored = original.steps_after > 0
    for key, column in original.rows.items():
        np.testing.assert_array_equal(column[stored], restored.rows[key][stored], err_msg=key)
    assert (len(original), original.head, original.used) == (len(restored), restored.head, restored.used)
    np.testing.assert_array_equal(original.sample_rows(100), restored.sample_rows(100))


def test_state_holds_used_rows_alone():
    buffer = make(capacity=1000, num_envs=1)
    buffer.add(transition([Step(1)]))
    buffer.add(transition([Step(2, truncated=True)]))
    state = buffer.state_dict()
    assert {len(column) for column in [*state["rows"].values(), state["steps_after"]]} == {3}


def test_empty_buffer_says_so():
    buffer = make()
    buffer.add(transition([Step(1), Step(2), Step(3)]))  # in progress: not there yet
    with pytest.raises(IndexError, match="no complete episode yet"):
        buffer.sample_rows(4)


def test_a_capacity_below_one_episode_is_refused_with_the_least_that_will_do():
    make(capacity=MAX_STEPS + 1)
    with pytest.raises(ValueError, match=rf"--her\.capacity at least {MAX_STEPS + 1}"):
        make(capacity=MAX_STEPS)


def test_an_episode_that_never_ends_is_named():
    buffer = make(num_envs=1)
    for identity in range(MAX_STEPS):
        buffer.add(transition([Step(identity)]))
    with pytest.raises(EpisodeTooLong, match=f"max_episode_steps = {MAX_STEPS}"):
        buffer.add(transition([Step(100)]))
