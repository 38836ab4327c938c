"""The viewer with everything real but its window: how episodes go on and end, and what a drag does."""

import contextlib
import sys
import types

import mujoco
import numpy as np
import pytest
import torch

import checkpoints
from env import SimulationDiverged, TaskConfig, make_envs
from env.tasks.cube import LOST_RADIUS
from evaluate import load_policy
from training.evaluation.viewer import watch
from training.setup import evaluation_environments, make_agent, trained_with


class Window:
    """MuJoCo's viewer without a screen. Closed after `length` frames; `gestures` are called at frames, from 1 on."""

    def __init__(self, length, gestures):
        self.length, self.gestures = length, gestures
        self.frames = 0
        self.shown = []
        """Where each frame shows the target, (3,) m."""
        self.cam, self.perturb = mujoco.MjvCamera(), mujoco.MjvPerturb()

    def is_running(self):
        return self.frames < self.length

    def lock(self):
        return contextlib.nullcontext()

    def sync(self):
        # As in Simulate::Sync: what is drawn is read, and what was done in the window is done to it after that.
        self.frames += 1
        self.shown.append(self.data.mocap_pos[0].copy())
        if self.frames in self.gestures:
            self.gestures[self.frames](self)
        mujoco.mjv_applyPerturbPose(self.model, self.data, self.perturb, 0)


def drag(place, kind=mujoco.mjtPertBit.mjPERT_TRANSLATE):
    """The gesture that takes hold of what is selected, and moves its origin to `place` (3,) m."""

    def gesture(window):
        body, perturb = window.data.body(window.perturb.select), window.perturb
        perturb.refpos = body.xipos + place - body.xpos
        perturb.refquat = [1.0, 0.0, 0.0, 0.0]
        perturb.active = int(kind)

    return gesture


def release(window):
    window.perturb.active = 0


def press_backspace(window):
    mujoco.mj_resetData(window.model, window.data)


@pytest.fixture
def open_window(monkeypatch):
    """open_window(length, gestures): the next window that is launched, in a hurry."""

    def prepare(length, gestures=()):
        window = Window(length, dict(gestures))

        def launch_passive(model, data, **options):
            window.model, window.data = model, data
            return contextlib.nullcontext(window)

        viewer = types.SimpleNamespace(launch_passive=launch_passive)
        monkeypatch.setitem(sys.modules, "mujoco.viewer", viewer)
        monkeypatch.setattr(mujoco, "viewer", viewer, raising=False)
        return window

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("training.evaluation.viewer.CONTROL_STEP", 0.0)
    return prepare


def built_in(name, **config):
    return make_envs(name, 1, TaskConfig(**config), "sparse")[0]


def still(inputs):
    return np.zeros((1, 6), np.float32)


@pytest.fixture
def seeds(monkeypatch):
    """The seeds that a task is reset with, once remember(task) was called."""
    seeds = []

    def remember(task):
        reset = task.reset
        monkeypatch.setattr(task, "reset", lambda seed: seeds.append(seed) or reset(seed))
        return seeds

    return remember


def test_the_window_shows_the_whole_model_where_the_simulation_is(open_window, capsys):
    task, window = built_in("pick-place"), open_window(4)
    watch(task, lambda inputs: np.ones((1, 6), np.float32), seed=5)
    assert task.steps == 4
    assert window.model.ngeom > task.sim.model.mj.ngeom  # what is only looked at is there
    np.testing.assert_array_equal(window.data.qpos, task.sim.data.qpos)
    np.testing.assert_allclose(window.data.mocap_pos[0], task.goal)
    np.testing.assert_allclose(window.data.body("cube").xpos, task.sim.cube_position, atol=1e-9)
    assert "right mouse button drags the goal" in capsys.readouterr().out


def test_the_next_episode_follows_when_a_simulation_diverges(open_window, seeds, monkeypatch):
    task = built_in("reach")
    remembered = seeds(task)
    window = open_window(1)

    def diverging(action):
        window.frames += len(remembered) == 3
        raise SimulationDiverged("the simulation diverged")

    monkeypatch.setattr(task, "step", diverging)
    watch(task, still, seed=5)
    assert remembered == [5, 6, 7]


