"""Off-screen pictures of a simulation, with whatever OpenGL this machine has."""

import ctypes
import os
import sys

import numpy as np


class RenderingUnavailable(RuntimeError):
    """This machine cannot draw; everything else works."""


def choose_backend() -> None:
    """Sets MUJOCO_GL to EGL, else OSMesa, unless the user did or a platform other than Linux decides by itself.

    MuJoCo reads the variable once, when it is first imported, so this must run before.
    """
    if "MUJOCO_GL" in os.environ or not sys.platform.startswith("linux"):
        return
    for backend, library in (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8"), ("osmesa", "libOSMesa.so.6")):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        os.environ["MUJOCO_GL"] = backend
        return
    os.environ["MUJOCO_GL"] = "disable"


class Camera:
    """Draws one simulation from one of its cameras; the OpenGL context is made at the first picture.

    Raises RenderingUnavailable from the first draw() on a machine without a working back end.
    """

    def __init__(self, model, camera: str = "overview", height: int = 480, width: int = 640):
        self._model, self._camera, self._size = model, camera, (height, width)
        self._renderer = None

    def draw(self, data) -> np.ndarray:
        """(height, width, 3) uint8."""
        if self._renderer is None:
            self._renderer = self._open()
        self._renderer.update_scene(data, self._camera)
        return self._renderer.render()

    def _open(self):
        import mujoco

        backend = os.environ.get("MUJOCO_GL", "")
        try:
            return mujoco.Renderer(self._model, *self._size)
        except Exception as error:  # each back end fails in its own way: ImportError, AttributeError, GLError, …
            raise RenderingUnavailable(
                f"no off-screen rendering (MUJOCO_GL={backend or 'unset'}: {type(error).__name__}: {error}); install "
                "EGL or OSMesa (Debian: libegl1 libgl1-mesa-dri, or libosmesa6) or set MUJOCO_GL=egl|osmesa|glfw"
            ) from error
