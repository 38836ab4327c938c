"""Storage of whole episodes in flat arrays: what replay samples from and relabelling reads."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

CHUNK = 4096
"""Journal rows that a load reads at a time, from one multiple of CHUNK to the next: what bounds its memory."""


class EpisodeTooLong(RuntimeError):
    """An environment that does not end its episodes when it said it would."""


class Transition(NamedTuple):
    """One step of N environments side by side; next_obs is the true next observation, also where an episode ended.

    obs, next_obs: {"observation": (N, O), "achieved_goal": (N, G), "desired_goal": (N, G)}; action (N, A);
    reward, terminated, truncated (N,); info: arrays (N, ...) that compute_reward needs beyond the goals;
    diverged (N,): the simulation failed in this step, and the episode must not be stored.
    """

    obs: Mapping[str, np.ndarray]
    action: np.ndarray
    reward: np.ndarray
    next_obs: Mapping[str, np.ndarray]
    terminated: np.ndarray
    truncated: np.ndarray
    info: Mapping[str, np.ndarray]
    diverged: np.ndarray


@dataclass(frozen=True)
class RowLog:
    """The rows of a buffer's journal that its ring holds, first … last - 1: what a checkpoint stores of them.

    read(a, b) copies rows a … b - 1 out of the ring, {column: (b - a, …)}, steps_before and steps_after among the
    columns. It raises IndexError where not all of them are there: out of range, or overwritten by a later add.
    """

    first: int
    last: int
    read: Callable[[int, int], dict[str, np.ndarray]]


class ReplayBuffer:
    """A ring of rows in which each episode lies in one piece.

    An episode of L transitions takes L + 1 consecutive rows: row t holds the observation and goals of step t with the
    action, reward, termination and info of the transition that leaves it, and the last row holds the final observation
    alone. So next_obs is simply the next row, nothing is stored twice, and "a goal reached later in this episode" is
    a row index. An episode that no longer fits at the end starts again at row 0; the oldest episodes give way whole.

    All rows ever written are the journal, in that order; the rows left over at the ring's end, where an episode did
    not fit, belong to it as padding. The ring holds the newest `capacity` of them, journal row i in row i % capacity.
    A journal row is written once and never changes, until the first row of its episode is overwritten and the rest is
    zeroed: so a checkpoint has to add only the rows that came since the one before.

    A row that no stored episode holds is zero in every column, and so is what no episode in progress holds of the
    staging area: the arrays are a function of those episodes and of `position`, whatever was there before.

    Episodes in progress wait in a staging area and become visible to sampling when they end: a goal is only known to
    have been reached later once the later steps exist.

    Args:
        capacity: rows to keep; at least one episode must fit.
        num_envs, max_episode_steps: size of the staging area.
        dims: {"observation": O, "goal": G, "action": A}.
        info_shapes: shape of each info array of one transition.
        rng: what sampling draws from; part of the buffer's state.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        max_episode_steps: int,
        dims: Mapping[str, int],
        info_shapes: Mapping[str, tuple[int, ...]],
        rng: np.random.Generator,
    ):
        if capacity < max_episode_steps + 1:
            raise ValueError(
                f"a buffer of {capacity} rows cannot hold one episode of {max_episode_steps} steps; "
                f"give --her.capacity at least {max_episode_steps + 1}"
            )
        self.capacity = capacity
        self.max_episode_steps = max_episode_steps
        self.rng = rng
        shapes = {
            "observation": ((dims["observation"],), np.float32),
            "achieved_goal": ((dims["goal"],), np.float32),
            "desired_goal": ((dims["goal"],), np.float32),
            "action": ((dims["action"],), np.float32),
            "reward": ((), np.float32),
            "terminated": ((), np.bool_),
        } | {f"info/{key}": (shape, np.float32) for key, shape in info_shapes.items()}
        # np.zeros asks for memory only when a row is first written, so a large capacity costs nothing by itself.
        self.rows = {key: np.zeros((capacity, *shape), dtype) for key, (shape, dtype) in shapes.items()}
        self.steps_before = np.zeros(capacity, np.int32)
        """Transitions of the same episode that lie before this row."""
        self.steps_after = np.zeros(capacity, np.int32)
        """Transitions from this row to its episode's end; 0 marks a row from which no transition leaves."""
        self.position = 0
        """Journal rows ever written, padding included."""
        self.num_transitions = 0

        self.staging = {
            key: np.zeros((num_envs, max_episode_steps + 1, *shape), dtype) for key, (shape, dtype) in shapes.items()
        }
        self.staged = np.zeros(num_envs, np.int64)
        """Transitions of the episode in progress, for each environment."""

    def __len__(self) -> int:
        return self.num_transitions

    def drawn_by(self, rng: np.random.Generator) -> "ReplayBuffer":
        """A view of the same rows for whoever samples with a generator of their own, and leaves the run as it is. To
        look at, not to add to."""
        view = copy(self)
        view.rng = rng
        return view

    @property
    def head(self) -> int:
        """The row where the next episode begins, if it fits before the ring's end."""
        return self.position % self.capacity

    @property
    def used(self) -> int:
        """Rows that the journal has reached: sampling looks no further."""
        return min(self.position, self.capacity)

    def add(self, step: Transition) -> list["Episode"]:
        """Stages one step of every environment; stores the episodes that it ended, and returns them.

        Raises EpisodeTooLong.
        """
        if self.staged.max() >= self.max_episode_steps:
            raise EpisodeTooLong(
                f"an episode goes on after max_episode_steps = {self.max_episode_steps}: its environment must set "
                "truncated by then"
            )
        envs = np.arange(len(self.staged))
        at = (envs, self.staged)
        for key in ("observation", "achieved_goal", "desired_goal"):
            self.staging[key][at] = step.obs[key]
            self.staging[key][envs, self.staged + 1] = step.next_obs[key]
        self.staging["action"][at] = step.action
        self.staging["reward"][at] = step.reward
        self.staging["terminated"][at] = step.terminated
        for key, value in step.info.items():
            self.staging[f"info/{key}"][at] = value
        self.staged += 1
        for env in np.flatnonzero(step.diverged):
            self.discard_staged(env)
        ended = (step.terminated | step.truncated) & ~step.diverged
        return [self._store(env) for env in np.flatnonzero(ended)]

    def discard_staged(self, env: int) -> None:
        """Forgets the episode in progress of one environment, because its simulation starts anew."""
        end = int(self.staged[env]) + 1
        for column in self.staging.values():
            column[env, :end] = 0
        self.staged[env] = 0

    def _store(self, env: int) -> "Episode":
        length = int(self.staged[env])
        if self.head + length + 1 > self.capacity:
            self._free(self.head, self.capacity)
            self._zero(self.head, self.capacity)
            self.position += self.capacity - self.head
        start, end = self.head, self.head + length + 1
        self._free(start, end)
        for key, column in self.rows.items():
            column[start:end] = self.staging[key][env, : length + 1]
        self.steps_before[start:end] = np.arange(length + 1)
        self.steps_after[start:end] = np.arange(length, -1, -1)
        self.position += length + 1
        self.num_transitions += length
        self.discard_staged(env)
        return Episode(env, start, length)

    def _free(self, start: int, end: int) -> None:
        """Removes every episode that touches rows start … end - 1, which the caller then writes. Episodes lie in order,
        so only one can reach past `end`, and none can begin before `start`: the rows before it were written last."""
        last = end
        if end < self.capacity and self.steps_before[end] > 0:
            last += int(self.steps_after[end]) + 1
            self.num_transitions -= int(np.count_nonzero(self.steps_after[end:last]))
            self._zero(end, last)
        self.num_transitions -= int(np.count_nonzero(self.steps_after[start:end]))

    def _zero(self, start: int, end: int) -> None:
        for column in (*self.rows.values(), self.steps_before, self.steps_after):
            column[start:end] = 0

    def sample_rows(self, size: int) -> np.ndarray:
        """Rows of `size` transitions, (size,), each stored transition equally likely. Raises IndexError when empty.

        Drawn over all rows, redrawn where no transition leaves the row (one in L + 1): O(size) whatever the fill.
        """
        if self.num_transitions == 0:
            raise IndexError("the replay buffer holds no complete episode yet")
        rows = self.rng.integers(self.used, size=size)
        while (missed := np.flatnonzero(self.steps_after[rows] == 0)).size:
            rows[missed] = self.rng.integers(self.used, size=missed.size)
        return rows

    def state_dict(self) -> dict[str, Any]:
        """The journal, the staging area and the generator. Views, no copies: read them before the next add.

        What load_state_dict finds out by itself is not in it: num_transitions, head, used.
        """
        return {
            "rows": self._journal(),
            "position": self.position,
            "staging": self.staging,
            "staged": self.staged,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state_dict of another buffer of the same sizes, whatever this one held before.

        state["rows"] is a RowLog, or has first, last and read as it has; it is read in chunks. Nothing in the state is
        trusted: raises ValueError where it does not fit this buffer, or contradicts itself. The buffer is empty then.
        """
        self._clear(self.used)
        self._check(state)
        position = state["position"]
        first, used = max(0, position - self.capacity), min(position, self.capacity)
        try:
            for start in range(first // CHUNK * CHUNK, position, CHUNK):
                self._load_chunk(state["rows"], max(start, first), min(start + CHUNK, position))
            self._zero_headless(position % self.capacity)
            self._check_episodes(used)
            for key, column in self.staging.items():
                column[:] = state["staging"][key]
            self.staged[:] = state["staged"]
            self._load_rng(state["rng"])
        except BaseException:
            self._clear(used)
            raise
        self.position = position
        self.num_transitions = int(np.count_nonzero(self.steps_after[:used]))

    def _journal(self) -> RowLog:
        first, last = max(0, self.position - self.capacity), self.position

        def read(a: int, b: int) -> dict[str, np.ndarray]:
            oldest, newest = max(first, self.position - self.capacity), min(last, self.position)
            if not oldest <= a <= b <= newest:
                raise IndexError(f"journal rows {a} … {b - 1} are not all there: {oldest} … {newest - 1} are")
            rows = self._ring_rows(a, b)
            return {name: column[rows].copy() for name, column in self._columns().items()}

        return RowLog(first, last, read)

    def _columns(self) -> dict[str, np.ndarray]:
        return self.rows | {"steps_before": self.steps_before, "steps_after": self.steps_after}

    def _ring_rows(self, a: int, b: int) -> slice | np.ndarray:
        """Where journal rows a … b - 1 lie, at most `capacity` of them."""
        start = a % self.capacity
        end = start + b - a
        return slice(start, end) if end <= self.capacity else np.arange(start, end) % self.capacity

    def _check(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError for whatever is wrong with a saved state, as far as it shows before its rows are read."""
        if missing := {"rows", "position", "staging", "staged", "rng"} - state.keys():
            raise ValueError(f"the saved buffer holds no {', '.join(sorted(missing))}")
        log, position = state["rows"], state["position"]
        if not all(hasattr(log, name) for name in ("first", "last", "read")):
            raise ValueError(f"the saved buffer's rows are no journal but {type(log).__name__}")
        if type(position) is not int or position < 0:
            raise ValueError(f"the saved buffer's position is {position!r} and no count of rows")
        first = max(0, position - self.capacity)
        if (log.first, log.last) != (first, position):
            raise ValueError(
                f"the saved buffer's journal has the rows from {log.first} to {log.last}; a buffer of {self.capacity} "
                f"rows at position {position} has those from {first} to {position}"
            )
        _check_arrays("staging area", state["staging"], self.staging)
        _check_arrays("staging area", {"staged": state["staged"]}, {"staged": self.staged})
        staged = state["staged"]
        if staged.min() < 0 or staged.max() > self.max_episode_steps:
            raise ValueError(
                f"the saved buffer's episodes in progress have {staged.min()} to {staged.max()} steps, "
                f"and 0 to {self.max_episode_steps} can be"
            )

    def _load_chunk(self, log: RowLog, a: int, b: int) -> None:
        chunk, columns = log.read(a, b), self._columns()
        _check_arrays(f"journal rows {a} … {b - 1}", chunk, {name: column[: b - a] for name, column in columns.items()})
        rows = self._ring_rows(a, b)
        for name, column in columns.items():
            column[rows] = chunk[name]

    def _zero_headless(self, head: int) -> None:
        """Zeroes what is left, from row `head` on, of an oldest episode that lost its first rows. Each of them may have
        been stored before that, as it was, or since, as zeros. Raises ValueError where it is anything else."""
        begun = np.flatnonzero(self.steps_before[head : head + self.max_episode_steps])
        if not begun.size:
            return
        start = head + int(begun[0])
        before, after = int(self.steps_before[start]), int(self.steps_after[start])
        if start - before >= head:
            return  # its first row is there
        if not 0 <= after < self.capacity - start:
            raise ValueError("the saved buffer's episodes are not whole: its oldest passes the ring's end")
        rows = slice(start, start + after + 1)
        zero = (self.steps_before[rows] == 0) & (self.steps_after[rows] == 0)
        left = np.arange(after, -1, -1)
        own = (self.steps_before[rows] == before + after - left) & (self.steps_after[rows] == left)
        if not (own | zero).all():
            raise ValueError("the saved buffer's episodes are not whole: its oldest runs into another")
        self._zero(start, start + after + 1)

    def _check_episodes(self, used: int) -> None:
        """Raises ValueError unless every row from which a transition leaves has its whole episode around it, in one
        piece: what is sampled lies at row + 1, and anywhere from row - steps_before to row + steps_after. The oldest
        row begins an episode or belongs to none (_zero_headless), so the newest cannot run on into it."""
        if used == 0:
            return
        before, after = self.steps_before[:used], self.steps_after[:used]
        leaves = after[:-1] > 0
        whole = (
            before[0] == after[-1] == after.min() == 0
            and np.array_equal(before[1:], np.where(leaves, before[:-1] + 1, 0))
            and np.array_equal(after[1:][leaves], after[:-1][leaves] - 1)
        )
        if not whole:
            raise ValueError("the saved buffer's episodes are not whole: steps_before and steps_after contradict")

    def _load_rng(self, state: Any) -> None:
        try:
            self.rng.bit_generator.state = state
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ValueError(f"the saved buffer's generator cannot be restored ({error})") from error

    def _clear(self, used: int) -> None:
        """Empties a buffer whose first `used` rows may hold something; the others keep asking for no memory."""
        self._zero(0, used)
        for column in (*self.staging.values(), self.staged):
            column[:] = 0
        self.position = self.num_transitions = 0


class Episode(NamedTuple):
    """Where a stored episode lies: its environment, its first row, and its number of transitions."""

    env: int
    start: int
    length: int


def _check_arrays(what: str, arrays: Any, expected: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless `arrays` are arrays of the names, shapes and types of `expected`."""
    if not isinstance(arrays, Mapping) or arrays.keys() != expected.keys():
        names = ", ".join(sorted(arrays)) if isinstance(arrays, Mapping) else type(arrays).__name__
        raise ValueError(f"the saved buffer's {what}: {names} instead of {', '.join(sorted(expected))}")
    for name, wanted in expected.items():
        array = arrays[name]
        if not isinstance(array, np.ndarray) or (array.shape, array.dtype) != (wanted.shape, wanted.dtype):
            found = f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"the saved buffer's {what}: {name} is {found} instead of {wanted.dtype}{wanted.shape}")
