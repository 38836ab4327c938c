"""Every benchmark's command line: help, and a sentence for a number that cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
IMPOSSIBLE = {
    "ablation": ["--jobs", "0"],
    "along_the_script": ["run", "--episodes", "0"],
    "checkpoint_cost": ["--saves", "0"],
    "contacts": ["--chosen", "maybe"],
    "env_steps": ["--seconds", "0"],
    "failures": ["run", "--seed", "-1"],
    "grasp_noise": ["--slope", "1.5"],
    "inside_cost": ["--rounds", "two"],
    "peer_pick_place": ["--minutes", "inf"],
    "scaling": ["--rounds", "-3"],
    "throughput": ["--rounds", "0"],
}


def test_every_benchmark_is_here():
    programs = {path.stem for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text()}
    assert programs == set(IMPOSSIBLE)


@pytest.mark.parametrize(("name", "options"), IMPOSSIBLE.items())
def test_a_number_that_cannot_be_is_refused_in_a_sentence(name, options):
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    command = [sys.executable, BENCHMARKS / f"{name}.py", *options]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    sentence = ended.stderr.strip().splitlines()[-1]
    if name == "peer_pick_place" and "pip install -e '.[peers]'" in sentence:
        pytest.skip(sentence)
    assert ended.returncode == 2, ended.stderr
    assert options[-1] in sentence
    assert "Traceback" not in ended.stderr
