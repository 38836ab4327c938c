"""States to save, and a disk that is watched."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _module(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def samples():
    """The module tests/checkpoints/samples.py: states, and how to save and compare them."""
    return _module("samples")


@pytest.fixture(scope="session")
def disk_calls():
    """The module tests/checkpoints/disk_calls.py: what is done to the disk, call by call."""
    return _module("disk_calls")


@pytest.fixture
def short_segments(monkeypatch) -> int:
    """Segments of so few rows that small logs have many; returns how few."""
    monkeypatch.setattr("checkpoints.segments.SEGMENT_ROWS", 8)
    return 8


@pytest.fixture
def no_flush(monkeypatch):
    """No waiting for the disk, where a test saves hundreds of times."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
