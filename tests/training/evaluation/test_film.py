"""Frames of an evaluation episode, or one sentence where there can be none."""

import io

import numpy as np
import pytest
from PIL import Image

from env import RenderingUnavailable, TaskConfig, make_envs
from training.evaluation.film import EVERY, Film
from training.stopping import Stopped


def task():
    return make_envs("reach", 1, TaskConfig(), "sparse")[0]


def still(obs: np.ndarray) -> np.ndarray:
    return np.zeros((len(obs), 6), np.float32)


class Drawn:
    """A task of ours whose render() is somebody else's."""

    def __init__(self, render):
        self._task = task()
        self.render = render
        self.drawn = 0

    def __getattr__(self, name):
        return getattr(self._task, name)


def test_an_episode_is_drawn_every_so_many_steps():
    frames = iter(range(1000))
    env = Drawn(lambda: np.full((8, 8, 3), 2 * next(frames), np.uint8))
    gif = Film(env, 0, wanted=True).take(still, env.goal_scale)
    with Image.open(io.BytesIO(gif)) as image:
        assert image.n_frames == 1 + env.max_episode_steps // EVERY


def test_drawing_takes_no_more_than_its_share_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("training.evaluation.film.time.perf_counter", lambda: now[0])

    def render():
        now[0] += 1.0
        return np.zeros((8, 8, 3), np.uint8)

    film = Film(Drawn(render), 0, wanted=True)
    taken = []
    for second in range(0, 3000, 100):
        now[0] = max(now[0], float(second))
        taken.append(film.take(still, 10.0) is not None)
    assert taken[0]
    frames = 1 + task().max_episode_steps // EVERY
    assert sum(taken) == 1 + int(0.02 * 2900 // frames)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(RenderingUnavailable("no EGL here"), "no EGL here"), (RuntimeError("lost"), "RuntimeError: lost")],
)
def test_what_cannot_be_drawn_is_said_once_and_not_tried_again(error, sentence, capsys):
    tried = []

    def render():
        tried.append(1)
        raise error

    film = Film(Drawn(render), 0, wanted=True)
    assert film.take(still, 10.0) is film.take(still, 10.0) is None
    assert capsys.readouterr().out == f"no pictures of evaluations: {sentence}\n"
    assert len(tried) == 1


def test_a_frame_that_is_none_is_said():
    film = Film(Drawn(lambda: None), 0, wanted=True)
    assert film.take(still, 10.0) is None


def test_a_stop_ends_the_drawing_and_is_no_failure():
    def stopped(obs):
        raise Stopped

    film = Film(Drawn(lambda: np.zeros((8, 8, 3), np.uint8)), 0, wanted=True)
    with pytest.raises(Stopped):
        film.take(stopped, 10.0)
    film = Film(Drawn(lambda: np.zeros((8, 8, 3), np.uint8)), 0, wanted=True)
    assert film.take(still, 10.0) is not None


@pytest.mark.parametrize("wanted", [False, True])
def test_no_wish_or_no_render_no_picture(wanted):
    env = task()
    blind = type("Blind", (), {"reset": env.reset, "step": env.step})()
    assert Film(blind if wanted else Drawn(lambda: 1 / 0), 0, wanted).take(still, 10.0) is None
