"""Inputs come to a size about 1 by the statistics of all that was seen, whatever the batches."""

import numpy as np
import pytest
import torch

from sac.normalizer import CLIP, Normalizer

CPU = torch.device("cpu")


def normalizer_of(*batches: np.ndarray) -> Normalizer:
    normalizer = Normalizer(batches[0].shape[1], CPU)
    for batch in batches:
        normalizer.add(batch)
    return normalizer


def inputs(count: int = 500) -> np.ndarray:
    """Numbers of very different sizes, some far from 0."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, 4)) * [1, 1e3, 1e-3, 1] + [0, 5e3, 0, 100]).astype(np.float32)


@pytest.mark.parametrize("sizes", [[500], [1] * 500, [3, 400, 1, 96]])
def test_mean_and_deviation_are_numpys_however_the_inputs_are_split(sizes):
    seen = inputs()
    normalizer = normalizer_of(*np.split(seen, np.cumsum(sizes)[:-1]))
    wide = seen.astype(np.float64)
    np.testing.assert_allclose(normalizer.mean, wide.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(normalizer.squares / normalizer.count, wide.var(0), rtol=1e-9)
    expected = ((wide - wide.mean(0)) / wide.std(0)).clip(-CLIP, CLIP)
    np.testing.assert_allclose(normalizer(torch.from_numpy(seen)), expected, atol=2e-4)


def test_a_restored_normalizer_goes_on_with_the_same_bits():
    first, second = np.split(inputs(), 2)
    original, restored = normalizer_of(first), Normalizer(4, CPU)
    state = original.state_dict()
    restored.load_state_dict(state)
    for each in (original, restored):
        each.add(second)
    assert torch.equal(original(torch.from_numpy(second)), restored(torch.from_numpy(second)))
    assert original.count == restored.count == 500
    for name in ("mean", "squares"):
        np.testing.assert_array_equal(getattr(original, name), getattr(restored, name))
        assert (state[name] != getattr(original, name)).all()  # a snapshot


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_an_input_that_never_changes_is_0_but_for_rounding_and_one_that_jumps_is_clipped(value):
    seen = np.full((1000, 1), value, np.float32)
    normalizer = normalizer_of(*np.split(seen, 10))
    assert normalizer(torch.from_numpy(seen)).abs().max() < 0.1
    assert normalizer(torch.tensor([[value + 1e3], [value - 1e3]])).tolist() == [[CLIP], [-CLIP]]


def test_before_anything_was_seen_inputs_are_only_clipped():
    assert Normalizer(3, CPU)(torch.tensor([0.5, -9.0, 9.0])).tolist() == [0.5, -CLIP, CLIP]
