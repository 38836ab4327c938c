"""Draws random actions with memory, for the steps before the policy acts."""

from typing import Any

import numpy as np


class HeldRandomActions:
    """Draws uniform random actions, each held for `hold` steps on average.

    Where actions are changes of a servo's target, those drawn afresh at each step cancel out, and the arm trembles
    where it stands. Held ones carry it across its workspace. At each step, each environment draws a new action with
    probability 1 / hold.
    """

    def __init__(self, num_envs: int, action_dim: int, hold: float, rng: np.random.Generator):
        self.hold = hold
        self.rng = rng
        self.action = rng.uniform(-1, 1, (num_envs, action_dim)).astype(np.float32)

    def __call__(self) -> np.ndarray:
        """Returns the next actions, (N, A) float32 in [-1, 1]."""
        fresh = self.rng.uniform(-1, 1, self.action.shape).astype(np.float32)
        redraw = self.rng.random(len(self.action)) < 1 / self.hold
        self.action = np.where(redraw[:, None], fresh, self.action)
        return self.action

    def state_dict(self) -> dict[str, Any]:
        return {"action": self.action, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.action = state["action"]
        self.rng.bit_generator.state = state["rng"]
