"""Simulates one arm: control steps, state, and the few quantities that tasks are made of."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from env.protocol import SimulationDiverged
from env.so101.contacts import CubeContacts, Hold, corner_speed, cube_contacts, cube_hold
from env.so101.model import ArmModel

CONTROL_STEP = 0.02
"""Seconds between two actions."""
MAX_TARGET_CHANGE = 0.07
"""Radians by which an action of 1 moves a servo's target in one control step: 3.5 rad/s (docs/environments.md)."""
STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# All of MuJoCo's warnings but the renderer's: a state with too many contacts is no better than one with a NaN.
_FATAL = [int(warning) for name, warning in mujoco.mjtWarning.__members__.items() if name.startswith("mjWARN")]
_FATAL = [number for number in _FATAL if number != int(getattr(mujoco.mjtWarning, "mjWARN_VGEOMFULL", -1))]


class Scene(NamedTuple):
    """Holds what N simulations look like now: arrays with a leading axis N. Lengths in m, angles in rad.

    Axes are matrices whose columns are the axes of a body in the world frame. The cube's are None where there is none.
    """

    joint_position: np.ndarray
    """(N, 6)"""
    joint_velocity: np.ndarray
    """(N, 6)"""
    servo_target: np.ndarray
    """(N, 6)"""
    grasp_point: np.ndarray
    """Between the fingertips, (N, 3)."""
    gripper_axes: np.ndarray
    """(N, 3, 3)"""
    cube_position: np.ndarray | None = None
    """(N, 3)"""
    cube_axes: np.ndarray | None = None
    """(N, 3, 3)"""
    pad_positions: np.ndarray | None = None
    """Places of the fixed and the moving finger, (N, 2, 3)."""
    cube_velocity: np.ndarray | None = None
    """(N, 6): m/s, and rad/s in its own frame."""
    contacts: CubeContacts | None = None

    @property
    def cube_hold(self) -> np.ndarray:
        """Says what holds the cubes: a Hold each, (N,) int."""
        uprightness = np.abs(self.cube_axes[:, 2])
        return cube_hold(self.contacts, self.cube_position[:, 2], uprightness, corner_speed(self.cube_velocity))


