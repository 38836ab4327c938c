"""Looks inside the agent through one batch: computes anew what an update would, and changes nothing."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sac import losses
from sac.agent import SAC
from sac.update import Batch, Moments, last_adam_step

SATURATED = 0.99
"""An action whose mean lies beyond this, of 1, is at its limit: tanh has hardly a gradient there."""


class Inspection(NamedTuple):
    """Holds numbers (curves) and arrays (M,) (histograms) by their TensorBoard tags. docs/curves.md explains each."""

    curves: dict[str, float]
    histograms: dict[str, np.ndarray]


def inspect(agent: SAC, batch: Batch, generator: torch.Generator) -> Inspection:
    """Measures Q-values, TD errors, the policy, gradients, weights and steps of `agent` on a batch (B, …).

    The batch and `generator`, from which the noise of the actions comes, are on the agent's device. It costs about as
    much as one update without the compiler.
    """
    config = agent.config
    batch = batch._replace(obs=agent.normalizer(batch.obs), next_obs=agent.normalizer(batch.next_obs))

    def noise() -> Tensor:
        return torch.randn(batch.action.shape, generator=generator, device=agent.device)

    with torch.no_grad():
        mean, log_std = agent.actor(batch.next_obs)
        next_action, next_log_prob = losses.squash(mean, log_std, noise())
        target_q = losses.td_target(
            batch.reward,
            batch.terminated,
            agent.critic_target(batch.next_obs, next_action),
            next_log_prob,
            agent.alpha if config.backup_entropy else 0.0,
            batch.discount,
            (batch.low, batch.high) if agent.clips_target else None,
        )
    q = agent.critic(batch.obs, batch.action)
    critic_gradients = torch.autograd.grad(losses.critic_loss(q, target_q), list(agent.critic.parameters()))
    mean, log_std = agent.actor(batch.obs)
    action, log_prob = losses.squash(mean, log_std, noise())
    actor_loss = losses.actor_loss(agent.alpha, log_prob, agent.critic(batch.obs, action))
    actor_gradients = torch.autograd.grad(actor_loss, list(agent.actor.parameters()))

    with torch.no_grad():
        limited, td_error = torch.tanh(mean), q - target_q
        curves = {
            **quantiles("q/value", q),
            **quantiles("q/td_error", td_error),
            "q/twin_gap": (q[0] - q[1]).abs().mean(),
            "policy/mean_abs": limited.abs().mean(),
            "policy/saturated_share": (limited.abs() > SATURATED).float().mean(),
            "policy/std": log_std.exp().mean(),
            "policy/spread_over_states": limited.std(0, correction=0).mean(),
            "policy/dead_units": dead_units(agent.actor.net, batch.obs),
            "policy/target_entropy": torch.tensor(agent.target_entropy),
            "policy/observation_p99": quantile(batch.obs.abs(), torch.tensor(0.99)),
            "grad/critic": norm(critic_gradients),
            "grad/actor": norm(actor_gradients),
            "weight/critic": norm(agent.critic.parameters()),
            "weight/actor": norm(agent.actor.parameters()),
            "step/critic": relative_step(agent.critic, agent.learnt.critic_moments, agent.config.lr),
            "step/actor": relative_step(agent.actor, agent.learnt.actor_moments, agent.config.lr),
        }
        low, high = batch.low.min(), batch.high.max()
        if not config.backup_entropy and (high - low).isfinite():  # an entropy bonus is no part of the return
            curves |= {"q/lowest_possible": low, "q/highest_possible": high}
    return Inspection(
        curves={name: float(value) for name, value in curves.items()},
        histograms={
            "q/values": q.detach().flatten().cpu().numpy(),
            "q/td_errors": td_error.flatten().cpu().numpy(),
            "policy/mean_actions": limited.flatten().cpu().numpy(),
        },
    )


def quantiles(name: str, values: Tensor) -> dict[str, Tensor]:
    """Returns the 5 %, 50 % and 95 % quantiles of `values` (…), by names that end in them."""
    shares = torch.tensor([0.05, 0.5, 0.95])
    return dict(zip((f"{name}_{p}" for p in ("p05", "p50", "p95")), quantile(values, shares), strict=True))


def quantile(values: Tensor, shares: Tensor) -> Tensor:
    """Returns quantiles of `values` (…): of the first 2^24, where they are more than PyTorch sorts for this."""
    return values.flatten()[: 2**24].quantile(shares.to(values.device))


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """Returns the Euclidean norm of all of them together, ()."""
    return torch.stack([tensor.detach().norm() for tensor in tensors]).norm()


def dead_units(net: nn.Sequential, obs: Tensor) -> Tensor:
    """Returns the share of units that no observation (B, O) wakes, (), in the layer with most of them."""
    shares, x = [], obs.unsqueeze(0)
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            shares.append((x == 0).all(dim=-2).float().mean())
    return torch.stack(shares).max()


def relative_step(network: nn.Module, moments: Moments, lr: float) -> Tensor:
    """Returns the norm of Adam's last step, as a share of the weights' norm, ()."""
    return last_adam_step(moments, lr).norm() / norm(network.parameters())
