"""Pictures where the machine can draw, a sentence with the missing packages where it cannot."""

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from env import TASKS
from env.so101.rendering import (
    FRAME,
    FRAME_COLOR,
    INSET,
    MARGIN,
    PATH_OPACITY,
    add_path,
    choose_backend,
    halved,
    opacities,
)
from env.tasks.cube import SPAWN, SPAWN_SPREAD
from env.tasks.pick_place import FIXED_GOAL
from errors import UserError

ROOT = Path(__file__).parents[3]
DRAW = """
from env import TaskConfig, make_envs
task = make_envs("reach", 1, TaskConfig(), "sparse")[0]
task.reset(seed=0)
task.step([0.0] * 6)
print("stepped")
for _ in range(2):  # a second try crashes some back ends
    try:
        task.render()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def picture():
    def draw(task):
        try:
            return task.render()
        except UserError as error:
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


GRASPING = [0.2632, 0.8885, -0.5476, 0.4620, -1.5221]
CARRYING = [-0.2924, 0.3292, -0.5538, 0.8180, -1.5221]
INSET_ROWS, INSET_COLUMNS = slice(480 - MARGIN - INSET, 480 - MARGIN), slice(MARGIN, MARGIN + INSET)


def pose(task, arm):
    """By hand, the gripper as far open as the cube is wide, and the cube in it."""
    data = task.sim.data
    data.qpos[:6] = [*arm, 0.04]
    mujoco.mj_kinematics(task.sim.model.mj, data)
    data.qpos[6:9] = data.site("grasp_point").xpos
    mujoco.mju_mat2Quat(data.qpos[9:13], data.site("grasp_point").xmat)
    mujoco.mj_forward(task.sim.model.mj, data)


def pixel(task, point):
    """Row and column (2,) at which the overview camera sees a point (3,)."""
    model, camera = task.sim.model.mj, task.sim.data.camera("overview")
    x, y, z = (np.asarray(point) - camera.xpos) @ camera.xmat.reshape(3, 3)
    focal = 240 / np.tan(np.radians(model.camera("overview").fovy[0]) / 2)
    return np.array([240 + focal * y / z, 320 - focal * x / z])


def red(image):
    r, g, b = np.moveaxis(image.astype(int), -1, 0)
    return (r > 120) & (g < r / 2) & (b < r / 2)


def green(image):
    r, g, b = np.moveaxis(image.astype(int), -1, 0)
    return (g > 100) & (r < g / 2) & (b < g / 1.5)


def blue(image):
    """Where the path is: nothing else in the scene is as blue."""
    r, g, b = np.moveaxis(image.astype(int), -1, 0)
    return (b > r + 60) & (b > g + 30)


@pytest.mark.parametrize("name", TASKS)
def test_goal_is_drawn_where_it_is_from_the_first_picture_on(make_task, picture, name):
    task = make_task(name, **({"goal": "fixed"} if name == "pick-place" else {}))
    for seed in (0, 1, 2):
        task.reset(seed=seed)
        centre = np.argwhere(green(picture(task))).mean(0)
        np.testing.assert_allclose(centre, pixel(task, task.goal), atol=4)


@pytest.mark.parametrize("name", TASKS)
def test_tolerance_that_is_drawn_is_the_one_that_counts(make_task, name):
    task = make_task(name)
    assert task.sim.model.mj.site("tolerance").size[0] == task.threshold


def test_arm_is_in_the_picture(make_task, picture):
    task = make_task("reach")
    task.reset(seed=0)
    before = picture(task).astype(int)
    for _ in range(5):
        task.step(np.ones(6))
    assert (abs(picture(task) - before).max(-1) > 50).sum() > 1000


# -------------------------------------------------------------------------------------------- the inset


def test_inset_shows_the_cube_in_the_grip(make_task, picture):
    task = make_task("pick-place")
    task.reset(seed=0)
    assert not red(picture(task)[INSET_ROWS, INSET_COLUMNS]).any()
    pose(task, GRASPING)
    rows, columns = np.nonzero(red(picture(task)[INSET_ROWS, INSET_COLUMNS]))
    assert len(rows) > INSET**2 / 50
    assert abs(columns.mean() - INSET / 2) < INSET / 20


def test_only_tasks_with_a_cube_have_an_inset(make_task, picture):
    for name, task_class in TASKS.items():
        task = make_task(name)
        task.reset(seed=0)
        line = picture(task)[INSET_ROWS.start - FRAME : INSET_ROWS.start, INSET_COLUMNS]
        assert (line == FRAME_COLOR).all() == task_class.has_cube


def test_inset_hides_neither_arm_nor_spawn_area_nor_target(make_task):
    task = make_task("pick-place")
    task.reset(seed=0)
    data, model = task.sim.data, task.sim.model.mj
    arm = [i for i in range(model.ngeom) if model.geom_group[i] == 2 and model.geom_bodyid[i] != model.body("cube").id]
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    spread = (SPAWN_SPREAD + 0.01, SPAWN_SPREAD + 0.01, 0.01)  # with the cube's own half width
    points = [*(SPAWN + corners * spread), *(FIXED_GOAL + corners * task.threshold)]
    for joints in ([0, 0, 0, 0, 0], GRASPING, CARRYING):
        pose(task, joints)
        for i in arm:
            box = corners * model.geom_aabb[i, 3:]
            points.extend(data.geom_xpos[i] + box @ data.geom_xmat[i].reshape(3, 3).T)
    rows, columns = np.array([pixel(task, point) for point in points]).T
    assert (rows.min(), columns.min()) > (0, 0)
    assert rows.max() < 480
    assert columns.max() < 640
    assert not ((rows > INSET_ROWS.start - FRAME) & (columns < INSET_COLUMNS.stop + FRAME)).any()


# --------------------------------------------------------------------------------------------- the path


def test_path_of_the_achieved_goal_is_drawn_until_the_reset(make_task, picture, scenes):
    task = make_task("reach")
    task.reset(seed=0)
    assert not blue(picture(task)).any()
    way = []
    for _ in range(21):
        task.step(scenes.moving(task, [-0.07, 0.035, 0.0, 0.0, 0.0, 0.0]))
        image = picture(task)
        way.append(pixel(task, task.sim.grasp_point))
    drawn = np.argwhere(blue(image))
    middle = way[7:17]  # before it the line is faint, after it the fingers are in front
    assert np.linalg.norm(middle[0] - middle[-1]) > 30
    for point in middle:
        assert np.linalg.norm(drawn - point, axis=1).min() < 2
    task.reset(seed=0)
    assert not blue(picture(task)).any()


def test_path_is_that_of_the_pictures_alone_and_no_part_of_the_state(make_task, picture):
    task, other = make_task("reach"), make_task("reach")
    for each in (task, other):
        each.reset(seed=0)
    picture(task)
    for _ in range(15):
        task.step(np.ones(6))
        other.step(np.ones(6))
        picture(task)
    state, other_state = task.state_dict(), other.state_dict()
    assert state.keys() == other_state.keys()
    np.testing.assert_array_equal(state.pop("simulation"), other_state.pop("simulation"))
    np.testing.assert_array_equal(state.pop("goal"), other_state.pop("goal"))
    assert state == other_state
    assert not blue(picture(other)).any()
    task.load_state_dict(other.state_dict())
    assert not blue(picture(task)).any()


def test_path_with_a_jump_is_drawn(make_task, picture):
    task = make_task("pick-place")
    task.reset(seed=0)
    cube = task.sim.data.qpos[6:9]
    for place in ((0.40, -0.10, 0.01), (0.40, 0.10, 0.15), (-50.0, 80.0, -200.0), (0.40, -0.10, 0.01)):
        cube[:] = place
        image = picture(task)
    assert blue(image).any()


def test_path_fills_the_scene_with_its_newest_points_and_no_further(make_task):
    scene = mujoco.MjvScene(make_task("reach").sim.model.mj, maxgeom=20)
    points = np.arange(300.0).reshape(100, 3)
    scene.ngeom = 15
    add_path(scene, points)
    assert scene.ngeom == 20
    ends = [geom.pos + geom.size[2] * geom.mat[:, 2] for geom in scene.geoms[15:20]]
    np.testing.assert_allclose(ends, points[-5:], rtol=1e-5)
    add_path(scene, points)
    assert scene.ngeom == 20


@pytest.mark.parametrize("points", [[], [[1.0, 2.0, 3.0]]])
def test_path_without_a_way_adds_nothing(make_task, points):
    scene = mujoco.MjvScene(make_task("reach").sim.model.mj, maxgeom=20)
    add_path(scene, points)
    assert scene.ngeom == 0


def test_path_fades_with_the_way_back_and_not_with_time():
    start, end = PATH_OPACITY
    x = np.array([0.0, 0.0, 0.0, 0.5, 2.0])
    expected = [start, start, start + (end - start) / 4, end]
    np.testing.assert_allclose(opacities(x[:, None] * [0.0, 1.0, 0.0]), expected)
    np.testing.assert_allclose(opacities(np.zeros((3, 3))), [start, start])


# ------------------------------------------------------------------------------------------- the rest


def test_four_pixels_become_their_average():
    image = np.zeros((4, 6, 3), np.uint8)
    image[0, 0] = image[1, 1] = 255
    image[2:, 4:] = 255
    small = halved(image)
    assert small.dtype == np.uint8
    np.testing.assert_array_equal(small[..., 0], [[128, 0, 0], [0, 0, 255]])


@pytest.mark.parametrize("name", ["reach", "pick-place"])
def test_drawing_an_episode_changes_nothing_in_the_simulation(make_task, picture, name):
    drawn, plain = make_task(name), make_task(name)
    actions = np.random.default_rng(0).uniform(-1, 1, (25, 6))
    for task in (drawn, plain):
        task.reset(seed=0)
    for action in actions:
        before = drawn.sim.data.geom_xpos.copy(), drawn.sim.data.warning.number.copy()
        picture(drawn)
        np.testing.assert_array_equal(drawn.sim.data.geom_xpos, before[0])
        np.testing.assert_array_equal(drawn.sim.data.warning.number, before[1])
        for task in (drawn, plain):
            task.step(action)
        np.testing.assert_array_equal(drawn.sim.state(), plain.sim.state())


NO_SCREEN = dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY"), "")


@pytest.mark.parametrize(
    "machine",
    [
        {"MUJOCO_GL": "disable"},
        {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"},
        {"MUJOCO_GL": "osmesa", "LD_LIBRARY_PATH": ""},
        {"MUJOCO_GL": "glfw", **NO_SCREEN},
        {"MUJOCO_GL": "vulkan"},
    ],
    ids=["no OpenGL", "EGL without a driver", "OSMesa that is not installed", "GLFW without a screen", "a word"],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms choose their back end themselves")
def test_without_a_back_end_all_but_drawing_works_and_the_packages_are_named(machine):
    if machine["MUJOCO_GL"] == "osmesa" and ctypes.util.find_library("OSMesa"):
        pytest.skip("OSMesa is installed")
    environment = {name: value for name, value in (os.environ | machine).items() if value}
    result = subprocess.run(
        [sys.executable, "-c", DRAW], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    stepped, *said = result.stdout.splitlines()
    assert (stepped, len(said)) == ("stepped", 2)
    for line in said:
        assert line.startswith(f"UserError: no off-screen rendering (MUJOCO_GL={machine['MUJOCO_GL']}: ")
        assert "Debian: libegl1 libgl1-mesa-dri, or libosmesa6" in line


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms choose their back end themselves")
def test_a_back_end_is_chosen_where_the_user_chose_none(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    choose_backend()
    assert os.environ["MUJOCO_GL"] in ("egl", "osmesa", "disable")


def test_the_users_choice_of_back_end_stands(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    choose_backend()
    assert os.environ["MUJOCO_GL"] == "glfw"
