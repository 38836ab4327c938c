"""Each half of an update moves what its losses are meant to move, as plain autograd and PyTorch's Adam would."""

from copy import deepcopy
from functools import partial

import pytest
import torch

from sac import losses
from sac.networks import Actor, Critics
from sac.update import Moments, Update, adam_step

OBS, ACTION, SIZE = 5, 3, 32
LR, AVERAGE_SHARE = torch.tensor(0.01), torch.tensor(0.2)


class Halves:
    """Holds networks, moments and a batch, and the two halves of an update on them."""

    def __init__(self, batch, clip_target=True, backup_entropy=False, target_entropy=-1.5, log_alpha=-2.0):
        init = torch.Generator().manual_seed(0)
        self.actor_module = Actor(OBS, ACTION, (16, 16), init)
        self.critic_module = Critics(OBS, ACTION, (16, 16), True, init)
        self.target_module = Critics(OBS, ACTION, (16, 16), True, init)
        self.actor, self.critic, self.target = (
            {name: value.detach() for name, value in module.named_parameters()}
            for module in (self.actor_module, self.critic_module, self.target_module)
        )
        self.average = {name: value.clone() for name, value in self.actor.items()}
        self.log_alpha = torch.tensor(log_alpha)
        self.actor_moments, self.critic_moments = Moments.of(self.actor), Moments.of(self.critic)
        self.alpha_moments = Moments.of({"log_alpha": self.log_alpha})
        self.noise = torch.randn(SIZE, ACTION, generator=init)
        self.batch = batch
        self.update = Update(
            self.actor_module,
            self.critic_module,
            target_entropy=target_entropy,
            backup_entropy=backup_entropy,
            clip_target=clip_target,
            tau=0.1,
        )

    def step_critic(self):
        return self.update.step_critic(
            self.actor, self.critic, self.target, self.log_alpha, self.critic_moments, LR, self.batch, self.noise
        )

    def step_actor(self):
        return self.update.step_actor_and_alpha(
            self.actor,
            self.average,
            self.critic,
            self.log_alpha,
            self.actor_moments,
            self.alpha_moments,
            LR,
            AVERAGE_SHARE,
            self.batch,
            self.noise,
        )

    def everything(self):
        trees = {"actor": self.actor, "average": self.average, "critic": self.critic, "target": self.target}
        moments = {f"{name}_moments": getattr(self, f"{name}_moments").exp_avg for name in ("actor", "critic", "alpha")}
        return deepcopy(trees | moments | {"log_alpha": {"": self.log_alpha}})


@pytest.fixture
def make_halves(random_batch):
    """Provides make_halves(**options of Halves): each time the same networks, on the same batch."""
    return partial(Halves, random_batch(1, SIZE))


def moved(halves: Halves, before) -> set[str]:
    after = halves.everything()
    return {name for name, tree in before.items() if any(not torch.equal(v, after[name][k]) for k, v in tree.items())}


def target(halves: Halves) -> float:
    return halves.step_critic()[1]["q/target"].item()


def with_batch(halves: Halves, **columns: float) -> Halves:
    halves.batch = halves.batch._replace(**{name: torch.full((SIZE,), value) for name, value in columns.items()})
    return halves


# What each half moves


def test_the_critics_half_moves_its_targets_and_moments_and_nothing_that_the_actors_half_reads(make_halves):
    halves = make_halves()
    before = halves.everything()
    halves.step_critic()
    assert moved(halves, before) == {"target", "critic_moments"}


def test_the_actors_half_moves_its_average_and_moments_and_nothing_that_the_critics_half_reads(make_halves):
    halves = make_halves()
    before = halves.everything()
    halves.step_actor()
    assert moved(halves, before) == {"average", "actor_moments", "alpha_moments"}


