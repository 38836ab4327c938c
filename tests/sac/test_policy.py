"""The actor in NumPy acts as the agent does."""

import numpy as np
import pytest
import torch

from sac import SAC, Policy, SACConfig
from sac.normalizer import CLIP

OBS, GOAL = 5, 2
INPUTS = OBS + 3 * GOAL


@pytest.fixture
def trained():
    agent = SAC(INPUTS, 3, SACConfig(hidden=(16, 16)), torch.device("cpu"), seed=0)
    agent.see(np.random.default_rng(0).normal(3, 2, (50, INPUTS)))
    return agent


def test_it_acts_as_the_agent_is_evaluated(trained):
    inputs = np.random.default_rng(1).normal(3, 8, (100, INPUTS)).astype(np.float32)
    assert (np.abs(inputs - 3) > 2 * CLIP).any()
    np.testing.assert_allclose(Policy.of(trained.state_dict())(inputs), trained.act_deterministic(inputs), atol=1e-6)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_it_takes_what_an_environment_shows(trained, batch):
    policy = Policy.of(trained.state_dict())
    rng = np.random.default_rng(1)
    obs = {"observation": rng.random((*batch, OBS)), "achieved_goal": rng.random((*batch, GOAL))}
    obs["desired_goal"] = rng.random((*batch, GOAL))
    inputs = np.concatenate([*obs.values(), obs["desired_goal"] - obs["achieved_goal"]], axis=-1, dtype=np.float32)
    action = policy.act(obs)
    assert action.shape == (*batch, policy.action_dim)
    np.testing.assert_allclose(action, policy(inputs), atol=1e-6)


def test_what_it_was_not_trained_with_is_a_sentence(trained):
    obs = {"observation": np.zeros(OBS + 1), "achieved_goal": np.zeros(GOAL), "desired_goal": np.zeros(GOAL)}
    with pytest.raises(ValueError, match=r"have 6 and 2 numbers, so O \+ 3 G is 12; the policy was trained with 11"):
        Policy.of(trained.state_dict()).act(obs)
