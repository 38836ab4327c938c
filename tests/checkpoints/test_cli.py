"""python -m checkpoints: what it prints, and the exit code that a script can rely on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from checkpoints import load, save

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "checkpoints", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture
def run(tmp_path) -> Path:
    """A run directory with two checkpoints, the first of them evaluated."""
    for step, success in ((1000, 0.25), (2000, None)):
        state = {"agent": {"actor": {"weight": np.ones(3, np.float32)}}}
        save(tmp_path / "checkpoints", step, state, {}, {}, success)
    return tmp_path


def damage(run: Path, step: int) -> Path:
    path = run / f"checkpoints/step_{step:09d}"
    (path / "agent.safetensors").write_bytes(b"short")
    return path


def test_list_shows_each_checkpoint_with_steps_and_success(run):
    result = command("list", run)
    assert (result.returncode, result.stderr) == (0, "")
    header, first, second = result.stdout.splitlines()
    assert header.split() == ["checkpoint", "env", "steps", "success", "size", "age"]
    assert first.split()[:3] == ["step_000001000", "1,000", "25%"]
    assert second.split()[:3] == ["step_000002000", "2,000", "–"]


def test_list_goes_on_past_a_damaged_manifest(run):
    (run / "checkpoints/step_000001000/manifest.json").write_text("{")
    result = command("list", run)
    assert result.returncode == 0
    assert "is damaged" in result.stdout.splitlines()[1]
    assert "step_000002000" in result.stdout.splitlines()[2]


def test_verify_reads_all_of_a_runs_checkpoints(run):
    result = command("verify", run)
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["good", "good"]


def test_verify_names_the_bad_file_and_exits_with_1(run):
    bad = damage(run, 1000)
    result = command("verify", run)
    assert result.returncode == 1
    first, second = result.stdout.splitlines()
    assert first.startswith("BAD")
    assert str(bad / "agent.safetensors") in first
    assert second.startswith("good")


def test_verify_takes_one_checkpoint(run):
    bad = damage(run, 1000)
    assert command("verify", bad).returncode == 1
    assert command("verify", run / "checkpoints/step_000002000").returncode == 0


@pytest.mark.parametrize("verb", ["list", "verify"])
def test_a_path_that_holds_no_checkpoint_is_named(tmp_path, verb):
    result = command(verb, tmp_path / "nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"{tmp_path / 'nowhere'} is neither a checkpoint nor a run directory" in result.stderr
    assert "Traceback" not in result.stderr


def test_export_writes_the_policy(run, tmp_path):
    source = run / "checkpoints/step_000001000"
    result = command("export", source, tmp_path / "policy", "--made-by", "python train.py")
    assert result.returncode == 0, result.stderr
    state, manifest = load(tmp_path / "policy")
    assert set(state["agent"]) == {"actor"}
    assert manifest.config["command"] == "python train.py"


def test_export_of_what_is_no_checkpoint_exits_with_1(tmp_path):
    result = command("export", tmp_path, tmp_path / "policy", "--made-by", "x")
    assert result.returncode == 1
    assert "is no checkpoint" in result.stderr
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_export_does_not_write_over_what_is_no_policy(run, tmp_path, kind):
    target = tmp_path / "precious"
    thesis = target if kind == "file" else target / "thesis.tex"
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("years of work")
    result = command("export", run / "checkpoints/step_000001000", target, "--made-by", "x")
    assert result.returncode == 1
    assert (
        result.stderr == f"checkpoints: {target} is there already and is no exported policy; name another directory\n"
    )
    assert thesis.read_text() == "years of work"


def test_what_the_disk_refuses_is_one_sentence(run, tmp_path):
    (tmp_path / "file").touch()
    result = command("export", run / "checkpoints/step_000001000", tmp_path / "file" / "policy", "--made-by", "x")
    assert result.returncode == 1
    assert result.stderr == f"checkpoints: {tmp_path / 'file'}: File exists\n"


def test_a_file_is_neither_checkpoint_nor_run(tmp_path):
    (tmp_path / "file").touch()
    assert "file is neither a checkpoint nor a run directory" in command("list", tmp_path / "file").stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_reader_that_leaves_is_no_error(run):
    line = [sys.executable, "-m", "checkpoints", "list", str(run)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_no_verb_is_a_usage_error():
    result = command()
    assert result.returncode == 2
    assert "usage: python -m checkpoints" in result.stderr
