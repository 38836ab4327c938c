"""Steps N environments side by side, in turn, each starting a new episode when one ends."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from env.foreign import in_a_line
from env.packing import Unsavable, packed, unpacked
from env.protocol import GOAL_KEYS, EnvError, EnvSpec, GoalEnv, SimulationDiverged, info_arrays

DIVERGED_IN_A_ROW = 10
"""Episodes of one environment that may be dropped one after another. So many are no accident."""


class VectorStep(NamedTuple):
    """Holds one step of N environments. next_obs is what the step led to, before any reset.

    next_obs: {"observation": (N, O), "achieved_goal": (N, G), "desired_goal": (N, G)} float32. reward: (N,) float32.
    terminated, truncated, diverged: (N,) bool. success: (N,) bool, or None where the task does not tell.
    info: the arrays to store, (N, …) float32.
    metrics: {name: (N,)}, NaN where an environment reported none. stages: {name: (N,) bool}.
    """

    next_obs: dict[str, np.ndarray]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray | None
    diverged: np.ndarray
    info: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    stages: dict[str, np.ndarray]

    def of(self, i: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Returns environment `i`'s part as its own step would: obs, reward, terminated, truncated, info."""
        obs = {key: rows[i] for key, rows in self.next_obs.items()}
        info: dict[str, Any] = {key: np.asarray(rows[i]) for key, rows in self.info.items()}
        info["metrics"] = {name: float(values[i]) for name, values in self.metrics.items()}
        info["stages"] = {name: bool(values[i]) for name, values in self.stages.items()}
        if self.success is not None:
            info["is_success"] = bool(self.success[i])
        return obs, float(self.reward[i]), bool(self.terminated[i]), bool(self.truncated[i]), info

    @property
    def begun(self) -> np.ndarray:
        """Says which environments have begun an episode since, (N,) bool."""
        return self.terminated | self.truncated | self.diverged


