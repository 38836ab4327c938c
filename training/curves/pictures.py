"""Draws pictures for TensorBoard: the goals there are, and a policy at work."""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

ACHIEVED, DESIRED = np.array([240, 138, 36]), np.array([64, 132, 214])
"""Orange and blue."""
BINS, PIXELS = 64, 6
"""Bins along each side of the picture, and pixels along each side of a bin."""
CAPTION = 14
"""Pixels."""


def goal_coverage(achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
    """Draws where achieved goals (M, G) were, in orange, and where desired ones (N, G) lie, in blue; darker is more.

    Returns (H, W, 3) uint8: the goals' first two coordinates, the first to the right and the second upwards. It shows
    all desired goals and the middle 98 % of the achieved ones. What it spans stands above. Goals with one coordinate
    are a row.
    """
    points = [goals[:, :2] if goals.shape[1] > 1 else np.pad(goals, ((0, 0), (0, 1))) for goals in (achieved, desired)]
    span = np.concatenate([np.quantile(points[0], [0.01, 0.99], axis=0), points[1]])
    low, high = span.min(0), np.maximum(span.max(0), span.min(0) + 1e-6)
    picture = np.full((BINS, BINS, 3), 255.0)
    for goals, colour in zip(points, (ACHIEVED, DESIRED), strict=True):
        counts, *_ = np.histogram2d(*goals.T, bins=BINS, range=np.stack([low, high], 1))
        # Logarithmic: most goals lie where the object starts, and the rare ones are what counts.
        ink = np.log1p(counts) / np.log1p(max(1.0, counts.max()))
        ink = np.where(counts > 0, 0.25 + 0.75 * ink, 0.0).T[::-1, :, None]
        picture *= 1 - ink * (1 - colour / 255)
    picture = picture.round().astype(np.uint8).repeat(PIXELS, 0).repeat(PIXELS, 1)
    image = Image.fromarray(np.pad(picture, ((CAPTION, 0), (0, 0), (0, 0)), constant_values=255))
    ranges = " · ".join(f"{axis} {a:.2f} to {b:.2f}" for axis, a, b in zip("xy", low, high, strict=True))
    ImageDraw.Draw(image).text((3, 1), f"achieved orange, wanted blue · {ranges}", fill=(70, 70, 70))
    return np.asarray(image)


def as_gif(frames: Iterable[np.ndarray], milliseconds: int) -> bytes:
    """Encodes frames (H, W, 3) uint8 as an animated picture of half their width and height, each shown for so long."""
    images = [Image.fromarray(frame).reduce(2).quantize(128, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return file.getvalue()


def as_png(picture: np.ndarray) -> bytes:
    """Encodes a picture (H, W, 3) uint8."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
