"""Frames of an evaluation episode and a video at the end, or one sentence where there can be none."""

import io

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from env import TaskConfig, make_envs
from env.video import STRIDE
from errors import UserError
from training.evaluation.video import EVERY, VIDEO_EPISODES, Film, record_video


def task():
    return make_envs("reach", 1, TaskConfig(), "sparse")[0]


def still(obs: np.ndarray) -> np.ndarray:
    return np.zeros((len(obs), 6), np.float32)


class Drawn:
    """A task of ours whose render() is somebody else's."""

    def __init__(self, render):
        self._task = task()
        self.render = render

    def __getattr__(self, name):
        return getattr(self._task, name)


def test_an_episode_is_drawn_every_so_many_steps():
    frames = iter(range(1000))
    env = Drawn(lambda: np.full((8, 8, 3), 2 * next(frames), np.uint8))
    gif = Film(env, 0, enabled=True).take(still)
    with Image.open(io.BytesIO(gif)) as image:
        assert image.n_frames == 1 + env.max_episode_steps // EVERY


def test_drawing_takes_no_more_than_its_share_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("training.evaluation.video.time.perf_counter", lambda: now[0])

    def render():
        now[0] += 1.0
        return np.zeros((8, 8, 3), np.uint8)

    film = Film(Drawn(render), 0, enabled=True)
    taken = []
    for second in range(0, 3000, 100):
        now[0] = max(now[0], float(second))
        taken.append(film.take(still) is not None)
    assert taken[0]
    frames = 1 + task().max_episode_steps // EVERY
    assert sum(taken) == 1 + int(0.02 * 2900 // frames)
    assert film.take(still) is None
    assert film.take(still, last=True) is not None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(UserError("no EGL here"), "no EGL here"), (RuntimeError("lost"), "RuntimeError: lost")],
)
def test_what_cannot_be_drawn_is_said_once_and_not_tried_again(error, sentence, capsys):
    tried = []

    def render():
        tried.append(1)
        raise error

    film = Film(Drawn(render), 0, enabled=True)
    assert film.take(still) is film.take(still) is None
    assert capsys.readouterr().out == f"no pictures of evaluations: {sentence}\n"
    assert len(tried) == 1


def test_a_frame_that_is_none_is_said(capsys):
    assert Film(Drawn(lambda: None), 0, enabled=True).take(still) is None
    assert "render() must return (H, W, 3) uint8, and returned None" in capsys.readouterr().out


@pytest.mark.parametrize("wanted", [False, True])
def test_no_wish_or_no_render_no_picture(wanted):
    env = task()
    blind = type("Blind", (), {"reset": env.reset, "step": env.step})()
    assert Film(blind if wanted else Drawn(lambda: 1 / 0), 0, wanted).take(still) is None


def test_a_video_shows_whole_episodes_and_is_recorded_once(tmp_path, capsys):
    path, drawn = tmp_path / "videos" / "step.mp4", []
    env = Drawn(lambda: drawn.append(1) or np.zeros((16, 16, 3), np.uint8))
    for _ in range(2):
        record_video(path, env, still, seed=0)
    assert capsys.readouterr().out == f"video: {path}\n"
    assert len(drawn) == VIDEO_EPISODES * (1 + env.max_episode_steps)
    assert iio.imread(path).shape == (-(-len(drawn) // STRIDE), 16, 16, 3)


def test_a_video_that_cannot_be_is_one_sentence(tmp_path, capsys):
    record_video(tmp_path / "a.mp4", type("Blind", (), {})(), still, seed=0)
    record_video(tmp_path / "a.mp4", Drawn(lambda: 1 / 0), still, seed=0)
    assert capsys.readouterr().out.splitlines() == ["no video: ZeroDivisionError: division by zero"]
    assert not any(tmp_path.iterdir())
