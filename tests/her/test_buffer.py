"""The replay buffer holds what a slow reference does that keeps whole episodes in a list."""

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import NamedTuple

import numpy as np
import pytest

from her import ReplayBuffer, RowLog
from her.buffer import CHUNK

MAX_STEPS, DIMS, INFO = 6, {"observation": 3, "goal": 2, "action": 1}, {"speed": (2,), "mass": ()}
FLAGS = ("terminated", "truncated", "diverged")
GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


def make(capacity: int = 40, num_envs: int = 3, seed: int = 0) -> ReplayBuffer:
    return ReplayBuffer(capacity, num_envs, MAX_STEPS, DIMS, INFO, np.random.default_rng(seed))


class One(NamedTuple):
    """Holds one environment's step, all of its numbers made from one identity that no other step has."""

    identity: int
    terminated: bool = False
    truncated: bool = False
    diverged: bool = False


class Steps(NamedTuple):
    """Holds what ReplayBuffer.add asks of a step of several environments."""

    next_obs: dict[str, np.ndarray]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    diverged: np.ndarray
    info: dict[str, np.ndarray]


def transition(steps: list[One]) -> tuple[dict[str, np.ndarray], np.ndarray, Steps]:
    """Returns what add takes of all environments side by side. Identity i leads from state i to state i + 0.5."""
    identity = np.array([step.identity for step in steps], np.float32)
    sizes = {"observation": 3, "achieved_goal": 2, "desired_goal": 2}

    def obs(shift):
        return {key: np.repeat((identity + shift)[:, None], size, 1) for key, size in sizes.items()}

    flags = {name: np.array([getattr(step, name) for step in steps]) for name in FLAGS}
    info = {"speed": np.stack([identity, -identity], 1), "mass": 3 * identity}
    return obs(0.0), -identity[:, None], Steps(obs(0.5), 2 * identity, info=info, **flags)


class Reference:
    """Keeps what a ring of whole episodes must hold: a list of (first row, steps), the oldest first."""

    def __init__(self, capacity: int, num_envs: int):
        self.capacity, self.position = capacity, 0
        self.running: list[list[One]] = [[] for _ in range(num_envs)]
        self.stored: list[tuple[int, list[One]]] = []

    def add(self, steps: list[One]) -> None:
        for env, step in enumerate(steps):
            self.running[env].append(step)
            if step.diverged:
                self.running[env] = []
            elif step.terminated or step.truncated:
                self._store(self.running[env])
                self.running[env] = []

    def _store(self, steps: list[One]) -> None:
        left = self.capacity - self.position % self.capacity
        if len(steps) + 1 > left:
            self._write(left)
        start = self._write(len(steps) + 1)
        self.stored.append((start, steps))

    def _write(self, count: int) -> int:
        """Takes so many rows, before the ring's end, in which no older episode survives. Returns the first."""
        start = self.position % self.capacity
        rows = set(range(start, start + count))
        self.stored = [(at, old) for at, old in self.stored if not rows & set(range(at, at + len(old) + 1))]
        self.position += count
        return start


def random_steps(num_envs: int, rng: np.random.Generator, first: int = 1) -> Iterator[list[One]]:
    """Yields rounds of steps without end. Episodes end at random, by every way that there is."""
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
            steps.append(One(identity + env, **{name: fate == name for name in FLAGS}))
        yield steps


def put_episode(columns: dict[str, np.ndarray], start: int, steps: list[One]) -> None:
    """Writes an episode's rows, from row `start` on, as they must be."""
    for row, step in enumerate(steps, start):
        columns["action"][row] = -step.identity
        columns["reward"][row] = 2 * step.identity
        columns["terminated"][row] = step.terminated
        columns["info/speed"][row] = [step.identity, -step.identity]
        columns["info/mass"][row] = 3 * step.identity
        for key in GOAL_KEYS:
            columns[key][row : row + 2] = [[step.identity], [step.identity + 0.5]]


