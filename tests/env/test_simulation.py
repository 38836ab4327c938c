"""The simulation layer: control steps, exact state, contacts, and failure that is seen."""

import mujoco
import numpy as np
import pytest

from env import SimulationDiverged
from env.simulation import MAX_TARGET_CHANGE, Simulation

AROUND_CUBE = 0.04  # the gripper's angle at which its pads are parallel and a cube's width apart


def random_actions(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 6))


def put_cube_at_pads(sim, gripper, shift=0.0):
    """The cube at the grasp point, turned as the gripper is, moved by `shift` metres from fixed to moving pad."""
    data, model = sim.data, sim.model
    data.qpos[model.joint_qpos[5]] = data.ctrl[5] = gripper
    mujoco.mj_kinematics(model.mj, data)
    place = sim.grasp_point + shift * sim.gripper_axes[:, 0]
    data.qpos[model.cube_qpos : model.cube_qpos + 7] = [*place, *data.xquat[model.gripper_body]]
    mujoco.mj_step1(model.mj, data)


def test_a_control_step_is_twenty_milliseconds(simulation):
    assert simulation.substeps == 10
    simulation.step(np.zeros(6))
    assert simulation.data.time == pytest.approx(0.02)


def test_reset_puts_everything_at_rest(simulation):
    for action in random_actions(10):
        simulation.step(action)
    simulation.reset((0.35, 0.05, 0.01))
    assert not simulation.joint_position.any()
    assert not simulation.joint_velocity.any()
    assert not simulation.servo_target.any()
    np.testing.assert_array_equal(simulation.cube_position, [0.35, 0.05, 0.01])
    np.testing.assert_array_equal(simulation.cube_axes, np.eye(3))
    assert not simulation.cube_velocity.any()
    assert simulation.data.time == 0


def test_a_new_simulation_is_ready_to_step(simulation):
    new, same = Simulation(simulation.model), Simulation(simulation.model)
    same.reset()
    for action in random_actions(5):
        for sim in (new, same):
            sim.step(action)
    assert not new.data.warning.number.any()
    np.testing.assert_array_equal(new.state(), same.state())


@pytest.mark.parametrize("action", [1.0, -1.0, 0.3])
def test_an_action_moves_each_servo_target_by_its_share_of_a_tenth_radian(simulation, action):
    simulation.step(np.full(6, action))
    np.testing.assert_allclose(simulation.servo_target, action * MAX_TARGET_CHANGE)
    assert pytest.approx(0.1) == MAX_TARGET_CHANGE


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_servo_targets_stop_at_the_ends_of_their_ranges(simulation, direction):
    low, high = simulation.model.mj.actuator_ctrlrange.T
    for _ in range(40):
        before = simulation.servo_target.copy()
        simulation.step(np.full(6, direction))
        assert (np.abs(simulation.servo_target - before) <= MAX_TARGET_CHANGE + 1e-12).all()
        assert (simulation.servo_target >= low).all()
        assert (simulation.servo_target <= high).all()
    np.testing.assert_array_equal(simulation.servo_target, high if direction > 0 else low)


