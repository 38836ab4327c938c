"""Running sums and windows behind the curves. They are part of the run's state: a resumed curve has no seam."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from env import VectorStep

WINDOW = 100
"""Episodes over which the rollout curves average, as in Stable-Baselines3."""
COUNT = ", steps"
"""What ends the name of the count of the steps that reported a number."""
MOVED = 0.1
"""How far an achieved goal must get to count as moved, as the networks see goals: 1 cm for the built-in tasks."""


def per_step_values(step: VectorStep) -> dict[str, np.ndarray]:
    """The task's numbers by the curve that they feed, each (N,), NaN where an environment reported none."""
    metrics = {f"env/{name}": value for name, value in step.metrics.items()}
    return metrics | funnel_curves("funnel", {name: value.astype(float) for name, value in step.stages.items()})


def funnel_curves(group: str, stages: dict[str, Any]) -> dict[str, Any]:
    """Stages in their order by the curve that each feeds, numbered: TensorBoard sorts curves by name."""
    return {f"{group}/{i}_{name}": value for i, (name, value) in enumerate(stages.items(), 1)}


def takes_largest(curve: str) -> bool:
    """Whether an episode's value is its largest step's, and not the mean of its steps."""
    return curve.startswith("funnel/") or curve.endswith("_max")


class RolloutMeter:
    """What the training episodes come to: return, length, success, the goal's movement, and each of the task's metrics.

    Each curve is a mean over the last WINDOW episodes. What a metric or a stage comes to in one episode is in
    env/protocol.py: a mean over its steps, or the largest. `goal_scale`: see env/protocol.py.
    """

    def __init__(self, num_envs: int, goal_scale: float):
        self._goal_scale = goal_scale
        self.running: dict[str, np.ndarray] = {"return": np.zeros(num_envs), "length": np.zeros(num_envs)}
        self.windows: dict[str, deque[float]] = {}
        self.episodes = 0
        self.episodes_moved = 0
        self.diverged = 0

    def add(self, step: VectorStep) -> None:
        self.running["return"] += step.reward
        self.running["length"] += 1
        for name, value in per_step_values(step).items():
            total, count = (self.running.setdefault(key, np.zeros(len(value))) for key in (name, name + COUNT))
            told = ~np.isnan(value)
            count += told
            if takes_largest(name):
                total[told] = np.where(count == 1, value, np.maximum(total, value))[told]
            else:
                total[told] += value[told]
        for env in np.flatnonzero(step.terminated | step.truncated):
            length = self.running["length"][env]
            self._push("rollout/ep_rew_mean", self.running["return"][env])
            self._push("rollout/ep_len_mean", length)
            self._push("rollout/success_rate", float(step.success[env]))
            for name, count in self._reported(env).items():
                self._push(name, self.running[name][env] / (1 if takes_largest(name) else count))
            if step.stages:
                self._push(f"funnel/{len(step.stages) + 1}_held", float(step.success[env]))
            self.episodes += 1
        self.diverged += int(step.diverged.sum())
        self.forget(step.terminated | step.truncated | step.diverged)

    def _reported(self, env: int) -> dict[str, float]:
        """In how many steps of its episode the environment reported each of the task's numbers, where in any."""
        counts = {name.removesuffix(COUNT): total[env] for name, total in self.running.items() if name.endswith(COUNT)}
        return {name: count for name, count in counts.items() if count}

    def add_displacement(self, distance: float) -> None:
        """How far the achieved goal of a stored episode moved, in the goals' own unit."""
        moved = distance * self._goal_scale > MOVED
        self.episodes_moved += moved
        self._push("her/goal_moved_rate", float(moved))
        self._push("her/goal_displacement", distance)

    def forget(self, envs: np.ndarray | list[int]) -> None:
        """Starts the episodes in progress of these environments anew."""
        for total in self.running.values():
            total[envs] = 0.0

    @property
    def goal_moved_rate(self) -> float:
        """Share of the recent episodes in which the achieved goal moved."""
        return float(np.mean(self.windows.get("her/goal_moved_rate", [0.0])))

    def values(self) -> dict[str, float]:
        means = {name: float(np.mean(window)) for name, window in self.windows.items()}
        return means | {"env/diverged_episodes": float(self.diverged), "rollout/episodes": float(self.episodes)}

    def _push(self, name: str, value: float) -> None:
        self.windows.setdefault(name, deque(maxlen=WINDOW)).append(float(value))

    def state_dict(self) -> dict[str, Any]:
        return {
            "running": {name: total.tolist() for name, total in self.running.items()},
            "windows": {name: list(window) for name, window in self.windows.items()},
            "episodes": self.episodes,
            "episodes_moved": int(self.episodes_moved),
            "diverged": self.diverged,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        envs = len(self.running["return"])
        _require_numbers("running", state["running"], lambda length: length == envs)
        _require_numbers("windows", state["windows"], lambda length: length <= WINDOW)
        counts = ("episodes", "episodes_moved", "diverged")
        _require_counts({name: state[name] for name in counts})
        self.running = {name: np.array(total) for name, total in state["running"].items()}
        for name in [name for name in self.running if "/" in name and not name.endswith(COUNT)]:
            # Older code counted none: there each was reported at every step.
            self.running.setdefault(name + COUNT, self.running["length"].copy())
        self.windows = {name: deque(values, maxlen=WINDOW) for name, values in state["windows"].items()}
        for name in counts:
            setattr(self, name, state[name])


class UpdateMeter:
    """Means of the agent's metrics since the last point of the curves; nothing is read back from the device before."""

    def __init__(self):
        self.sums: dict[str, Tensor | float] = {}
        self.count = 0

    def add(self, metrics: dict[str, Tensor], updates: int) -> None:
        """The means over that many updates."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * updates
        self.count += updates

    def pop(self) -> dict[str, float]:
        """The means, and a fresh start. Empty where there was no update."""
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {name: float(total) for name, total in self.sums.items()}, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _require_numbers("sums", {name: [total] for name, total in state["sums"].items()}, lambda length: True)
        _require_counts({"count": state["count"]})
        self.sums, self.count = dict(state["sums"]), state["count"]


def _require_numbers(name: str, lists: dict[str, list[float]], fits: Callable[[int], bool]) -> None:
    for key, values in lists.items():
        if not isinstance(values, list) or not fits(len(values)) or any(type(value) is not float for value in values):
            raise ValueError(f"{name} of {key} are no numbers of this run")


def _require_counts(counts: dict[str, int]) -> None:
    for name, count in counts.items():
        if type(count) is not int or count < 0:
            raise ValueError(f"{name} is {count!r:.40}, and no count")
