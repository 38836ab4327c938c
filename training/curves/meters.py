"""Sums up episodes and updates for the curves. It is part of the run's state: a resumed curve has no seam."""

from collections import deque
from typing import Any

import numpy as np
from torch import Tensor

from env import VectorStep

WINDOW = 100
"""Episodes over which the rollout curves average, as in Stable-Baselines3."""

COUNTS = ("episodes", "episodes_moved", "diverged", "ended_met", "ended_unmet", "met_and_went_on")
"""What a RolloutMeter counts."""


def funnel_curves(group: str, stages: dict[str, Any]) -> dict[str, Any]:
    """Names the curve of each of the stages, in their order. They are numbered: TensorBoard sorts curves by name."""
    return {f"{group}/{i}_{name}": value for i, (name, value) in enumerate(stages.items(), 1)}


def takes_largest(curve: str) -> bool:
    """Tells whether an episode's value is its largest step's, and not the mean of its steps."""
    return curve.startswith("funnel/") or curve.endswith("_max")


class RolloutMeter:
    """Averages the training episodes: return, length, success, the goal's movement, and each of the task's metrics.

    Each curve is a mean over the last WINDOW episodes. An episode's metric is the mean over the steps that reported it,
    or the largest of them.
    """

    def __init__(self, num_envs: int):
        self.returns, self.lengths = np.zeros((2, num_envs))
        self.metrics: dict[str, np.ndarray] = {}
        """By curve, (2, N): the sum or the largest of the episode in progress, and how many steps reported a number."""
        self.windows: dict[str, deque[float]] = {}
        self.episodes = 0
        self.episodes_moved = 0
        self.diverged = 0
        self.ended_met = self.ended_unmet = self.met_and_went_on = 0
        """Steps that ended an episode and met its goal, that ended one and did not, that met it and ended nothing."""

    def add(self, step: VectorStep, chosen: np.ndarray) -> None:
        """Adds one step of every environment, and the episodes that it ends to the curves.

        chosen (N,) bool: whose goal is the run's own choice, and no success at the environment's.
        """
        self.returns += step.reward
        self.lengths += 1
        curves = {f"env/{name}": value for name, value in step.metrics.items()}
        curves |= funnel_curves("funnel", {name: value.astype(float) for name, value in step.stages.items()})
        for name, value in curves.items():
            self._add_metric(name, value)
        for env in np.flatnonzero(step.terminated | step.truncated):
            self._push("rollout/ep_rew_mean", self.returns[env])
            self._push("rollout/ep_len_mean", self.lengths[env])
            if step.success is not None:
                self._push("goals/success_rate" if chosen[env] else "rollout/success_rate", step.success[env])
                self._push("goals/chosen_share", chosen[env])
            for name, (total, count) in self.metrics.items():
                if count[env]:
                    self._push(name, total[env] / (1 if takes_largest(name) else count[env]))
            if step.stages and step.success is not None:
                self._push(f"funnel/{len(step.stages) + 1}_held", step.success[env])
            self.episodes += 1
        self.diverged += int(step.diverged.sum())
        if step.success is not None:
            met, ended = step.success[~chosen], step.terminated[~chosen]
            self.ended_met += int((ended & met).sum())
            self.ended_unmet += int((ended & ~met).sum())
            self.met_and_went_on += int((met & ~ended).sum())
        self.forget(step.terminated | step.truncated | step.diverged)

    def _add_metric(self, name: str, value: np.ndarray) -> None:
        """Adds a number of each environment (N,) to its episode; NaN where one reported none."""
        total, count = self.metrics.setdefault(name, np.zeros((2, len(value))))
        if takes_largest(name):
            total[:] = np.where(count, np.fmax(total, value), np.nan_to_num(value))
        else:
            total += np.nan_to_num(value)
        count += ~np.isnan(value)

    def add_displacement(self, distance: float, moved: bool) -> None:
        """Adds what her.goal_displacement says of a stored episode."""
        self.episodes_moved += int(moved)
        self._push("her/goal_moved_rate", moved)
        self._push("her/goal_displacement", distance)

    def forget(self, envs: np.ndarray | list[int]) -> None:
        """Starts the episodes in progress of these environments anew."""
        for total in (self.returns, self.lengths, *self.metrics.values()):
            total[..., envs] = 0.0

    @property
    def goal_moved_rate(self) -> float | None:
        """Returns the share of the recent episodes in which the achieved goal moved. None before one has ended."""
        recent = self.windows.get("her/goal_moved_rate")
        return float(np.mean(recent)) if recent else None

    @property
    def met_goals_end_episodes(self) -> bool:
        """Tells whether meeting its goal is what ends an episode, in all that was seen."""
        return self.ended_met > 0 and not self.ended_unmet and not self.met_and_went_on

    def values(self) -> dict[str, float]:
        """Returns every curve's value by now, by its tag."""
        means = {name: float(np.mean(window)) for name, window in self.windows.items()}
        return means | {"env/diverged_episodes": float(self.diverged), "rollout/episodes": float(self.episodes)}

    def _push(self, name: str, value: float) -> None:
        self.windows.setdefault(name, deque(maxlen=WINDOW)).append(float(value))

    def state_dict(self) -> dict[str, Any]:
        return {
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
            "metrics": {name: total.tolist() for name, total in self.metrics.items()},
            "windows": {name: list(window) for name, window in self.windows.items()},
            **{name: getattr(self, name) for name in COUNTS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.returns, self.lengths = np.array(state["returns"]), np.array(state["lengths"])
        self.metrics = {name: np.array(total) for name, total in state["metrics"].items()}
        self.windows = {name: deque(values, maxlen=WINDOW) for name, values in state["windows"].items()}
        for name in COUNTS:
            setattr(self, name, state.get(name, 0))  # older runs lack some


class UpdateMeter:
    """Averages the agent's metrics since the last point of the curves. Nothing is read back from the device before."""

    def __init__(self):
        self.sums: dict[str, Tensor | float] = {}
        self.count = 0

    def add(self, metrics: dict[str, Tensor], updates: int) -> None:
        """Adds the means over that many updates."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * updates
        self.count += updates

    def pop(self) -> dict[str, float]:
        """Returns the means and starts anew. They are empty where there was no update."""
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {name: float(total) for name, total in self.sums.items()}, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.count = dict(state["sums"]), state["count"]
