"""Rolls a policy out, and sums up how the episodes went."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from env import GoalEnv, SimulationDiverged
from env.protocol import GOAL_KEYS
from env.vector import step_each
from her import policy_input
from training.evaluation.statistics import mean_interval, wilson_interval

Policy = Callable[[np.ndarray], np.ndarray]
"""Deterministic actions (N, A) for policy inputs (N, O + G)."""


@dataclass(frozen=True)
class Episode:
    """Holds how one episode went.

    Args:
        success: the goal held at the last step. None where the task does not tell.
        success_once: the goal held at any step.
        ret: undiscounted return.
        length: steps.
        stages: which of the task's stages the episode went through.
        largest: the largest value of each metric of the task whose name ends in _max, by the name before that.
    """

    success: bool | None = False
    success_once: bool = False
    ret: float = 0.0
    length: int = 0
    stages: dict[str, bool] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)

    def after(self, reward: float, info: Mapping[str, Any]) -> "Episode":
        """Returns this episode with one more step."""
        success = bool(info["is_success"]) if "is_success" in info else None
        stages = {name: bool(met) or self.stages.get(name, False) for name, met in info.get("stages", {}).items()}
        metrics = {name.removesuffix("_max"): v for name, v in info.get("metrics", {}).items() if name.endswith("_max")}
        return Episode(
            success=success,
            success_once=self.success_once or bool(success),
            ret=self.ret + float(reward),
            length=self.length + 1,
            stages=self.stages | stages,
            largest=self.largest | {name: max(v, self.largest.get(name, v)) for name, v in metrics.items()},
        )


def run_episodes(envs: list[GoalEnv], policy: Policy, episodes: int, seed: int) -> Iterator[Episode]:
    """Yields the episodes in order; episode i starts from reset(seed + i). As many run at once as there are `envs`.

    An episode depends on its own seed alone, to rounding, whatever others share the policy's batch with it.
    One whose simulation diverges ends there and has failed.
    """
    for first in range(0, episodes, len(envs)):
        wave = envs[: episodes - first]
        obs, running = [], []
        for i, env in enumerate(wave):
            try:
                obs.append(env.reset(seed=seed + first + i)[0])
                running.append(i)
            except SimulationDiverged:
                obs.append(None)  # it has failed before its first step
        done = [Episode() for _ in wave]
        while running:
            rows = [obs[running[0]] if each is None else each for each in obs]
            stacked = [np.stack([row[key] for row in rows]).astype(np.float32) for key in GOAL_KEYS]
            actions = policy(policy_input(*stacked))
            results = step_each([wave[i] for i in running], actions[running])
            for i, result in zip(list(running), results, strict=True):
                if isinstance(result, SimulationDiverged):
                    # An episode that cannot be finished is a failed one.
                    done[i] = replace(done[i], success=False, length=done[i].length + 1)
                    running.remove(i)
                    continue
                obs[i], reward, terminated, truncated, info = result
                done[i] = done[i].after(reward, info)
                if terminated or truncated:
                    running.remove(i)
        yield from done


def record_episodes(env: GoalEnv, policy: Policy, episodes: int, seed: int, every: int = 1) -> Iterator[np.ndarray]:
    """Yields frames (H, W, 3) uint8 of the same episodes: one at the start, and one after each `every` steps."""
    for i in range(episodes):
        try:
            obs, _ = env.reset(seed=seed + i)
        except SimulationDiverged:
            continue
        yield env.render()
        ended, steps = False, 0
        while not ended:
            inputs = policy_input(*(obs[key][None].astype(np.float32) for key in GOAL_KEYS))
            try:
                obs, _, terminated, truncated, _ = env.step(policy(inputs)[0])
            except SimulationDiverged:
                break
            steps += 1
            if steps % every == 0:
                yield env.render()
            ended = terminated or truncated


def summarise(episodes: list[Episode]) -> dict[str, Any]:
    """Returns {"episodes", "success": {"rate", "low", "high"}, "success_once": …, "return": {"mean", …}, "length": …}.

    Both successes are None for a task that does not tell. low and high are 95 % intervals. Tasks with stages add
    "funnel": the share of episodes that went through each stage, and last the share that held the goal. Tasks with
    maxima add "largest": the largest of each over all episodes.
    """

    told = all(episode.success is not None for episode in episodes)

    def rate(flags: list[bool]) -> dict[str, float] | None:
        if not told:
            return None
        low, high = wilson_interval(sum(flags), len(flags))
        return {"rate": sum(flags) / len(flags), "low": low, "high": high}

    stages = {name: None for episode in episodes for name in episode.stages}
    funnel = {name: sum(episode.stages.get(name, False) for episode in episodes) / len(episodes) for name in stages}
    peaks = {name: None for episode in episodes for name in episode.largest}
    summary = {
        "episodes": len(episodes),
        "success": rate([episode.success for episode in episodes]),
        "success_once": rate([episode.success_once for episode in episodes]),
        "return": mean_interval(np.array([episode.ret for episode in episodes])),
        "length": mean_interval(np.array([float(episode.length) for episode in episodes])),
    }
    if funnel and told:
        summary["funnel"] = funnel | {"held": summary["success"]["rate"]}
    if peaks:
        summary["largest"] = {name: max(e.largest[name] for e in episodes if name in e.largest) for name in peaks}
    return summary
