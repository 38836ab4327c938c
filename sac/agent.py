"""Holds networks, targets, moments and temperature, and takes the one gradient step that moves them all."""

import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Gt, Interval
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sac import losses
from sac.capture import Captured
from sac.networks import Actor, Critics
from sac.normalizer import Normalizer
from sac.update import Batch, Learnt, Metrics, Moments, Update, flatten, unflatten

INITIAL_ALPHA = 0.05
"""Temperature at the start. It is learnt from there."""
AVERAGED = 0.1
"""Share of a run's updates over which the evaluated policy averages the actor, about."""

NETWORKS = ("actor", "actor_average", "critic", "critic_target", "log_alpha")
"""Names the parts of SAC.state_dict that training has made."""


@dataclass(frozen=True)
class SACConfig:
    """Set up Soft Actor-Critic. docs/experiments.md holds the runs behind the defaults."""

    hidden: Annotated[tuple[int, ...], Interval(ge=1, le=2**16)] = (256, 256, 256)
    """Width of each hidden layer, for the actor and for each critic."""
    layer_norm: bool = True
    """Layer normalisation in the critics: keeps Q-values bounded far from the data."""
    lr: Annotated[float, Gt(0)] = 5e-4
    """Adam's learning rate for actor, critics and temperature."""
    tau: Annotated[float, Interval(gt=0, le=1)] = 0.01
    """Share of the online critics that moves into the target critics at each update."""
    target_entropy: Annotated[float, Interval(ge=-4, le=0.69)] = -0.5
    """Entropy that the temperature steers the policy to, in nats for each action dimension (the paper's is -1)."""
    backup_entropy: bool = False
    """Include the entropy bonus in the critics' target, as in the paper.
    Without it Q is the plain return, which can be clipped to its possible range. Needs --n-step 1."""
    clip_target: bool = True
    """Clip the critics' target to the range of the return, where the environment states one."""


class CompilerUnavailable(RuntimeError):
    """PyTorch's compiler does not work here. The message is its reason."""


