"""Runs a trained actor with NumPy alone, for whoever wants actions and no training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sac.normalizer import CLIP, shift_and_scale


@dataclass(frozen=True)
class Policy:
    """Acts deterministically, as evaluations do: tanh of the mean of the averaged actor.

    Layers are pairs of a weight (in, out) and a bias (out,), all float32. An input has `shift` subtracted, is
    multiplied by `scale`, both (I,), and clipped to [-CLIP, CLIP]. I = O + 3 G: the observation, the achieved and the
    desired goal, and the way from the one to the other.
    """

    shift: np.ndarray
    scale: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def of(cls, agent: Mapping[str, Any]) -> "Policy":
        """Makes it of what SAC.state_dict returned. Needs "actor_average" and "normalizer"."""
        arrays, normalizer = agent["actor_average"], agent["normalizer"]
        shift, scale = shift_and_scale(normalizer["count"], normalizer["mean"], normalizer["squares"])
        names = sorted((name.removesuffix("weight") for name in arrays if name.endswith("weight")), key=_place)
        layers = tuple((arrays[f"{name}weight"][0], arrays[f"{name}bias"][0, 0]) for name in names)
        return cls(shift.astype(np.float32), scale.astype(np.float32), layers)

    @property
    def input_dim(self) -> int:
        return len(self.shift)

    @property
    def action_dim(self) -> int:
        return self.layers[-1][0].shape[1] // 2

    def act(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns actions (…, A) float32 in [-1, 1] for an environment's observation (…, O) and goals (…, G), by name.

        Raises ValueError where their sizes are not those that the policy was trained with.
        """
        observation, achieved, desired = (
            np.asarray(obs[key], np.float32) for key in ("observation", "achieved_goal", "desired_goal")
        )
        inputs = np.concatenate([observation, achieved, desired, desired - achieved], axis=-1)
        if inputs.shape[-1] != self.input_dim:
            raise ValueError(
                f"observation and goals have {observation.shape[-1]} and {achieved.shape[-1]} numbers, so O + 3 G is "
                f"{inputs.shape[-1]}; the policy was trained with {self.input_dim}"
            )
        return self(inputs)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Maps inputs (…, I) to actions (…, A)."""
        x = np.clip((inputs - self.shift) * self.scale, -CLIP, CLIP)
        *hidden, (weight, bias) = self.layers
        for hidden_weight, hidden_bias in hidden:
            x = np.maximum(x @ hidden_weight + hidden_bias, 0)
        return np.tanh((x @ weight + bias)[..., : self.action_dim])


def _place(name: str) -> int:
    """Returns where "net.4." stands in the network."""
    return int(name.split(".")[-2])
