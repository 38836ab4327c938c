"""Every equation of SAC gives numbers known from elsewhere: integration, finite differences, or a pencil."""

import math

import pytest
import torch

from sac import losses


def policy_log_prob(mean: float, log_std: float, action: torch.Tensor) -> torch.Tensor:
    """Returns log pi of one-dimensional actions (N,), through the noise that leads to each of them."""
    noise = (torch.atanh(action) - mean) / math.exp(log_std)
    column = torch.full((len(action), 1), 1.0, dtype=torch.float64)
    return losses.squash(column * mean, column * log_std, noise[:, None])[1]


GAUSSIANS = [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.5), (0.3, 1.0)]


@pytest.mark.parametrize(("mean", "log_std"), GAUSSIANS)
def test_log_prob_is_the_slope_of_the_cumulative_distribution(mean, log_std):
    action = torch.linspace(-0.99, 0.99, 101, dtype=torch.float64)

    def cumulative(a):
        return torch.special.ndtr((torch.atanh(a) - mean) / math.exp(log_std))

    h = 1e-6
    density = (cumulative(action + h) - cumulative(action - h)) / (2 * h)
    torch.testing.assert_close(policy_log_prob(mean, log_std, action).exp(), density, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("mean", "log_std"), GAUSSIANS)
def test_action_density_integrates_to_one(mean, log_std):
    edges = torch.tanh(torch.linspace(-15, 15, 20_001, dtype=torch.float64))  # fine where the density peaks
    middles, widths = (edges[1:] + edges[:-1]) / 2, edges.diff()
    total = (policy_log_prob(mean, log_std, middles).exp() * widths).sum()
    assert total.item() == pytest.approx(1, abs=1e-4)


def test_log_prob_sums_over_action_dimensions():
    mean, log_std, noise = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, together = losses.squash(mean, log_std, noise)
    apart = [losses.squash(mean[:, [i]], log_std[:, [i]], noise[:, [i]])[1] for i in range(4)]
    torch.testing.assert_close(together, torch.stack(apart).sum(0))


def test_action_is_tanh_of_the_gaussian():
    action, _ = losses.squash(torch.tensor([[0.5, -0.5]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 2.0]]))
    expected = [math.tanh(0.5 + 1.0), math.tanh(-0.5 + math.e * 2.0)]
    assert action[0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("u", [-20.0, 20.0])
def test_log_prob_stays_finite_and_right_far_in_the_tails(u):
    mean = torch.tensor([[u]], requires_grad=True)
    _, log_prob = losses.squash(mean, torch.zeros(1, 1), torch.zeros(1, 1))
    # log(1 - tanh(u)^2) -> log 4 - 2|u|, where 1 - tanh(u)^2 itself is 0 in float32.
    exact = -0.5 * math.log(2 * math.pi) - (math.log(4) - 2 * abs(u))
    assert log_prob.item() == pytest.approx(exact, rel=1e-6)
    log_prob.sum().backward()
    assert mean.grad.item() == pytest.approx(2 * math.copysign(1, u), rel=1e-5)


def td(reward, terminated, next_q, next_log_prob, alpha, gamma, bounds=None):
    columns = [torch.tensor([value]) for value in (reward, terminated)]
    q = torch.tensor([[value] for value in next_q])
    return losses.td_target(*columns, q, torch.tensor([next_log_prob]), alpha, torch.tensor([gamma]), bounds).item()


TARGETS = {
    "bootstraps from the lower twin": ((-1.0, 0.0, (-3.0, -5.0), 0.0, 0.0, 0.9), -1 + 0.9 * -5),
    "whichever twin that is": ((-1.0, 0.0, (-5.0, -3.0), 0.0, 0.0, 0.9), -1 + 0.9 * -5),
    "ends at a termination": ((-1.0, 1.0, (-3.0, -5.0), 7.0, 0.5, 0.9), -1.0),
    "adds the next action's entropy": ((0.0, 0.0, (2.0, 4.0), -3.0, 0.5, 0.9), 0.9 * (2 + 0.5 * 3)),
    "clips below": ((-1.0, 0.0, (-80.0, -70.0), 0.0, 0.0, 0.98, (-50.0, 0.0)), -50.0),
    "clips above": ((0.0, 0.0, (3.0, 4.0), 0.0, 0.0, 0.98, (-50.0, 0.0)), 0.0),
    "leaves what lies between": ((-1.0, 0.0, (-30.0, -20.0), 0.0, 0.0, 0.5, (-50.0, 0.0)), -16.0),
}


@pytest.mark.parametrize(("arguments", "expected"), TARGETS.values(), ids=TARGETS)
def test_td_target(arguments, expected):
    assert td(*arguments) == pytest.approx(expected, rel=1e-6)


def test_td_target_takes_minimum_and_discount_of_each_transition():
    next_q = torch.tensor([[1.0, 9.0], [5.0, 2.0]])
    target = losses.td_target(torch.zeros(2), torch.zeros(2), next_q, torch.zeros(2), 0.0, torch.tensor([1.0, 0.5]))
    assert target.tolist() == [1.0, 1.0]


def test_critic_loss_is_the_sum_of_two_mean_squared_errors():
    q, target = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([2.0, 4.0])
    assert losses.critic_loss(q, target).item() == pytest.approx((1 + 4) / 2 + (1 + 1) / 2)


def test_critic_loss_sends_no_gradient_into_its_target():
    q, target = torch.ones(2, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    losses.critic_loss(q, target).backward()
    assert target.grad is None
    assert (q.grad != 0).all()


def test_actor_loss_by_hand():
    q = torch.tensor([[1.0, 4.0], [2.0, 3.0]])
    loss = losses.actor_loss(torch.tensor(0.5), torch.tensor([2.0, -2.0]), q)
    assert loss.item() == pytest.approx(((0.5 * 2 - 1) + (0.5 * -2 - 3)) / 2)


@pytest.mark.parametrize(("log_prob", "direction"), [(3.0, -1), (-9.0, 1)])
def test_temperature_rises_where_entropy_is_short_and_falls_where_it_is_ample(log_prob, direction):
    log_alpha = torch.tensor(-1.0, requires_grad=True)
    log_probs = torch.full((4,), log_prob, requires_grad=True)
    loss = losses.temperature_loss(log_alpha, log_probs, target_entropy=3.0)
    assert loss.item() == pytest.approx(-math.exp(-1) * (log_prob + 3.0), rel=1e-6)
    loss.backward()
    assert math.copysign(1, log_alpha.grad.item()) == direction
    assert log_probs.grad is None  # or the policy would be paid for changing its own temperature


def test_polyak_update_by_hand():
    target, online = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])
    losses.polyak_update(target, online, tau=0.25)
    assert target.tolist() == [1.25, 1.5]
    losses.polyak_update(target, online, tau=torch.tensor(1.0))
    assert target.tolist() == online.tolist() == [2.0, 0.0]
