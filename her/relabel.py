"""Hindsight Experience Replay: a transition taught as if a goal that was reached had been the goal all along.

Source: Andrychowicz et al. 2017, "Hindsight Experience Replay" (arXiv:1707.01495), section 3 and algorithm 1; the
strategies are those of section 4.5. Relabelling happens when a batch is drawn, so each transition meets ever new goals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from her.buffer import ReplayBuffer

Strategy = Literal["future", "final", "episode", "none"]
SuccessFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]
RewardFunction = Callable[[np.ndarray, np.ndarray, Mapping[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class HERConfig:
    """Hindsight Experience Replay and the buffer below it."""

    strategy: Strategy = "future"
    """Where hindsight goals come from.
    future: a later step of the same episode. final: its last step. episode: any of its steps.
    none: no relabelling, plain SAC."""
    k: int = 4
    """Hindsight goals for each real one (the paper's k): k / (k + 1) of a batch is relabelled."""
    ratio: float | None = None
    """Share of a batch that is relabelled, stated directly; overrides k."""
    skip_met_at_start: bool = True
    """Keep the real goal where hindsight would pick one that held at the episode's start already.
    Such goals teach a policy to leave alone what it has not learnt to move."""
    capacity: int = 1_000_000
    """Rows of the replay buffer: one for each transition, and one more for each episode."""

    @property
    def relabelled_share(self) -> float:
        if self.strategy == "none":
            return 0.0
        return self.k / (self.k + 1) if self.ratio is None else self.ratio


class GoalBatch(NamedTuple):
    """Goal-conditioned transitions: what relabelling makes of stored rows. B rows of float32 arrays.

    observation, next_observation (B, O); achieved_goal, next_achieved_goal, desired_goal (B, G); action (B, A);
    reward, terminated, relabelled (B,).
    """

    observation: np.ndarray
    achieved_goal: np.ndarray
    desired_goal: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_observation: np.ndarray
    next_achieved_goal: np.ndarray
    terminated: np.ndarray
    relabelled: np.ndarray


def hindsight_rows(
    strategy: Strategy,
    rows: np.ndarray,
    steps_before: np.ndarray,
    steps_after: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The rows whose achieved goal becomes the goal of the transitions leaving `rows`; all arguments and result (B,).

    A goal counts from the moment it is reached, that is at a transition's end: for a transition t of an episode of T
    transitions, achieved goals are numbered 0 … T, "future" draws from t + 1 … T, "episode" from 1 … T, "final" is T.
    """
    if strategy == "final":
        return rows + steps_after
    if strategy == "future":
        return rows + 1 + rng.integers(steps_after)
    if strategy == "episode":
        return rows - steps_before + 1 + rng.integers(steps_before + steps_after)
    raise ValueError(f"'{strategy}' names no hindsight strategy; there are future, final and episode")


def sample(
    buffer: ReplayBuffer,
    size: int,
    config: HERConfig,
    compute_reward: RewardFunction,
    compute_terminated: RewardFunction | None = None,
    is_success: SuccessFunction | None = None,
) -> GoalBatch:
    """A batch of `size` transitions of which config.relabelled_share carry a goal from hindsight.

    A relabelled transition gets its reward from compute_reward, for its new goal. Its termination comes from
    compute_terminated where the environment has one (a success that ended the episode may be none for the new goal,
    and the other way round); an environment without it ends episodes for reasons that no goal changes, and the stored
    flag stands. A time limit is in neither: terminated is stored without it, so the target bootstraps past it.

    config.skip_met_at_start needs is_success(achieved (B, G), desired (B, G)) -> (B,); without it nothing is skipped.
    """
    rows = buffer.sample_rows(size)
    columns = buffer.rows
    goals = columns["desired_goal"][rows]
    reward = columns["reward"][rows]
    terminated = columns["terminated"][rows].astype(np.float32)
    next_achieved = columns["achieved_goal"][rows + 1]

    # The first rows of a batch are as good as any: they were drawn independently.
    relabelled = np.arange(size) < round(size * config.relabelled_share)
    if relabelled.any():
        hindsight = rows[relabelled]
        before, after = buffer.steps_before[hindsight], buffer.steps_after[hindsight]
        sources = hindsight_rows(config.strategy, hindsight, before, after, buffer.rng)
        hindsight_goals = columns["achieved_goal"][sources]
        if config.skip_met_at_start and is_success is not None:
            first_achieved = columns["achieved_goal"][hindsight - before]
            useful = ~np.asarray(is_success(first_achieved, hindsight_goals), bool)
            hindsight, hindsight_goals = hindsight[useful], hindsight_goals[useful]
            relabelled[relabelled] = useful
    if relabelled.any():
        goals[relabelled] = hindsight_goals
        info = {key[5:]: column[hindsight] for key, column in columns.items() if key.startswith("info/")}
        reached = next_achieved[relabelled]
        reward[relabelled] = compute_reward(reached, hindsight_goals, info)
        if compute_terminated is not None:
            terminated[relabelled] = compute_terminated(reached, hindsight_goals, info)
    return GoalBatch(
        observation=columns["observation"][rows],
        achieved_goal=columns["achieved_goal"][rows],
        desired_goal=goals,
        action=columns["action"][rows],
        reward=reward,
        next_observation=columns["observation"][rows + 1],
        next_achieved_goal=next_achieved,
        terminated=terminated,
        relabelled=relabelled,
    )


def policy_input(
    observation: np.ndarray, achieved_goal: np.ndarray, desired_goal: np.ndarray, goal_scale: float
) -> np.ndarray:
    """What the networks see: the observation, and how far the goal still is. (…, O), (…, G), (…, G) to (…, O + G).

    The goal enters as desired - achieved: the way to go rather than a place, which generalises over places.
    `goal_scale` brings it to about 1 (0.1 m times 10, say), as the observations are.
    """
    return np.concatenate([observation, (desired_goal - achieved_goal) * goal_scale], axis=-1, dtype=np.float32)
