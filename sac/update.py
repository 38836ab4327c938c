"""Takes the gradient step of SAC, which eager PyTorch, its compiler and a GPU's graph run alike."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.optim.adam import adam

from sac import losses
from sac.networks import Actor, Critics

Parameters = dict[str, Tensor]
Metrics = dict[str, Tensor]

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
"""Adam's constants, as its paper has them."""


class Batch(NamedTuple):
    """Holds transitions, float32: obs and next_obs (B, O), action (B, A), and the others (B,).

    Of n steps at once: reward is their discounted sum, next_obs what they led to, and discount is gamma^n. low and high
    are the least and the most that can be earned from obs on, -inf and inf where unknown.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    discount: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def zeros(cls, shape: tuple[int, ...], obs_dim: int, action_dim: int) -> "Batch":
        """Returns transitions of that shape, to try an update on."""
        sizes = (obs_dim,), (action_dim,), (), (obs_dim,), (), (), (), ()
        return cls(*(torch.zeros(*shape, *size) for size in sizes))


class Moments(NamedTuple):
    """Holds Adam's state (Kingma & Ba 2015, arXiv:1412.6980) for parameters (P,).

    How many steps it has taken (), and the running averages of the gradient and of its square, (P,) both.
    """

    step: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "Moments":
        """Returns the state before the first step."""
        step = torch.zeros((), device=parameters.device)
        return cls(step, torch.zeros_like(parameters), torch.zeros_like(parameters))


class Learnt(NamedTuple):
    """Holds all that an update moves, in place.

    Each network's parameters are one tensor (P,), so Adam and the averages take an operation each, and not one for each
    layer. `unflatten` shows them by name.
    """

    actor: Tensor
    actor_average: Tensor
    critic: Tensor
    critic_target: Tensor
    log_alpha: Tensor
    actor_moments: Moments
    critic_moments: Moments
    alpha_moments: Moments


def flatten(parameters: Parameters) -> Tensor:
    """Returns parameters in one piece (P,), a copy."""
    return torch.cat([value.flatten() for value in parameters.values()])


def unflatten(flat: Tensor, network: nn.Module) -> Parameters:
    """Returns views of `flat` (P,), by the names and in the shapes of the network's parameters."""
    shapes = {name: value.shape for name, value in network.named_parameters()}
    pieces = flat.split([shape.numel() for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def adam_step(parameters: Tensor, gradient: Tensor, moments: Moments, lr: Tensor) -> None:
    """Moves parameters (P,) and moments, in place, by one step of PyTorch's Adam."""
    # The compiler fuses the step with the gradients if it is spelled out; eager PyTorch has it as one kernel.
    compiling = torch.compiler.is_compiling()
    adam(
        [parameters],
        [gradient],
        [moments.exp_avg],
        [moments.exp_avg_sq],
        max_exp_avg_sqs=[],
        state_steps=[moments.step],
        foreach=compiling,
        fused=not compiling,
        capturable=compiling or lr.is_cuda,
        amsgrad=False,
        beta1=BETA1,
        beta2=BETA2,
        lr=lr,
        weight_decay=0.0,
        eps=EPS,
        maximize=False,
    )


def last_adam_step(moments: Moments, lr: float) -> Tensor:
    """Returns what Adam's last step, with the learning rate `lr`, took from the parameters, (P,). Zeros before the
    first.

    Source: Kingma & Ba 2015, algorithm 1.
    """
    taken = moments.step.clamp(min=1)
    mean = moments.exp_avg / (1 - BETA1**taken)
    return lr * mean / ((moments.exp_avg_sq / (1 - BETA2**taken)).sqrt() + EPS)


class Update:
    """Takes a gradient step of everything: the critics', then the actor's and the temperature's (SAC's algorithm 1).

    Args:
        actor, critic: lend their structure, not their parameters.
        target_entropy: in nats, of all action dimensions together. The rest is as in SACConfig.
    """

    def __init__(
        self,
        actor: Actor,
        critic: Critics,
        *,
        target_entropy: float,
        backup_entropy: bool,
        clip_target: bool,
        tau: float,
    ):
        self.actor = actor
        self.critic = critic
        self.target_entropy = target_entropy
        self.backup_entropy = backup_entropy
        self.clip_target = clip_target
        self.tau = tau

    def step(self, learnt: Learnt, rates: Tensor, noise: Tensor, batch: Batch) -> Metrics:
        """Moves `learnt` in place by one step on the batch (B, …). Returns metrics as 0-d tensors.

        rates (2,): Adam's learning rate, and the share of the actor that moves into its average. noise (2, B, A),
        standard normal, makes the next action and the action.
        """
        lr, average_share = rates.unbind()
        next_noise, noise = noise.unbind()
        critic_metrics = self.step_critic(learnt, lr, next_noise, batch)
        return critic_metrics | self.step_actor_and_alpha(learnt, lr, average_share, noise, batch)

    def step_critic(self, learnt: Learnt, lr: Tensor, noise: Tensor, batch: Batch) -> Metrics:
        """Steps both critics on the squared error to the target critics' bootstrapped value. The targets follow."""
        mean, log_std = functional_call(self.actor, unflatten(learnt.actor, self.actor), (batch.next_obs,))
        next_action, next_log_prob = losses.squash(mean, log_std, noise)
        target = unflatten(learnt.critic_target, self.critic)
        next_q = functional_call(self.critic, target, (batch.next_obs, next_action))
        alpha = learnt.log_alpha.exp() if self.backup_entropy else 0.0
        target_q = losses.td_target(
            batch.reward,
            batch.terminated,
            next_q,
            next_log_prob,
            alpha,
            batch.discount,
            (batch.low, batch.high) if self.clip_target else None,
        )

        def loss_and_q(critic: Parameters) -> tuple[Tensor, Tensor]:
            q = functional_call(self.critic, critic, (batch.obs, batch.action))
            return losses.critic_loss(q, target_q), q

        gradients, (loss, q) = grad_and_value(loss_and_q, has_aux=True)(unflatten(learnt.critic, self.critic))
        adam_step(learnt.critic, flatten(gradients), learnt.critic_moments, lr)
        losses.polyak_update(learnt.critic_target, learnt.critic, self.tau)
        return {
            "train/critic_loss": loss,
            "q/q1": q[0].mean(),
            "q/q2": q[1].mean(),
            "q/target": target_q.mean(),
            "q/td_error_abs": (q - target_q).abs().mean(),
        }

    def step_actor_and_alpha(
        self, learnt: Learnt, lr: Tensor, average_share: Tensor, noise: Tensor, batch: Batch
    ) -> Metrics:
        """Steps the policy up the critics' minimum, and the temperature towards the target entropy.

        The average policy follows.
        """
        critic = unflatten(learnt.critic, self.critic)
        alpha = learnt.log_alpha.exp()

        def loss_and_log_prob(actor: Parameters) -> tuple[Tensor, Tensor]:
            mean, log_std = functional_call(self.actor, actor, (batch.obs,))
            action, log_prob = losses.squash(mean, log_std, noise)
            q = functional_call(self.critic, critic, (batch.obs, action))
            return losses.actor_loss(alpha, log_prob, q), log_prob

        actor = unflatten(learnt.actor, self.actor)
        gradients, (actor_loss, log_prob) = grad_and_value(loss_and_log_prob, has_aux=True)(actor)
        gradient, alpha_loss = grad_and_value(losses.temperature_loss)(learnt.log_alpha, log_prob, self.target_entropy)
        adam_step(learnt.actor, flatten(gradients), learnt.actor_moments, lr)
        losses.polyak_update(learnt.actor_average, learnt.actor, average_share)
        adam_step(learnt.log_alpha, gradient, learnt.alpha_moments, lr)
        return {
            "train/actor_loss": actor_loss,
            "train/ent_coef_loss": alpha_loss,
            "train/ent_coef": alpha,
            "policy/entropy": -log_prob.mean(),
        }
