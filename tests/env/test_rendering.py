"""Pictures where the machine can draw, a sentence with the missing packages where it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from env import RenderingUnavailable
from env.rendering import choose_backend

ROOT = Path(__file__).parents[2]
DRAW = """
from env import TaskConfig, make_envs
task = make_envs("reach", 1, TaskConfig(), "sparse", 0.98)[0]
task.reset(seed=0)
task.step([0.0] * 6)
print("stepped")
task.render()
"""


@pytest.fixture
def picture():
    def draw(task):
        try:
            return task.render()
        except RenderingUnavailable as error:
            pytest.skip(str(error))

    return draw


@pytest.mark.parametrize("name", ["reach", "pick-place"])
def test_picture_is_of_the_promised_shape_and_shows_something(make_task, picture, name):
    task = make_task(name)
    task.reset(seed=0)
    image = picture(task)
    assert image.shape == (480, 640, 3)
    assert image.dtype == np.uint8
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100


def test_arm_and_goal_are_in_the_picture(make_task, picture):
    task = make_task("reach")
    task.reset(seed=0)
    first = picture(task).copy()
    task.sim.show_target(task.goal + np.array([0, 0, 0.1]))
    other_goal = picture(task).copy()
    assert (first != other_goal).any()
    for _ in range(5):
        task.step(np.ones(6))
    assert (picture(task) != other_goal).any()


def test_drawing_changes_nothing_in_the_simulation(make_task, picture):
    task = make_task("pick-place")
    task.reset(seed=0)
    before = task.sim.state()
    picture(task)
    np.testing.assert_array_equal(task.sim.state(), before)


@pytest.mark.parametrize(
    "machine",
    [{"MUJOCO_GL": "disable"}, {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}],
    ids=["no OpenGL", "OpenGL without a driver"],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms choose their back end themselves")
def test_without_a_back_end_all_but_drawing_works_and_the_packages_are_named(machine):
    result = subprocess.run(
        [sys.executable, "-c", DRAW], cwd=ROOT, env=os.environ | machine, capture_output=True, text=True, check=False
    )
    if machine["MUJOCO_GL"] == "egl" and "import mujoco" in result.stderr:
        pytest.skip("no libEGL here")
    assert result.stdout == "stepped\n"
    assert result.returncode == 1
    said = next(line for line in result.stderr.splitlines() if "RenderingUnavailable: " in line)
    assert "RenderingUnavailable: no off-screen rendering (MUJOCO_GL=" + machine["MUJOCO_GL"] in said
    assert "Debian: libegl1 libgl1-mesa-dri, or libosmesa6" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms choose their back end themselves")
def test_a_back_end_is_chosen_where_the_user_chose_none(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    choose_backend()
    assert os.environ["MUJOCO_GL"] in ("egl", "osmesa", "disable")


def test_the_users_choice_of_back_end_stands(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    choose_backend()
    assert os.environ["MUJOCO_GL"] == "glfw"
