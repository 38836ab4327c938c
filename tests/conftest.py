"""What tests of several rooms need."""

import importlib.util
from pathlib import Path

import pytest

import env  # noqa: F401  it chooses MuJoCo's OpenGL, which must happen before any test imports mujoco


@pytest.fixture(scope="session")
def point_env():
    """The module tests/point_env.py: environments that are not ours."""
    spec = importlib.util.spec_from_file_location("point_env", Path(__file__).parent / "point_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
