"""Whole episodes are stored in flat arrays, from which replay samples and in which relabelling looks ahead."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

CHUNK = 4096
"""Journal rows that a load reads at a time, from one multiple of CHUNK to the next: what bounds its memory."""


class Step(Protocol):
    """Tells what one step of N environments side by side led to.

    next_obs: {"observation": (N, O), "achieved_goal": (N, G), "desired_goal": (N, G)}, the true next observation also
        where an episode ended.
    reward: (N,). terminated, truncated: (N,) bool.
    info: arrays (N, …) that compute_reward needs beyond the goals.
    diverged: (N,) bool. The simulation failed in this step, and the episode must not be stored.
    """

    next_obs: Mapping[str, np.ndarray]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: Mapping[str, np.ndarray]
    diverged: np.ndarray


@dataclass(frozen=True)
class RowLog:
    """Gives a checkpoint the rows of a buffer's journal that its ring holds, first … last - 1.

    read(a, b) copies rows a … b - 1 out of the ring, {column: (b - a, …)}, steps_before and steps_after among the
    columns. It raises IndexError where not all of them are there: out of range, or overwritten by a later add.
    """

    first: int
    last: int
    read: Callable[[int, int], dict[str, np.ndarray]]


class ReplayBuffer:
    """Keeps a ring of rows in which each episode lies in one piece.

    An episode of L transitions takes L + 1 consecutive rows: row t holds the observation and goals of step t with the
    action, reward, termination and info of the transition that leaves it, and the last row holds the final observation
    alone. So next_obs is simply the next row, nothing is stored twice, and "a goal reached later in this episode" is
    a row index. An episode that no longer fits at the end starts again at row 0; the oldest episodes give way whole.

    All rows ever written are the journal, in that order. The rows left over at the ring's end, where an episode did
    not fit, belong to it as padding. The ring holds the newest `capacity` of them, journal row i in row i % capacity.
    A journal row is written once and never changes, until the first row of its episode is overwritten and the rest is
    zeroed. So a checkpoint has to add only the rows that came since the one before.

    A row that no stored episode holds is zero in every column, and so is what no episode in progress holds of the
    staging area: the arrays are a function of those episodes and of `position`, whatever was there before.

    Episodes in progress wait in a staging area and become visible to sampling when they end. A goal is only known to
    have been reached later once the later steps exist.

    Args:
        capacity: rows to keep.
        num_envs, max_episode_steps: size of the staging area.
        dims: {"observation": O, "goal": G, "action": A}.
        info_shapes: shape of each info array of one transition.
        rng: sampling draws from it. It is part of the buffer's state.

    Raises ValueError where not even one episode fits in.
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
        # All of a row lies in one place, and the next row beside it: a sample waits for memory above all. np.zeros asks
        # for it only when a row is first written, so a large capacity costs nothing by itself.
        layout = [(key, dtype, shape) for key, (shape, dtype) in shapes.items()]
        layout += [("steps_before", np.int32, ()), ("steps_after", np.int32, ())]
        self._ring = np.zeros(capacity, np.dtype(layout, align=True))
        self.rows: dict[str, np.ndarray] = {key: self._ring[key] for key in shapes}
        self.steps_before = self._ring["steps_before"]
        """Transitions of the same episode that lie before this row."""
        self.steps_after = self._ring["steps_after"]
        """Transitions from this row to its episode's end; 0 marks a row from which no transition leaves."""
        self.position = 0
        """Journal rows ever written, padding included."""
        self.num_transitions = 0

        self.staging: dict[str, np.ndarray] = {
            key: np.zeros((num_envs, max_episode_steps + 1, *shape), dtype) for key, (shape, dtype) in shapes.items()
        }
        self.staged = np.zeros(num_envs, np.int64)
        """Transitions of the episode in progress, for each environment."""

    def __len__(self) -> int:
        return self.num_transitions

    def drawn_by(self, rng: np.random.Generator) -> "ReplayBuffer":
        """Returns a view of the same rows that samples with another generator, to look at and not to add to."""
        view = copy(self)
        view.rng = rng
        return view

    @property
    def head(self) -> int:
        """Returns the row where the next episode begins, if it fits before the ring's end."""
        return self.position % self.capacity

    @property
    def used(self) -> int:
        """Returns how many rows the journal has reached. Sampling looks no further."""
        return min(self.position, self.capacity)

    def add(self, obs: Mapping[str, np.ndarray], action: np.ndarray, step: Step) -> list["Episode"]:
        """Stages one step of every environment, and stores and returns the episodes that it ended.

        Args:
            obs: {"observation": (N, O), "achieved_goal": (N, G), "desired_goal": (N, G)}, which was acted on.
            action: (N, A).
            step: to where the actions led.

        Raises ValueError where an episode is longer than max_episode_steps.
        """
        if self.staged.max() >= self.max_episode_steps:
            raise ValueError(
                f"an episode goes on after max_episode_steps = {self.max_episode_steps}: its environment must set "
                "truncated by then"
            )
        envs = np.arange(len(self.staged))
        at = (envs, self.staged)
        for key in ("observation", "achieved_goal", "desired_goal"):
            self.staging[key][at] = obs[key]
            self.staging[key][envs, self.staged + 1] = step.next_obs[key]
        self.staging["action"][at] = action
        self.staging["reward"][at] = step.reward
        self.staging["terminated"][at] = step.terminated
        for key, value in step.info.items():
            self.staging[f"info/{key}"][at] = value
        self.staged += 1
        for env in np.flatnonzero(step.diverged).tolist():
            self.discard_staged(env)
        ended = (step.terminated | step.truncated) & ~step.diverged
        return [self._store(env) for env in np.flatnonzero(ended).tolist()]

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
        """Removes every episode that touches rows start … end - 1, which the caller then writes.

        Episodes lie in order, so only one can reach past `end`, and none can begin before `start`: the rows before it
        were written last.
        """
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
        """Draws the rows of `size` transitions, (size,), each stored transition equally likely.

        Drawn over all rows, and redrawn where no transition leaves the row (one in L + 1): O(size) whatever the fill.
        Raises IndexError when empty.
        """
        if self.num_transitions == 0:
            raise IndexError("the replay buffer holds no complete episode yet")
        rows = self.rng.integers(self.used, size=size)
        while (missed := np.flatnonzero(self.steps_after[rows] == 0)).size:
            rows[missed] = self.rng.integers(self.used, size=missed.size)
        return rows

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Returns a copy of rows (B,) with all their columns: take(rows)["observation"] is (B, O).

        Where several columns are wanted it is several times faster than rows[name][rows] of each.
        """
        return self._ring.take(rows)

    def state_dict(self) -> dict[str, Any]:
        """Returns the journal, what is used of the staging area, and the generator.

        All of it are views, to be read before the next add.
        """
        used = int(self.staged.max()) + 1
        return {
            "rows": self._journal(),
            "position": self.position,
            "staging": self._first_staged(used),
            "staging_rows": used,
            "staged": self.staged,
            "rng": self.rng.bit_generator.state,
        }

    def sizes(self, staging_rows: int | None) -> dict[str, Any]:
        """Returns the shapes of another state_dict of the same buffer: its arrays and logs, with other numbers in them.

        staging_rows: as it stands in that state, or None where older code wrote it.
        """
        return self.state_dict() | {"staging": self._first_staged(staging_rows)}

    def _first_staged(self, rows: int | None) -> dict[str, np.ndarray]:
        return {key: column[:, :rows] for key, column in self.staging.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state_dict of another buffer of the same sizes, whatever this one held before.

        state["rows"] is a RowLog, or has first, last and read as it has. It is read in chunks.
        """
        self._zero(0, self.used)  # beyond it nothing was ever written, and no memory is in use
        log, self.position = state["rows"], state["position"]
        for start in range(log.first // CHUNK * CHUNK, log.last, CHUNK):
            a, b = max(start, log.first), min(start + CHUNK, log.last)
            rows, chunk = self._ring_rows(a, b), log.read(a, b)
            for name, column in self._columns().items():
                column[rows] = chunk[name]
        self._zero_headless()
        self.num_transitions = int(np.count_nonzero(self.steps_after[: self.used]))
        for env in range(len(self.staged)):
            self.discard_staged(env)
        for key, column in self.staging.items():
            kept = state["staging"][key]
            column[:, : kept.shape[1]] = kept
        self.staged[:] = state["staged"]
        self.rng.bit_generator.state = state["rng"]

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
        """Returns the rows of the ring where journal rows a … b - 1 lie, at most `capacity` of them."""
        start = a % self.capacity
        end = start + b - a
        return slice(start, end) if end <= self.capacity else np.arange(start, end) % self.capacity

    def _zero_headless(self) -> None:
        """Zeroes what is left, from the oldest row on, of an episode that lost its first rows.

        Each of them may have been stored before that, as it was, or since, as zeros.
        """
        begun = np.flatnonzero(self.steps_before[self.head : self.head + self.max_episode_steps])
        if begun.size:
            start = self.head + int(begun[0])
            if start - self.steps_before[start] < self.head:
                self._zero(start, start + int(self.steps_after[start]) + 1)


class Episode(NamedTuple):
    """Tells where a stored episode lies: its environment, its first row, and its number of transitions."""

    env: int
    start: int
    length: int
