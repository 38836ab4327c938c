"""How far an achieved goal moved in an episode."""

import numpy as np
import pytest

from her import goal_displacement


def test_a_goal_that_never_moved_has_displacement_zero():
    assert goal_displacement(np.full((5, 3), 0.7, np.float32)) == 0


def test_the_farthest_point_counts_not_the_last_and_not_the_path():
    path = np.array([[1.0, 1.0], [4.0, 5.0], [1.0, 1.0], [2.0, 1.0]])
    assert goal_displacement(path) == pytest.approx(5.0)
