"""States to save: everything that a training state is made of, in small."""

import hashlib
import json
from pathlib import Path

import numpy as np

from checkpoints import About, save

ABOUT = About({"env": "reach", "sac": {"hidden": [256, 256], "lr": 1e-3}}, {"torch": "2.9"}, "f1e2d3")


class RowLog:
    """Rows first … last - 1 of a log in which row i depends on i and `seed` alone."""

    def __init__(self, first: int, last: int, seed: int = 0):
        self.first, self.last, self.seed = first, last, seed

    def read(self, first: int, last: int) -> dict[str, np.ndarray]:
        if not self.first <= first <= last <= self.last:
            raise IndexError(f"rows {first} to {last} of {self.first} to {self.last}")
        index = np.arange(first, last)
        mixed = (index * 2_654_435_761 + self.seed * 97) % 1_000_003
        return {
            "observation": np.stack([mixed, mixed % 101, index], axis=1).astype(np.float32),
            "reward": -(mixed % 2).astype(np.float32),
            "terminated": mixed % 7 == 0,
        }


def state(seed: int = 0, first: int = 0, last: int = 20) -> dict:
    """Arrays, numbers and a log, alone and nested; `seed` decides all but the log, which has rows first … last - 1."""
    rng = np.random.default_rng(seed)
    return {
        "agent": {
            "actor": {"net.0.weight": rng.normal(size=(1, 4, 3)).astype(np.float32)},
            "actor_average": {"net.0.weight": rng.normal(size=(1, 4, 3)).astype(np.float32)},
            "normalizer": {"count": 7, "mean": rng.normal(size=4), "squares": rng.random(4)},
            "critic": {"net.0.weight": rng.normal(size=(2, 4, 3)).astype(np.float32)},
            "critic_target": {"net.0.weight": rng.normal(size=(2, 4, 3)).astype(np.float32)},
            "log_alpha": np.array(-1.5, np.float32),
            "optimizer": {},
            "updates": 3 * 10**9,
            "generator": {"device": "cpu", "state": rng.integers(0, 256, 16, np.uint8)},
        },
        "buffer": {
            "rows": RowLog(first, last),
            "staging": {"terminated": rng.random(5) < 0.5, "observation": np.zeros((0, 7), np.float32)},
            "steps_before": np.arange(5, dtype=np.int32),
            "staged": np.arange(2, dtype=np.int64),
            "transposed": rng.normal(size=(3, 2)).T,
            "rng": rng.bit_generator.state,
        },
        "counters": {"env_steps": 7, "best": None, "done": False, "rate": 0.1 + 0.2, "nested": {"deeper": {}}},
        "progress": {"env_steps": 10, "reward_scale": 0.5},
        "nothing": {},
    }


def store(root: Path, step: int = 10, success: float | None = 0.5, seed: int = 0, first: int = 0, last: int = 20):
    """Saves such a state; returns the checkpoint's path."""
    return save(root, step, state(seed, first, last), ABOUT, success)


def store_state(root: Path, state: dict) -> Path:
    """Saves `state` as of step 10; returns the checkpoint's path."""
    return save(root, 10, state, ABOUT)


def foreign_manifest(content: dict) -> bytes:
    """A manifest as other code may spell it; its own hash is right."""
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps(content | {"sha256": digest}, indent=1).encode()


def assert_same(left, right, path: str = "state") -> None:
    """Same types, shapes and values; of logs, the same rows."""
    if isinstance(left, dict):
        assert isinstance(right, dict), path
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same(left[key], right[key], f"{path}/{key}")
    elif hasattr(left, "read"):
        assert (left.first, left.last) == (right.first, right.last), path
        if left.first < left.last:
            assert_same(left.read(left.first, left.last), right.read(right.first, right.last), path)
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), path
        np.testing.assert_array_equal(left, right, err_msg=path)
    else:
        assert type(left) is type(right), path
        assert left == right, path
