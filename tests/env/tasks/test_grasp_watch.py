"""GraspWatch tells of a grasp that meets its goal what the simulation does."""

import math

import numpy as np
import pytest

from env.oracle import InverseKinematics, plan
from env.tasks.grasp_watch import GraspWatch, cube_in_gripper

HELD = {"held_overlap_mm_max", "slip_mm_max"}


@pytest.fixture
def played(make_task):
    """Provides played(goal, end, after=…): a scripted episode's infos, watched, and the cube's places in the gripper.

    From control step `end` on, the servos get the changes that `after` returns for each step.
    """

    def play(goal, end=100, after=None):
        task = make_task("pick-place", goal=goal)
        watch = GraspWatch(task)
        watch.reset(seed=3)
        script = plan(task, InverseKinematics(task.sim.model))
        infos, places = [], []
        for step in range(100):
            change = script.act(task.sim.servo_target) if step < end else np.array(after(step))
            infos.append(watch.step(task.action_for(change))[4])
            places.append(cube_in_gripper(task.sim))
        return infos, places

    return play


def test_a_grasp_in_the_air_is_told_of_from_the_step_after_it_meets_its_goal(played):
    infos, places = played("air")
    first = next(i for i, info in enumerate(infos) if info["is_success"])
    assert 20 < first < 90
    for i, info in enumerate(infos):
        assert set(info["metrics"]) >= HELD if i > first else not HELD & set(info["metrics"])
        if i > first:
            assert 0.05 < info["metrics"]["held_overlap_mm_max"] < 1
            assert info["metrics"]["slip_mm_max"] == pytest.approx(1e3 * math.dist(places[i], places[first]))
    assert infos[-1]["metrics"]["slip_mm_max"] > 0


def test_overlap_is_of_every_physics_step_and_slip_begins_anew_after_a_break(played):
    swing = lambda step: [0, 0.2 * (-1) ** (step // 4), 0, 0, 0, 0]  # noqa: E731
    infos, places = played("air", end=85, after=swing)
    seen = [info["metrics"] for info in infos if set(info["metrics"]) >= HELD]
    assert all(metrics["held_overlap_mm_max"] >= metrics["penetration_mm_max"] for metrics in seen)
    assert any(metrics["held_overlap_mm_max"] > metrics["penetration_mm_max"] for metrics in seen)
    caught, breaks = None, 0
    for info, place in zip(infos, places, strict=True):
        told = info["metrics"].get("slip_mm_max")
        if info["is_success"] and caught is None:
            caught = place
            assert told is None
        elif info["is_success"]:
            assert told == pytest.approx(1e3 * math.dist(place, caught))
        else:
            breaks += caught is not None
            caught = None
            assert told is None
    assert breaks


def test_a_cube_that_is_let_go_is_not_told_of(played):
    infos, _ = played("air", end=85, after=lambda step: [0, 0, 0, 0, 0, 1.0])
    assert set(infos[84]["metrics"]) >= HELD
    assert not infos[-1]["is_success"]
    assert not HELD & set(infos[-1]["metrics"])


def test_watching_changes_no_bit_of_an_episode(make_task):
    task, watch = make_task("pick-place", goal="air"), GraspWatch(make_task("pick-place", goal="air"))
    task.reset(seed=5)
    watch.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.uniform(-1, 1, 6)
        (one, *_, info), (other, *_, watched) = task.step(action), watch.step(action)
        assert all((one[key] == other[key]).all() for key in one)
        assert info["metrics"] == watched["metrics"]


def test_a_cube_on_the_table_is_not_in_the_grip(played):
    infos, _ = played("table")
    assert infos[-1]["is_success"]
    assert not HELD & set(infos[-1]["metrics"])
