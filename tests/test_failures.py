"""benchmarks/failures.py: each table of success holds every episode once, and the last says how far the others came."""

import re
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import checkpoints
from env import TASKS, TaskConfig, make_envs
from training.evaluation.rollout import Episode, run_episodes
from training.recipes import recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import failures

PLACES = ["by the goal's distance from the pan axis", "by the goal's height"]
START = "by the cube's start from the pan axis"


@pytest.fixture
def run(monkeypatch, capsys):
    """The script in this process; returns its error message, or None where it ended well."""

    def run(*options, status=2):
        monkeypatch.setattr(sys, "argv", ["failures.py", *map(str, options)])
        ends = pytest.raises(SystemExit, match=f"^{status}$") if status else nullcontext()
        with ends:
            failures.main()
        return capsys.readouterr().err if status else None

    return run


def table(text):
    """[(row, what it holds)] of a table, or of the line over all of them."""
    return [(row[:44].strip(), row[44:].split()) for row in text.splitlines()]


@pytest.mark.parametrize(("policy", "tables"), [("reach", PLACES), ("pick-place", [*PLACES, START])])
def test_each_table_of_success_holds_every_episode_once(policy, tables, run, capsys):
    assert run(policy, "--goal", "air", "--episodes", 25, status=0) is None
    _, ((_, everything),), *parts, (_, *failed) = map(table, capsys.readouterr().out.split("\n\n"))
    assert [part[0][0] for part in parts] == tables
    held = int(everything[0])
    for _, *rows in parts:
        spans = [[float(edge) for edge in re.findall(r"[\d.]+", name)] for name, _ in rows]
        assert spans == sorted(spans)
        assert sum(int(row[0]) for _, row in rows) == held
        assert sum(int(row[2]) for _, row in rows) == 25
    assert sum(int(row[0]) for name, row in failed if name != "all that lifted the cube") == 25 - held


@pytest.mark.parametrize("name", TASKS)
def test_rollouts_are_the_episodes_of_an_evaluation(name):
    def still(inputs):
        return np.zeros((len(inputs), 6), np.float32)

    tasks = make_envs(name, 2, TaskConfig(max_episode_steps=3), "sparse")
    rollouts = failures.roll_out(tasks, still, 5, seed=10)
    assert [one.episode for one in rollouts] == list(run_episodes(tasks, still, 5, 10))
    for i, one in enumerate(rollouts):
        obs, _ = tasks[0].reset(10 + i)
        assert one.bins == failures.begin(tasks[1], 10 + i)
        # Nothing moves but by its weight.
        assert one.distance == pytest.approx(np.linalg.norm(obs["achieved_goal"] - obs["desired_goal"]), abs=0.02)


def test_a_bin_holds_what_lies_between_its_edges():
    assert [failures.span(value, 0.05) for value in (0.0, 0.049, 0.12)] == [
        "0.00 to 0.05 m", "0.00 to 0.05 m", "0.10 to 0.15 m"
    ]  # fmt: skip


def test_those_that_failed_are_told_apart_by_the_last_stage_they_went_through(capsys):
    def rollout(distance, *stages, success=False):
        return failures.Rollout({}, distance, Episode(success=success, stages=dict.fromkeys(stages, True)))

    rollouts = [
        rollout(0.30),
        rollout(0.20, "touched"),  # with the back of the hand
        rollout(0.04, "reached", "touched", "pinched", "lifted"),
        rollout(0.06, "reached", "touched", "pinched", "lifted"),
        rollout(0.032, "reached", "touched", "pinched", "lifted", "carried", "placed"),
        rollout(0.052, "reached", "touched", "placed"),
        rollout(0.01, "reached", "touched", "placed", success=True),
    ]
    failures.print_failures(rollouts, TASKS["pick-place"].stages)
    assert dict(table(capsys.readouterr().out)[2:]) == {
        "never reached": ["1", "30.0", "30.0", "30.0"],
        "reached": ["0"],
        "touched": ["1", "20.0", "20.0", "20.0"],
        "pinched": ["0"],
        "lifted": ["2", "4.5", "5.0", "5.5"],
        "carried": ["0"],
        "met the goal, not at the end": ["2", "3.7", "4.2", "4.7"],
        "all that lifted the cube": ["3", "3.6", "4.0", "5.0"],
    }
    failures.print_failures(rollouts, TASKS["push"].stages)
    assert "lifted" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["nowhere"], 2, "failures.py: nowhere: no such run directory or checkpoint, and no pretrained policy"),
        (
            ["reach", "--goal", "table"],
            2,
            "failures.py: this task has no goals of kind table; there are: air",
        ),
        (["x" * 300], 1, "failures.py: " + "x" * 300 + ": File name too long"),
    ],
)
def test_what_cannot_be_gets_one_sentence(options, status, sentence, run):
    message = run(*options, status=status)
    assert message.startswith(sentence)
    assert message.count("\n") == 1


def test_a_policy_for_an_environment_of_ones_own_gets_one_sentence(tmp_path, run):
    state, manifest = checkpoints.load(checkpoints.PRETRAINED / "reach")
    about = checkpoints.About(recipe("point_env:PointEnv").to_dict(), manifest.versions)
    saved = checkpoints.save(tmp_path, 200, state, about)
    assert run(saved).startswith(f"failures.py: {saved} is a policy for point_env:PointEnv, and only built-in tasks")
