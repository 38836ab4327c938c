"""What tests of several rooms need."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    # Started in the background or under nohup, the tests would hand on that these are ignored, and many send them.
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many tests run at once as there are cores; before torch is imported

import env  # noqa: E402, F401  it chooses MuJoCo's OpenGL, which must happen before any test imports mujoco


def pytest_addoption(parser):
    counts = parser.getgroup("counts", "how much the slow suite does")
    counts.addoption("--truncations", type=int, default=200, help="places at which each file of a checkpoint is cut")
    counts.addoption("--bit-flips", type=int, default=1000, help="bits flipped in each file of a checkpoint")
    counts.addoption("--kills", type=int, default=100, help="processes killed at random instants of their training")
    counts.addoption(
        "--save-kills", type=int, default=100, help="processes killed in the middle of saving or restoring"
    )
    counts.addoption("--kills-of-one-run", type=int, default=30, help="how often one and the same run is killed")


@pytest.fixture(scope="session")
def point_env():
    """The module tests/point_env.py: environments that are not ours."""
    spec = importlib.util.spec_from_file_location("point_env", Path(__file__).parent / "point_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
