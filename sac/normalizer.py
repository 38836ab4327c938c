"""Brings what the networks see to a size about 1, by running statistics of all that was seen."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

CLIP = 5.0
"""Standard deviations beyond which an input is as far as it gets: a number that hardly ever moves may jump."""
RELATIVE_FLOOR, FLOOR = 1e-5, 1e-6
"""Least standard deviation, of a number's size and by itself: what is below it is rounding, and no signal."""


class Normalizer:
    """Subtracts the mean of each input and divides by its standard deviation, clipped to [-CLIP, CLIP].

    So the goal functions' units, and the environment's, need no constant of their own (Andrychowicz et al. 2017,
    appendix A). The moments are merged batch by batch, in float64 (Chan, Golub & LeVeque 1983, "Algorithms for
    computing the sample variance", equation 2.1).
    """

    def __init__(self, size: int, device: torch.device):
        self.count = 0
        self.mean, self.squares = np.zeros((2, size))
        """Mean, and sum of squared deviations from it, of `count` inputs."""
        self._shift, self._scale = torch.zeros(size, device=device), torch.ones(size, device=device)

    def add(self, inputs: np.ndarray) -> None:
        """Adds inputs (N, D) to the statistics."""
        count, mean = len(inputs), inputs.mean(0, dtype=np.float64)
        total, gap = self.count + count, mean - self.mean
        self.squares += np.square(inputs - mean).sum(0) + np.square(gap) * self.count * count / total
        self.mean += gap * count / total
        self.count = total
        self._refresh()

    def _refresh(self) -> None:
        shift, scale = shift_and_scale(self.count, self.mean, self.squares)
        self._shift.copy_(torch.from_numpy(shift))
        self._scale.copy_(torch.from_numpy(scale))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Maps inputs (…, D) to (…, D). Before anything was added, they are only clipped."""
        return ((inputs - self._shift) * self._scale).clamp(-CLIP, CLIP)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean.copy(), "squares": self.squares.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        self.mean[:], self.squares[:] = state["mean"], state["squares"]
        self._refresh()


def shift_and_scale(count: int, mean: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `count` inputs with that mean (D,) and sum of squared deviations (D,) are brought to size with.

    That is what is subtracted (D,), and what the rest is multiplied by (D,).
    """
    variance = squares / max(1, count)
    size = np.sqrt(variance + np.square(mean))
    deviation = np.maximum(np.sqrt(variance), np.maximum(RELATIVE_FLOOR * size, FLOOR))
    return mean, 1 / deviation if count else np.ones_like(mean)
