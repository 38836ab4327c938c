"""The arm is the SO-101 of its published figures, and its contacts make an honest grasp."""

import json
from pathlib import Path

import mujoco
import numpy as np
import pytest

SCENE = Path(__file__).parents[3] / "env/so101/assets/scene.xml"
REFERENCE = json.loads((Path(__file__).parent / "data/so101_reference.json").read_text())
ARM = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]

SHUT, AROUND_CUBE, SERVO_TORQUE = -0.17, 0.045, 3.35
HOME = [0.0, 0.0, 0.0, 0.0, 0.0]
SLANTED = [-0.2924, -0.1708, -0.5538, 0.8180, -1.5221]  # grasp point 31 cm up
ON_FLOOR = [0.2632, 0.8885, -0.5476, 0.4620, -1.5221]  # grasp point at (0.40, -0.10, 0.011), 46 degrees down

# mass, centre of mass, inertia about it (xx yy zz xy xz yz)
INERTIAS = {
    "shoulder": (
        0.100006,
        [-0.0307604, -1.66727e-05, -0.0252713],
        [8.3759e-05, 8.10403e-05, 2.39783e-05, 7.55525e-08, -1.16342e-06, 1.54663e-07],
    ),
    "upper_arm": (
        0.103,
        [-0.0898471, -0.00838224, 0.0184089],
        [4.08002e-05, 0.000147318, 0.000142487, -1.97819e-05, -4.03016e-08, 8.97326e-09],
    ),
    "lower_arm": (
        0.104,
        [-0.0980701, 0.00324376, 0.0182831],
        [2.87438e-05, 0.000159844, 0.00014529, 7.41152e-06, 1.26409e-06, -4.90188e-08],
    ),
    "wrist": (
        0.079,
        [-0.000103312, -0.0386143, 0.0281156],
        [3.68263e-05, 2.5391e-05, 2.1e-05, 1.7893e-08, -5.28128e-08, 3.6412e-06],
    ),
    "gripper": (
        0.087,
        [0.000213627, 0.000245138, -0.025187],
        [2.75087e-05, 4.33657e-05, 3.45059e-05, -3.35241e-07, -5.7352e-06, -5.17847e-08],
    ),
    "moving_jaw": (
        0.012,
        [-0.00157495, -0.0300244, 0.0192755],
        [6.61427e-06, 1.89032e-06, 5.28738e-06, -3.19807e-07, -5.90717e-09, -1.09945e-07],
    ),
}
RANGES = {
    "shoulder_pan": (-1.91986, 1.91986),
    "shoulder_lift": (-1.74533, 1.74533),
    "elbow_flex": (-1.69, 1.69),
    "wrist_flex": (-1.65806, 1.65806),
    "wrist_roll": (-2.74385, 2.84121),
    "gripper": (-0.174533, 1.74533),
}


@pytest.fixture
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(SCENE))


@pytest.fixture
def data(model) -> mujoco.MjData:
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    mujoco.mj_forward(model, data)
    return data


# ------------------------------------------------------------------------------- the arm of the figures


@pytest.mark.parametrize("pose", REFERENCE["forward_kinematics"])
def test_forward_kinematics_match_the_reference(model, data, pose):
    data.qpos[:6] = pose["qpos"]
    mujoco.mj_kinematics(model, data)
    # 0.1 mm is what was asked for; the largest error seen is 1e-8.
    np.testing.assert_allclose(data.body("gripper").xpos, pose["gripper_pos"], atol=1e-6)
    np.testing.assert_allclose(data.body("gripper").xmat, pose["gripper_mat"], atol=1e-6)
    np.testing.assert_allclose(data.site("gripperframe").xpos, pose["gripperframe_pos"], atol=1e-6)
    np.testing.assert_allclose(data.body("moving_jaw").xpos, pose["moving_jaw_pos"], atol=1e-6)


@pytest.mark.parametrize("motion", REFERENCE["free_motion"]["runs"])
def test_free_motions_match_the_reference(model, data, motion):
    """From rest, each control for ten steps of 2 ms, without contacts and with the gripper servo's full torque."""
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    model.actuator("gripper").forcerange[:] = [-SERVO_TORQUE, SERVO_TORQUE]
    data.qpos[:6] = motion["qpos0"]
    qpos = []
    for ctrl in motion["ctrl"]:
        data.ctrl[:] = ctrl
        mujoco.mj_step(model, data, 10)
        qpos.append(data.qpos[:6].copy())
    # 5e-3 rad is what was asked for; the largest error seen is 6e-8, the rounding of the reference.
    np.testing.assert_allclose(qpos, motion["qpos"], atol=1e-5)


