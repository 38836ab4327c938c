"""benchmarks/verify_resume.py: its verdict is true, whichever it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.resume.versions import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from verify_resume import _difference

SMALL = ["--no-compile", "--sac.hidden", "16", "16", "--batch-size", "16", "--num-envs", "4", "--warmup", "200"]


def verify(*options: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "benchmarks" / "verify_resume.py"), *SMALL, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(cwd), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_run_killed_and_resumed_is_the_same_bit_for_bit(tmp_path):
    result = verify("--env", "reach", "--task.max-episode-steps", "20", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("  killed ") == 3
    table = result.stdout.split("killed, resumed\n")[1].splitlines()
    parts = [line for line in table if line.endswith("  same")]
    for name in (
        "agent · actor",
        "agent · critic_moments",
        "agent · log_alpha",
        "buffer · rows",
        "envs",
        "curves · ",
    ):
        assert any(line.startswith(name) for line in parts), name
    assert table[-1] == f"all {len(parts)} parts are the same, bit for bit"


@pytest.mark.slow
def test_what_cannot_resume_exactly_is_found_out(tmp_path):
    shutil.copy(ROOT / "tests" / "point_env.py", tmp_path)
    result = verify("--env", "point_env:PointEnv", cwd=tmp_path)  # it cannot tell its state
    assert result.returncode == 1
    assert "buffer · rows" in result.stdout
    assert "DIFFERENT, by " in result.stdout
    assert "with these options, on this device, a resumed run is not bit-exact" in result.stdout


def test_options_that_are_refused_are_refused_at_once(tmp_path):
    result = verify("--sac.lr", "-1", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("verify_resume.py: --sac.lr -1")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ({"a": np.zeros(2)}, {"a": np.array([0.0, 0.5])}, ", by 5.0e-01 at most"),
        ({"a": np.zeros(2)}, {"a": np.zeros(3)}, ""),
        ({"b": 1}, {"b": 2}, ""),
        (np.zeros((), bool), np.ones((), bool), ", by 1.0e+00 at most"),
    ],
)
def test_how_far_two_parts_lie_apart_is_told(left, right, words):
    assert _difference(left, right) == words
