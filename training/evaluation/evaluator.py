"""Measures the deterministic policy now and then, on environments and episodes of its own."""

from typing import Any

from env import close_envs
from sac import SAC
from training.config import TrainConfig
from training.evaluation.rollout import Policy, run_episodes, summarise
from training.evaluation.video import Film
from training.setup import evaluation_environments, evaluation_goal
from training.stopping import Watchdog

ENVS = 20
"""Evaluation episodes that share a forward pass of the policy, at most."""
SEED = 1_000_000
"""Episode i of every evaluation is drawn from this seed + i. Training never sees them."""


class Evaluator:
    """Evaluates a policy in the middle of its training, and touches nothing that training uses.

    The watchdog gets a sign of life with each action.
    """

    def __init__(self, config: TrainConfig, watchdog: Watchdog):
        goal = evaluation_goal(config.env, config.eval.goal)
        self.envs, _ = evaluation_environments(config, min(config.eval.episodes, ENVS), goal)
        self.seed = SEED
        self._episodes = config.eval.episodes
        self._film = Film(self.envs[0], SEED, config.video)
        self._watchdog = watchdog

    def close(self) -> None:
        """Closes the environments, which may have started programs of their own."""
        close_envs(self.envs)

    def policy(self, agent: SAC) -> Policy:
        """Returns the agent's deterministic policy, each of whose actions is a sign of life."""
        return self._watchdog.watching(agent.act_deterministic)

    def __call__(self, agent: SAC, last: bool = False) -> dict[str, Any]:
        """Returns the episodes' summary (rollout.summarise), and "film": an animated gif of the first one, or None.

        last: it is the run's last evaluation.
        """
        policy = self.policy(agent)
        result = summarise(list(run_episodes(self.envs, policy, self._episodes, SEED)))
        return result | {"film": self._film.take(policy, last)}