@pytest.mark.parametrize("name", INERTIAS)
def test_bodies_have_the_mass_and_inertia_of_the_figures(model, name):
    mass, centre, (xx, yy, zz, xy, xz, yz) = INERTIAS[name]
    body = model.body(name)
    axes = np.empty(9)
    mujoco.mju_quat2Mat(axes, body.iquat)
    axes = axes.reshape(3, 3)
    assert body.mass == pytest.approx(mass, rel=1e-6)
    np.testing.assert_allclose(body.ipos, centre, rtol=1e-6)
    expected = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
    np.testing.assert_allclose(axes @ np.diag(body.inertia) @ axes.T, expected, atol=1e-10)


def test_base_weighs_on_no_joint_and_the_cube_weighs_8_grams(model):
    assert [model.body(i).name for i in range(1, 8)] == ["base", *INERTIAS]
    assert model.body("cube").mass == pytest.approx(0.008)
    np.testing.assert_array_equal(model.geom("cube").size, 0.01)


def test_joints_and_servos_follow_the_figures(model):
    assert [model.joint(i).name for i in range(model.njnt)] == [*ARM, "cube_joint"]
    assert [model.actuator(i).name for i in range(model.nu)] == ARM
    for name in ARM:
        joint, servo = model.joint(name), model.actuator(name)
        assert joint.range == pytest.approx(RANGES[name])
        assert joint.limited
        assert (joint.damping[0], joint.frictionloss[0], joint.armature[0]) == (0.60, 0.052, 0.028)
        assert servo.trnid[0] == joint.id
        assert servo.ctrlrange == pytest.approx(joint.range)
        assert servo.ctrllimited
        assert servo.gainprm[0] == 998.22
        assert list(servo.biasprm[:3]) == [0, -998.22, -2.731]
        torque = 1.5 if name == "gripper" else SERVO_TORQUE  # the gripper's is a setting, see so101.xml
        assert list(servo.forcerange) == [-torque, torque]
        assert servo.forcelimited


# ------------------------------------------------------------------------------------ what touches what


def test_pads_are_parallel_and_20_mm_apart_around_the_cube(model, data):
    data.qpos[5] = 0.04
    mujoco.mj_kinematics(model, data)
    fixed, moving = data.geom("fixed_pad"), data.geom("moving_pad")
    closing = fixed.xmat.reshape(3, 3)[:, 0]
    np.testing.assert_allclose(moving.xmat.reshape(3, 3)[:, 0], closing, atol=1e-6)
    thickness = model.geom("fixed_pad").size[0] + model.geom("moving_pad").size[0]
    assert (moving.xpos - fixed.xpos) @ closing - thickness == pytest.approx(0.020, abs=1e-4)
    inner = fixed.xpos + model.geom("fixed_pad").size[0] * closing
    assert (data.site("grasp_point").xpos - inner) @ closing == pytest.approx(0.010, abs=1e-4)


def test_arm_collides_with_floor_base_and_cube_but_not_with_itself_or_what_is_drawn(model):
    def collide(a, b):
        a, b = model.geom(a), model.geom(b)
        return bool((a.contype & b.conaffinity) | (b.contype & a.conaffinity))

    links = ["lower_arm_box", "wrist_box", "palm", "fixed_finger", "fixed_pad", "jaw_finger", "moving_pad"]
    solids = ["floor", "base_box", "cube"]
    for link in links:
        assert all(collide(link, solid) for solid in solids)
        assert not any(collide(link, other) for other in links)
    assert collide("cube", "floor")
    assert collide("cube", "base_box")
    colliding = {model.geom(i).name for i in range(model.ngeom) if model.geom_contype[i] or model.geom_conaffinity[i]}
    assert colliding == {*links, *solids}


def test_a_diverged_simulation_is_seen(model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves its warning in a MUJOCO_LOG.TXT
    mujoco.mj_step(model, data, 10)
    data.qvel[0] = 1e12
    mujoco.mj_step(model, data)
    assert data.warning.number.any()
    assert data.time > 10 * model.opt.timestep  # MuJoCo's own answer is to reset, clock and all


# -------------------------------------------------------------------------------------- an honest grasp


def overlap(model, data, ctrl, seconds) -> float:
    """Hold ctrl for so long; the deepest overlap of arm and cube (m)."""
    floor, deepest = model.geom("floor").id, 0.0
    data.ctrl[:] = ctrl
    for _ in range(round(seconds / model.opt.timestep)):
        mujoco.mj_step(model, data)
        depths = -data.contact.dist[~(data.contact.geom == floor).any(1)]
        deepest = max(deepest, *depths, 0.0)
    assert not data.warning.number.any()
    return deepest


def cube_in_gripper(data) -> np.ndarray:
    gripper = data.body("gripper")
    return gripper.xmat.reshape(3, 3).T @ (data.body("cube").xpos - gripper.xpos)


def put_cube_between_pads(model, data, arm):
    data.qpos[:6] = data.ctrl[:] = [*arm, AROUND_CUBE]
    mujoco.mj_kinematics(model, data)
    site, cube = data.site("grasp_point"), data.joint("cube_joint").qpos
    cube[:3] = site.xpos
    mujoco.mju_mat2Quat(cube[3:], site.xmat)


@pytest.mark.parametrize("arm", [HOME, SLANTED])
def test_a_pinched_cube_is_neither_entered_nor_lost(model, data, arm):
    put_cube_between_pads(model, data, arm)
    assert overlap(model, data, [*arm, SHUT], 1.0) < 0.5e-3
    start = cube_in_gripper(data)
    assert np.linalg.norm(start - model.site("grasp_point").pos) < 2e-3
    assert overlap(model, data, [*arm, SHUT], 3.0) < 0.5e-3
    assert np.linalg.norm(cube_in_gripper(data) - start) < 0.1e-3


def put_cube_between_open_fingers(model, data, offset, yaw=0.0):
    """On the floor, so far from the centre of the grasp towards the moving jaw, and turned by yaw in the world."""
    data.qpos[:6] = data.ctrl[:] = [*ON_FLOOR, 0.6]
    mujoco.mj_kinematics(model, data)
    site, cube = data.site("grasp_point"), data.joint("cube_joint").qpos
    cube[:2] = site.xpos[:2] + offset * site.xmat[[0, 3]]
    cube[3:] = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]


