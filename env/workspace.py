"""Points that the arm can get to, drawn around its pan axis."""

import numpy as np

PAN_AXIS = np.array([0.0388, 0.0])
"""Where the shoulder's vertical axis meets the table, m."""


def polar_point(
    rng: np.random.Generator, radius: tuple[float, float], angle: float, height: tuple[float, float]
) -> np.ndarray:
    """A point (3,) m: uniform over an annular sector's area (radius from the pan axis, ± angle rad) and over height."""
    r = np.sqrt(rng.uniform(radius[0] ** 2, radius[1] ** 2))
    phi = rng.uniform(-angle, angle)
    return np.array([PAN_AXIS[0] + r * np.cos(phi), PAN_AXIS[1] + r * np.sin(phi), rng.uniform(*height)])
