"""Rolling a policy out, and what can be said of the result."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from env import GoalEnv, SimulationDiverged
from env.protocol import GOAL_KEYS
from her import policy_input

Policy = Callable[[np.ndarray], np.ndarray]
"""Deterministic actions (N, A) for policy inputs (N, O + G)."""
Z95 = 1.959963984540054
"""The standard normal's 97.5 % quantile."""


@dataclass(frozen=True)
class Episode:
    """success: the goal held at the last step; success_once: at any step; ret: undiscounted return; length: steps."""

    success: bool
    success_once: bool
    ret: float
    length: int


def run_episodes(envs: list[GoalEnv], policy: Policy, goal_scale: float, episodes: int, seed: int) -> Iterator[Episode]:
    """Episode i starts from envs[…].reset(seed + i); as many at once as there are environments, in order of i.

    An episode depends on its own seed alone, whatever environments it shares the policy's batch with, to rounding.
    One whose simulation diverges ends there, and has failed.
    """
    for first in range(0, episodes, len(envs)):
        wave = envs[: episodes - first]
        obs = [env.reset(seed=seed + first + i)[0] for i, env in enumerate(wave)]
        running = list(range(len(wave)))
        success, once = [False] * len(wave), [False] * len(wave)
        returns, lengths = [0.0] * len(wave), [0] * len(wave)
        while running:
            stacked = [np.stack([obs[i][key] for i in range(len(wave))]).astype(np.float32) for key in GOAL_KEYS]
            actions = policy(policy_input(*stacked, goal_scale))
            for i in list(running):
                lengths[i] += 1
                try:
                    obs[i], reward, terminated, truncated, info = wave[i].step(actions[i].copy())
                except SimulationDiverged:
                    success[i] = False  # an episode that cannot be finished is a failed one
                    running.remove(i)
                    continue
                success[i] = bool(info["is_success"])
                once[i] |= success[i]
                returns[i] += float(reward)
                if terminated or truncated:
                    running.remove(i)
        for i in range(len(wave)):
            yield Episode(success[i], once[i], returns[i], lengths[i])


def record_episodes(env: GoalEnv, policy: Policy, goal_scale: float, episodes: int, seed: int) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 of the same episodes, one a step, the start included."""
    for i in range(episodes):
        obs, _ = env.reset(seed=seed + i)
        yield env.render()
        ended = False
        while not ended:
            inputs = policy_input(*(obs[key][None].astype(np.float32) for key in GOAL_KEYS), goal_scale)
            try:
                obs, _, terminated, truncated, _ = env.step(policy(inputs)[0])
            except SimulationDiverged:
                break
            yield env.render()
            ended = terminated or truncated


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a rate (Wilson 1927): right also near 0 and 1, where the usual one is not."""
    rate = successes / trials
    centre = rate + Z95**2 / (2 * trials)
    spread = Z95 * math.sqrt(rate * (1 - rate) / trials + Z95**2 / (4 * trials**2))
    scale = 1 + Z95**2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mean_interval(values: np.ndarray) -> dict[str, float]:
    """Mean and its 95 % normal interval."""
    half = Z95 * values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": float(values.mean()), "low": float(values.mean() - half), "high": float(values.mean() + half)}


def summarise(episodes: list[Episode]) -> dict[str, Any]:
    """{"episodes", "success": {"rate", "low", "high"}, "success_once": …, "return": {"mean", …}, "length": …}."""

    def rate(flags: list[bool]) -> dict[str, float]:
        low, high = wilson_interval(sum(flags), len(flags))
        return {"rate": sum(flags) / len(flags), "low": low, "high": high}

    return {
        "episodes": len(episodes),
        "success": rate([episode.success for episode in episodes]),
        "success_once": rate([episode.success_once for episode in episodes]),
        "return": mean_interval(np.array([episode.ret for episode in episodes])),
        "length": mean_interval(np.array([float(episode.length) for episode in episodes])),
    }