def test_a_trained_policy_follows_the_goal_that_is_dragged(open_window):
    path = checkpoints.PRETRAINED / "reach"
    training = trained_with(checkpoints.read_manifest(path), path)
    (task,), spec = evaluation_environments(training, 1, "own")
    policy = load_policy(path, make_agent(training, spec, torch.device("cpu"), seed=0), "reach")
    places = np.array([[0.30, -0.10, 0.10], [0.30, 0.10, 0.15]])
    distances = {}
    """By frame, from both places, m: the arm must not be at one because it always would be."""

    def measure(window):
        distances[window.frames] = np.linalg.norm(task.sim.grasp_point - places, axis=1)

    def and_drag(place):
        return lambda window: (measure(window), drag(place)(window))

    gestures = {30: and_drag(places[0]), 35: release, 90: and_drag(places[1]), 95: release, 150: measure}
    open_window(150, gestures)
    watch(task, policy, seed=10_000)
    assert task.steps == 150  # one episode, three times as long as its time limit
    # It was trained on goals that stand still, from one start: it comes near, and not always to within 2 cm.
    near = 0.05
    assert distances[30].min() > near
    assert distances[90][0] < near < distances[90][1]
    assert distances[150][1] < near < distances[150][0]


def test_the_policy_sees_a_dragged_goal_at_its_next_step(open_window):
    task, place, seen = built_in("reach"), np.array([0.30, 0.10, 0.15]), []

    def watching(inputs):
        seen.append(inputs[0, -3:])
        return still(inputs)

    open_window(10, {5: drag(place)})
    watch(task, watching, seed=5)
    task.reset(seed=5)
    # With the arm still, what is left to go changes by what the goal is moved.
    np.testing.assert_allclose(seen[4], seen[0], atol=1e-3)
    np.testing.assert_allclose(seen[5] - seen[4], place - task.goal, atol=1e-3)


def test_an_episode_that_nobody_drags_keeps_its_time_limit(open_window, seeds):
    task = built_in("reach", max_episode_steps=10)
    remembered = seeds(task)
    open_window(25)
    watch(task, still, seed=5)
    assert remembered == [5, 6, 7]
    assert task.steps == 5


def test_a_dragged_episode_ends_when_the_cube_is_lost(open_window, seeds):
    task = built_in("pick-place", max_episode_steps=10)
    remembered = seeds(task)

    def take_cube_away(window):
        task.sim.cube_position[0] += LOST_RADIUS

    open_window(30, {5: drag(np.array([0.3, 0.1, 0.1])), 8: release, 20: take_cube_away})
    watch(task, still, seed=5)
    assert remembered == [5, 6]
    assert task.steps == 30 - 21


def test_backspace_begins_a_new_episode_with_a_goal_of_its_own(open_window, seeds):
    task = built_in("reach")
    remembered = seeds(task)
    open_window(30, {5: drag(np.array([0.3, 0.1, 0.1])), 8: release, 20: press_backspace})
    watch(task, still, seed=5)
    assert remembered == [5, 6]
    assert task.steps == 10
    watched = task.goal
    task.reset(seed=6)
    np.testing.assert_array_equal(watched, task.goal)


def test_a_goal_that_is_dragged_below_the_table_stays_on_it_and_so_does_what_is_drawn(open_window):
    task, window = built_in("push"), open_window(20, {5: drag(np.array([0.30, 0.05, -0.20]))})
    watch(task, still, seed=5)
    np.testing.assert_allclose(task.goal, [0.30, 0.05, 0.01])
    np.testing.assert_allclose(window.shown[5:], [task.goal] * 15)


@pytest.mark.parametrize("kind", [mujoco.mjtPertBit.mjPERT_ROTATE, None], ids=["rotated", "left alone"])
def test_only_a_drag_moves_the_goal(open_window, kind):
    task = built_in("reach")

    def rotate(window):
        drag(window.data.mocap_pos[0].copy(), kind)(window)
        window.perturb.refquat = [0.0, 0.0, 0.0, 1.0]  # half a turn

    window = open_window(20, {5: rotate} if kind else {})
    watch(task, still, seed=5)
    np.testing.assert_array_equal(window.shown, [task.goal] * 20)
    task.reset(seed=5)
    np.testing.assert_array_equal(window.shown[0], task.goal)


def test_a_click_on_something_else_does_not_let_go_of_the_goal(open_window):
    task = built_in("push")

    def select_cube(window):
        window.perturb.select = window.model.body("cube").id
        window.perturb.localpos = [1, 2, 3]

    place = np.array([0.30, 0.05, 0.01])
    window = open_window(20, {3: select_cube, 5: drag(place)})
    watch(task, still, seed=5)
    np.testing.assert_allclose(task.goal, place)
    np.testing.assert_array_equal(window.perturb.localpos, 0)  # MuJoCo draws the pull from there
