"""Frames of environments that are not ours: written where they are frames, refused in one sentence where not."""

import imageio.v3 as iio
import numpy as np
import pytest

from env.video import VideoError, write_video

GOOD = np.zeros((48, 64, 3), np.uint8)


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_every_second_frame_is_written(name, tmp_path):
    ramp = np.arange(64, dtype=np.uint8)[None, :, None] * np.full_like(GOOD, 4)
    frames = [np.roll(ramp, 8 * i, axis=1) for i in range(6)]
    write_video(tmp_path / name, frames)
    assert iio.imread(tmp_path / name).shape == (3, 48, 64, 3)


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (None, "None"),
        ([[0]], "list"),
        (np.zeros((48, 64, 4), np.uint8), r"\(48, 64, 4\) uint8"),
        (np.zeros((48, 64), np.uint8), r"\(48, 64\) uint8"),
        (np.zeros((48, 64, 3), np.float32), r"\(48, 64, 3\) float32"),
    ],
)
def test_what_is_no_frame_is_refused_wherever_it_comes(bad, named, name, tmp_path):
    for frames in ([bad], [GOOD, bad]):
        with pytest.raises(VideoError, match=rf"must return \(H, W, 3\) uint8, and returned {named}$"):
            write_video(tmp_path / name, frames)