def test_the_halves_come_to_the_same_in_either_order(make_halves):
    first, second = make_halves(), make_halves()
    critic, (actor, log_alpha, _) = first.step_critic()[0], first.step_actor()
    (actor_2, log_alpha_2, _), critic_2 = second.step_actor(), second.step_critic()[0]
    assert torch.equal(log_alpha, log_alpha_2)
    for left, right in ((critic, critic_2), (actor, actor_2)):
        assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_the_critics_step_is_that_of_plain_autograd_and_adam(make_halves):
    halves = make_halves()
    module, batch = deepcopy(halves.critic_module), halves.batch
    with torch.no_grad():
        next_action, log_prob = losses.squash(*halves.actor_module(batch.next_obs), halves.noise)
        next_q = halves.target_module(batch.next_obs, next_action)
    bounds = batch.low, batch.high
    target_q = losses.td_target(batch.reward, batch.terminated, next_q, log_prob, 0.0, batch.discount, bounds)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    losses.critic_loss(module(batch.obs, batch.action), target_q).backward()
    optimizer.step()
    expected_target = {name: 0.9 * halves.target[name] + 0.1 * value for name, value in module.named_parameters()}
    critic, _ = halves.step_critic()
    for name, value in module.named_parameters():
        torch.testing.assert_close(critic[name], value.detach(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(halves.target[name], expected_target[name].detach(), rtol=1e-4, atol=1e-6)


def test_the_actors_step_is_that_of_plain_autograd_and_adam(make_halves):
    halves = make_halves()
    module, batch = deepcopy(halves.actor_module), halves.batch
    log_alpha = halves.log_alpha.clone().requires_grad_()
    optimizer = torch.optim.Adam([*module.parameters(), log_alpha], lr=0.01)
    action, log_prob = losses.squash(*module(batch.obs), halves.noise)
    losses.actor_loss(log_alpha.exp().detach(), log_prob, halves.critic_module(batch.obs, action)).backward()
    losses.temperature_loss(log_alpha, log_prob, -1.5).backward()
    optimizer.step()
    average = {name: 0.8 * halves.average[name] + 0.2 * value for name, value in module.named_parameters()}
    actor, new_log_alpha, _ = halves.step_actor()
    torch.testing.assert_close(new_log_alpha, log_alpha.detach())
    for name, value in module.named_parameters():
        torch.testing.assert_close(actor[name], value.detach(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(halves.average[name], average[name].detach(), rtol=1e-4, atol=1e-6)


def test_the_actors_gradient_is_that_of_its_own_loss_alone(make_halves):
    actor, log_alpha, _ = make_halves(target_entropy=-1.5).step_actor()
    # Changes the sign of the temperature's gradient, and must not change the actor's.
    other, other_log_alpha, _ = make_halves(target_entropy=1000.0).step_actor()
    assert all(torch.equal(value, other[name]) for name, value in actor.items())
    assert log_alpha != other_log_alpha


def test_adam_goes_on_as_pytorchs_own_over_many_steps():
    rng = torch.Generator().manual_seed(0)
    parameters = {"a": torch.randn(4, 3, generator=rng), "b": torch.randn(5, generator=rng)}
    theirs = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    optimizer, moments = torch.optim.Adam(theirs.values(), lr=0.1), Moments.of(parameters)
    for step in range(1, 6):
        gradients = {name: torch.randn(value.shape, generator=rng) for name, value in parameters.items()}
        parameters = adam_step(parameters, gradients, moments, torch.tensor(0.1))
        for name, value in theirs.items():
            value.grad = gradients[name]
        optimizer.step()
        assert [count.item() for count in moments.step.values()] == [step, step]
        for name, value in parameters.items():
            torch.testing.assert_close(value, theirs[name].detach())


# What the critics regress on


def test_the_target_of_a_termination_is_its_reward(make_halves):
    assert target(with_batch(make_halves(), reward=-0.25, terminated=1.0)) == pytest.approx(-0.25)
    assert target(with_batch(make_halves(), reward=-0.25, terminated=0.0)) != pytest.approx(-0.25)


def test_targets_come_from_the_target_critics(make_halves):
    halves = with_batch(make_halves(clip_target=False), reward=-1.0, terminated=0.0)
    halves.target["net.6.weight"].zero_()
    halves.target["net.6.bias"].fill_(1000.0)
    assert target(halves) == pytest.approx(-1 + 1000 * halves.batch.discount.mean().item())


def test_each_target_is_clipped_to_the_bounds_of_its_own_state(make_halves):
    assert target(with_batch(make_halves(), reward=-1000.0, terminated=0.0)) == -50.0
    halves = with_batch(make_halves(), reward=-1000.0, terminated=0.0)
    halves.batch.low[: SIZE // 2] = -10.0
    assert target(halves) == -30.0
    assert target(with_batch(make_halves(), reward=-1000.0, terminated=0.0, low=-float("inf"))) < -900
    assert target(with_batch(make_halves(clip_target=False), reward=-1000.0, terminated=0.0)) < -900


def test_entropy_enters_the_targets_by_the_temperature_only_where_asked(make_halves):
    def at(backup_entropy, log_alpha):
        halves = make_halves(clip_target=False, backup_entropy=backup_entropy, log_alpha=log_alpha)
        return target(with_batch(halves, reward=0.0, terminated=0.0))

    assert at(False, -2.0) == at(False, 2.0)
    assert abs(at(True, -2.0) - at(True, 2.0)) > 1
