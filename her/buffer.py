"""Storage of whole episodes in flat arrays: what replay samples from and relabelling reads."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


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


class ReplayBuffer:
    """A ring of rows in which each episode lies in one piece.

    An episode of L transitions takes L + 1 consecutive rows: row t holds the observation and goals of step t with the
    action, reward, termination and info of the transition that leaves it, and the last row holds the final observation
    alone. So next_obs is simply the next row, nothing is stored twice, and "a goal reached later in this episode" is
    a row index. An episode that no longer fits at the end starts again at row 0; the oldest episodes give way whole.

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
        self.head = 0
        """The row where the next episode begins."""
        self.used = 0
        """Rows ever written: sampling looks no further."""
        self.num_transitions = 0

        self.staging = {
            key: np.zeros((num_envs, max_episode_steps + 1, *shape), dtype) for key, (shape, dtype) in shapes.items()
        }
        self.staged = np.zeros(num_envs, np.int64)
        """Transitions of the episode in progress, for each environment."""

    def __len__(self) -> int:
        return self.num_transitions

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
        self.staged[step.diverged] = 0
        ended = (step.terminated | step.truncated) & ~step.diverged
        return [self._store(env) for env in np.flatnonzero(ended)]

    def discard_staged(self, env: int) -> None:
        """Forgets the episode in progress of one environment, because its simulation starts anew."""
        self.staged[env] = 0

    def _store(self, env: int) -> "Episode":
        length = int(self.staged[env])
        self.staged[env] = 0
        if self.head + length + 1 > self.capacity:
            self._free(self.head, self.capacity)
            self.head = 0
        start, end = self.head, self.head + length + 1
        self._free(start, end)
        for key, column in self.rows.items():
            column[start:end] = self.staging[key][env, : length + 1]
        self.steps_before[start:end] = np.arange(length + 1)
        self.steps_after[start:end] = np.arange(length, -1, -1)
        self.head = end
        self.used = max(self.used, end)
        self.num_transitions += length
        return Episode(env, start, length)

    def _free(self, start: int, end: int) -> None:
        """Removes every episode that touches rows start … end - 1. Episodes lie in order, so only one can reach past
        `end`, and none can begin before `start`: the rows before it were written last."""
        if end < self.capacity and self.steps_before[end] > 0:
            end += int(self.steps_after[end]) + 1
        self.num_transitions -= int(np.count_nonzero(self.steps_after[start:end]))
        self.steps_before[start:end] = 0
        self.steps_after[start:end] = 0

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
        """The used part of every array, and the counters. Views, no copies: write them before the next add."""
        used = self.used
        return {
            "rows": {key: column[:used] for key, column in self.rows.items()},
            "steps_before": self.steps_before[:used],
            "steps_after": self.steps_after[:used],
            "head": self.head,
            "num_transitions": self.num_transitions,
            "staging": self.staging,
            "staged": self.staged,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        used = len(state["steps_after"])
        for key, column in self.rows.items():
            column[:used] = state["rows"][key]
        for key, column in self.staging.items():
            column[:] = state["staging"][key]
        for name in ("steps_before", "steps_after"):
            array = getattr(self, name)
            array[:] = 0
            array[:used] = state[name]
        self.used = used
        self.head = state["head"]
        self.num_transitions = state["num_transitions"]
        self.staged[:] = state["staged"]
        self.rng.bit_generator.state = state["rng"]


class Episode(NamedTuple):
    """Where a stored episode lies: its environment, its first row, and its number of transitions."""

    env: int
    start: int
    length: int