def lift_arm(model, data, angle) -> float:
    """Raise the shoulder by so much, 0.02 rad a control step, and wait a second; the deepest overlap."""
    lifts = [*np.arange(0.0, angle, 0.02), *[angle] * 50]
    return max(overlap(model, data, [*np.subtract(ON_FLOOR, [0, lift, 0, 0, 0]), SHUT], 0.02) for lift in lifts)


def test_a_cube_on_the_floor_can_be_grasped_lifted_and_held(model, data):
    """It stands square to the world, and so turned by the pan angle against the fingers."""
    put_cube_between_open_fingers(model, data, 0.005)
    deepest = overlap(model, data, [*ON_FLOOR, SHUT], 0.8)
    start = cube_in_gripper(data)
    deepest = max(deepest, lift_arm(model, data, 0.6))
    assert data.body("cube").xpos[2] > 0.15
    assert deepest < 1e-3
    assert np.linalg.norm(cube_in_gripper(data) - start) < 1e-3


def test_a_cube_at_any_yaw_can_be_grasped_and_held(model, data):
    """By its edges, most of them. Bare plastic (mu = 0.5) loses some of these, and with impratio 10 they creep."""
    home = data.qpos.copy()
    for yaw in np.radians(np.arange(-60.0, 30.0, 7.5)):
        data.qpos[:], data.qvel[:] = home, 0.0
        put_cube_between_open_fingers(model, data, 0.009, yaw)
        assert overlap(model, data, [*ON_FLOOR, SHUT], 0.7) < 1e-3
        lift_arm(model, data, 0.3)
        assert data.body("cube").xpos[2] > 0.06, f"lost at yaw {np.degrees(yaw)}"
        start = cube_in_gripper(data)
        overlap(model, data, data.ctrl.copy(), 1.0)
        assert np.linalg.norm(cube_in_gripper(data) - start) < 0.3e-3, f"creeps at yaw {np.degrees(yaw)}"


def test_a_cube_driven_into_the_floor_with_all_torque_is_not_entered(model, data):
    put_cube_between_pads(model, data, ON_FLOOR)
    data.joint("cube_joint").qpos[2] = 0.010
    closing = data.site("grasp_point").xmat[[0, 3]]
    yaw = np.arctan2(closing[1], closing[0])
    data.joint("cube_joint").qpos[3:] = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
    mujoco.mj_kinematics(model, data)
    down = np.add(ON_FLOOR, [0.0, 1.0, 0.5, 0.5, 0.0])
    assert overlap(model, data, [*ON_FLOOR, SHUT], 0.4) < 1e-3
    assert overlap(model, data, [*down, SHUT], 1.0) < 1e-3


def test_a_cube_at_rest_stays_at_rest(model, data):
    mujoco.mj_step(model, data, 100)
    start = data.joint("cube_joint").qpos.copy()
    mujoco.mj_step(model, data, 2500)
    end = data.joint("cube_joint").qpos
    np.testing.assert_allclose(end[:3], start[:3], atol=1e-6)
    # Friction in MuJoCo creeps: a rounding error, kept up for 5 s, may turn the cube by a fraction of a milliradian.
    np.testing.assert_allclose(end[3:], start[3:], atol=5e-4)


def test_a_pushed_cube_slides_as_its_friction_says(model, data):
    """Coulomb: at 0.5 m/s and mu = 0.5 it stops after v^2 / (2 mu g) = 25.5 mm (and does not tip over)."""
    data.joint("cube_joint").qvel[1] = -0.5
    mujoco.mj_step(model, data, 500)
    assert -0.10 - data.body("cube").xpos[1] == pytest.approx(0.5**2 / (2 * 0.5 * 9.81), rel=0.1)
    assert data.body("cube").xpos[2] == pytest.approx(0.01, abs=1e-4)
