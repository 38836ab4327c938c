"""The stacked networks are nothing but separate ones, evaluated together."""

import pytest
import torch
from torch import nn

from sac.networks import LOG_STD_MAX, LOG_STD_MIN, Actor, Critics, StackedLayerNorm, StackedLinear


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomised(module: nn.Module, seed: int = 1) -> nn.Module:
    """Returns the module with every parameter drawn anew, also those that start at 0 or 1."""
    rng = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=rng)
    return module


def separate(critics: Critics, index: int) -> nn.Sequential:
    """Returns one of the stacked critics, rebuilt from PyTorch's own layers with the same weights."""
    layers = []
    for layer in critics.net:
        if isinstance(layer, StackedLinear):
            weight = layer.weight[index].T
            copy = nn.Linear(weight.shape[1], weight.shape[0])
            copy.load_state_dict({"weight": weight, "bias": layer.bias[index, 0]})
        elif isinstance(layer, StackedLayerNorm):
            copy = nn.LayerNorm(layer.weight.shape[-1])
            copy.load_state_dict({"weight": layer.weight[index, 0], "bias": layer.bias[index, 0]})
        else:
            copy = nn.ReLU()
        layers.append(copy)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_stacked_critics_equal_separate_networks_with_the_same_weights(layer_norm):
    critics = randomised(Critics(5, 2, (16, 8), layer_norm, generator(), stack=3))
    assert any(isinstance(layer, StackedLayerNorm) for layer in critics.net) == layer_norm
    obs, action = torch.randn(7, 5, generator=generator(2)), torch.rand(7, 2, generator=generator(3))
    together = critics(obs, action)
    assert together.shape == (3, 7)
    for index in range(3):
        alone = separate(critics, index)(torch.cat([obs, action], -1)).squeeze(-1)
        torch.testing.assert_close(together[index], alone, rtol=1e-4, atol=1e-4)


def test_a_critic_of_the_stack_depends_on_its_own_weights_alone():
    critics = Critics(5, 2, (16, 16), True, generator())
    q = critics(torch.randn(7, 5, generator=generator(1)), torch.zeros(7, 2))
    q[0].sum().backward()
    for name, parameter in critics.named_parameters():
        assert (parameter.grad[0] != 0).any(), name
        assert (parameter.grad[1] == 0).all(), name


def test_twins_start_apart():
    weights = Critics(5, 2, (16,), True, generator()).net[0].weight
    assert not torch.isclose(weights[0], weights[1]).any()


def test_first_weights_fill_the_range_that_pytorch_gives_a_linear_layer():
    layer = StackedLinear(2, 64, 512, generator())
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= 64**-0.5
        assert parameter.abs().max() > 0.99 * 64**-0.5
        assert abs(parameter.mean()) < 0.1 * 64**-0.5


@pytest.mark.parametrize("build", [lambda g: Actor(5, 2, (8,), g), lambda g: Critics(5, 2, (8,), True, g)])
def test_first_weights_follow_from_the_generator_alone(build):
    first, again, other = (nn.utils.parameters_to_vector(build(generator(s)).parameters()) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_log_std_stays_in_its_range_however_far_the_network_goes():
    actor = randomised(Actor(3, 2, (8,), generator()))
    mean, log_std = actor(1e4 * torch.randn(100, 3, generator=generator(1)))
    assert mean.shape == log_std.shape == (100, 2)
    assert log_std.min() >= LOG_STD_MIN
    assert log_std.max() <= LOG_STD_MAX
    assert log_std.min() < LOG_STD_MIN + 0.1  # both ends are reached
    assert log_std.max() > LOG_STD_MAX - 0.1


def test_mean_is_not_bounded():
    actor = randomised(Actor(3, 2, (8,), generator()))
    assert actor(1e4 * torch.randn(100, 3, generator=generator(1)))[0].abs().max() > 100
