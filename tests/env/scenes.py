"""Arm and cube put into states by hand: at rest, their servos content, unless said otherwise."""

import mujoco
import numpy as np

from env.so101.model import CUBE_HALF
from env.so101.simulation import MAX_TARGET_CHANGE

HOME = np.zeros(5)  # the fingers level, 24 cm up
GRASP_ON_TABLE = np.array([0.2632, 0.8885, -0.5476, 0.4620, -1.5221])  # grasp point at the cube's start, 11 mm up
ABOVE_CUBE = np.array([0.2632, 0.8332, -0.5750, 0.5446, -1.5221])  # the same, just above a cube's top
BELOW_TARGET = GRASP_ON_TABLE - [0.5408, 0, 0, 0, 0]  # grasp point 3 cm below the fixed target
OPEN, AROUND_CUBE, SHUT = 1.0, 0.04, -0.17  # the gripper's joint; AROUND_CUBE: its pads parallel, a cube's width apart
FLAT = (1.0, 0.0, 0.0, 0.0)


def moving(task, change):
    """The action (6,) that moves the servos' targets by `change` (6,), rad in a control step."""
    return task.action_for(np.asarray(change) / MAX_TARGET_CHANGE)


def turned(axis, angle):
    """The quaternion of a turn by `angle` rad about `axis` (3,)."""
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * np.asarray(axis, float))])


def place_cube(sim, place, quat=FLAT, velocity=(0, 0, 0, 0, 0, 0)):
    """The cube's pose and velocity (m/s, and rad/s in its own frame); the arm as it is."""
    data, model = sim.data, sim.model
    data.qpos[model.cube_qpos : model.cube_qpos + 7] = [*place, *quat]
    data.qvel[model.cube_dof : model.cube_dof + 6] = velocity
    mujoco.mj_step1(model.mj, data)


def put(sim, arm, gripper, cube, quat=FLAT, velocity=(0, 0, 0, 0, 0, 0)):
    """Arm and gripper (rad), and the cube as in place_cube."""
    data, model = sim.data, sim.model
    data.qpos[model.joint_qpos] = data.ctrl[:] = [*arm, gripper]
    data.qvel[:] = 0
    place_cube(sim, cube, quat, velocity)


def put_away(sim, arm, gripper):
    """The arm alone, the cube far from it: what stands where can then be read off `sim`."""
    put(sim, arm, gripper, (1, 1, 1))


def yaw(vector):
    return np.arctan2(vector[1], vector[0])


def put_between_pads(sim, arm=HOME, gripper=AROUND_CUBE, shift=0.0):
    """The cube at the grasp point, turned as the gripper is, moved by `shift` metres from fixed to moving pad."""
    put_away(sim, arm, gripper)
    place = sim.grasp_point + shift * sim.gripper_axes[:, 0]
    put(sim, arm, gripper, place, sim.data.body("gripper").xquat.copy())


def put_on_table_between_pads(sim, arm, gripper=AROUND_CUBE, shift=0.0):
    """The cube flat on the table below the grasp point, turned as the gripper is, moved as in put_between_pads."""
    put_away(sim, arm, gripper)
    closing = sim.gripper_axes[:, 0].copy()
    place = (sim.grasp_point + shift * closing)[:2]
    put(sim, arm, gripper, (*place, CUBE_HALF), turned((0, 0, 1), yaw(closing)))


def shut(sim):
    """Tells the gripper to shut; it gets there in its own time."""
    sim.servo_target[5] = SHUT


def put_on_top_of_fingers(sim):
    """The cube balanced on the shut fingers: both pads touch it, from below."""
    level = [0, 0, 0, 0, -1.522]
    put_away(sim, level, SHUT)
    fixed, moving = sim.pad_positions
    put(sim, level, SHUT, 0.5 * (fixed + moving) + [0.004, 0, 0.006 + CUBE_HALF])  # the pads are 12 mm wide


def put_leaning_on_shut_jaw(sim, arm, tilt=0.7):
    """The cube on one of its edges, leaning on the outer face of the fixed pad; there it stays."""
    put_away(sim, arm, SHUT)
    for _ in range(30):  # the arm sinks by a fraction of a millimetre, which would kick the cube
        sim.step(np.zeros(6))
    outwards, ahead = (-sim.gripper_axes[:, i] * [1, 1, 0] for i in (0, 2))
    outwards, ahead = (vector / np.linalg.norm(vector) for vector in (outwards, ahead))
    face = sim.pad_positions[0] + 0.0025 * outwards  # the pads are 5 mm thick
    extent = CUBE_HALF * (np.cos(tilt) + np.sin(tilt))
    place = face + extent * outwards + 0.008 * ahead  # ahead: at the fingertip, clear of the wider finger behind it
    quat = np.empty(4)
    mujoco.mju_mulQuat(quat, turned(np.cross([0, 0, 1], outwards), tilt), turned((0, 0, 1), yaw(outwards)))
    place_cube(sim, (*place[:2], extent), quat)
