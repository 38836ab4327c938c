"""Builds the networks of SAC: a squashed-Gaussian actor, and an ensemble of critics evaluated as one stack."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class StackedLinear(nn.Module):
    """Evaluates E independent linear layers by one batched matrix product.

    Maps (E, B, in_features) to (E, B, out_features). Each layer starts from U(-1/sqrt(in), 1/sqrt(in)), PyTorch's own
    choice for a linear layer, drawn from `generator` so that no global random state is involved.
    """

    def __init__(self, stack: int, in_features: int, out_features: int, generator: torch.Generator):
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(
            torch.empty(stack, in_features, out_features).uniform_(-bound, bound, generator=generator)
        )
        self.bias = nn.Parameter(torch.empty(stack, 1, out_features).uniform_(-bound, bound, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        # Not baddbmm: the compiler adds the bias while it applies what follows.
        return torch.bmm(x, self.weight) + self.bias


class StackedLayerNorm(nn.Module):
    """Normalises (E, B, features) (Ba et al. 2016), each of the E networks with its own gain and offset."""

    def __init__(self, stack: int, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(stack, 1, features))
        self.bias = nn.Parameter(torch.zeros(stack, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, nn.functional.layer_norm(x, x.shape[-1:]), self.weight)


def stacked_mlp(stack: int, sizes: tuple[int, ...], layer_norm: bool, generator: torch.Generator) -> nn.Sequential:
    """Builds E multilayer perceptrons side by side: linear (, layer norm), ReLU, …, linear."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(StackedLinear(stack, n_in, n_out, generator))
        if i < len(sizes) - 2:
            if layer_norm:
                layers.append(StackedLayerNorm(stack, n_out))
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Actor(nn.Module):
    """Computes mean and log standard deviation of the Gaussian that tanh squashes into an action."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.net = stacked_mlp(1, (obs_dim, *hidden, 2 * action_dim), False, generator)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Maps obs (B, O) to mean (B, A) and log_std (B, A), log_std within [LOG_STD_MIN, LOG_STD_MAX]."""
        mean, raw = self.net(obs.unsqueeze(0)).squeeze(0).chunk(2, dim=-1)
        # A smooth bound: a hard clamp would have no gradient once the standard deviation has left the range.
        log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (torch.tanh(raw) + 1)
        return mean, log_std


class Critics(nn.Module):
    """Computes E action values Q_i(s, a), by default the twins' of clipped double Q-learning (Fujimoto et al. 2018)."""

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden: tuple[int, ...],
        layer_norm: bool,
        generator: torch.Generator,
        stack: int = 2,
    ):
        super().__init__()
        self.stack = stack
        self.net = stacked_mlp(stack, (obs_dim + action_dim, *hidden, 1), layer_norm, generator)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Maps obs (B, O) and action (B, A) to the E values of each pair, (E, B)."""
        pair = torch.cat([obs, action], dim=-1)
        return self.net(pair.expand(self.stack, *pair.shape)).squeeze(-1)
