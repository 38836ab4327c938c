"""Poses from places: what the solver returns is checked with MuJoCo's own kinematics."""

import mujoco
import numpy as np
import pytest

from env.oracle.kinematics import TOLERANCE, InverseKinematics
from env.so101.model import ArmModel

ROLLED = -np.pi / 2  # the wrist, so that the gripper closes horizontally


@pytest.fixture(scope="module")
def model():
    return ArmModel.load()


@pytest.fixture(scope="module")
def ik(model):
    return InverseKinematics(model)


def poses(count, seed=0):
    """Joint angles (5,) that the arm takes near the table, the gripper closing horizontally but for a few degrees."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.array([rng.uniform(-0.8, 0.8), *rng.uniform((-0.3, -0.6, -0.4), (0.9, 0.8, 0.8)), ROLLED])


def test_forward_is_mujocos_own(model, ik):
    data = mujoco.MjData(model.mj)
    for joints in poses(20):
        data.qpos[:5] = joints
        mujoco.mj_forward(model.mj, data)
        point, axes = ik.forward(joints)
        np.testing.assert_allclose(point, data.site("grasp_point").xpos, atol=1e-12)
        np.testing.assert_allclose(axes, data.body("gripper").xmat.reshape(3, 3), atol=1e-12)


def test_the_slant_of_level_fingers_is_0_and_of_fingers_straight_down_a_right_angle(ik):
    assert ik.slant(np.zeros(5)) == pytest.approx(0, abs=0.02)
    assert ik.slant(np.array([0, 0, 0, np.pi / 2, 0])) == pytest.approx(np.pi / 2, abs=0.02)


def test_it_finds_places_and_slants_that_the_arm_can_have(model, ik):
    low, high = model.control_range[:5].T
    for joints in poses(100):
        point, slant = ik.forward(joints)[0], ik.slant(joints)
        found = ik.solve(point, slant, np.array([joints[0], 0.3, 0.3, 0.2, ROLLED]))
        assert found is not None
        assert (found >= low).all()
        assert (found <= high).all()
        there, axes = ik.forward(found)
        np.testing.assert_allclose(there, point, atol=TOLERANCE)
        assert axes[2, 2] == pytest.approx(np.sin(slant), abs=2e-3)
        assert axes[2, 0] == pytest.approx(0, abs=2e-3)  # it closes horizontally


def test_without_a_slant_the_place_alone_counts(ik):
    for joints in poses(20, seed=1):
        point = ik.forward(joints)[0]
        found = ik.solve(point, None, joints + np.array([0.3, -0.2, 0.2, 0.3, 0.5]))
        assert found is not None
        np.testing.assert_allclose(ik.forward(found)[0], point, atol=TOLERANCE)


def test_no_pose_is_beyond_what_the_joints_can_do(model, ik):
    """Near the base and steep: solved without the joints' ranges, a fifth of these poses would be beyond them."""
    low, high = model.control_range[:5].T
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        pan, point, slant = rng.uniform(-0.8, 0.8), rng.uniform((0.12, 0.01), (0.4, 0.25)), rng.uniform(-0.2, 1.5)
        place = np.array([0.04 + point[0] * np.cos(pan), -point[0] * np.sin(pan), point[1]])
        joints = ik.solve(place, slant, np.array([pan, 0.3, 0.3, 0.2, ROLLED]))
        if joints is not None:
            assert (low <= joints).all()
            assert (joints <= high).all()
            found.append(joints)
    assert 20 < len(found) < 100


@pytest.mark.parametrize(
    ("point", "slant"),
    [
        ((0.60, 0.0, 0.10), None),  # beyond the arm
        ((0.40, -0.10, 0.011), np.radians(80)),  # the cube's place, from above: what this arm cannot do
        ((0.43, -0.13, 0.011), np.radians(50)),  # its far corner
    ],
)
def test_what_cannot_be_reached_is_none(ik, point, slant):
    assert ik.solve(np.array(point), slant, np.array([0.2, 0.3, 0.3, 0.2, ROLLED])) is None


def test_the_solver_leaves_start_and_model_alone(model, ik):
    buffer = np.empty(mujoco.mj_sizeModel(model.mj), np.uint8)
    mujoco.mj_saveModel(model.mj, None, buffer)
    before, start = buffer.copy(), np.zeros(5)
    ik.solve(np.array([0.3, 0.1, 0.1]), None, start)
    mujoco.mj_saveModel(model.mj, None, buffer)
    np.testing.assert_array_equal(buffer, before)
    assert not start.any()
