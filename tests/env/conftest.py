"""Tasks for tests, all on the same two compiled models."""

import importlib.util
from functools import cache
from pathlib import Path

import pytest

from env import TASKS, TaskConfig
from env.so101.model import ArmModel
from env.so101.simulation import Simulation

GAMMA = 0.98
load_model = cache(ArmModel.load)


@pytest.fixture(scope="session")
def scenes():
    """The module tests/env/scenes.py: arm and cube put into states by hand."""
    spec = importlib.util.spec_from_file_location("scenes", Path(__file__).parent / "scenes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_task():
    """make_task(name, reward="sparse", **TaskConfig's fields): a built-in task, not reset yet, with training's goals
    and episodes where nothing else is said."""

    def make(name, reward="sparse", **config):
        kind = TASKS[name]
        config = {"goal": kind.goal_kinds[-1], "max_episode_steps": 100 if kind.has_cube else 50} | config
        return kind(load_model(kind.has_cube), TaskConfig(**config), reward)

    return make


@pytest.fixture
def simulation():
    """A simulation with the cube, just reset."""
    sim = Simulation(load_model(True))
    sim.reset((0.40, -0.10, 0.01))
    return sim


@pytest.fixture
def quiet_log(monkeypatch, tmp_path):
    """For divergence on purpose: MuJoCo writes its warnings to MUJOCO_LOG.TXT in the working directory."""
    monkeypatch.chdir(tmp_path)
