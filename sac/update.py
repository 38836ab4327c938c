"""Takes the gradient step of SAC in two pure halves, which eager PyTorch and its compiler run alike."""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor
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
    """Holds Adam's state (Kingma & Ba 2015, arXiv:1412.6980), by the names of the parameters.

    How many steps it has taken (0-d), and the running averages of the gradient and of its square.
    """

    step: Parameters
    exp_avg: Parameters
    exp_avg_sq: Parameters

    @classmethod
    def of(cls, parameters: Parameters) -> "Moments":
        """Returns the state before the first step."""
        step = {name: torch.zeros((), device=value.device) for name, value in parameters.items()}
        return cls(step, *({name: torch.zeros_like(value) for name, value in parameters.items()} for _ in range(2)))


def adam_step(parameters: Parameters, gradients: Parameters, moments: Moments, lr: Tensor) -> Parameters:
    """Returns the parameters after one step of PyTorch's Adam. `moments` move in place, `parameters` do not."""
    after = {name: value.clone() for name, value in parameters.items()}
    # The compiler fuses the step with the gradients if it is spelled out; eager PyTorch has it as one kernel.
    compiling = torch.compiler.is_compiling()
    values, grads, exp_avg, exp_avg_sq = (
        list(tree.values()) for tree in (after, gradients, moments.exp_avg, moments.exp_avg_sq)
    )
    adam(
        values,
        grads,
        exp_avg,
        exp_avg_sq,
        max_exp_avg_sqs=[],
        state_steps=list(moments.step.values()),
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
    return after


def last_adam_step(moments: Moments, lr: float) -> Parameters:
    """Returns what Adam's last step, with the learning rate `lr`, took from the parameters. Zeros before the first.

    Source: Kingma & Ba 2015, algorithm 1.
    """

    def step(name: str) -> Tensor:
        taken = moments.step[name].clamp(min=1)
        mean = moments.exp_avg[name] / (1 - BETA1**taken)
        return lr * mean / ((moments.exp_avg_sq[name] / (1 - BETA2**taken)).sqrt() + EPS)

    return {name: step(name) for name in moments.step}


class Update:
    """Computes the two halves of a gradient step: the critics' and the actor's.

    Both start from the same parameters: the actor climbs the critics as they were before their own step, not after it
    as in the paper's algorithm 1. So neither waits for the other, and each can have a core. A half returns the
    parameters that both read as new tensors, and moves in place only what is its own: moments and averages.

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
        self.target_entropy = target_entropy
        self.backup_entropy = backup_entropy
        self.clip_target = clip_target
        self.tau = tau
        # functional_call lends parameters to a module for as long as it runs, so each half has modules of its own.
        self._networks_of_critic, self._networks_of_actor = (
            (deepcopy(actor).to("meta"), deepcopy(critic).to("meta")) for _ in range(2)
        )

    def step_critic(
        self,
        actor: Parameters,
        critic: Parameters,
        critic_target: Parameters,
        log_alpha: Tensor,
        moments: Moments,
        lr: Tensor,
        batch: Batch,
        noise: Tensor,
    ) -> tuple[Parameters, Metrics]:
        """Steps both critics on the squared error to the target critics' bootstrapped value. The targets follow.

        noise (B, A), standard normal, makes the next action. Moves critic_target and moments in place. Returns the
        critics' new parameters, and metrics as 0-d tensors.
        """
        actor_network, critic_network = self._networks_of_critic
        mean, log_std = functional_call(actor_network, actor, (batch.next_obs,))
        next_action, next_log_prob = losses.squash(mean, log_std, noise)
        next_q = functional_call(critic_network, critic_target, (batch.next_obs, next_action))
        alpha = log_alpha.exp() if self.backup_entropy else 0.0
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
            q = functional_call(critic_network, critic, (batch.obs, batch.action))
            return losses.critic_loss(q, target_q), q

        gradients, (loss, q) = grad_and_value(loss_and_q, has_aux=True)(critic)
        critic = adam_step(critic, gradients, moments, lr)
        losses.polyak_update(list(critic_target.values()), list(critic.values()), self.tau)
        return critic, {
            "train/critic_loss": loss,
            "q/q1": q[0].mean(),
            "q/q2": q[1].mean(),
            "q/target": target_q.mean(),
            "q/td_error_abs": (q - target_q).abs().mean(),
        }

    def step_actor_and_alpha(
        self,
        actor: Parameters,
        actor_average: Parameters,
        critic: Parameters,
        log_alpha: Tensor,
        moments: Moments,
        alpha_moments: Moments,
        lr: Tensor,
        average_share: Tensor,
        batch: Batch,
        noise: Tensor,
    ) -> tuple[Parameters, Tensor, Metrics]:
        """Steps the policy up the critics' minimum, and the temperature towards the target entropy.

        The average policy follows.

        noise (B, A), standard normal, makes the action. Moves actor_average and both moments in place. Returns the
        actor's new parameters, the new log_alpha, and metrics as 0-d tensors.
        """
        actor_network, critic_network = self._networks_of_actor
        alpha = log_alpha.exp()

        def loss_and_log_prob(actor: Parameters) -> tuple[Tensor, Tensor]:
            mean, log_std = functional_call(actor_network, actor, (batch.obs,))
            action, log_prob = losses.squash(mean, log_std, noise)
            q = functional_call(critic_network, critic, (batch.obs, action))
            return losses.actor_loss(alpha, log_prob, q), log_prob

        gradients, (actor_loss, log_prob) = grad_and_value(loss_and_log_prob, has_aux=True)(actor)
        gradient, alpha_loss = grad_and_value(losses.temperature_loss)(log_alpha, log_prob, self.target_entropy)
        actor = adam_step(actor, gradients, moments, lr)
        losses.polyak_update(list(actor_average.values()), list(actor.values()), average_share)
        (log_alpha,) = adam_step({"log_alpha": log_alpha}, {"log_alpha": gradient}, alpha_moments, lr).values()
        return (
            actor,
            log_alpha,
            {
                "train/actor_loss": actor_loss,
                "train/ent_coef_loss": alpha_loss,
                "train/ent_coef": alpha,
                "policy/entropy": -log_prob.mean(),
            },
        )
