"""Turns stored episodes into what the agent learns from."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import her
from env import EnvError, GoalEnv
from sac import Batch

UPDATES_AT_ONCE = 16
"""Updates whose batches are drawn, relabelled and handed over together, at most."""


class DeviceRows:
    """Keeps what networks see of a buffer's rows on their device, so that only row numbers cross over with a batch.

    Args:
        buffer: is followed as it grows, by its journal.
        device: takes the rows, 4 bytes for each number in them.
    """

    NAMES = ("observation", "achieved_goal", "desired_goal", "action")

    def __init__(self, buffer: her.ReplayBuffer, device: torch.device):
        self._buffer = buffer
        self._columns = {name: torch.zeros(buffer.rows[name].shape, device=device) for name in self.NAMES}
        self._position = 0

    @classmethod
    def where_they_fit(cls, buffer: her.ReplayBuffer, device: torch.device) -> "DeviceRows | None":
        """Makes them on a GPU that has twice the memory left. Returns None elsewhere."""
        if device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(device)
        return cls(buffer, device) if 2 * sum(buffer.rows[name].nbytes for name in cls.NAMES) < free else None

    def forget(self) -> None:
        """Has all rows copied again: the buffer was loaded."""
        self._position = 0

    def columns(self) -> dict[str, Tensor]:
        """Returns the rows by column, those that came since the last call included."""
        new = np.arange(max(self._position, self._buffer.position - self._buffer.capacity), self._buffer.position)
        new %= self._buffer.capacity
        for name, column in self._columns.items():
            column[torch.from_numpy(new).to(column.device)] = torch.from_numpy(self._buffer.rows[name][new]).to(
                column.device
            )
        self._position = self._buffer.position
        return self._columns


@dataclass(frozen=True)
class Replay:
    """Draws transitions from a buffer, relabels them, and has the environment judge what they are worth."""

    buffer: her.ReplayBuffer
    judge: GoalEnv
    """Never steps. Its compute_reward and the like judge hindsight goals."""
    her: her.HERConfig
    gamma: float
    n_step: int
    reward_values: tuple[float, float] | None
    """What rewards are where they take two values, None elsewhere."""
    reward_scale: float = 1.0
    """What rewards are divided by, and what returns are told in."""
    on_device: DeviceRows | None = None
    """The buffer's rows where the networks are. None: they are gathered in the CPU's memory, and the batch is moved."""

    def drawn_by(self, rng: np.random.Generator) -> "Replay":
        """Returns the same, whose draws leave the run's own generator as it is."""
        return replace(self, buffer=self.buffer.drawn_by(rng))

    def draw(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws rows (B,), the goals that they are taught (B, G), and which of these are hindsight's (B,)."""
        return her.sample(self.buffer, size, self.her, getattr(self.judge, "is_success", None))

    def to_batches(self, drawn: tuple[np.ndarray, np.ndarray, np.ndarray], count: int, device: torch.device) -> Batch:
        """Turns K · B transitions that were drawn into K batches (K, B, …) of the plain ones that SAC learns from.

        Raises EnvError where the environment gives a reward that is not finite.
        """
        # Each K-th row to the same batch: the relabelled rows come first, and every batch is to have its share of them.
        order = np.arange(len(drawn[0])).reshape(-1, count).T.ravel()
        rows, goals, relabelled = drawn = tuple(a[order] for a in drawn)
        judge = (getattr(self.judge, name, None) for name in ("compute_reward", "compute_terminated"))
        reward, terminated, steps = her.n_step_return(self.buffer, *drawn, *judge, self.gamma, self.n_step)
        if not np.isfinite(reward).all():
            raise EnvError("compute_reward returned a number that is not finite for a hindsight goal")
        low, high = self._return_bounds(rows, goals)
        gather = self._gather if self.on_device is None else self._gather_on_device
        obs, action, next_obs = gather(rows, rows + steps, goals, relabelled)
        arrays = Batch(
            obs=obs,
            action=action,
            reward=reward / np.float32(self.reward_scale),
            next_obs=next_obs,
            terminated=terminated.astype(np.float32),
            discount=(self.gamma**steps).astype(np.float32),
            low=low,
            high=high,
        )
        return Batch(*(torch.as_tensor(a).to(device).view(count, -1, *a.shape[1:]) for a in arrays))

    def _gather(
        self, rows: np.ndarray, after: np.ndarray, goals: np.ndarray, relabelled: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what the networks see at `rows` (B,), what was done there, and what they see at the rows `after`."""
        now, then = self.buffer.take(rows), self.buffer.take(after)
        # A goal of the environment's own may have moved meanwhile.
        next_goals = np.where(relabelled[:, None], goals, then["desired_goal"])
        return (
            her.policy_input(now["observation"], now["achieved_goal"], goals),
            np.ascontiguousarray(now["action"]),
            her.policy_input(then["observation"], then["achieved_goal"], next_goals),
        )

    def _gather_on_device(self, *drawn: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Does what _gather does, from the rows on the device."""
        columns = self.on_device.columns()
        rows, after, goals, relabelled = (torch.from_numpy(a).to(columns["action"].device) for a in drawn)
        next_goals = torch.where(relabelled[:, None], goals, columns["desired_goal"][after])

        def policy_input(rows: Tensor, goals: Tensor) -> Tensor:
            achieved = columns["achieved_goal"][rows]
            return torch.cat([columns["observation"][rows], achieved, goals, goals - achieved], dim=-1)

        return policy_input(rows, goals), columns["action"][rows], policy_input(after, next_goals)

    def paid_otherwise(self, size: int) -> float:
        """Returns the share of `size` stored transitions that the environment, as it is now, would pay otherwise."""
        rows, columns = self.buffer.sample_rows(size), self.buffer.rows
        goals = columns["desired_goal"]
        rows = rows[(goals[rows] == goals[rows + 1]).all(-1)]  # where a goal moves, it is open which one was paid for
        if not len(rows):
            return 0.0
        asked = np.ones(len(rows), bool)
        now, _, _ = her.n_step_return(
            self.buffer, rows, goals[rows], asked, self.judge.compute_reward, None, self.gamma, 1
        )
        return float(np.mean(~np.isclose(now, columns["reward"][rows], rtol=1e-4, atol=1e-5)))

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Returns the lowest and the highest return of two-valued rewards, as critics tell it, None of others."""
        if self.reward_values is None:
            return None
        low, high = (value / self.reward_scale for value in sorted(self.reward_values))
        forever = 1 / (1 - self.gamma)
        return min(low, low * forever), max(high, high * forever)  # a termination leaves what one step pays

    def _return_bounds(self, rows: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Returns the lowest and the highest return from each row on, (2, B) float32, infinite where unknown."""
        bounds = np.tile(np.float32([[-np.inf], [np.inf]]), len(rows))
        if self.value_range is not None:
            bounds[:] = np.array([self.value_range]).T
        elif hasattr(self.judge, "return_bounds"):  # a built-in task's
            known = self.judge.return_bounds(self.gamma, goals, her.stored_info(self.buffer, rows))
            bounds[:] = bounds if known is None else np.array(known) / self.reward_scale
        return bounds


def reward_scale(buffer: her.ReplayBuffer, reward_values: tuple[float, float] | None) -> float:
    """Returns the larger of two rewards, or the root mean square of those stored so far; 1 where all are 0.

    Rewards are divided by what it is at the first update, so that critics and temperature meet numbers of about 1
    whatever the task's unit is.
    """
    if reward_values is not None:
        return max(map(abs, reward_values)) or 1.0
    stored = buffer.rows["reward"][buffer.steps_after > 0]
    return float(np.sqrt(np.mean(np.square(stored, dtype=np.float64)))) or 1.0