class VectorEnv:
    """Steps `envs` in turn. `obs` is always what to act on next.

    An environment whose simulation diverges is marked in `diverged` and reset. Its transition is no transition.
    Raises EnvError for DIVERGED_IN_A_ROW such episodes, in reset, step and load_state_dict.

    first: the number by which errors call the first of them, where others step elsewhere.
    """

    def __init__(self, envs: list[GoalEnv], spec: EnvSpec, first: int = 0):
        self.envs = envs
        self.spec = spec
        self.first = first
        sizes = zip(GOAL_KEYS, (spec.obs_dim, spec.goal_dim, spec.goal_dim), strict=True)
        self.obs = {key: np.zeros((len(envs), size), np.float32) for key, size in sizes}
        self._diverged_in_a_row = np.zeros(len(envs), np.int64)
        self._told_unsavable = False

    def __len__(self) -> int:
        return len(self.envs)

    def reset(self, seeds: list[int]) -> None:
        for i, seed in enumerate(seeds):
            self._start(i, seed)

    def begin(self, actions: np.ndarray) -> None:
        """Says what the next step is, which `finish` takes. (VectorEnvWorkers steps in between.)"""
        self._actions = actions

    def finish(self) -> VectorStep:
        return self.step(self._actions)

    def close(self) -> None:
        """Closes the environments."""
        close_envs(self.envs)

    def step(self, actions: np.ndarray) -> VectorStep:
        """Steps every environment with its row of actions (N, A). Afterwards `obs` belongs to the next step.

        Raises EnvError for an info whose arrays are not those of the spec, and for a number that is not finite: one
        NaN in the buffer would spread over every network.
        """
        step, errors = (self._step_together if _alike(self.envs) else self._step_in_turn)(actions)
        for name, array in {**step.next_obs, "reward": step.reward, **step.info}.items():
            if not np.isfinite(array).all():
                raise EnvError(f"{name} of an environment's step is not finite; nothing of this step was stored")
        for key, rows in step.next_obs.items():
            self.obs[key][:] = rows
        for i in np.flatnonzero(step.begun).tolist():
            if i in errors:
                self._count_diverged(i, errors[i])
            else:
                self._diverged_in_a_row[i] = 0
            self._start(i)
        return step

    def _step_together(self, actions: np.ndarray) -> tuple[VectorStep, dict[int, SimulationDiverged]]:
        """Returns what the built-in tasks' step led to, and what happened to those that diverged."""
        step, errors = self.envs[0].step_together(self.envs, actions)
        for i in errors:
            for key, rows in step.next_obs.items():
                rows[i] = self.obs[key][i]
            for rows in (step.reward, step.success, *step.info.values(), *step.stages.values()):
                rows[i] = 0
            for values in step.metrics.values():
                values[i] = np.nan
        return step, errors

    def _step_in_turn(self, actions: np.ndarray) -> tuple[VectorStep, dict[int, SimulationDiverged]]:
        """Returns what every environment's own step led to, and what happened to those that diverged."""
        n = len(self.envs)
        next_obs = {key: value.copy() for key, value in self.obs.items()}
        reward = np.zeros(n, np.float32)
        terminated, truncated, success, diverged = np.zeros((4, n), bool)
        info = {key: np.zeros((n, *shape), np.float32) for key, shape in self.spec.info_shapes.items()}
        metrics: dict[str, np.ndarray] = {}
        stages: dict[str, np.ndarray] = {}
        errors: dict[int, SimulationDiverged] = {}
        for i, result in enumerate(_each_in_turn(self.envs, actions)):
            if isinstance(result, SimulationDiverged):
                diverged[i], errors[i] = True, result
                continue
            obs, reward[i], terminated[i], truncated[i], step_info = result
            for key in GOAL_KEYS:
                next_obs[key][i] = obs[key]
            success[i] = step_info.get("is_success", False)
            arrays = info_arrays(step_info)
            shapes = {key: value.shape for key, value in arrays.items()}
            if shapes != self.spec.info_shapes:
                first = f"first they were {self.spec.info_shapes}, now {shapes}"
                raise EnvError(
                    f"info of environment {self.first + i} must hold the same NumPy arrays at every step: {first}"
                )
            for key, value in arrays.items():
                info[key][i] = value
            for key, value in step_info.get("metrics", {}).items():
                metrics.setdefault(key, np.full(n, np.nan))[i] = value
            for key, value in step_info.get("stages", {}).items():
                stages.setdefault(key, np.zeros(n, bool))[i] = value
        told = success if self.spec.tells_success else None
        step = VectorStep(next_obs, reward, terminated, truncated, told, diverged, info, metrics, stages)
        return step, errors

    def _start(self, i: int, seed: int | None = None) -> None:
        """Has environment `i` start an episode. Where its first observation is worthless, the next one is tried."""
        while True:
            try:
                obs, _ = self.envs[i].reset(seed=seed)
            except SimulationDiverged as error:
                self._count_diverged(i, error)
                seed = None
            else:
                break
        for key in GOAL_KEYS:
            self.obs[key][i] = obs[key]

    def _count_diverged(self, i: int, error: SimulationDiverged) -> None:
        self._diverged_in_a_row[i] += 1
        if self._diverged_in_a_row[i] >= DIVERGED_IN_A_ROW:
            raise EnvError(
                f"environment {self.first + i}: {DIVERGED_IN_A_ROW} episodes in a row were dropped, none ended; the "
                f"last: {error}"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Returns the observations, and the state of every environment that can tell it."""
        states = {}
        for i, env in enumerate(self.envs):
            if not hasattr(env, "state_dict"):
                continue
            try:
                states[str(i)] = packed(env.state_dict())
            except Unsavable as error:
                # A night's training is worth more than the rest of an episode.
                if not self._told_unsavable:
                    told = f"state_dict() of an environment returned what cannot be saved ({error})"
                    print(f"{told}; a resumed run begins a fresh episode there", file=sys.stderr)
                self._told_unsavable = True
        return {"obs": self.obs, "envs": states, "diverged_in_a_row": self._diverged_in_a_row}

    def load_state_dict(self, state: dict[str, Any], fresh_seeds: list[int]) -> list[int]:
        """Restores the environments. Returns the indices of those that cannot be, which start a fresh episode."""
        for key, value in state["obs"].items():
            self.obs[key][:] = value
        self._diverged_in_a_row = np.array(
            state.get("diverged_in_a_row", self._diverged_in_a_row)
        )  # older runs lack it
        fresh = []
        for i, env in enumerate(self.envs):
            if str(i) in state["envs"] and hasattr(env, "load_state_dict"):
                env.load_state_dict(unpacked(state["envs"][str(i)]))
            else:
                self._start(i, fresh_seeds[i])
                fresh.append(i)
        return fresh


def step_each(envs: Sequence[GoalEnv], actions: np.ndarray) -> list[tuple | SimulationDiverged]:
    """Steps environments with their rows of actions (N, A). Returns what each returned, or that it diverged."""
    if not _alike(envs):
        return _each_in_turn(envs, actions)
    step, errors = envs[0].step_together(envs, actions)
    return [errors.get(i) or step.of(i) for i in range(len(envs))]


def _alike(envs: Sequence[GoalEnv]) -> bool:
    """Tells whether they are of one built-in task, which computes for all of them at once."""
    kind = type(envs[0])
    return hasattr(kind, "step_together") and all(type(env) is kind for env in envs)


def _each_in_turn(envs: Sequence[GoalEnv], actions: np.ndarray) -> list[tuple | SimulationDiverged]:
    results: list[tuple | SimulationDiverged] = []
    for env, action in zip(envs, actions, strict=True):
        try:
            results.append(env.step(action.copy()))  # some environments scale the action they are given in place
        except SimulationDiverged as error:
            results.append(error)
    return results


def close_envs(envs: Iterable[GoalEnv]) -> None:
    """Closes the environments that have a close(). What fails there is told on stderr, and changes nothing else."""
    for env in envs:
        try:
            if hasattr(env, "close"):
                env.close()
        except Exception as error:  # other people's code fails in its own ways, and the run's end must not depend on it
            print(f"close() of an environment failed: {in_a_line(error)}", file=sys.stderr)
