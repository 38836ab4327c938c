"""An update moves what its losses are meant to move, as plain autograd and PyTorch's Adam would."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from sac import losses
from sac.networks import Actor, Critics
from sac.update import Learnt, Moments, Update, adam_step, flatten, unflatten

OBS, ACTION, SIZE = 5, 3, 32
LR, AVERAGE_SHARE = torch.tensor(0.01), torch.tensor(0.2)


class Step:
    """Holds networks, what is learnt, and a batch, and the update on them."""

    def __init__(self, batch, clip_target=True, backup_entropy=False, target_entropy=-1.5, log_alpha=-2.0):
        init = torch.Generator().manual_seed(0)
        self.actor = Actor(OBS, ACTION, (16, 16), init)
        self.critic = Critics(OBS, ACTION, (16, 16), True, init)
        self.target = Critics(OBS, ACTION, (16, 16), True, init)
        actor, critic, target = (
            parameters_to_vector(module.parameters()).detach() for module in (self.actor, self.critic, self.target)
        )
        log_alpha = torch.tensor(log_alpha)
        moments = (Moments.of(each) for each in (actor, critic, log_alpha))
        self.learnt = Learnt(actor, actor.clone(), critic, target, log_alpha, *moments)
        self.noise = torch.randn(2, SIZE, ACTION, generator=init)
        self.batch = batch
        self.update = Update(
            self.actor,
            self.critic,
            target_entropy=target_entropy,
            backup_entropy=backup_entropy,
            clip_target=clip_target,
            tau=0.1,
        )

    def whole(self):
        return self.update.step(self.learnt, torch.stack([LR, AVERAGE_SHARE]), self.noise, self.batch)

    def critics(self):
        return self.update.step_critic(self.learnt, LR, self.noise[0], self.batch)

    def actors(self):
        return self.update.step_actor_and_alpha(self.learnt, LR, AVERAGE_SHARE, self.noise[1], self.batch)


@pytest.fixture
def make_step(random_batch):
    """Provides make_step(**options of Step): each time the same networks, on the same batch."""
    return partial(Step, random_batch(1, SIZE))


def moved(step: Step, before: Learnt) -> set[str]:
    def differs(old, new):
        return any(map(differs, old, new)) if isinstance(old, tuple) else not torch.equal(old, new)

    return {name for name, old in before._asdict().items() if differs(old, getattr(step.learnt, name))}


def target(step: Step) -> float:
    return step.critics()["q/target"].item()


def with_batch(step: Step, **columns: float) -> Step:
    step.batch = step.batch._replace(**{name: torch.full((SIZE,), value) for name, value in columns.items()})
    return step


# What each half moves


def test_the_critics_half_moves_critics_and_targets_and_nothing_of_the_actors(make_step):
    step = make_step()
    before = deepcopy(step.learnt)
    step.critics()
    assert moved(step, before) == {"critic", "critic_target", "critic_moments"}


def test_the_actors_half_moves_actor_average_and_temperature_and_nothing_of_the_critics(make_step):
    step = make_step()
    before = deepcopy(step.learnt)
    step.actors()
    assert moved(step, before) == {"actor", "actor_average", "log_alpha", "actor_moments", "alpha_moments"}


def test_an_update_is_the_critics_half_and_then_the_actors(make_step):
    whole, halves, other_way = make_step(), make_step(), make_step()
    metrics = whole.whole()
    assert metrics == halves.critics() | halves.actors()
    assert moved(whole, halves.learnt) == set()
    other_way.actors()
    other_way.critics()
    assert "actor" in moved(whole, other_way.learnt)  # which climbs the critics as they are after their step


def test_what_is_flat_is_shown_by_name_in_the_same_memory(make_step):
    step = make_step()
    by_name = unflatten(step.learnt.critic, step.critic)
    for name, value in step.critic.named_parameters():
        assert torch.equal(by_name[name], value)
    by_name["net.0.bias"].fill_(7.0)
    assert (step.learnt.critic == 7.0).sum() == by_name["net.0.bias"].numel()
    assert torch.equal(flatten(by_name), step.learnt.critic)


def test_the_critics_step_is_that_of_plain_autograd_and_adam(make_step):
    step = make_step()
    module, batch = deepcopy(step.critic), step.batch
    with torch.no_grad():
        next_action, log_prob = losses.squash(*step.actor(batch.next_obs), step.noise[0])
        next_q = step.target(batch.next_obs, next_action)
    bounds = batch.low, batch.high
    target_q = losses.td_target(batch.reward, batch.terminated, next_q, log_prob, 0.0, batch.discount, bounds)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    losses.critic_loss(module(batch.obs, batch.action), target_q).backward()
    optimizer.step()
    after = parameters_to_vector(module.parameters()).detach()
    followed = 0.9 * step.learnt.critic_target + 0.1 * after
    step.critics()
    torch.testing.assert_close(step.learnt.critic, after, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(step.learnt.critic_target, followed, rtol=1e-4, atol=1e-6)


def test_the_actors_step_is_that_of_plain_autograd_and_adam(make_step):
    step = make_step()
    module, batch = deepcopy(step.actor), step.batch
    log_alpha = step.learnt.log_alpha.clone().requires_grad_()
    optimizer = torch.optim.Adam([*module.parameters(), log_alpha], lr=0.01)
    action, log_prob = losses.squash(*module(batch.obs), step.noise[1])
    losses.actor_loss(log_alpha.exp().detach(), log_prob, step.critic(batch.obs, action)).backward()
    losses.temperature_loss(log_alpha, log_prob, -1.5).backward()
    optimizer.step()
    after = parameters_to_vector(module.parameters()).detach()
    followed = 0.8 * step.learnt.actor_average + 0.2 * after
    step.actors()
    torch.testing.assert_close(step.learnt.log_alpha, log_alpha.detach())
    torch.testing.assert_close(step.learnt.actor, after, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(step.learnt.actor_average, followed, rtol=1e-4, atol=1e-6)


def test_the_actors_gradient_is_that_of_its_own_loss_alone(make_step):
    # Another target changes the sign of the temperature's gradient, and must not change the actor's.
    step, other = make_step(target_entropy=-1.5), make_step(target_entropy=1000.0)
    step.actors()
    other.actors()
    assert torch.equal(step.learnt.actor, other.learnt.actor)
    assert step.learnt.log_alpha != other.learnt.log_alpha


def test_adam_goes_on_as_pytorchs_own_over_many_steps():
    rng = torch.Generator().manual_seed(0)
    parameters = torch.randn(17, generator=rng)
    theirs = parameters.clone().requires_grad_()
    optimizer, moments = torch.optim.Adam([theirs], lr=0.1), Moments.of(parameters)
    for step in range(1, 6):
        theirs.grad = torch.randn(17, generator=rng)
        adam_step(parameters, theirs.grad, moments, torch.tensor(0.1))
        optimizer.step()
        assert moments.step == step
        torch.testing.assert_close(parameters, theirs.detach())


# What the critics regress on


def test_the_target_of_a_termination_is_its_reward(make_step):
    assert target(with_batch(make_step(), reward=-0.25, terminated=1.0)) == pytest.approx(-0.25)
    assert target(with_batch(make_step(), reward=-0.25, terminated=0.0)) != pytest.approx(-0.25)


def test_targets_come_from_the_target_critics(make_step):
    step = with_batch(make_step(clip_target=False), reward=-1.0, terminated=0.0)
    last = unflatten(step.learnt.critic_target, step.critic)
    last["net.6.weight"].zero_()
    last["net.6.bias"].fill_(1000.0)
    assert target(step) == pytest.approx(-1 + 1000 * step.batch.discount.mean().item())


def test_each_target_is_clipped_to_the_bounds_of_its_own_state(make_step):
    assert target(with_batch(make_step(), reward=-1000.0, terminated=0.0)) == -50.0
    step = with_batch(make_step(), reward=-1000.0, terminated=0.0)
    step.batch.low[: SIZE // 2] = -10.0
    assert target(step) == -30.0
    assert target(with_batch(make_step(), reward=-1000.0, terminated=0.0, low=-float("inf"))) < -900
    assert target(with_batch(make_step(clip_target=False), reward=-1000.0, terminated=0.0)) < -900


def test_entropy_enters_the_targets_by_the_temperature_only_where_asked(make_step):
    def at(backup_entropy, log_alpha):
        step = make_step(clip_target=False, backup_entropy=backup_entropy, log_alpha=log_alpha)
        return target(with_batch(step, reward=0.0, terminated=0.0))

    assert at(False, -2.0) == at(False, 2.0)
    assert abs(at(True, -2.0) - at(True, 2.0)) > 1