def test_what_python_sees_belongs_to_the_current_state(simulation):
    """Positions, velocities and contacts are those that a full mj_forward computes from the same state."""
    for action in random_actions(20):
        simulation.step(action)
    fresh = mujoco.MjData(simulation.model.mj)
    mujoco.mj_setState(simulation.model.mj, fresh, simulation.state(), mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(simulation.model.mj, fresh)
    np.testing.assert_array_equal(simulation.grasp_point, fresh.site("grasp_point").xpos)
    np.testing.assert_array_equal(simulation.gripper_axes.ravel(), fresh.body("gripper").xmat)
    np.testing.assert_array_equal(simulation.cube_position, fresh.body("cube").xpos)
    np.testing.assert_array_equal(simulation.data.contact.geom, fresh.contact.geom)
    assert len(fresh.contact.geom) > 0


def test_split_stepping_is_mujocos_own_stepping(simulation):
    plain = mujoco.MjData(simulation.model.mj)
    plain.qpos[:] = simulation.data.qpos
    for action in random_actions(20):
        simulation.step(action)
        plain.ctrl[:] = simulation.servo_target
        mujoco.mj_step(simulation.model.mj, plain, nstep=10)
        np.testing.assert_array_equal(simulation.data.qpos, plain.qpos)
        np.testing.assert_array_equal(simulation.data.qvel, plain.qvel)


@pytest.mark.parametrize("in_hand", [False, True])
def test_a_restored_state_goes_on_bit_by_bit_in_another_simulation(simulation, in_hand):
    if in_hand:  # contacts and their warm start are what is easily lost
        put_cube_at_pads(simulation, AROUND_CUBE)
    for action in random_actions(10):
        simulation.step(0.2 * action)
    other = Simulation(simulation.model)
    for action in random_actions(5, seed=1):
        other.step(action)
    other.load_state(simulation.state())
    np.testing.assert_array_equal(other.data.qpos, simulation.data.qpos)
    np.testing.assert_array_equal(other.grasp_point, simulation.grasp_point)
    assert other.pads_touching_cube() == simulation.pads_touching_cube()
    for action in random_actions(30, seed=2):
        for sim in (simulation, other):
            sim.step(action)
        np.testing.assert_array_equal(other.state(), simulation.state())


def test_a_state_of_another_model_is_refused(simulation):
    with pytest.raises(ValueError, match="does not fit this model"):
        simulation.load_state(simulation.state()[:-1])


def test_a_timestep_that_does_not_divide_the_control_step_is_refused(simulation):
    class Odd:
        mj = mujoco.MjModel.from_xml_string('<mujoco><option timestep="0.003"/></mujoco>')

    with pytest.raises(ValueError, match=r"timestep 0.003 s does not divide a control step of 0.02 s"):
        Simulation(Odd())


@pytest.mark.parametrize(
    ("gripper", "shift", "touching"),
    [
        (1.0, 0.003, (False, False)),
        (1.0, -0.0002, (True, False)),
        (AROUND_CUBE, 0.0, (True, True)),
    ],
    ids=["free", "fixed pad alone", "pinched"],
)
def test_touch_is_told_for_each_pad(simulation, gripper, shift, touching):
    put_cube_at_pads(simulation, gripper - 0.005 * (touching == (True, True)), shift)
    assert simulation.pads_touching_cube() == touching


def test_the_moving_pad_alone_is_told_too(simulation):
    put_cube_at_pads(simulation, AROUND_CUBE, shift=0.0005)
    assert simulation.pads_touching_cube() == (False, True)


def test_the_table_is_no_pad(simulation):
    assert len(simulation.data.contact.geom) > 0  # the cube lies on it
    assert simulation.pads_touching_cube() == (False, False)


def test_the_drawn_target_touches_nothing_and_is_no_part_of_the_model(simulation):
    other = Simulation(simulation.model)
    other.reset((0.40, -0.10, 0.01))
    simulation.show_target(simulation.cube_position.copy())
    for action in random_actions(20):
        for sim in (simulation, other):
            sim.step(action)
    np.testing.assert_array_equal(simulation.data.qpos, other.data.qpos)
    assert not np.array_equal(simulation.data.mocap_pos, other.data.mocap_pos)


@pytest.mark.usefixtures("quiet_log")
@pytest.mark.parametrize("field", ["qpos", "qvel"])
@pytest.mark.parametrize("value", [1e12, float("nan"), float("inf")])
def test_divergence_raises_and_a_reset_ends_it(simulation, field, value):
    simulation.step(np.zeros(6))
    getattr(simulation.data, field)[0] = value
    with pytest.raises(SimulationDiverged, match=r"diverged .* into the episode"):
        simulation.step(np.zeros(6))
    simulation.reset((0.40, -0.10, 0.01))
    simulation.step(np.zeros(6))
    assert np.isfinite(simulation.data.qpos).all()


@pytest.mark.usefixtures("quiet_log")
def test_a_good_state_ends_a_divergence_too(simulation):
    good = simulation.state()
    simulation.data.qvel[0] = float("nan")
    with pytest.raises(SimulationDiverged):
        simulation.step(np.zeros(6))
    simulation.load_state(good)
    simulation.step(np.zeros(6))
    assert np.isfinite(simulation.data.qpos).all()
