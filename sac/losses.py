"""States the equations of Soft Actor-Critic, one pure function each.

Sources: [SAC] Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications" (arXiv:1812.05905);
[TD3] Fujimoto et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods" (arXiv:1802.09477).
Shapes: B batch, A action dimensions, E critics. Nothing here draws a random number or changes an argument.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the reparameterised action and its log-probability ([SAC] equation 8 and appendix C).

    mean, log_std, noise: (B, A), noise ~ N(0, 1). Returns action = tanh(u), u = mean + std * noise, in (-1, 1), (B, A),
    and log pi(action) = log N(u; mean, std) - sum log(1 - tanh(u)^2), (B,).
    """
    u = mean + log_std.exp() * noise
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    # log(1 - tanh(u)^2), rewritten: the plain form is log(0) = -inf as soon as |u| passes 9 in float32.
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return torch.tanh(u), (log_normal - log_slope).sum(-1)


def td_target(
    reward: Tensor,
    terminated: Tensor,
    next_q: Tensor,
    next_log_prob: Tensor,
    alpha: Tensor | float,
    discount: Tensor,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Computes the value that both critics regress on ([SAC] equations 3 and 5, with [TD3]'s minimum of the critics).

    reward, discount (B,), terminated (B,) in {0, 1}, next_q (E, B) of the *target* critics, next_log_prob (B,). Returns
    (B,): r + discount (1 - terminated) (min_i Q_i(s', a') - alpha log pi(a'|s')), discount being gamma where s' is one
    step on, and gamma^n after n of them, whose rewards r then sums up. A time limit is no termination: it must not
    reach this function as 1. alpha = 0 leaves the entropy out of the backup. `bounds`, the lowest and
    the highest return from each state on, (B,) both, clip the target (Andrychowicz et al. 2017, appendix A, do so for
    rewards of -1 and 0).
    """
    next_value = next_q.amin(0) - alpha * next_log_prob
    target = reward + discount * (1 - terminated) * next_value
    return target if bounds is None else target.clamp(*bounds)


def critic_loss(q: Tensor, target_q: Tensor) -> Tensor:
    """Sums the critics' mean squared Bellman errors: twice [SAC] equation 5, whose 1/2 Adam would undo.

    q (E, B), target_q (B,) to ().
    """
    return (q - target_q.detach()).square().mean(-1).sum()


def actor_loss(alpha: Tensor | float, log_prob: Tensor, q: Tensor) -> Tensor:
    """Computes [SAC] equation 7: E[alpha log pi(a|s) - min_i Q_i(s, a)]. log_prob (B,), q (E, B) to ()."""
    return (alpha * log_prob - q.amin(0)).mean()


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Computes [SAC] equation 18: E[-alpha (log pi(a|s) + target_entropy)], alpha = exp(log_alpha). log_prob (B,)."""
    return -(log_alpha.exp() * (log_prob.detach() + target_entropy)).mean()


@torch.no_grad()
def polyak_update(target: Tensor, online: Tensor, tau: float | Tensor) -> None:
    """Moves, in place, target <- (1 - tau) target + tau online ([SAC] algorithm 1, last line of the gradient step)."""
    target.lerp_(online, tau)
