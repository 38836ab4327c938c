"""benchmarks/speedrun.py: which evaluation ends it, and a record of a run that is there."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.compat.proto.summary_pb2 import Summary

from training.analysis.read_runs import Curve
from training.curves import events

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import speedrun


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([0.95, 0.96, 1.0], 2),
        ([1.0, 1.0, 0.94, 1.0, 1.0], None),
        ([1.0, 0.9, 0.95, 0.95, 0.95, 1.0], 4),
        ([], None),
    ],
)
def test_the_third_evaluation_in_a_row_that_holds_ends_it(values, index):
    curve = Curve(np.arange(len(values)), np.array(values), np.arange(len(values)) / 2)
    assert speedrun.first_held(curve) == index


def test_a_run_that_held_is_told_of_and_not_run_again(tmp_path, monkeypatch, capsys):
    run = tmp_path / "7"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"seed": 7, "starts": [{"commit": "abc", "device": "cpu"}]}))
    curves = events.EventFile(run, 0)
    for step in range(1, 7):
        point = {"eval/success_rate": float(step > 2), "train/n_updates": 40.0 * step}
        curves.add(Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in point.items()]), step)
    curves.close()
    words = ["--seed", "7", "--runs", str(tmp_path), "--json", str(tmp_path / "record.json")]
    monkeypatch.setattr(sys, "argv", ["speedrun.py", *words])
    speedrun.main()
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["env_steps"], record["updates"], record["seed"], record["commit"]) == (5, 200, 7, "abc")
    assert "env steps   5\n" in capsys.readouterr().out
