"""Finds the joint angles that bring the grasp point somewhere, with the gripper at a given slant."""

import math

import mujoco
import numpy as np

from env.so101.model import ArmModel

AXIS_WEIGHT = 0.1
"""Metres that count as much as an error of 1 in a direction's component: 1e-4 m is then as good as 1e-3 rad."""
TOLERANCE = 1e-4
DAMPING = 1e-6
ITERATIONS = 40
STUCK = 1e-3
"""Largest joint step, rad, of a solver that has come as near as the joints allow."""


class InverseKinematics:
    """Solves by Levenberg-Marquardt on MuJoCo's Jacobian, in a scratch MjData of its own.

    Source: Sugihara 2011, "Solvability-unconcerned inverse kinematics by the Levenberg-Marquardt method":
    dq = Jᵀ (J Jᵀ + λ 1)⁻¹ e with a damping λ = |e|² / 2 + const that fades as the error e does.
    """

    def __init__(self, model: ArmModel):
        self._model, self._data = model.mj, mujoco.MjData(model.mj)
        self._site = model.grasp_site
        self._qpos, self._dof = model.joint_qpos[:5], model.joint_dof[:5]
        self._low, self._high = model.control_range[:5].T
        self._translation, self._rotation = np.zeros((2, 3, model.mj.nv))

    def solve(self, point: np.ndarray, slant: float | None, start: np.ndarray) -> np.ndarray | None:
        """Returns joint angles (5,) within their ranges, found from `start` (5,), or None where there are none.

        point: where the grasp point is to be, (3,) m. slant: how far the fingers point down from the horizontal, rad,
        the gripper then closing horizontally. None leaves the gripper's orientation free.
        """
        joints = start.copy()
        for _ in range(ITERATIONS):
            error, jacobian = self._linearise(joints, point, slant)
            if np.abs(error).max() < TOLERANCE:
                return joints
            damping = 0.5 * (error @ error) + DAMPING
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping * np.eye(len(error)), error)
            joints, before = np.clip(joints + step, self._low, self._high), joints
            if np.abs(joints - before).max() < STUCK:
                return None
        return None

    def forward(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the grasp point (3,) m at joint angles (5,), and the gripper's axes in the world, columns (3, 3)."""
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self._model, self._data)
        data, site = self._data, self._site
        return data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy()

    def slant(self, joints: np.ndarray) -> float:
        """Returns how far the fingers point down from the horizontal, rad, for joint angles (5,)."""
        return math.asin(self.forward(joints)[1][2, 2])

    def _linearise(self, joints: np.ndarray, point: np.ndarray, slant: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns what is missing, (E,) m, and its Jacobian (E, 5). E is 3, and 5 where a slant is asked for."""
        model, data = self._model, self._data
        grasp_point, axes = self.forward(joints)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, self._translation, self._rotation, self._site)
        error, jacobian = point - grasp_point, self._translation[:, self._dof]
        if slant is None:
            return error, jacobian
        closing, back = axes[:, 0], axes[:, 2]
        rotation = self._rotation[:, self._dof]
        # A direction d fixed to the gripper changes by (rotation axis) x d. Only the height of it matters here.
        heights = [rotation[0] * d[1] - rotation[1] * d[0] for d in (back, closing)]
        missing = [math.sin(slant) - back[2], -closing[2]]
        return np.append(error, AXIS_WEIGHT * np.array(missing)), np.vstack([jacobian, AXIS_WEIGHT * np.array(heights)])
