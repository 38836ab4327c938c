"""The simulation layer: control steps, exact state, contacts, and failure that is seen."""

import mujoco
import numpy as np
import pytest

from env import SimulationDiverged
from env.so101.model import ArmModel
from env.so101.simulation import MAX_TARGET_CHANGE, Simulation


def random_actions(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 6))


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
def test_an_action_moves_each_servo_target_by_its_share_of_seven_hundredths_of_a_radian(simulation, action):
    simulation.step(np.full(6, action))
    np.testing.assert_allclose(simulation.servo_target, 0.07 * action)
    assert pytest.approx(0.07) == MAX_TARGET_CHANGE


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_servo_targets_stop_at_the_ends_of_their_ranges(simulation, direction):
    low, high = simulation.model.mj.actuator_ctrlrange.T
    for _ in range(60):
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


def test_whoever_looks_after_each_physics_step_sees_them_all(simulation, scenes):
    scenes.put_between_pads(simulation)
    plain = mujoco.MjData(simulation.model.mj)
    mujoco.mj_setState(simulation.model.mj, plain, simulation.state(), mujoco.mjtState.mjSTATE_INTEGRATION)
    seen = []
    simulation.after_physics_step = lambda: seen.append(
        (simulation.data.qpos.copy(), simulation.data.contact.dist.copy())
    )
    for action in random_actions(10):
        seen.clear()
        simulation.step(action)
        plain.ctrl[:] = simulation.servo_target
        mujoco.mj_step(simulation.model.mj, plain)
        assert len(seen) == 10
        for position, distances in seen[:-1]:
            mujoco.mj_step(simulation.model.mj, plain)
            np.testing.assert_array_equal(position, plain.qpos)
            np.testing.assert_array_equal(distances, plain.contact.dist)
        mujoco.mj_step1(simulation.model.mj, plain)
        np.testing.assert_array_equal(seen[-1][1], plain.contact.dist)


def test_looking_changes_nothing(simulation, scenes):
    scenes.put_between_pads(simulation)
    watched = Simulation(simulation.model)
    watched.load_state(simulation.state())
    watched.after_physics_step = watched.cube_contacts
    for action in random_actions(20):
        for sim in (simulation, watched):
            sim.step(action)
    np.testing.assert_array_equal(simulation.state(), watched.state())


@pytest.mark.parametrize("in_hand", [False, True])
def test_a_restored_state_goes_on_bit_by_bit_in_another_simulation(simulation, scenes, in_hand):
    if in_hand:  # contacts and their warm start are what is easily lost
        scenes.put_between_pads(simulation)
    for action in random_actions(10):
        simulation.step(0.2 * action)
    other = Simulation(simulation.model)
    for action in random_actions(5, seed=1):
        other.step(action)
    other.load_state(simulation.state())
    np.testing.assert_array_equal(other.data.qpos, simulation.data.qpos)
    np.testing.assert_array_equal(other.grasp_point, simulation.grasp_point)
    assert other.cube_contacts() == simulation.cube_contacts()
    assert other.cube_contacts().touched == in_hand
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


@pytest.mark.parametrize("name", sorted(name for name in mujoco.mjtWarning.__members__ if name.startswith("mjWARN")))
def test_every_warning_of_mujoco_but_the_renderers_is_a_divergence(simulation, name):
    simulation.data.warning[int(mujoco.mjtWarning.__members__[name])].number = 1
    if name == "mjWARN_VGEOMFULL":
        simulation.step(np.zeros(6))
        return
    with pytest.raises(SimulationDiverged):
        simulation.step(np.zeros(6))


@pytest.mark.parametrize("with_cube", [True, False])
def test_mujoco_does_not_quietly_start_over(with_cube):
    model = ArmModel.load(with_cube)
    assert model.mj.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET


@pytest.mark.usefixtures("quiet_log")
@pytest.mark.parametrize("with_cube", [True, False])
def test_a_nan_is_seen_in_either_scene_and_does_not_set_the_clock_back(with_cube):
    sim = Simulation(ArmModel.load(with_cube))
    sim.step(np.zeros(6))
    sim.data.qvel[-1] = np.nan
    with pytest.raises(SimulationDiverged):
        sim.step(np.zeros(6))
    assert sim.data.time == pytest.approx(0.04)
