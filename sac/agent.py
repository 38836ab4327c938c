"""The SAC agent: networks, targets, optimisers and temperature, and the one gradient step that moves them all."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sac import losses
from sac.networks import Actor, Critics


@dataclass(frozen=True)
class SACConfig:
    """Soft Actor-Critic. docs/experiments.md holds the runs behind the defaults."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer, for the actor and for each critic."""
    layer_norm: bool = True
    """Layer normalisation in the critics: keeps Q-values bounded far from the data."""
    lr: float = 5e-4
    """Adam's learning rate for actor, critics and temperature."""
    lr_decay_after: int | None = None
    """Updates after which the learning rate falls: at twice as many it is lr / 4, at three times lr / 9.
    More than the run has: it stays. Default: reach 2000, others 40000."""
    gamma: float = 0.98
    """Discount per environment step. The horizon it looks ahead, 1 / (1 - gamma), should cover the task."""
    n_step: int = 4
    """Steps whose rewards the critics' target adds up before it bootstraps; 1 is SAC to the letter."""
    tau: float = 0.01
    """Share of the online critics that moves into the target critics at each update."""
    average_tau: float = 1e-3
    """Share of the actor that moves into its running average at each update.
    The average is what is evaluated and kept as the policy; 1 is the actor itself."""
    batch_size: int = 256
    """Transitions per update."""
    init_alpha: float = 0.05
    """Temperature at the start; it is learnt from there."""
    target_entropy: float | None = None
    """Entropy (nats) that the temperature steers the policy to.
    None is -(action dimensions) / 2; pick-place trains with -6."""
    backup_entropy: bool = False
    """Include the entropy bonus in the critics' target, as in the paper.
    Without it Q is the plain return, which can be clipped to its possible range."""
    clip_target: bool = True
    """Clip the critics' target to the range of the return, where the environment states one."""