def assert_holds(buffer: ReplayBuffer, reference: Reference) -> None:
    """Checks every array of the buffer, row by row: what no episode holds is zero."""
    expected = {key: np.zeros_like(column) for key, column in columns_of(buffer).items()}
    for start, steps in reference.stored:
        length = len(steps)
        put_episode(expected, start, steps)
        expected["steps_before"][start : start + length + 1] = np.arange(length + 1)
        expected["steps_after"][start : start + length + 1] = np.arange(length, -1, -1)
    assert_equal(columns_of(buffer), expected)
    staging = {key: np.zeros_like(column) for key, column in buffer.staging.items()}
    for env, steps in enumerate(reference.running):
        put_episode({key: column[env] for key, column in staging.items()}, 0, steps)
    assert_equal(buffer.staging, staging)
    assert buffer.staged.tolist() == [len(steps) for steps in reference.running]
    assert buffer.position == reference.position
    assert len(buffer) == buffer.num_transitions == sum(len(steps) for _, steps in reference.stored)


def columns_of(buffer: ReplayBuffer) -> dict[str, np.ndarray]:
    return buffer.rows | {"steps_before": buffer.steps_before, "steps_after": buffer.steps_after}


def assert_equal(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for key, column in left.items():
        np.testing.assert_array_equal(column, right[key], err_msg=key)


def assert_same(left: ReplayBuffer, right: ReplayBuffer) -> None:
    """Checks that all arrays and counters are the same, and the draws from here on."""
    assert_equal(columns_of(left), columns_of(right))
    assert_equal(left.staging | {"staged": left.staged}, right.staging | {"staged": right.staged})
    assert (left.position, len(left)) == (right.position, len(right))
    assert left.rng.bit_generator.state == right.rng.bit_generator.state


@pytest.mark.parametrize(("capacity", "num_envs"), [(MAX_STEPS + 1, 1), (11, 2), (23, 3), (40, 5)])
def test_holds_what_a_list_of_episodes_would_hold(capacity, num_envs):
    for seed in range(5):
        buffer, reference = make(capacity, num_envs), Reference(capacity, num_envs)
        for steps in islice(random_steps(num_envs, np.random.default_rng(seed)), 120):
            buffer.add(*transition(steps))
            reference.add(steps)
            assert_holds(buffer, reference)
        assert buffer.position > 2 * capacity


def test_next_obs_is_the_next_row_of_the_same_episode():
    buffer = make()
    steps = [One(1), One(2), One(3, truncated=True)]
    for step in steps:  # the states of an episode chain: what one step leads to is what the next one leaves
        obs, action, led_to = transition([step] * 3)
        buffer.add(obs, action, led_to._replace(next_obs={key: value + 1 for key, value in obs.items()}))
    rows = np.flatnonzero(buffer.steps_after > 0)
    np.testing.assert_array_equal(buffer.rows["observation"][rows + 1], buffer.rows["observation"][rows] + 1)


def test_add_tells_where_the_ended_episodes_lie():
    buffer = make()
    assert buffer.add(*transition([One(1), One(2), One(3)])) == []
    episodes = buffer.add(*transition([One(4, terminated=True), One(5), One(6, truncated=True)]))
    assert [tuple(episode) for episode in episodes] == [(0, 0, 2), (2, 3, 2)]
    np.testing.assert_array_equal(buffer.rows["reward"][[0, 1, 3, 4]], [2, 8, 6, 12])


def test_only_termination_is_stored_as_termination():
    buffer = make()
    buffer.add(*transition([One(1, terminated=True), One(2, truncated=True), One(3, terminated=True, truncated=True)]))
    assert buffer.rows["terminated"][[0, 2, 4]].tolist() == [True, False, True]


def test_a_divergence_in_an_episodes_last_step_drops_it_too():
    buffer = make(num_envs=1)
    buffer.add(*transition([One(1)]))
    assert buffer.add(*transition([One(2, truncated=True, diverged=True)])) == []
    assert len(buffer) == 0


def test_discarding_one_environments_episode_keeps_the_others():
    buffer = make(num_envs=2)
    buffer.add(*transition([One(1), One(2)]))
    buffer.discard_staged(0)
    assert not any(column[0].any() for column in buffer.staging.values())
    buffer.add(*transition([One(3, truncated=True), One(4, truncated=True)]))
    kept = buffer.rows["reward"][buffer.steps_after > 0]
    assert kept.tolist() == [6.0, 4.0, 8.0]


def test_every_stored_transition_is_drawn_equally_often_and_no_other_row():
    buffer = make(capacity=53)
    for steps in islice(random_steps(3, np.random.default_rng(3)), 200):
        buffer.add(*transition(steps))
    stored = np.flatnonzero(buffer.steps_after > 0)
    draws = 400 * len(stored)
    rows, counts = np.unique(buffer.sample_rows(draws), return_counts=True)
    np.testing.assert_array_equal(rows, stored)
    chi_square = ((counts - 400) ** 2 / 400).sum()
    degrees = len(stored) - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


def test_half_full_buffer_draws_no_row_that_was_never_written():
    buffer = make(capacity=1000, num_envs=1)
    buffer.add(*transition([One(1, truncated=True)]))
    assert set(buffer.sample_rows(100)) == {0}
    twin, missing = np.random.default_rng(0), 100
    while missing:  # over the episode's two rows, of which the last has no transition
        missing = np.count_nonzero(twin.integers(2, size=missing))
    assert buffer.rng.bit_generator.state == twin.bit_generator.state


def test_empty_buffer_says_so():
    buffer = make()
    buffer.add(*transition([One(1), One(2), One(3)]))  # in progress: not there yet
    with pytest.raises(IndexError, match="no complete episode yet"):
        buffer.sample_rows(4)


def test_a_capacity_below_one_episode_is_refused_with_the_least_that_will_do():
    make(capacity=MAX_STEPS + 1)
    with pytest.raises(ValueError, match=rf"--her\.capacity at least {MAX_STEPS + 1}"):
        make(capacity=MAX_STEPS)


def test_an_episode_that_never_ends_is_named():
    buffer = make(num_envs=1)
    for identity in range(MAX_STEPS):
        buffer.add(*transition([One(identity)]))
    restored = make(num_envs=1)
    restored.load_state_dict(buffer.state_dict())
    for endless in (buffer, restored):
        with pytest.raises(ValueError, match=f"max_episode_steps = {MAX_STEPS}"):
            endless.add(*transition([One(100)]))


# Saved and restored

SHAPES = [(MAX_STEPS + 1, 1), (11, 2), (23, 3), (40, 5), (150, 4)]
SEEDS = range(2)


class Shelf:
    """Keeps what a checkpoint does of a journal: chunks of 64 rows, written once, but for one not full then."""

    def __init__(self):
        self.chunks: dict[int, tuple[int, dict[str, np.ndarray]]] = {}
        """{chunk: (the first of its rows that was there when it was written, and its columns from there on)}."""
        self.first = self.last = 0

    def put(self, log: RowLog) -> None:
        for chunk in range(self.last // 64, -(-log.last // 64)):
            a, b = max(chunk * 64, log.first), min(chunk * 64 + 64, log.last)
            if a < b:
                self.chunks[chunk] = a, log.read(a, b)
        self.first, self.last = log.first, log.last

    def read(self, a: int, b: int) -> dict[str, np.ndarray]:
        pieces = []
        for chunk in range(a // 64, -(-b // 64)):
            begin, columns = self.chunks[chunk]
            pieces.append({key: column[max(a - begin, 0) : b - begin] for key, column in columns.items()})
        return {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}


def live(buffer: ReplayBuffer, rounds: Iterable[list[One]]) -> list[np.ndarray]:
    """Goes through the steps, and draws after each. Returns what it drew."""
    drawn = []
    for steps in rounds:
        buffer.add(*transition(steps))
        if len(buffer):
            drawn.append(buffer.sample_rows(5))
    return drawn


def used_buffer(capacity: int, num_envs: int) -> ReplayBuffer:
    """Returns a buffer that has held other things, of which nothing must be left where others are loaded over them."""
    buffer = make(capacity, num_envs, seed=99)
    live(buffer, islice(random_steps(num_envs, np.random.default_rng(2), first=100_000), 3 * capacity))
    return buffer


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("capacity", "num_envs"), SHAPES)
def test_restored_at_any_instant_it_goes_on_bit_by_bit(capacity, num_envs, seed):
    rounds = list(islice(random_steps(num_envs, np.random.default_rng(seed)), 330))
    used = used_buffer(capacity, num_envs)
    for instant in [0, *np.random.default_rng([seed, 1]).integers(1, 300, 5)]:
        original, fresh = make(capacity, num_envs), make(capacity, num_envs, seed=98)
        live(original, rounds[:instant])
        for restored in (fresh, used):
            restored.load_state_dict(original.state_dict())
            assert_same(restored, original)
        drawn = live(original, rounds[instant:])
        for restored in (fresh, used):
            np.testing.assert_array_equal(live(restored, rounds[instant:]), drawn)
            assert_same(restored, original)
    assert original.position > 2 * capacity


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("capacity", "num_envs"), SHAPES)
def test_restored_from_rows_that_were_stored_once_and_for_all_it_is_the_same(capacity, num_envs, seed):
    pauses = np.random.default_rng([seed, 2])
    rounds = random_steps(num_envs, np.random.default_rng(seed))
    original, restored, shelf = make(capacity, num_envs), used_buffer(capacity, num_envs), Shelf()
    while original.position < 4 * capacity + 300:
        live(original, islice(rounds, pauses.integers(1, 30)))
        state = original.state_dict()
        shelf.put(state["rows"])
        restored.load_state_dict(state | {"rows": shelf})
        assert_same(restored, original)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("capacity", "num_envs"), SHAPES)