class Simulation:
    """Advances an MjData over a shared ArmModel in control steps of 20 ms.

    MuJoCo's step is split so that positions, velocities and contacts are those of the current state whenever Python
    looks: each control step begins with the second half of a physics step (forces, integration) and ends with the
    first half (kinematics, collision, velocities) of the next. That costs nothing extra and saves a mj_forward.
    """

    def __init__(self, model: ArmModel):
        substeps = CONTROL_STEP / model.mj.opt.timestep
        if abs(substeps - round(substeps)) > 1e-6:
            raise ValueError(
                f"the model's timestep {model.mj.opt.timestep} s does not divide a control step of {CONTROL_STEP} s"
            )
        self.model = model
        self.data = mujoco.MjData(model.mj)
        self.substeps = round(substeps)
        self._state_size = mujoco.mj_stateSize(model.mj, STATE)
        self.after_physics_step: Callable[[], None] | None = None
        """Is called with the contacts in which each physics step of 2 ms ends, for whoever wants to see more than the
        control step's end. All but the last time, positions are a physics step ahead of them."""
        data = self.data
        # Views into MuJoCo's memory: reading one costs nothing, and it is never stale.
        self.warnings = data.warning.number
        self.joint_position = _view(data.qpos, model.joint_qpos)
        self.joint_velocity = _view(data.qvel, model.joint_dof)
        self.servo_target = data.ctrl
        self.grasp_point = data.site_xpos[model.grasp_site]
        self.gripper_axes = data.xmat[model.gripper_body].reshape(3, 3)
        if model.has_cube:
            self.cube_position = data.qpos[model.cube_qpos : model.cube_qpos + 3]
            self.cube_axes = data.xmat[model.cube_body].reshape(3, 3)
            self.pad_positions = data.geom_xpos[model.jaw_pads[0]], data.geom_xpos[model.jaw_pads[1]]
            self.cube_velocity = data.qvel[model.cube_dof : model.cube_dof + 6]
        self.reset()

    def reset(self, cube: np.ndarray | None = None) -> None:
        """Puts every joint and servo target at 0 and at rest, and the cube, if there is one, flat at `cube` (3,) m."""
        mujoco.mj_resetData(self.model.mj, self.data)
        if cube is not None:
            start = self.model.cube_qpos
            self.data.qpos[start : start + 7] = (*cube, 1, 0, 0, 0)
        mujoco.mj_step1(self.model.mj, self.data)

    def show_target(self, position: np.ndarray) -> None:
        """Moves the drawn target, (3,) m. It is a ghost: nothing collides with it."""
        self.data.mocap_pos[self.model.target_mocap] = position

    def step(self, action: np.ndarray) -> None:
        """Takes a control step: each servo's target moves by MAX_TARGET_CHANGE times the action (6,), within its range.

        Raises SimulationDiverged.
        """
        for diverged in step_together([self], action[None]).values():
            raise diverged

    def advance(self, servo_target: np.ndarray) -> None:
        """Takes the physics steps of a control step towards the servos' targets (6,) rad."""
        self.servo_target[:] = servo_target
        model, data = self.model.mj, self.data
        mujoco.mj_step2(model, data)
        if self.after_physics_step is None:
            mujoco.mj_step(model, data, self.substeps - 1)
        else:
            for _ in range(self.substeps - 1):
                mujoco.mj_step(model, data)
                self.after_physics_step()
        mujoco.mj_step1(model, data)
        if self.after_physics_step is not None:
            self.after_physics_step()

    def cube_contacts(self) -> CubeContacts:
        """Says what meets the cube now."""
        return CubeContacts(*(column[0] for column in look([self]).contacts))

    def cube_hold(self) -> Hold:
        """Says what holds the cube now."""
        return Hold(look([self]).cube_hold[0])

    def state(self) -> np.ndarray:
        """Returns all that MuJoCo's next step depends on (mjSTATE_INTEGRATION, warm start included), (S,) float64."""
        state = np.empty(self._state_size)
        mujoco.mj_getState(self.model.mj, self.data, state, STATE)
        return state

    def load_state(self, state: np.ndarray) -> None:
        """Restores what state() returned. Raises ValueError for the state of another model."""
        if state.shape != (self._state_size,):
            raise ValueError(f"a simulation state of {state.shape} does not fit this model's ({self._state_size},)")
        mujoco.mj_resetData(self.model.mj, self.data)
        mujoco.mj_setState(self.model.mj, self.data, state, STATE)
        # The first half of a physics step, which is where step() leaves off and goes on.
        mujoco.mj_step1(self.model.mj, self.data)


def look(sims: Sequence[Simulation]) -> Scene:
    """Returns what N simulations of one model look like now."""
    names = Scene._fields[:-1] if sims[0].model.has_cube else Scene._fields[:5]
    contacts = cube_contacts(sims[0].model, [sim.data for sim in sims]) if sims[0].model.has_cube else None
    return Scene(**{name: np.array([getattr(sim, name) for sim in sims]) for name in names}, contacts=contacts)


def step_together(sims: Sequence[Simulation], actions: np.ndarray) -> dict[int, SimulationDiverged]:
    """Has N simulations of one model take a control step, each with its row of `actions` (N, 6) (Simulation.step).

    Returns the errors of those that diverged, by index.
    """
    low, high = sims[0].model.control_range.T
    targets = np.array([sim.servo_target for sim in sims]) + MAX_TARGET_CHANGE * actions
    for sim, target in zip(sims, np.minimum(np.maximum(targets, low), high), strict=True):
        sim.advance(target)
    warned = np.array([sim.warnings for sim in sims])[:, _FATAL].any(1)
    told = "the simulation diverged {:.2f} s into the episode, which is dropped"
    return {i: SimulationDiverged(told.format(sims[i].data.time)) for i in np.flatnonzero(warned).tolist()}


def _view(array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns the part of `array` at `indices`, which must follow each other, without a copy."""
    first, last = int(indices[0]), int(indices[-1])
    if last - first != len(indices) - 1:
        raise ValueError("the arm's joints must follow each other in the model")
    return array[first : last + 1]