class Batch(NamedTuple):
    """Transitions as SAC sees them: obs, next_obs (B, O); action (B, A); reward, terminated, discount (B,); float32.

    Of n steps at once: reward is their discounted sum, next_obs what they led to, and discount is gamma^n.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    discount: Tensor


class SAC:
    """Soft Actor-Critic with twin critics and automatic temperature (Haarnoja et al. 2018, arXiv:1812.05905).

    Args:
        obs_dim, action_dim: sizes of the policy's input and of an action in [-1, 1].
        config: see SACConfig.
        return_range: lowest and highest discounted return that the rewards allow, or None where unknown.
        device: where the networks live.
        seed: seeds the generators of initial weights and of policy noise; nothing draws from a global one.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        config: SACConfig,
        return_range: tuple[float, float] | None,
        device: torch.device,
        seed: int,
    ):
        self.config = config
        self.device = device
        self.action_dim = action_dim
        self.target_entropy = -action_dim / 2 if config.target_entropy is None else config.target_entropy
        # The entropy bonus adds to the return, so the rewards' range is no bound on Q once it is in the backup.
        self.target_bounds = return_range if config.clip_target and not config.backup_entropy else None

        init = torch.Generator().manual_seed(seed)  # on the CPU: the same first weights on every device
        self.actor = Actor(obs_dim, action_dim, config.hidden, init).to(device)
        self.critic = Critics(obs_dim, action_dim, config.hidden, config.layer_norm, init).to(device)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.actor_average = deepcopy(self.actor).requires_grad_(False)
        self.log_alpha = torch.tensor(float(np.log(config.init_alpha)), device=device, requires_grad=True)

        def adam(parameters):
            return torch.optim.Adam(parameters, lr=config.lr, fused=True)

        self.actor_optimizer = adam(self.actor.parameters())
        self.critic_optimizer = adam(self.critic.parameters())
        self.alpha_optimizer = adam([self.log_alpha])
        self.generator = torch.Generator(device).manual_seed(seed + 1)
        self.updates = 0

    @property
    def alpha(self) -> Tensor:
        """The temperature, detached: only temperature_loss may move it."""
        return self.log_alpha.exp().detach()

    def sample_action(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """A reparameterised action (B, A) for obs (B, O), and its log-probability (B,)."""
        mean, log_std = self.actor(obs)
        noise = torch.randn(mean.shape, generator=self.generator, device=self.device)
        return losses.squash(mean, log_std, noise)

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Actions (N, A) float32 in [-1, 1], drawn from the policy, for observations (N, O)."""
        return self.sample_action(torch.from_numpy(obs).to(self.device))[0].cpu().numpy()

    @torch.no_grad()
    def act_deterministic(self, obs: np.ndarray) -> np.ndarray:
        """tanh of the average policy's mean, (N, A), for observations (N, O): how a trained policy is evaluated.

        With a constant learning rate the actor never settles; the average of its last updates does (Polyak & Juditsky
        1992, "Acceleration of stochastic approximation by averaging").
        """
        return torch.tanh(self.actor_average(torch.from_numpy(obs).to(self.device))[0]).cpu().numpy()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of everything on one batch. Returns metrics as 0-d tensors: reading them is the caller's
        synchronisation, not ours."""
        self.set_learning_rate()
        metrics = self.update_critic(batch)
        metrics |= self.update_actor_and_alpha(batch)
        self.update_averages()
        self.updates += 1
        return metrics

    def set_learning_rate(self) -> None:
        """Constant at first, then falling: what has been learnt by then is to settle (docs/experiments.md). It depends
        on the updates alone, not on how long the run is to be, so that a longer run is the same run."""
        settled = self.config.lr_decay_after
        if settled is None or self.updates <= settled:
            return
        for optimizer in (self.actor_optimizer, self.critic_optimizer, self.alpha_optimizer):
            optimizer.param_groups[0]["lr"] = self.config.lr * (settled / self.updates) ** 2

    def update_averages(self) -> None:
        """The target critics follow the critics, and the policy to be evaluated follows the actor."""
        for average, online, tau in (
            (self.critic_target, self.critic, self.config.tau),
            (self.actor_average, self.actor, self.config.average_tau),
        ):
            losses.polyak_update(list(average.parameters()), list(online.parameters()), tau)

    def update_critic(self, batch: Batch) -> dict[str, Tensor]:
        """One step of both critics on the squared error to the target critics' bootstrapped value."""
        with torch.no_grad():
            next_action, next_log_prob = self.sample_action(batch.next_obs)
            next_q = self.critic_target(batch.next_obs, next_action)
            alpha = self.alpha if self.config.backup_entropy else 0.0
            target_q = losses.td_target(
                batch.reward, batch.terminated, next_q, next_log_prob, alpha, batch.discount, self.target_bounds
            )
        q = self.critic(batch.obs, batch.action)
        loss = losses.critic_loss(q, target_q)
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        q = q.detach()
        return {
            "train/critic_loss": loss.detach(),
            "q/q1": q[0].mean(),
            "q/q2": q[1].mean(),
            "q/target": target_q.mean(),
            "q/td_error_abs": (q - target_q).abs().mean(),
        }

    def update_actor_and_alpha(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the policy up the critics' minimum, and one of the temperature towards the target entropy."""
        action, log_prob = self.sample_action(batch.obs)
        actor_loss = losses.actor_loss(self.alpha, log_prob, self.critic(batch.obs, action))
        self.actor_optimizer.zero_grad()
        # The gradient passes through the critics to the action, but must not be added to the critics' own.
        actor_loss.backward(inputs=list(self.actor.parameters()))
        self.actor_optimizer.step()

        alpha_loss = losses.temperature_loss(self.log_alpha, log_prob, self.target_entropy)
        self.alpha_optimizer.zero_grad()
        alpha_loss.backward()
        self.alpha_optimizer.step()
        return {
            "train/actor_loss": actor_loss.detach(),
            "train/ent_coef_loss": alpha_loss.detach(),
            "train/ent_coef": self.alpha,
            "policy/entropy": -log_prob.detach().mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, as nested dicts of NumPy arrays and numbers."""
        return {
            "actor": _to_numpy(self.actor.state_dict()),
            "actor_average": _to_numpy(self.actor_average.state_dict()),
            "critic": _to_numpy(self.critic.state_dict()),
            "critic_target": _to_numpy(self.critic_target.state_dict()),
            "log_alpha": _to_numpy(self.log_alpha),
            "actor_optimizer": _adam_state(self.actor_optimizer),
            "critic_optimizer": _adam_state(self.critic_optimizer),
            "alpha_optimizer": _adam_state(self.alpha_optimizer),
            "generator": {"device": self.device.type, "state": _to_numpy(self.generator.get_state())},
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what state_dict returned. Raises RuntimeError or ValueError where the networks' sizes differ.

        The generator goes on where it stood only on a device of the same kind: a CPU's and a GPU's generator share no
        state, so after a change of device the noise is another, seeded, sequence.
        """
        self.actor.load_state_dict(_to_torch(state["actor"]))
        self.load_policy(state["actor_average"])
        self.critic.load_state_dict(_to_torch(state["critic"]))
        self.critic_target.load_state_dict(_to_torch(state["critic_target"]))
        with torch.no_grad():
            self.log_alpha.copy_(torch.from_numpy(np.asarray(state["log_alpha"])))
        _load_adam_state(self.actor_optimizer, state["actor_optimizer"])
        _load_adam_state(self.critic_optimizer, state["critic_optimizer"])
        _load_adam_state(self.alpha_optimizer, state["alpha_optimizer"])
        if state["generator"]["device"] == self.device.type:
            self.generator.set_state(torch.from_numpy(state["generator"]["state"].copy()))
        self.updates = state["updates"]

    def load_policy(self, state: dict[str, np.ndarray]) -> None:
        """Restores "actor_average" alone: all that act_deterministic needs."""
        self.actor_average.load_state_dict(_to_torch(state))


def _to_numpy(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        # A copy: a checkpoint must not change while the next update runs.
        return tree.detach().cpu().numpy().copy()
    return {key: _to_numpy(value) for key, value in tree.items()}


def _to_torch(tree: dict[str, np.ndarray]) -> dict[str, Tensor]:
    # A copy: Adam goes on in the very tensors that it is given, and would write into the caller's state.
    return {key: torch.tensor(value) for key, value in tree.items()}


def _adam_state(optimizer: torch.optim.Adam) -> dict[str, Any]:
    """Adam's moments and step counts by parameter index; zeros before the first step, as Adam begins with."""
    (group,) = optimizer.param_groups
    return {str(i): _to_numpy(optimizer.state.get(p) or _no_moments(p)) for i, p in enumerate(group["params"])}


def _no_moments(parameter: Tensor) -> dict[str, Tensor]:
    zeros = torch.zeros_like(parameter)
    return {"step": torch.tensor(0.0), "exp_avg": zeros, "exp_avg_sq": zeros}


def _load_adam_state(optimizer: torch.optim.Adam, state: dict[str, Any]) -> None:
    for index, fresh in _adam_state(optimizer).items():
        # The fused step writes into moments without looking at their sizes.
        for name, array in fresh.items():
            found = np.asarray(state[index][name])
            if (found.shape, found.dtype) != (array.shape, array.dtype):
                raise ValueError(f"{name} of parameter {index} is {found.dtype}{found.shape}, not {array.shape}")
    groups = optimizer.state_dict()["param_groups"]  # learning rate and betas: the configuration's, not the file's
    moments = {int(index): _to_torch(entry) for index, entry in state.items()}
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
