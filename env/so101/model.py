"""Compiles the robot and its scene, and resolves every name to an index once."""

import hashlib
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

ASSETS = Path(__file__).parent / "assets"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
CUBE_HALF = 0.01  # m


def scene_path(with_cube: bool) -> Path:
    return ASSETS / ("scene.xml" if with_cube else "reach.xml")


def source_files(path: Path) -> list[Path]:
    """Returns an MJCF file and every file that it includes, in the order in which they are read."""
    files = [path]
    for include in ElementTree.parse(path).iter("include"):
        files += source_files(path.parent / include.attrib["file"])
    return files


class ArmModel:
    """Holds one mujoco.MjModel, shared by any number of simulations, and knows where its parts are.

    Nothing writes to it after loading: goals and everything else that changes live in mujoco.MjData.
    """

    def __init__(self, mj: mujoco.MjModel, has_cube: bool):
        self.mj = mj
        self.has_cube = has_cube
        self.joint_qpos = np.array([mj.joint(name).qposadr[0] for name in JOINTS])
        self.joint_dof = np.array([mj.joint(name).dofadr[0] for name in JOINTS])
        self.control_range = mj.actuator_ctrlrange.copy()
        """Lowest and highest target of each servo, (6, 2) rad."""
        self.gripper_body = mj.body("gripper").id
        self.grasp_site = mj.site("grasp_point").id
        self.jaw_pads = mj.geom("fixed_pad").id, mj.geom("moving_pad").id
        self.floor_geom = mj.geom("floor").id
        self.target_mocap = int(mj.body("target").mocapid[0])
        if has_cube:
            self.cube_body, self.cube_geom = mj.body("cube").id, mj.geom("cube").id
            self.cube_qpos = int(mj.joint("cube_joint").qposadr[0])
            self.cube_dof = int(mj.joint("cube_joint").dofadr[0])

    @classmethod
    def load(cls, with_cube: bool = True) -> "ArmModel":
        """Loads the SO-101 in its scene, without the cube for tasks that have no use for it."""
        spec = mujoco.MjSpec.from_file(str(scene_path(with_cube)))
        # Geoms that are only looked at cost a tenth of a step, and change no bit of it.
        spec.compiler.discardvisual = True
        return cls(spec.compile(), with_cube)

    @cached_property
    def drawn(self) -> mujoco.MjModel:
        """Loads the same model with everything that is only looked at. Positions mean the same in both."""
        return mujoco.MjModel.from_xml_path(str(scene_path(self.has_cube)))

    @cached_property
    def fingerprint(self) -> str:
        """Returns the SHA-256 of the MJCF files that the model was read from: another model is another task."""
        sha256 = hashlib.sha256()
        for file in source_files(scene_path(self.has_cube)):
            sha256.update(file.read_bytes().replace(b"\r\n", b"\n"))
        return sha256.hexdigest()
