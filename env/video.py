"""Writes frames to a file that a person can open."""

import contextlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import imageio.v3
import numpy as np
from PIL import Image

from errors import UserError

FPS = 25
"""Frames a second in the file. The arm's 50 control steps a second are thinned to it."""
STRIDE = 2
LONGEST = 255
"""Bytes of a file's name that file systems take."""


def check_video_path(path: Path) -> None:
    """Raises UserError for a file name that no writer knows."""
    if path.suffix not in (".mp4", ".gif"):
        raise UserError(f"--video {path}: the name must end in .mp4 or .gif")
    if len(os.fsencode(_partial(path).name)) > LONGEST:
        raise UserError(f"--video {path}: the name is too long; give a shorter one")


def check_frame(frame: np.ndarray) -> np.ndarray:
    """Returns `frame` itself. Raises UserError where it is not what render() must return: people bring their own."""
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3:
        return frame
    got = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else type(frame).__name__
    raise UserError(f"render() must return (H, W, 3) uint8, and returned {got.removesuffix('Type')}")


def write_video(path: Path, frames: Iterable[np.ndarray]) -> None:
    """Writes every second frame of (H, W, 3) uint8 as mp4 or gif, by the name's ending. Raises UserError.

    The file gets its name when it is complete. Whatever ends the writing leaves none, or the one that was there.
    """
    check_video_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        _write(partial, itertools.islice(map(check_frame, frames), 0, None, STRIDE))
        _check_readable(partial)
        partial.replace(path)
    except OSError as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} could not be written ({reason}); is there room on the disk?", status=1) from error
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """Returns the name that a video has until it is complete. Writers go by the ending."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


def _check_readable(path: Path) -> None:
    """Raises OSError. ffmpeg, a process of its own, may fail at the end, and imageio says nothing of it."""
    try:
        imageio.v3.imread(path, index=0)
    except Exception as error:  # each reader fails in its own ways
        raise OSError("it ends too early") from error


def _write(path: Path, frames: Iterable[np.ndarray]) -> None:
    if path.suffix == ".gif":
        images = [Image.fromarray(frame) for frame in frames]
        # One palette and no dithering: what does not move stays the same to the bit, and costs nothing in the file.
        # From frames throughout, with k-means: what is small or comes late would lose its colour to the floor's greys.
        seen = np.concatenate([np.asarray(images[i]) for i in np.linspace(0, len(images) - 1, 8).astype(int)])
        palette = Image.fromarray(seen).quantize(256, kmeans=3)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
        images[0].save(path, save_all=True, append_images=images[1:], duration=1000 // FPS, loop=0)
        return
    # The writer's own `with` leaves ffmpeg running where the block raises, and that brings the file back.
    with contextlib.closing(imageio.get_writer(path, fps=FPS, macro_block_size=16)) as writer:
        for frame in frames:
            writer.append_data(frame)
