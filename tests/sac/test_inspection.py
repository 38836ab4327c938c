"""A look inside the agent finds what plain recomputations find, and the agent does not notice."""

import numpy as np
import pytest
import torch

from sac import SAC, SACConfig, inspect, losses
from sac.inspection import quantile
from sac.update import BETA1, BETA2, EPS, Moments, last_adam_step

OBS, ACTION, SIZE = 5, 3, 64


def agent(**options) -> SAC:
    config = SACConfig(hidden=(16, 16), **options)
    return SAC(OBS, ACTION, config, torch.device("cpu"), 0)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    return [np.asarray(tree)]


@pytest.fixture
def updated(random_batch):
    """Provides updated(learner, count=5): the learner, after an update with each of as many batches."""

    def updated(learner: SAC, count: int = 5) -> SAC:
        for seed in range(count):
            learner.update(random_batch(seed, SIZE))
        return learner

    return updated


@pytest.mark.parametrize("updates", [0, 5])
def test_looking_changes_nothing(updated, random_batch, updates):
    learner = updated(agent(), updates)
    before = leaves(learner.state_dict())
    inspect(learner, random_batch(9, SIZE), generator())
    for old, new in zip(before, leaves(learner.state_dict()), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("backup_entropy", [False, True])
def test_td_errors_and_gradients_are_those_of_the_losses(updated, random_batch, backup_entropy):
    learner, data = updated(agent(backup_entropy=backup_entropy)), random_batch(9, SIZE)
    found = inspect(learner, data, generator())
    noise = generator()
    first, second = (torch.randn(SIZE, ACTION, generator=noise) for _ in range(2))
    next_action, next_log_prob = losses.squash(*learner.actor(data.next_obs), first)
    alpha = learner.alpha if backup_entropy else 0.0
    next_q = learner.critic_target(data.next_obs, next_action)
    bounds = None if backup_entropy else (data.low, data.high)
    target = losses.td_target(
        data.reward, data.terminated, next_q, next_log_prob, alpha, data.discount, bounds
    ).detach()
    q = learner.critic(data.obs, data.action)
    np.testing.assert_allclose(found.histograms["q/values"], q.detach().flatten(), rtol=1e-6)
    np.testing.assert_allclose(found.histograms["q/td_errors"], (q - target).detach().flatten(), rtol=1e-4, atol=1e-5)
    assert found.curves["q/twin_gap"] == pytest.approx((q[0] - q[1]).abs().mean().item())
    assert found.curves["q/value_p95"] == pytest.approx(np.quantile(q.detach().numpy(), 0.95), rel=1e-5)

    known = {name: value for name, value in found.curves.items() if name.endswith("possible")}
    assert known == ({} if backup_entropy else {"q/lowest_possible": -50.0, "q/highest_possible": 0.0})

    losses.critic_loss(q, target).backward()
    expected = torch.cat([p.grad.flatten() for p in learner.critic.parameters()]).norm()
    assert found.curves["grad/critic"] == pytest.approx(expected.item(), rel=1e-4)
    learner.critic.zero_grad()
    action, log_prob = losses.squash(*learner.actor(data.obs), second)
    losses.actor_loss(learner.alpha, log_prob, learner.critic(data.obs, action)).backward()
    expected = torch.cat([p.grad.flatten() for p in learner.actor.parameters()]).norm()
    assert found.curves["grad/actor"] == pytest.approx(expected.item(), rel=1e-4)


def test_the_policys_numbers_are_means_over_the_batch(updated, random_batch):
    learner, data = updated(agent()), random_batch(9, SIZE)
    curves = inspect(learner, data, generator()).curves
    with torch.no_grad():
        mean, log_std = learner.actor(data.obs)
    limited = torch.tanh(mean)
    assert curves["policy/mean_abs"] == pytest.approx(limited.abs().mean().item(), rel=1e-5)
    assert curves["policy/std"] == pytest.approx(log_std.exp().mean().item(), rel=1e-5)
    assert curves["policy/spread_over_states"] == pytest.approx(limited.std(0, correction=0).mean().item(), rel=1e-5)
    assert curves["policy/saturated_share"] == 0
    assert curves["policy/target_entropy"] == -ACTION / 2
    assert curves["policy/observation_p99"] == pytest.approx(np.quantile(data.obs.abs().numpy(), 0.99), rel=1e-5)


def test_a_saturated_and_a_dead_policy_show(random_batch):
    learner, data = agent(), random_batch(9, SIZE)
    with torch.no_grad():
        learner.actor.net[-1].bias.fill_(50.0)
        learner.actor.net[0].bias[:, :, :12].fill_(-1e4)
    curves = inspect(learner, data, generator()).curves
    assert curves["policy/saturated_share"] == 1
    assert curves["policy/spread_over_states"] == 0
    assert 12 / 16 <= curves["policy/dead_units"] < 1


def test_a_step_is_what_an_update_changed(updated, random_batch):
    learner = updated(agent())
    before = torch.cat([p.detach().flatten().clone() for p in learner.actor.parameters()])
    learner.update(random_batch(7, SIZE))
    after = torch.cat([p.detach().flatten() for p in learner.actor.parameters()])
    curves = inspect(learner, random_batch(9, SIZE), generator()).curves
    assert curves["step/actor"] == pytest.approx(((after - before).norm() / after.norm()).item(), rel=1e-3)
    assert curves["weight/actor"] == pytest.approx(after.norm().item(), rel=1e-5)


def test_adams_step_by_the_papers_formula_and_none_before_the_first():
    moments = Moments.of(torch.zeros(2))
    assert torch.equal(last_adam_step(moments, 0.1), torch.zeros(2))
    moments.step.add_(3)
    moments.exp_avg.add_(torch.tensor([0.5, -2.0]))
    moments.exp_avg_sq.add_(torch.tensor([0.04, 1.0]))
    mean, square = np.array([0.5, -2.0]) / (1 - BETA1**3), np.array([0.04, 1.0]) / (1 - BETA2**3)
    np.testing.assert_allclose(last_adam_step(moments, 0.1), 0.1 * mean / (np.sqrt(square) + EPS), rtol=1e-5)


def test_a_quantile_is_that_of_as_many_numbers_as_pytorch_takes():
    values = torch.arange(2**24 + 10, dtype=torch.float32)
    values[-10:] = 1e9
    assert quantile(values, torch.tensor([0.5, 1.0])).tolist() == [(2**24 - 1) / 2, 2**24 - 1]