def test_a_journal_row_never_changes_until_its_episode_loses_its_first(capacity, num_envs, seed):
    buffer = make(capacity, num_envs)
    known = {key: np.zeros((3000, *column.shape[1:]), column.dtype) for key, column in columns_of(buffer).items()}
    seen = 0
    for steps in islice(random_steps(num_envs, np.random.default_rng(seed)), 330):
        buffer.add(*transition(steps))
        log = buffer.state_dict()["rows"]
        assert (log.first, log.last) == (max(0, buffer.position - capacity), buffer.position)
        seen = max(seen, log.first)
        for key, column in log.read(seen, log.last).items():
            known[key][seen : log.last] = column
        seen = log.last
        expected = {key: column[log.first : log.last].copy() for key, column in known.items()}
        headless = np.arange(log.first, log.last) - expected["steps_before"] < log.first
        for column in expected.values():
            column[headless] = 0
        assert_equal(log.read(log.first, log.last), expected)
    assert 2 * capacity < buffer.position < 3000


def test_a_long_journal_is_read_in_chunks():
    buffer, rounds = make(9000, 16), random_steps(16, np.random.default_rng(0))
    while buffer.position < 2 * 9000:
        buffer.add(*transition(next(rounds)))
    state, calls = buffer.state_dict(), []
    log = state["rows"]

    def read(a, b):
        calls.append((a, b))
        return log.read(a, b)

    restored = make(9000, 16, seed=1)
    restored.load_state_dict(state | {"rows": RowLog(log.first, log.last, read)})
    assert_same(restored, buffer)
    inner = range(log.first // CHUNK * CHUNK + CHUNK, log.last, CHUNK)
    assert len(inner) > 1
    assert calls == list(zip([log.first, *inner], [*inner, log.last], strict=True))


# A small buffer of which every row is known: 20 rows, written once around and two rows further, so that the journal
# begins with rows 2, 3 and 4, which are left of the oldest episode. Its ring's end lies between rows 19 and 20.
LENGTHS = [4, 4, 4, 4, 1]
FIRST, LAST = 2, 22


def small_buffer() -> ReplayBuffer:
    """Returns a buffer of episodes of LENGTHS, and one of two steps in progress."""
    buffer, identity = make(20, num_envs=1), count(1)
    for length in LENGTHS:
        for t in range(1, length + 1):
            buffer.add(*transition([One(next(identity), truncated=t == length)]))
    for _ in range(2):
        buffer.add(*transition([One(next(identity))]))
    return buffer


def small_state(freed: Iterable[int]) -> dict:
    """Returns what small_buffer saves, with the oldest rows as they were stored before they were freed, but `freed`."""
    state = small_buffer().state_dict()
    columns = state["rows"].read(FIRST, LAST)
    for row, steps in {2: (2, 2), 3: (3, 1), 4: (4, 0)}.items():
        if row not in freed:
            columns["steps_before"][row - FIRST], columns["steps_after"][row - FIRST] = steps

    def read(a, b):
        return {key: column[a - FIRST : b - FIRST] for key, column in columns.items()}

    return state | {"rows": RowLog(FIRST, LAST, read)}


def test_what_is_read_from_the_journal_is_a_copy():
    buffer = small_buffer()
    for a, b in ((FIRST, LAST), (5, 10)):  # round the ring's end, and not
        for column in buffer.state_dict()["rows"].read(a, b).values():
            column[:] = 1
    assert_same(buffer, small_buffer())


def test_journal_rows_that_are_not_there_are_refused():
    buffer = small_buffer()
    log = buffer.state_dict()["rows"]
    assert (log.first, log.last) == (FIRST, LAST)
    assert {len(column) for column in log.read(LAST, LAST).values()} == {0}
    for a, b in ((FIRST - 1, LAST), (FIRST, LAST + 1), (7, 6), (0, 1), (-1, 1)):
        with pytest.raises(IndexError, match=f"rows {a} … {b - 1} are not all there: 2 … 21 are"):
            log.read(a, b)
    later = log.read(10, LAST)
    buffer.add(*transition([One(100, truncated=True)]))  # four rows
    with pytest.raises(IndexError, match="rows 2 … 21 are not all there: 6 … 21 are"):
        log.read(FIRST, LAST)
    with pytest.raises(IndexError):
        log.read(10, LAST + 1)  # there by now, but not when it was saved
    assert_equal(log.read(10, LAST), later)


@pytest.mark.parametrize("freed", [[], [4], [3, 4], [2, 3, 4], [2], [2, 3]])
def test_what_is_left_of_the_oldest_episode_may_have_been_stored_before_or_after_it_was_freed(freed):
    buffer = make(20, 1)
    buffer.load_state_dict(small_state(freed))
    assert_same(buffer, small_buffer())


def test_what_is_used_of_the_staging_area_is_saved_however_long_an_episode_might_be():
    def generous(seed):
        return ReplayBuffer(200_000, 2, 100_000, DIMS, INFO, np.random.default_rng(seed))

    original, fresh, used = generous(0), generous(1), generous(2)
    for buffer, steps in ((original, 30), (used, 50)):
        for identity in range(steps):
            buffer.add(*transition([One(identity), One(identity, truncated=identity % 7 == 0)]))
    state = original.state_dict()
    assert state["staging_rows"] == 31
    assert {column.shape[1] for column in state["staging"].values()} == {31}
    assert sum(column.nbytes for column in state["staging"].values()) < 10_000
    complete = state | {"staging": original.staging}  # as older code saved it
    for stored in (state, complete):
        for restored in (fresh, used):
            restored.load_state_dict(stored)
            assert_same(restored, original)
