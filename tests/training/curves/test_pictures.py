"""Pictures that are looked at in TensorBoard."""

import io

import numpy as np
import pytest
from PIL import Image

from training.curves.pictures import BINS, CAPTION, PIXELS, as_gif, as_png, goal_coverage


def at(picture: np.ndarray, right: float, up: float) -> np.ndarray:
    """The colour at a place, both coordinates from 0 to 1."""
    size = BINS * PIXELS - 1
    return picture[CAPTION + round((1 - up) * size), round(right * size)].astype(int)


def test_achieved_goals_are_orange_desired_ones_blue_and_the_second_coordinate_points_up():
    achieved, desired = np.array([[0.0, 0.0, 5.0]] * 9), np.array([[1.0, 0.0, -5.0], [1.0, 2.0, 0.0]])
    picture = goal_coverage(achieved, desired)
    assert picture.shape == (BINS * PIXELS + CAPTION, BINS * PIXELS, 3)
    red, _, blue = at(picture, 0, 0)
    assert red > blue
    for place in ((1, 0), (1, 1)):
        red, _, blue = at(picture, *place)
        assert blue > red
    assert (at(picture, 0, 1) == 255).all()


def test_what_is_there_more_often_is_darker():
    achieved = np.array([[0.0, 0.0]] * 50 + [[1.0, 1.0]])
    picture = goal_coverage(achieved, achieved[-1:])
    assert at(picture, 0, 0).sum() < at(picture, 1, 0).sum()


@pytest.mark.parametrize("goals", [np.zeros((4, 3)), np.zeros((1, 1)), np.arange(5.0)[:, None]])
def test_goals_that_never_move_or_have_one_coordinate_can_be_drawn(goals):
    assert goal_coverage(goals, goals).dtype == np.uint8


def test_a_gif_shows_each_frame_at_half_its_size():
    frames = [np.full((40, 60, 3), shade, np.uint8) for shade in (0, 120, 250)]
    with Image.open(io.BytesIO(as_gif(frames, 200))) as image:
        assert (image.format, image.size, image.n_frames, image.info["duration"]) == ("GIF", (30, 20), 3, 200)
        image.seek(2)
        assert np.asarray(image.convert("RGB")).min() >= 245


def test_a_png_keeps_every_bit():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    with Image.open(io.BytesIO(as_png(picture))) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
