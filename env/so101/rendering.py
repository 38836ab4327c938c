"""Draws off-screen pictures of a simulation, with whatever OpenGL this machine has."""

import ctypes
import os
import sys
from collections.abc import Sequence

import numpy as np

from errors import UserError

HEIGHT, WIDTH = 480, 640
INSET = 180
"""Height and width of the gripper's view, in pixels like all that follow."""
MARGIN, FRAME = 14, 2
FRAME_COLOR = (70, 76, 84)
PATH_WIDTH = 2
PATH_COLOR = (0.10, 0.35, 0.85)
PATH_OPACITY = (0.15, 0.9)
"""Opacity of the path at its beginning, and at its end."""

_refused: str | None = None
"""Why the back end does not work. A second try would be no better, and with some a crash."""


def choose_backend() -> None:
    """Sets MUJOCO_GL to EGL, else OSMesa, unless the user did or a platform other than Linux decides by itself.

    Imports MuJoCo, which reads the variable once and fails where the user's choice does not work here. Then it is
    imported without a back end: nothing but pictures needs one.
    """
    global _refused
    if "MUJOCO_GL" not in os.environ and sys.platform.startswith("linux"):
        os.environ["MUJOCO_GL"] = _installed_backend()
    try:
        import mujoco  # noqa: F401
    except Exception as error:  # each back end fails in its own way
        _refused = _refusal(error)
        os.environ["MUJOCO_GL"] = "disable"
        # What was imported half-way is imported again, but not the extension modules, which can be only once.
        for name in [name for name in sys.modules if name.startswith(("mujoco.", "OpenGL"))]:
            if not name.startswith("mujoco._"):
                del sys.modules[name]


def _installed_backend() -> str:
    for backend, library in (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8"), ("osmesa", "libOSMesa.so.6")):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return backend
    return "disable"


def _refusal(error: Exception) -> str:
    return f"MUJOCO_GL={os.environ.get('MUJOCO_GL') or 'unset'}: {type(error).__name__}: {error}"


choose_backend()
import mujoco  # noqa: E402

from env.so101.model import ArmModel  # noqa: E402


class Camera:
    """Draws one simulation: the whole arm, a path, and in a corner, as an inset, what the gripper's camera sees.

    The OpenGL contexts are made at the first picture. On a machine without a working back end, draw() raises UserError.
    """

    def __init__(self, model: ArmModel, inset: bool):
        self._model, self._inset = model, inset
        self._data = self._overview = self._gripper = None

    def draw(self, data: mujoco.MjData, path: Sequence[np.ndarray]) -> np.ndarray:
        """Returns a picture, (480, 640, 3) uint8, of `data` and of a line through the points of `path`, each (3,) m.

        Raises UserError.
        """
        if self._overview is None:
            self._data = mujoco.MjData(self._model.drawn)
            self._gripper = self._open(INSET, INSET) if self._inset else None
            self._overview = self._open(HEIGHT, WIDTH)
        copy_positions(data, self._data)
        mujoco.mj_kinematics(self._model.drawn, self._data)
        mujoco.mj_camlight(self._model.drawn, self._data)
        picture = self._shoot(self._overview, "overview", path)
        if self._gripper is not None:
            paste(picture, self._shoot(self._gripper, "gripper_camera", ()))
        return picture

    def _shoot(self, renderer, camera: str, path: Sequence[np.ndarray]) -> np.ndarray:
        renderer.update_scene(self._data, camera)
        unshadow_sites(renderer.scene)
        add_path(renderer.scene, path)
        return halved(renderer.render())

    def _open(self, height: int, width: int):
        global _refused
        if _refused is None:
            try:
                return mujoco.Renderer(self._model.drawn, 2 * height, 2 * width)
            except Exception as error:  # each back end fails in its own way: ImportError, AttributeError, GLError, …
                _refused = _refusal(error)
        raise UserError(
            f"no off-screen rendering ({_refused}); install EGL or OSMesa (Debian: libegl1 libgl1-mesa-dri, or "
            "libosmesa6) or set MUJOCO_GL=egl|osmesa|glfw"
        )


def copy_positions(data: mujoco.MjData, drawn: mujoco.MjData) -> None:
    """Puts everything into `drawn`, an MjData of ArmModel.drawn, where it is in `data`, one of ArmModel.mj.

    The simulation's own data would not do: its model has no looks, MuJoCo's renderer may write into what it draws, and
    what was moved since the last physics step, as the target is by a reset, has not got there yet.
    """
    for name in ("qpos", "mocap_pos", "mocap_quat"):
        getattr(drawn, name)[:] = getattr(data, name)


def unshadow_sites(scene: mujoco.MjvScene) -> None:
    """Makes sites decoration, which throws no shadow: with one, the target's tolerance looks like a thing."""
    for geom in scene.geoms[: scene.ngeom]:
        if geom.objtype == mujoco.mjtObj.mjOBJ_SITE:
            geom.category = mujoco.mjtCatBit.mjCAT_DECOR


def add_path(scene: mujoco.MjvScene, path: Sequence[np.ndarray]) -> None:
    """Adds a line through the points (3,) m to an updated scene, through the newest where there is no room for all."""
    room = scene.maxgeom - scene.ngeom
    points = np.asarray(path, np.float64).reshape(-1, 3)[-(room + 1) :]
    line, nothing = mujoco.mjtGeom.mjGEOM_LINE, np.zeros(9)
    for start, end, opacity in zip(points[:-1], points[1:], opacities(points), strict=True):
        geom = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(geom, line, nothing[:3], nothing[:3], nothing, np.array([*PATH_COLOR, opacity], np.float32))
        mujoco.mjv_connector(geom, line, 2 * PATH_WIDTH, start, end)
        scene.ngeom += 1


def opacities(points: np.ndarray) -> np.ndarray:
    """Returns the opacities (N - 1,) of the lines between points (N, 3), rising evenly along the way.

    They do not rise with time: a cube that waits for the arm would use up the range before it moves.
    """
    way = np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))
    return np.interp(way, (0, max(way[-1], 1e-9)), PATH_OPACITY) if len(way) else way


def halved(image: np.ndarray) -> np.ndarray:
    """Averages every four pixels of an image (2 H, 2 W, 3) to (H, W, 3) uint8: smooth edges, those of shadows too."""
    wide = image.astype(np.uint16)
    return ((wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2] + 2) // 4).astype(np.uint8)


def paste(picture: np.ndarray, inset: np.ndarray) -> None:
    """Puts `inset` (h, w, 3) with its frame into the lower left corner of `picture` (H, W, 3)."""
    bottom, left = picture.shape[0] - MARGIN, MARGIN
    top, right = bottom - inset.shape[0], left + inset.shape[1]
    picture[top - FRAME : bottom + FRAME, left - FRAME : right + FRAME] = FRAME_COLOR
    picture[top:bottom, left:right] = inset
