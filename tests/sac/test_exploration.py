"""Random actions are uniform, held as long as asked, and continue where they stood."""

import numpy as np
import pytest

from sac import HeldRandomActions


def draw(explorer: HeldRandomActions, steps: int) -> np.ndarray:
    return np.stack([explorer().copy() for _ in range(steps)])


def test_actions_fill_the_whole_range():
    actions = draw(HeldRandomActions(4, 3, hold=1, rng=np.random.default_rng(0)), 2000)
    assert actions.shape == (2000, 4, 3)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    shares, _ = np.histogram(actions, bins=10, range=(-1, 1))
    np.testing.assert_allclose(shares / actions.size, 0.1, atol=0.01)


@pytest.mark.parametrize("hold", [1, 5, 20])
def test_actions_are_held_as_long_as_asked_on_average(hold):
    actions = draw(HeldRandomActions(8, 2, hold, np.random.default_rng(0)), 5000)
    redrawn = (np.diff(actions, axis=0) != 0).all(-1).mean()
    assert redrawn == pytest.approx(1 / hold, rel=0.1)


def test_environments_redraw_at_different_steps_and_all_dimensions_together():
    actions = draw(HeldRandomActions(2, 3, 4, np.random.default_rng(0)), 200)
    changed = np.diff(actions, axis=0) != 0
    assert (changed.all(-1) == changed.any(-1)).all()
    assert (changed[:, 0, 0] != changed[:, 1, 0]).any()


def test_restored_actions_go_on_bit_by_bit():
    original = HeldRandomActions(3, 2, 6, np.random.default_rng(0))
    draw(original, 10)
    state = original.state_dict()
    restored = HeldRandomActions(3, 2, 6, np.random.default_rng(1))
    restored.load_state_dict(state)
    np.testing.assert_array_equal(draw(original, 50), draw(restored, 50))
