"""Points drawn around the pan axis."""

import numpy as np
import pytest

from env.so101.workspace import PAN_AXIS, Sector

SECTOR = Sector(radius=(0.1, 0.3), angle=0.8, height=(0.05, 0.25))


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    return np.array([SECTOR.draw(rng) for _ in range(4000)])


def test_points_are_uniform_over_the_sectors_area_and_over_height(points):
    away = points[:, :2] - PAN_AXIS
    radius, angle = np.hypot(*away.T), np.arctan2(away[:, 1], away[:, 0])
    # Each of these grows in proportion to the volume, so all their deciles must hold equally many points.
    for values, low, high in ((radius**2, 0.01, 0.09), (angle, -0.8, 0.8), (points[:, 2], 0.05, 0.25)):
        counts, _ = np.histogram(values, bins=10, range=(low, high))
        assert counts.sum() == 4000
        np.testing.assert_allclose(counts, 400, atol=90)


def test_radius_angle_and_height_are_drawn_independently(points):
    away = points[:, :2] - PAN_AXIS
    columns = [np.hypot(*away.T), np.arctan2(away[:, 1], away[:, 0]), points[:, 2]]
    np.testing.assert_allclose(np.corrcoef(columns), np.eye(3), atol=0.06)


def test_a_point_in_the_sector_stays_where_it_is(points):
    for point in points[:100]:
        np.testing.assert_allclose(SECTOR.confine(point), point, atol=1e-12)


def at(radius, angle, height):
    return np.array([*(PAN_AXIS + radius * np.array([np.cos(angle), np.sin(angle)])), height])


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        (at(0.9, 0.3, 0.1), at(0.3, 0.3, 0.1)),
        (at(0.02, -0.3, 0.1), at(0.1, -0.3, 0.1)),
        (at(0.2, 1.5, 0.1), at(0.2, 0.8, 0.1)),
        (at(0.2, -3.0, 0.1), at(0.2, -0.8, 0.1)),
        (at(0.2, 0.3, -1.0), at(0.2, 0.3, 0.05)),
        (at(9.0, 2.0, 9.0), at(0.3, 0.8, 0.25)),
        (at(0.0, 0.0, 0.1), at(0.1, 0.0, 0.1)),
    ],
    ids=["too far", "too near", "too far left", "behind on the right", "too low", "in every way", "on the axis"],
)
def test_a_point_outside_is_brought_to_the_sectors_edge(outside, inside):
    np.testing.assert_allclose(SECTOR.confine(outside), inside, atol=1e-12)


def test_the_pan_axis_is_the_models(simulation):
    joint = simulation.data.joint("shoulder_pan")
    np.testing.assert_allclose(joint.xanchor[:2], PAN_AXIS, atol=1e-4)
    np.testing.assert_allclose(np.abs(joint.xaxis), [0, 0, 1], atol=1e-9)
