"""The recipe says how to leave each ingredient out: by options that exist, and that the ablation leaves out too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from training.command_line import parse
from training.config import TrainConfig
from training.resume.run_directory import differences

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from ablation import LEFT_OUT, train_options  # noqa: E402

ROWS = [line for line in (ROOT / "docs" / "recipe.md").read_text().splitlines() if line.startswith("| ")]
LEFT_OUT_BY = [re.search(r"`(--[^`]+)`[^`|]*[|]$", row) for row in ROWS[1:]]
DOCUMENTED = [found.group(1).split() for found in LEFT_OUT_BY if found]
"""Other ingredients are always there."""


def given(options: list[str]) -> int:
    return sum(option.startswith("--") for option in options)


def parsed(options: list[str]) -> dict:
    return parse(["--env", "pick-place", *options]).to_dict()


@pytest.mark.parametrize("options", DOCUMENTED, ids=" ".join)
def test_what_leaves_an_ingredient_out_changes_the_run(options):
    changed = differences(parsed([]), parsed(options))
    assert len(changed) == given(options), changed


def ablation(name: str, options: list[str]) -> TrainConfig:
    return parse(train_options(name, 0, options))


def test_the_ablations_runs_are_long_enough_for_what_acts_late():
    config = ablation("nothing", [])
    assert config.steps > config.task.scripted_until


@pytest.mark.parametrize("name", [name for name in LEFT_OUT if name != "nothing"])
@pytest.mark.parametrize("options", [[], ["--steps", "300000", "--warmup", "5000"]], ids=["", "longer"])
def test_each_of_the_ablations_runs_leaves_out_one_ingredient_alone(name, options):
    changed = differences(ablation("nothing", options).to_dict(), ablation(name, options).to_dict())
    assert len(changed) == given(LEFT_OUT[name]), changed


def test_the_ablation_leaves_out_each_ingredient_of_the_recipe_and_hindsight():
    left_out = [options for name, options in LEFT_OUT.items() if name not in ("nothing", "hindsight")]
    assert sorted(left_out) == sorted(DOCUMENTED)
    assert parsed(LEFT_OUT["hindsight"])["her"]["strategy"] == "none"


def test_the_ablation_checks_the_runs_that_it_will_start(tmp_path):
    """Options that one arm cannot take, or reach could not: before the first run."""
    command = [sys.executable, ROOT / "benchmarks" / "ablation.py", "--runs", tmp_path / "runs"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def ends_with(*options):
        ended = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=300)
        return ended.returncode, ended.stderr.strip().splitlines()[-1]

    status, sentence = ends_with("--sac.backup-entropy", "--only", "strays")
    assert (status, "--sac.backup-entropy --n-step 4" in sentence) == (2, True)
    status, sentence = ends_with("--warmup", "200000")
    assert (status, "--steps 150000: the first 200000 steps are random" in sentence) == (2, True)
    status, sentence = ends_with("--only", "nothing", "--out", str(tmp_path / "a.png"))
    assert (status, "--out has a panel for each ingredient" in sentence) == (2, True)
    assert list(tmp_path.iterdir()) == []
