"""Provides transitions for the agent to learn from."""

import pytest
import torch

from sac import Batch

OBS, ACTION = 5, 3


@pytest.fixture(scope="session")
def random_batch():
    """Provides random_batch(seed=0, *shape): transitions of that shape, (32,) where none is given.

    Observations have 5 numbers, actions 3, a fifth of the transitions is terminated, and returns lie in [-50, 0].
    """

    def random_batch(seed: int = 0, *shape: int) -> Batch:
        shape = shape or (32,)
        rng = torch.Generator().manual_seed(seed)
        return Batch(
            obs=torch.randn(*shape, OBS, generator=rng),
            action=torch.rand(*shape, ACTION, generator=rng) * 2 - 1,
            reward=-torch.rand(*shape, generator=rng),
            next_obs=torch.randn(*shape, OBS, generator=rng),
            terminated=(torch.rand(*shape, generator=rng) < 0.2).float(),
            discount=0.98 ** torch.randint(1, 5, shape, generator=rng),
            low=torch.full(shape, -50.0),
            high=torch.zeros(shape),
        )

    return random_batch
