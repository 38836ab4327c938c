"""A policy for other programs does what the network does, says what it takes, or is not written."""

import json
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import checkpoints
from checkpoints import CheckpointError
from errors import UserError
from training.analysis import export as exporting
from training.analysis.export import export
from training.analysis.policy import load_policy

OBS = {
    "observation": np.random.default_rng(0).normal(size=(7, 27)).astype(np.float32),
    "achieved_goal": np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32),
    "desired_goal": np.random.default_rng(2).normal(size=(7, 3)).astype(np.float32),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The shipped policy of reach in each format."""
    folder = tmp_path_factory.mktemp("exported")
    files = {form: folder / f"reach.{form}" for form in exporting.WRITERS}
    assert export("reach", files) < exporting.TOLERANCE
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in files.values())
    return files


def test_each_format_acts_as_the_policy_and_carries_its_card(written):
    expected = load_policy("reach").act(OBS)
    session = onnxruntime.InferenceSession(str(written["onnx"]))
    np.testing.assert_allclose(session.run(["action"], OBS)[0], expected, atol=1e-5)
    extra = {"card.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PyTorch's
        script = torch.jit.load(str(written["torchscript"]), _extra_files=extra)
    np.testing.assert_allclose(script(*map(torch.from_numpy, OBS.values())).numpy(), expected, atol=1e-5)
    with np.load(written["npz"]) as arrays:
        cards = [json.loads(str(arrays["card"])), json.loads(extra["card.json"])]
    cards.append(json.loads(onnx.load(written["onnx"]).metadata_props[0].value))
    assert cards[0] == cards[1] == cards[2]
    card = cards[0]
    fields = card["inputs"]["observation"]["fields"]
    assert sum(field["size"] for field in fields) == card["inputs"]["observation"]["size"] == 27
    assert fields[1] | {"unit": "rad/s", "scale": 0.2} == fields[1]
    assert card["outputs"]["action"]["period_s"] == 0.02
    assert len(card["outputs"]["action"]["joints"]) == len(card["outputs"]["action"]["target_range_rad"]) == 6


def test_what_does_not_act_as_the_network_is_not_written(tmp_path, monkeypatch):
    wrong = {"npz": lambda path, observed: np.zeros((exporting.TRIED, 6))}
    monkeypatch.setattr(exporting, "READERS", exporting.READERS | wrong)
    with pytest.raises(UserError, match=r"--npz .*p\.npz: not written: its actions are .* off the network's"):
        export("reach", {"npz": tmp_path / "p.npz"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["file", "device", "twice"])
def test_nothing_that_is_there_is_replaced(there, tmp_path):
    file = Path("/dev/null") if there == "device" else tmp_path / "p"
    if there == "file":
        file.write_text("years of work")
    before = list(tmp_path.iterdir())
    with pytest.raises(UserError, match="is there already; remove it, or name another file"):
        export("reach", {"npz": file} | ({"onnx": file} if there == "twice" else {}))
    assert list(tmp_path.iterdir()) == before
    assert Path("/dev/null").is_char_device()


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(exporting, "WRITERS", exporting.WRITERS | {"onnx": missing})
    with pytest.raises(UserError, match=r"--onnx: needs onnx: pip install -e '\.\[export\]' brings it"):
        export("reach", {"onnx": tmp_path / "p.onnx"})


def test_a_policy_that_is_not_there_or_not_whole_is_a_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="fetch: no such run directory or checkpoint, and no pretrained policy"):
        load_policy("fetch")
    checkpoints.save(tmp_path, 10, {"agent": {"actor_average": {}}}, checkpoints.About())
    with pytest.raises(CheckpointError, match="step_000000010 holds no normalizer: older code wrote it"):
        load_policy(tmp_path / "step_000000010")


def test_the_loop_of_the_documentation_acts_with_the_file_alone(written, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["act_onnx.py", str(written["onnx"]), "3"])
    runpy.run_path(str(Path(__file__).parents[3] / "docs" / "examples" / "act_onnx.py"), run_name="__main__")
    assert capsys.readouterr().out == "3 of 3 episodes of reach end at their goal\n"