class SAC:
    """Learns by Soft Actor-Critic with twin critics and automatic temperature (Haarnoja et al. 2018, arXiv:1812.05905).

    Takes policy inputs of obs_dim numbers, and actions in [-1, 1]. `seed` is for initial weights and policy noise:
    nothing draws from a global generator. On a GPU updates are launched as `graphs`, or else operation by operation.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        config: SACConfig,
        device: torch.device,
        seed: int,
        graphs: bool = True,
    ):
        self.config = config
        self.device = device
        self.obs_dim = obs_dim
        self.action_dim = action_dim
        self.target_entropy = action_dim * config.target_entropy
        # The entropy bonus adds to the return, so the rewards' range is no bound on Q once it is in the backup.
        self.clips_target = config.clip_target and not config.backup_entropy

        init = torch.Generator().manual_seed(seed)  # on the CPU: the same first weights on every device
        self.actor = Actor(obs_dim, action_dim, config.hidden, init).to(device)
        self.critic = Critics(obs_dim, action_dim, config.hidden, config.layer_norm, init).to(device)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.actor_average = deepcopy(self.actor).requires_grad_(False)
        self.normalizer = Normalizer(obs_dim, device)

        log_alpha = torch.tensor(math.log(INITIAL_ALPHA), device=device)
        actor, critic = _in_one_piece(self.actor), _in_one_piece(self.critic)
        self.learnt = Learnt(
            actor=actor,
            actor_average=_in_one_piece(self.actor_average),
            critic=critic,
            critic_target=_in_one_piece(self.critic_target),
            log_alpha=log_alpha,
            actor_moments=Moments.of(actor),
            critic_moments=Moments.of(critic),
            alpha_moments=Moments.of(log_alpha),
        )
        self.generator = torch.Generator(device).manual_seed(seed + 1)
        self.updates = 0

        self._update = Update(
            self.actor,
            self.critic,
            target_entropy=self.target_entropy,
            backup_entropy=config.backup_entropy,
            clip_target=self.clips_target,
            tau=config.tau,
        )
        self._step: Callable[[Learnt, Tensor, Tensor, Batch], Metrics] = self._update.step
        self._captured = Captured(self._halves, tree_leaves(self.learnt)) if graphs and device.type == "cuda" else None
        self.compiled = False

    @property
    def log_alpha(self) -> Tensor:
        return self.learnt.log_alpha

    @property
    def alpha(self) -> Tensor:
        """Returns the temperature, detached: only temperature_loss may move it."""
        return self.log_alpha.exp().detach()

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Draws actions (N, A) float32 in [-1, 1] from the policy, for observations (N, O)."""
        mean, log_std = self.actor(self.normalizer(torch.from_numpy(obs).to(self.device)))
        noise = torch.randn(mean.shape, generator=self.generator, device=self.device)
        action, _ = losses.squash(mean, log_std, noise)
        return action.cpu().numpy()

    @torch.no_grad()
    def act_deterministic(self, obs: np.ndarray) -> np.ndarray:
        """Returns tanh of the average policy's mean, (N, A), for observations (N, O), as a trained policy is evaluated.

        With a constant learning rate the actor never settles; the average of its last updates does (Polyak & Juditsky
        1992, "Acceleration of stochastic approximation by averaging").
        """
        inputs = self.normalizer(torch.from_numpy(obs).to(self.device))
        return torch.tanh(self.actor_average(inputs)[0]).cpu().numpy()

    def see(self, obs: np.ndarray) -> None:
        """Adds observations (N, O) to the statistics that they are normalised by."""
        self.normalizer.add(obs)

    def compile(self, batch_size: int) -> None:
        """Compiles the update on a CPU for batches of this size: it is as before but for rounding, and faster.

        It takes half a minute the first time on a machine. Raises CompilerUnavailable, and the agent is as it was then.

        (On a GPU, PyTorch 2.11's compiler fails on it, and a graph, which needs no compiling, is captured instead.)
        """
        eager = self._step
        options: dict[str, Any] = {
            "guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe,  # nothing but the batch changes hereafter
            "cpp_wrapper": True,
        }
        before = self.state_dict()
        try:
            self._step = torch.compile(eager, fullgraph=True, dynamic=False, options=options)
            batch = Batch.zeros((batch_size,), self.obs_dim, self.action_dim)
            self._step(self.learnt, torch.zeros(2), torch.stack([batch.action] * 2), batch)
        # Compilers fail in their own ways, and no run needs one.
        except Exception as error:
            self._step = eager
            raise CompilerUnavailable(_reason(error)) from error
        finally:
            self.load_state_dict(before)
        self.compiled = True

    def update(self, batch: Batch) -> Metrics:
        """Takes a gradient step of everything on one batch (B, …), or one after the other on K of them (K, B, …).

        Returns metrics, means over the K, as 0-d tensors: reading them is the caller's synchronisation, not ours.
        """
        batches = batch if batch.reward.ndim == 2 else Batch(*(array.unsqueeze(0) for array in batch))
        count = len(batches.reward)
        batches = batches._replace(obs=self.normalizer(batches.obs), next_obs=self.normalizer(batches.next_obs))
        noise = torch.randn((count, 2, *batches.action.shape[1:]), generator=self.generator, device=self.device)
        rates = torch.tensor([[self.config.lr, self.average_share(self.updates + i)] for i in range(count)])
        history = (self._captured or self._eager)(rates.to(self.device), noise, *batches)
        self.updates += count
        numbers = torch.stack([number for metrics in history for number in metrics.values()])
        names = [name for metrics in history[: len(history) // count] for name in metrics]
        return dict(zip(names, numbers.view(count, -1).mean(0), strict=True))

    def _eager(self, rates: Tensor, noise: Tensor, *batches: Tensor) -> list[Metrics]:
        """Takes K steps, compiled where they are. rates (K, 2), noise (K, 2, B, A) and batches as in Update.step."""
        return [self._step(self.learnt, *step) for step in _one_by_one(rates, noise, *batches)]

    def _halves(self, rates: Tensor, noise: Tensor, *batches: Tensor) -> Iterator[Callable[[], Metrics]]:
        """Yields the same K steps in two halves each: what Update.step does, in pieces that are small enough for any
        graph."""
        for (lr, share), (next_noise, own_noise), batch in _one_by_one(rates, noise, *batches):
            yield partial(self._update.step_critic, self.learnt, lr, next_noise, batch)
            yield partial(self._update.step_actor_and_alpha, self.learnt, lr, share, own_noise, batch)

    def average_share(self, updates: int) -> float:
        """Returns the share of the actor that moves into its average after `updates` updates.

        So the average looks back over about AVERAGED of all updates so far, forgets the untrained actor at once, and
        settles ever more in a longer run (Shamir & Zhang 2013, "Stochastic gradient descent for non-smooth
        optimization", section 4: polynomial-decay averaging).
        """
        return 1 / (1 + AVERAGED * updates)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the next update depends on, as nested dicts of NumPy arrays and numbers."""
        return _to_numpy(self._tensors()) | {
            "normalizer": self.normalizer.state_dict(),
            "generator": {"device": self.device.type, "state": _to_numpy(self.generator.get_state())},
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what state_dict returned, for networks of the same sizes.

        The generator goes on where it stood only on a device of the same kind: a CPU's and a GPU's generator share no
        state, so after a change of device the noise is another, seeded, sequence.
        """
        _copy_into(self._tensors(), state)
        if state["generator"]["device"] == self.device.type:
            self.generator.set_state(torch.from_numpy(state["generator"]["state"].copy()))
        self.normalizer.load_state_dict(state["normalizer"])
        self.updates = state["updates"]

    def _tensors(self) -> dict[str, Any]:
        """Returns what updates move, as nested dicts of views: each network's parameters and moments by their names."""
        trees: dict[str, Any] = {"log_alpha": self.log_alpha}
        for name in ("actor", "actor_average", "critic", "critic_target"):
            trees[name] = unflatten(getattr(self.learnt, name), getattr(self, name))
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            step, *averages = getattr(self.learnt, f"{name}_moments")
            by_name = (dict.fromkeys(trees[name], step), *(unflatten(average, network) for average in averages))
            trees[f"{name}_moments"] = dict(zip(Moments._fields, by_name, strict=True))
        alpha_moments = self.learnt.alpha_moments._asdict()
        return trees | {"alpha_moments": {name: {"log_alpha": tensor} for name, tensor in alpha_moments.items()}}

    def load_networks(self, state: dict[str, Any], only: Collection[str] = NETWORKS) -> None:
        """Restores networks of a state_dict, and the normalizer that they saw their inputs through.

        act_deterministic needs actor_average alone. What updates remember of one another stays as it is.
        """
        _copy_into({name: tree for name, tree in self._tensors().items() if name in only}, state)
        self.normalizer.load_state_dict(state["normalizer"])


def _reason(error: Exception) -> str:
    """Returns the line of a compiler's error that says most, below PyTorch's heading and command, and what to do."""
    lines = [line.strip() for line in str(error).splitlines()]
    own = [line for line in lines if line and not line.endswith("raised:")]
    telling = [line for line in own if " error: " in line] or own or [type(error).__name__]
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_*")
    return (
        f"{telling[0]:.200}; install a C++ compiler or, where there is one, delete {cache} (TORCHINDUCTOR_CACHE_DIR), "
        "since what was compiled before may be damaged"
    )


def _one_by_one(rates: Tensor, noise: Tensor, *batches: Tensor) -> Iterator[tuple[Tensor, Tensor, Batch]]:
    return zip(rates, noise, map(Batch._make, zip(*batches, strict=True)), strict=True)


def _in_one_piece(network: nn.Module) -> Tensor:
    """Returns the network's parameters as one tensor (P,), which is their memory from now on, without their history."""
    flat = flatten(dict(network.named_parameters())).detach()
    for parameter, view in zip(network.parameters(), unflatten(flat, network).values(), strict=True):
        parameter.data = view
    return flat


def _to_numpy(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        # A copy: a checkpoint must not change while the next update runs.
        return tree.detach().cpu().numpy().copy()
    return {key: _to_numpy(value) for key, value in tree.items()}


def _copy_into(tree: Any, state: Any) -> None:
    """Copies the arrays of `state` into the tensors of `tree`, in the memory where they are."""
    if isinstance(tree, Tensor):
        tree.copy_(torch.tensor(state))
    else:
        for key, branch in tree.items():
            _copy_into(branch, state[key])
