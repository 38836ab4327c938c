"""Draws and confines points that the arm can get to, around its pan axis."""

from typing import NamedTuple

import numpy as np

PAN_AXIS = np.array([0.0388, 0.0])
"""Point (2,) m where the shoulder's vertical axis meets the table."""


class Sector(NamedTuple):
    """Describes an annular sector around the pan axis, and a range of heights."""

    radius: tuple[float, float]
    """Distances from the pan axis, m."""
    angle: float
    """Angle to either side of straight ahead, rad."""
    height: tuple[float, float]
    """Heights above the table, m."""

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draws a point (3,) m, uniform over the sector's area and over its heights."""
        r = np.sqrt(rng.uniform(self.radius[0] ** 2, self.radius[1] ** 2))
        phi = rng.uniform(-self.angle, self.angle)
        return np.array([PAN_AXIS[0] + r * np.cos(phi), PAN_AXIS[1] + r * np.sin(phi), rng.uniform(*self.height)])

    def confine(self, point: np.ndarray) -> np.ndarray:
        """Returns `point` (3,) m with its radius, angle and height each brought into the sector's range."""
        x, y = point[:2] - PAN_AXIS
        r = np.clip(np.hypot(x, y), *self.radius)
        phi = np.clip(np.arctan2(y, x), -self.angle, self.angle)
        return np.array([*(PAN_AXIS + r * np.array([np.cos(phi), np.sin(phi)])), np.clip(point[2], *self.height)])
