"""Every benchmark refuses a number that cannot be, in a sentence."""

import argparse
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from command_line import count, positive, seed_number, share  # noqa: E402

IMPOSSIBLE = {
    "ablation": ["--jobs", "0"],
    "along_the_script": ["run", "--episodes", "0"],
    "checkpoint_cost": ["--saves", "0"],
    "env_steps": ["--blocks", "0"],
    "failures": ["run", "--seed", "-1"],
    "foreign": ["--seeds", "-1"],
    "grasp_noise": ["--slope", "1.5"],
    "inside_cost": ["--rounds", "two"],
    "peer": ["--env", "reach", "--minutes", "inf"],
    "scaling": ["--rounds", "-3"],
    "speedrun": ["--seed", "-1"],
    "throughput": ["--rounds", "0"],
}


@pytest.mark.parametrize(
    ("convert", "allowed", "refused"),
    [
        (count, {"1": 1, "400000": 400_000}, ["0", "-1", "1.5", "nan", "many", ""]),
        (seed_number, {"0": 0, "7": 7}, ["-1", "0.5", "x"]),
        (positive, {"0.1": 0.1, "60": 60.0}, ["0", "-3", "inf", "nan", "long"]),
        (share, {"1": 1.0, "0.2": 0.2}, ["0", "1.01", "-0.5", "nan", "half"]),
    ],
)
def test_numbers_are_taken_or_refused(convert, allowed, refused):
    assert {text: convert(text) for text in allowed} == allowed
    for text in refused:
        with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' is not a"):
            convert(text)


def test_every_benchmark_is_here():
    programs = {path.stem for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text()}
    assert programs == {*IMPOSSIBLE, "contacts", "verify_resume"}  # which take no number of their own


@pytest.mark.parametrize(("name", "options"), IMPOSSIBLE.items())
def test_a_number_that_cannot_be_is_refused_in_a_sentence(name, options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    if name == "peer" and "pip install -e '.[peers]'" in str(ended.value):
        pytest.skip(str(ended.value))
    assert ended.value.code == 2
    assert f"error: argument {options[-2]}: " in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_environments_speed_is_measured():
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    command = [sys.executable, BENCHMARKS / "env_steps.py", "--blocks", "1", "--only", "pick-place"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "pick-place" in ended.stdout
