"""Random actions with memory: alone before the policy acts, and now and then in its place."""

from typing import Any

import numpy as np


class HeldRandomActions:
    """Uniform random actions, each held for `hold` steps on average.

    Actions here are changes of a servo's target: drawn afresh at each step they cancel out, and the arm trembles where
    it stands. Held ones carry it across its workspace. At each step, each environment draws a new action with
    probability 1 / hold.

    Once the policy acts, `mix` lets a random action take its place for a share of the time, a whole hold at a time
    (Andrychowicz et al. 2017 explore so with single steps, appendix A): a policy that has learnt to hover next to what
    it should move never meets what moving it would bring.
    """

    def __init__(self, num_envs: int, action_dim: int, hold: float, rng: np.random.Generator):
        if not hold >= 1:
            raise ValueError(f"a random action must be held for at least 1 step, not {hold}")
        self.hold = hold
        self.rng = rng
        self.action = rng.uniform(-1, 1, (num_envs, action_dim)).astype(np.float32)
        self.rank = rng.random(num_envs)
        """Drawn anew with each action: the random action is taken where it falls below the share."""

    def __call__(self) -> np.ndarray:
        """The next random actions, (N, A) float32 in [-1, 1]."""
        fresh = self.rng.uniform(-1, 1, self.action.shape).astype(np.float32)
        redraw = self.rng.random(len(self.action)) < 1 / self.hold
        self.action = np.where(redraw[:, None], fresh, self.action)
        self.rank = np.where(redraw, self.rng.random(len(self.rank)), self.rank)
        return self.action

    def mix(self, action: np.ndarray, share: float) -> np.ndarray:
        """The policy's actions (N, A), of which a share of `share`, over time, gives way to random ones."""
        random = self()
        return np.where((self.rank < share)[:, None], random, action)

    def state_dict(self) -> dict[str, Any]:
        return {"action": self.action, "rank": self.rank, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.action = state["action"]
        self.rank = state["rank"]
        self.rng.bit_generator.state = state["rng"]
