"""Chooses goals for the training episodes themselves, while the environment's own are out of reach."""

from collections import deque
from typing import Any

import numpy as np

import her
from env import VectorStep
from training.batches import Replay

CANDIDATES = 50
"""Stored ways that are looked at for one that leads to a goal."""
WINDOW = 50
"""Episodes with the environment's own goals by which their success is told."""


class GoalChooser:
    """Gives some training episodes goals that lie where stored episodes' ways would lead from their beginning.

    As long as the environment's goals are never met, all episodes fail alike. Hindsight teaches nearer goals from what
    happens by chance, and nothing ever tries them. So of the training episodes a `share`, less as many as meet the
    environment's goals, pursue others: the achieved goal's way in any stored episode, from where this one begins, if
    that does not meet it already. The episode is stored with that goal, as if it had been given.

    Sources: Florensa et al. 2018, "Automatic goal generation for reinforcement learning agents" (arXiv:1705.06366),
    and Zhang et al. 2020, "Automatic curriculum learning through value disagreement" (arXiv:2006.09641), choose goals
    by how hard they are, and place them anywhere. These are moved to where the episode begins, and choosing among them
    by their value brought nothing (docs/experiments.md).

    Args:
        rng: what it draws from. It is part of the state.
    """

    def __init__(self, num_envs: int, goal_dim: int, share: float, rng: np.random.Generator):
        self.share = share
        self.rng = rng
        self.goals = np.zeros((num_envs, goal_dim), np.float32)
        self.chosen = np.zeros(num_envs, bool)
        """Whose goal is the run's own."""
        self.begins = np.ones(num_envs, bool)
        """Who begins an episode with the next step."""
        self.successes: deque[float] = deque(maxlen=WINDOW)

    def put_into(self, obs: dict[str, np.ndarray], replay: Replay) -> None:
        """Puts the goals that it chose in the place of desired goals, and chooses for the episodes that begin."""
        share = self.share * (1 - np.mean(self.successes)) if self.successes else self.share
        if getattr(replay.judge, "compute_terminated", None) is not None:
            share = 0.0  # the environment would end the episode by its own goal
        for env in np.flatnonzero(self.begins):
            goal = None
            if share and len(replay.buffer) and self.rng.random() < share:
                goal = self._choose(obs["achieved_goal"][env], replay)
            self.chosen[env] = goal is not None
            if goal is not None:
                self.goals[env] = goal
        self.begins[:] = False
        obs["desired_goal"][self.chosen] = self.goals[self.chosen]

    def _choose(self, achieved: np.ndarray, replay: Replay) -> np.ndarray | None:
        """Returns a goal (G,) for an episode from `achieved` (G,) on, or None where CANDIDATES ways led to none."""
        buffer = replay.buffer.drawn_by(self.rng)
        rows = buffer.sample_rows(CANDIDATES)
        places = buffer.rows["achieved_goal"]
        goals = achieved + places[rows + 1] - places[rows - buffer.steps_before[rows]]
        here = np.tile(achieved, (len(goals), 1))
        met = np.asarray(replay.judge.is_success(here, goals, her.stored_info(buffer, rows)), bool)
        return None if met.all() else goals[np.argmin(met)]

    def judged(self, step: VectorStep, replay: Replay) -> VectorStep:
        """Returns the step as judged by the goals that it chose."""
        ended = step.terminated | step.truncated
        self.begins |= step.begun
        if step.success is None:
            return step
        self.successes.extend(step.success[ended & ~self.chosen].astype(float))
        if not self.chosen.any():
            return step
        chosen = self.chosen & ~step.diverged
        desired = step.next_obs["desired_goal"].copy()
        desired[chosen] = self.goals[chosen]
        told = step.next_obs["achieved_goal"][chosen], desired[chosen], {k: v[chosen] for k, v in step.info.items()}
        reward, success = step.reward.copy(), step.success.copy()
        reward[chosen], success[chosen] = replay.judge.compute_reward(*told), replay.judge.is_success(*told)
        # The environment ended it by its own goal, which says nothing of the chosen one: the episode was cut off.
        cut = chosen & step.terminated & step.success
        return step._replace(
            next_obs=step.next_obs | {"desired_goal": desired},
            reward=reward,
            success=success,
            terminated=step.terminated & ~cut,
            truncated=step.truncated | cut,
        )

    def forget(self, envs: list[int]) -> None:
        """Has these environments begin an episode."""
        self.begins[envs] = True

    def state_dict(self) -> dict[str, Any]:
        return {
            "goals": self.goals.copy(),
            "chosen": self.chosen.copy(),
            "begins": self.begins.copy(),
            "successes": list(self.successes),
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.goals[:], self.chosen[:], self.begins[:] = state["goals"], state["chosen"], state["begins"]
        self.successes = deque(state["successes"], maxlen=WINDOW)
        self.rng.bit_generator.state = state["rng"]
