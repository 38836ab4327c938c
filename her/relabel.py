"""Teaches a transition as if a goal that was reached had been the goal all along: Hindsight Experience Replay.

Source: Andrychowicz et al. 2017, "Hindsight Experience Replay" (arXiv:1707.01495), section 3 and algorithm 1; the
strategies are those of section 4.5. Relabelling happens when a batch is drawn, so each transition meets ever new goals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Interval

from her.buffer import ReplayBuffer

REDRAWS = 4
"""How often a hindsight goal that teaches nothing is drawn again."""

Strategy = Literal["future", "final", "episode", "none"]
GoalFunction = Callable[[np.ndarray, np.ndarray, Mapping[str, np.ndarray]], np.ndarray]
"""compute_reward, compute_terminated, is_success: achieved and desired goals (B, G), stored info (B, …) to (B,)."""


@dataclass(frozen=True)
class HERConfig:
    """Set up Hindsight Experience Replay and the buffer below it."""

    strategy: Strategy = "future"
    """Where hindsight goals come from.
    future: a later step of the same episode. final: its last step. episode: any of its steps.
    none: no relabelling, plain SAC."""
    k: Annotated[float, Ge(0)] = 4.0
    """Hindsight goals for each real one (the paper's k): k / (k + 1) of a batch is relabelled,
    less where hindsight finds nothing to teach (her/relabelled_share is the curve)."""
    skip_met_at_start: bool = True
    """Draw another transition where hindsight picks a goal that was met at the episode's start already.
    Such goals teach a policy to leave alone what it has not learnt to move."""
    proposed_goals: Annotated[float, Interval(ge=0, le=1)] = 0.9
    """Share of the training episodes that pursue a goal of the run's own choice as long as the environment's are never
    met. It falls as they are. Needs rewards of two values."""
    capacity: Annotated[int, Ge(1)] = 1_000_000
    """Rows of the replay buffer: one for each transition, and one more for each episode."""

    @property
    def relabelled_share(self) -> float:
        """Returns the share of a batch to relabel."""
        return 0.0 if self.strategy == "none" else self.k / (self.k + 1)


def hindsight_rows(
    strategy: Strategy,
    rows: np.ndarray,
    steps_before: np.ndarray,
    steps_after: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws the rows whose achieved goals become the goals of the transitions leaving `rows`. Everything is (B,).

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


def stored_info(buffer: ReplayBuffer, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the info arrays (B, …) of the transitions that leave `rows` (B,)."""
    return {key[5:]: column[rows] for key, column in buffer.rows.items() if key.startswith("info/")}


def achieved_goal_is_success(buffer: ReplayBuffer, sources: np.ndarray, is_success: GoalFunction) -> np.ndarray:
    """Tells whether the states of rows `sources` (B,) meet the goals that were achieved there, (B,) bool."""
    goals = buffer.rows["achieved_goal"][sources]
    # What a state was like, its goal apart, is stored with the transition that led to it.
    return np.asarray(is_success(goals, goals, stored_info(buffer, sources - 1)), bool)


def met_at_episode_start(
    buffer: ReplayBuffer, rows: np.ndarray, goals: np.ndarray, is_success: GoalFunction
) -> np.ndarray:
    """Tells whether `goals` (B, G) are met at the start of the episodes that `rows` (B,) belong to, (B,) bool."""
    first = rows - buffer.steps_before[rows]
    # No transition leads to the start: the one that leads out of it must do.
    return np.asarray(is_success(buffer.rows["achieved_goal"][first], goals, stored_info(buffer, first)), bool)


def draw_hindsight(
    buffer: ReplayBuffer, size: int, config: HERConfig, is_success: GoalFunction | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws rows of `size` transitions (size,), a hindsight goal for each (size, G), and whether it teaches anything.

    Hindsight supposes that the state a goal comes from meets it (the paper's section 3.2). Where success takes more
    than a place, as of a cube that is to be held, a cube in flight does not: no goal is taken from it. And a goal that
    was met at its episode's start already is none either: it teaches a policy to leave alone what it has not learnt to
    move. Such a transition is drawn again, REDRAWS times at most. So where few episodes move what should be moved,
    those few are seen more often (Zhao & Tresp 2018, "Energy-based hindsight experience prioritization", to this end).
    """
    rows = np.zeros(size, np.int64)
    goals = np.zeros((size, buffer.rows["achieved_goal"].shape[1]), np.float32)
    useful = np.zeros(size, bool)
    for _ in range(1 + REDRAWS):
        missing = np.flatnonzero(~useful)
        if not missing.size:
            break
        drawn = buffer.sample_rows(missing.size)
        rows[missing] = drawn
        at = buffer.take(drawn)
        sources = hindsight_rows(config.strategy, drawn, at["steps_before"], at["steps_after"], buffer.rng)
        goals[missing] = buffer.take(sources)["achieved_goal"]
        if is_success is None:
            useful[:] = True
            break
        useful[missing] = achieved_goal_is_success(buffer, sources, is_success)
        if config.skip_met_at_start:
            useful[missing] &= ~met_at_episode_start(buffer, drawn, goals[missing], is_success)
    return rows, goals, useful


def sample(
    buffer: ReplayBuffer, size: int, config: HERConfig, is_success: GoalFunction | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws `size` transitions, of which config.relabelled_share carry a goal from hindsight.

    Returns the rows that they leave (B,), the goal that each is to be taught (B, G), and whether that goal is from
    hindsight (B,) bool. Those from hindsight come first. is_success tells which goals hindsight can use
    (draw_hindsight). Without it, hindsight uses all.
    """
    # The first rows of a batch are as good as any: all are drawn independently.
    n = round(size * config.relabelled_share)
    hindsight, hindsight_goals, useful = draw_hindsight(buffer, n, config, is_success)
    # Rows that taught hindsight nothing were chosen for that: fresh ones take their place, as real goals are drawn.
    hindsight[~useful] = buffer.sample_rows(n - int(useful.sum()))
    rows = np.concatenate([hindsight, buffer.sample_rows(size - n)])
    relabelled = np.concatenate([useful, np.zeros(size - n, bool)])
    goals = buffer.take(rows)["desired_goal"].copy()
    goals[relabelled] = hindsight_goals[useful]
    return rows, goals, relabelled


def n_step_return(
    buffer: ReplayBuffer,
    rows: np.ndarray,
    goals: np.ndarray,
    relabelled: np.ndarray,
    compute_reward: GoalFunction,
    compute_terminated: GoalFunction | None,
    gamma: float,
    n_step: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adds up what the next `n_step` transitions from `rows` (B,) earn towards `goals` (B, G), until an episode ends.

    Returns the discounted sum of their rewards (B,) float32, whether the last of them terminated (B,) bool, and how
    many they are (B,): Q is bootstrapped that many steps on, times gamma to their power (Sutton & Barto 2018, section
    7.1; with relabelled goals Yang et al. 2021, "Bias-reduced multi-step hindsight experience replay for efficient
    multi-goal reinforcement learning", arXiv:2102.12962, who measure its bias).

    What is `relabelled` (B,) is judged anew at each of the steps: its reward by compute_reward, its termination by
    compute_terminated where the environment has one. (A success that ended the episode may be none for the new goal,
    and the other way round.) An environment without it ends episodes for reasons that no goal changes, and the stored
    flag stands. A time limit is in neither: terminated is stored without it, so the target bootstraps past it.
    """
    total, terminated = np.zeros(len(rows), np.float32), np.zeros(len(rows), bool)
    steps = np.zeros(len(rows), np.int64)
    going = np.arange(len(rows))
    for step in range(n_step):
        if not len(going):
            break
        at, new = rows[going] + step, relabelled[going]
        now = buffer.take(at)
        reward, ended = now["reward"].copy(), now["terminated"].copy()
        if new.any():
            achieved, desired = buffer.take(at[new] + 1)["achieved_goal"], goals[going[new]]
            info = stored_info(buffer, at[new])
            reward[new] = compute_reward(achieved, desired, info)
            if compute_terminated is not None:
                ended[new] = compute_terminated(achieved, desired, info)
        total[going] += np.float32(gamma**step) * reward
        terminated[going] = ended
        steps[going] += 1
        going = going[~ended & (now["steps_after"] > 1)]
    return total, terminated, steps


def policy_input(observation: np.ndarray, achieved_goal: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
    """Returns what the networks see, as it is: (…, O), (…, G), (…, G) to (…, O + 3 G) float32. SAC normalises it.

    That is the observation, both goals, and desired - achieved: the way to go rather than a place, which generalises
    over places.
    """
    parts = [observation, achieved_goal, desired_goal, desired_goal - achieved_goal]
    return np.concatenate(parts, axis=-1, dtype=np.float32)
