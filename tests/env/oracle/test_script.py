"""Following waypoints within the agent's limits."""

import math

import numpy as np
import pytest

from env.oracle.script import Script, Waypoint, ease
from env.so101.simulation import MAX_TARGET_CHANGE

ARM = np.array([0.3, -0.6, 0.1, 0.0, 0.2])


def follow(script, steps, start=None):
    """Servo targets (steps + 1, 6) as the simulation would move them."""
    targets = [np.zeros(6) if start is None else start]
    for _ in range(steps):
        action = script.act(targets[-1])
        assert np.abs(action).max() <= 1 + 1e-12
        targets.append(targets[-1] + MAX_TARGET_CHANGE * action)
    return np.array(targets)


def test_ease_starts_and_ends_slowly():
    progress = [ease(time) for time in np.linspace(0, 1, 101)]
    speed = np.diff(progress)
    assert (progress[0], progress[50], progress[-1]) == pytest.approx((0, 0.5, 1))
    assert (speed >= 0).all()
    assert max(speed[0], speed[-1]) < 1e-4
    assert speed.max() == pytest.approx(0.01 * 1.875, rel=1e-2)  # minimum jerk's peak
    assert ease(1.5) == 1


def test_it_gets_there_in_the_steps_it_was_given_on_a_straight_line():
    targets = follow(Script([Waypoint("go", ARM, 0.5, steps=20)]), 20)
    np.testing.assert_allclose(targets[-1, :5], ARM, atol=1e-9)
    shares = targets[:, :5] @ ARM / (ARM @ ARM)
    np.testing.assert_allclose(targets[:, :5], shares[:, None] * ARM, atol=1e-9)
    np.testing.assert_allclose(shares, [ease(i / 20) for i in range(21)], atol=1e-9)


def test_a_joint_that_would_be_late_hurries_at_the_limit():
    far = MAX_TARGET_CHANGE * np.array([1.0, 0, 0, 0, 15.5])
    targets = follow(Script([Waypoint("go", far, 0.0, steps=10)]), 16)
    np.testing.assert_allclose(np.diff(targets[:, 4])[:15], MAX_TARGET_CHANGE)
    np.testing.assert_allclose(targets[10, 0], far[0], atol=1e-9)  # the other is in time all the same
    np.testing.assert_allclose(targets[16, :5], far, atol=1e-9)


def test_the_gripper_keeps_to_its_own_speed():
    targets = follow(Script([Waypoint("pinch", np.zeros(5), -0.17, steps=30, gripper_speed=0.02)]), 30)
    assert np.abs(np.diff(targets[:, 5])).max() == pytest.approx(0.02)
    assert targets[-1, 5] == pytest.approx(-0.17)


def test_waypoints_come_in_turn_and_the_last_is_held():
    script = Script([Waypoint("one", ARM, 0.1, steps=12), Waypoint("two", -ARM, 0.0, steps=24)])
    phases = []
    targets = [np.zeros(6)]
    for _ in range(60):
        targets.append(targets[-1] + MAX_TARGET_CHANGE * script.act(targets[-1]))
        phases.append(script.phase)
    assert phases == ["one"] * 12 + ["two"] * 48
    np.testing.assert_allclose(targets[12][:5], ARM, atol=1e-9)
    np.testing.assert_allclose(targets[36:], np.tile([*-ARM, 0.0], (25, 1)), atol=1e-9)


def test_a_rehearsal_is_what_the_script_then_does_until_its_last_waypoint_is_reached():
    late = np.array([0.0, 0.0, 0.0, 0.0, 1.5])
    waypoints = [
        Waypoint("one", ARM, 0.1, steps=12),
        Waypoint("two", late, -0.1, steps=5),
        Waypoint("three", late, 0.0),
    ]
    start = np.array([0.1, 0.0, 0.0, -0.1, 0.0, 0.3])
    steps = Script(waypoints).rehearse(start)
    np.testing.assert_array_equal(start, [0.1, 0.0, 0.0, -0.1, 0.0, 0.3])
    hurrying = math.ceil((1.5 - ARM[4]) / MAX_TARGET_CHANGE)
    assert [phase for phase, _ in steps] == ["one"] * 12 + ["two"] * hurrying + ["three"]
    script, target = Script(waypoints), start.copy()
    for phase, action in steps:
        np.testing.assert_array_equal(script.act(target), action)
        assert script.phase == phase
        target += MAX_TARGET_CHANGE * action
    np.testing.assert_allclose(target[:5], late, atol=1e-9)


def test_a_rehearsal_of_staying_where_it_is_has_a_step():
    steps = Script([Waypoint("stay", np.zeros(5), 0.0)]).rehearse(np.zeros(6))
    assert len(steps) == 1
    np.testing.assert_array_equal(steps[0][1], np.zeros(6))


@pytest.mark.parametrize(("off", "phase"), [(5e-3, "one"), (1e-4, "one"), (0.0, "two")])
def test_the_next_waypoint_waits_until_the_targets_are_at_the_last_one(off, phase):
    script = Script([Waypoint("one", ARM, 0.0, steps=4), Waypoint("two", -ARM, 0.0, steps=4)])
    for _ in range(10):
        script.act(np.append(ARM + off, 0.0))
    assert script.phase == phase


def test_a_target_that_was_held_up_is_waited_for():
    script = Script([Waypoint("one", ARM, 0.0, steps=4), Waypoint("two", -ARM, 0.0, steps=4)])
    for _ in range(10):
        script.act(np.zeros(6))  # as if something kept the targets where they are
    assert script.phase == "one"
