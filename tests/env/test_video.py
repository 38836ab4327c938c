"""Frames of environments that are not ours: written where they are frames, refused in one sentence where not."""

import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from env.video import write_video
from errors import UserError

GOOD = np.zeros((48, 64, 3), np.uint8)
RAMP = np.arange(64, dtype=np.uint8)[None, :, None] * np.full_like(GOOD, 4)
MOVING = [np.roll(RAMP, 8 * i, axis=1) for i in range(6)]


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_every_second_frame_is_written(name, tmp_path):
    write_video(tmp_path / name, MOVING)
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
        with pytest.raises(UserError, match=rf"must return \(H, W, 3\) uint8, and returned {named}$"):
            write_video(tmp_path / name, frames)


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, None])
def test_a_video_that_is_not_finished_leaves_the_one_that_was_there_and_nothing_else(failure, name, tmp_path):
    def frames():
        yield from MOVING
        if failure is not None:
            raise failure
        yield None  # refused by write_video itself

    write_video(tmp_path / name, [GOOD] * 2)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(failure or UserError):
        write_video(tmp_path / name, frames())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_full_disk_leaves_the_video_that_was_there(limit, tmp_path):
    """Here: a file that may not grow, which ends ffmpeg at its first byte or in the middle."""
    path = tmp_path / "v.mp4"
    write_video(path, MOVING)
    before = path.read_bytes()
    code = f"""
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from env.video import write_video
from errors import UserError

rng = np.random.default_rng(0)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    write_video(Path({str(path)!r}), (rng.integers(0, 255, (480, 640, 3), dtype=np.uint8) for _ in range(200)))
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.startswith(f"{path} could not be written ("), result.stderr
    assert result.stdout.endswith("is there room on the disk?\n")
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_a_killed_writer_leaves_no_half_video_under_the_name_and_its_rest_is_overwritten(name, tmp_path):
    code = f"""
import os, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import env.video

def frames():
    for _ in range(60):
        yield np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    if {name!r} == "v.mp4":
        os.kill(os.getpid(), 9)

def save_half(self, path, **_):
    Path(path).write_bytes(b"GIF89a")
    os.kill(os.getpid(), 9)

env.video.Image.Image.save = save_half
env.video.write_video(Path({str(tmp_path / name)!r}), frames())
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -9
    assert not (tmp_path / name).exists()
    write_video(tmp_path / name, MOVING)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert iio.imread(tmp_path / name).shape == (3, 48, 64, 3)
