"""python -m checkpoints: what it prints, and the exit code that a script can rely on."""

import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from checkpoints import NETWORKS, list_checkpoints, load, prune, read_manifest
from checkpoints import __main__ as cli

ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys, monkeypatch):
    """command("list", run): the code that `python -m checkpoints list run` exits with, and what it prints."""

    def command(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["checkpoints", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code
        return Result(code, *capsys.readouterr())

    return command


@pytest.fixture
def run(samples, tmp_path, short_segments) -> Path:
    """A run directory with two checkpoints, the first of them evaluated; two segments belong to both."""
    samples.store(tmp_path / "checkpoints", 1000, 0.25, last=20)
    samples.store(tmp_path / "checkpoints", 2000, None, last=21)
    return tmp_path


def checkpoint(run: Path, step: int) -> Path:
    return run / f"checkpoints/step_{step:09d}"


def damage(run: Path, step: int) -> Path:
    (checkpoint(run, step) / "agent.safetensors").write_bytes(b"short")
    return checkpoint(run, step)


# list


def test_list_shows_each_checkpoint_with_steps_success_sizes_age_and_verdict(run, command):
    result = command("list", run)
    assert (result.code, result.err) == (0, "")
    header, first, second = result.out.splitlines()
    assert header.split() == ["checkpoint", "env", "steps", "success", "own", "buffer", "age", "verdict"]
    assert re.fullmatch(r"step_000001000 +1,000 +25% +0\.0 MiB +0\.0 MiB +[0-9]+ s  good", first)
    assert re.fullmatch(r"step_000002000 +2,000 +– +0\.0 MiB +0\.0 MiB +[0-9]+ s  good", second)
    assert len({header.index("verdict"), first.index("good"), second.index("good")}) == 1


def test_own_files_and_the_buffers_are_counted_apart(samples, tmp_path, command):
    path = samples.store(tmp_path / "checkpoints", last=200_000)
    own = sum(file.stat().st_size for file in path.iterdir())
    buffer = sum(file.stat().st_size for file in (path.parent / "segments").iterdir())
    assert own < 2**15
    assert buffer > 3 * 2**20
    line = command("list", tmp_path).out.splitlines()[1]
    assert f" 0.0 MiB {buffer / 2**20:>6.1f} MiB " in line


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (-5, "0 s"),
        (119, "119 s"),
        (121, "2 min"),
        (7_199, "120 min"),
        (7_260, "2 h"),
        (47 * 3_600, "47 h"),
        (49 * 3_600, "2 d"),
        (400 * 86_400, "400 d"),
    ],
)
def test_an_age_is_told_in_the_unit_that_one_thinks_in(seconds, age):
    assert cli._age(seconds) == age


def test_the_age_is_what_the_checkpoint_says_and_not_that_of_a_file_that_was_copied(run, command):
    path = checkpoint(run, 1000)
    saved = (datetime.now(UTC) - timedelta(hours=3)).isoformat(timespec="seconds")
    (path / "manifest.json").write_bytes(replace(read_manifest(path), saved=saved).encode())
    first, second = command("list", run).out.splitlines()[1:]
    assert " 3 h  good" in first
    assert " s  good" in second


def test_list_exits_with_1_where_one_is_bad_and_goes_on_with_the_next(run, command):
    bad = damage(run, 1000)
    result = command("list", run)
    assert (result.code, result.err) == (1, "")
    first, second = result.out.splitlines()[1:]
    assert f"BAD: {bad / 'agent.safetensors'} is cut short" in first
    assert first.split()[:3] == ["step_000001000", "1,000", "25%"]
    assert second.endswith("  good")


def test_list_goes_on_past_a_damaged_manifest(run, command):
    (checkpoint(run, 1000) / "manifest.json").write_text("{")
    result = command("list", run)
    assert result.code == 1
    header, first, second = result.out.splitlines()
    assert re.search(r"BAD: .*step_000001000/manifest\.json is damaged", first)
    assert first.index("BAD") == header.index("verdict")
    assert second.endswith("  good")


def test_a_segment_that_both_need_makes_both_bad(run, command):
    for path in (run / "checkpoints/segments").glob("*-000000000000-000000000008-*"):
        path.write_bytes(b"short")
    for verb in ("list", "verify"):
        result = command(verb, run)
        assert result.code == 1
        assert len(re.findall(r"BAD.*segments/buffer-rows-000000000000-000000000008-", result.out)) == 2


@pytest.mark.parametrize(("verb", "when"), [("list", "read_manifest"), ("list", "verify"), ("verify", "verify")])
def test_a_checkpoint_that_the_run_prunes_meanwhile_is_no_damage(samples, run, command, monkeypatch, verb, when):
    function = getattr(cli, when)

    def late(path, **options):
        prune(path.parent, keep=1, newest=2000)
        return function(path, **options)

    samples.store(run / "checkpoints", 1000, None)  # none that is kept for its success
    monkeypatch.setattr(cli, when, late)
    result = command(verb, run)
    assert (result.code, result.err) == (0, "")
    assert "step_000002000" in result.out
    assert "step_000001000" not in result.out


# verify


def test_verify_reads_all_of_a_runs_checkpoints(run, command):
    result = command("verify", run)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"good  {checkpoint(run, 1000)}\ngood  {checkpoint(run, 2000)}\n"


def test_verify_names_the_bad_file_and_exits_with_1(run, command):
    bad = damage(run, 1000)
    result = command("verify", run)
    assert result.code == 1
    first, second = result.out.splitlines()
    assert first.startswith(f"BAD   {bad / 'agent.safetensors'} ")
    assert second.startswith("good")


@pytest.mark.parametrize("verb", ["list", "verify"])
def test_one_checkpoint_can_be_named(run, command, verb):
    bad = damage(run, 1000)
    assert command(verb, bad).code == 1
    result = command(verb, checkpoint(run, 2000))
    assert result.code == 0
    assert "step_000001000" not in result.out


@pytest.mark.parametrize("verb", ["list", "verify"])
def test_a_path_that_holds_no_checkpoint_is_named(tmp_path, command, verb):
    result = command(verb, tmp_path / "nowhere")
    assert result == (
        2,
        "",
        f"checkpoints: {tmp_path}/nowhere is neither a checkpoint nor a run directory that holds one\n",
    )


def test_a_file_is_neither_checkpoint_nor_run(tmp_path, command):
    (tmp_path / "file").touch()
    assert "file is neither a checkpoint nor a run directory" in command("list", tmp_path / "file").err


# export


def test_export_writes_the_policy(run, tmp_path, command):
    result = command(
        "export", checkpoint(run, 1000), "--directory", tmp_path / "policy", "--made-by", "python train.py"
    )
    assert result == (0, f"wrote {tmp_path / 'policy'}\n", "")
    state, manifest = load(tmp_path / "policy")
    assert set(state["agent"]) == set(NETWORKS)
    assert manifest.config["command"] == "python train.py"


def test_export_of_what_is_no_checkpoint_exits_with_2(tmp_path, command):
    result = command("export", tmp_path, "--directory", tmp_path / "policy", "--made-by", "x")
    assert result.code == 2
    assert "is no checkpoint" in result.err
    assert not (tmp_path / "policy").exists()


def test_export_to_nothing_says_what_there_is(run, command):
    told = "checkpoints: export to what? give --onnx FILE, --torchscript FILE, --npz FILE or --directory DIR\n"
    assert command("export", checkpoint(run, 1000)) == (2, "", told)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_export_does_not_write_over_what_is_no_policy(run, tmp_path, command, kind):
    target = tmp_path / "precious"
    thesis = target if kind == "file" else target / "thesis.tex"
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("years of work")
    result = command("export", checkpoint(run, 1000), "--directory", target, "--made-by", "x")
    complaint = f"checkpoints: {target} is there already and is no exported policy; name another directory\n"
    assert result == (2, "", complaint)
    assert thesis.read_text() == "years of work"


def test_what_the_disk_refuses_is_one_sentence(run, tmp_path, command):
    (tmp_path / "file").touch()
    result = command("export", checkpoint(run, 1000), "--directory", tmp_path / "file" / "policy", "--made-by", "x")
    assert result == (1, "", f"checkpoints: {tmp_path / 'file'}: File exists; what was saved before is intact\n")


# prune, rm


def test_prune_leaves_the_newest_and_the_best(samples, run, command):
    samples.store(run / "checkpoints", 3000, 0.1, last=22)
    (run / "config.json").touch()
    assert command("prune", run) == (0, f"removed 1 of 3 checkpoints of {run}\n", "")
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step_000001000", "step_000003000"]
    assert command("verify", run).code == 0
    assert command("prune", run, "--keep", 0) == (2, "", "checkpoints: --keep 0: must be at least 1\n")


def test_rm_removes_one_and_what_only_it_needed_and_never_the_last(run, command):
    segments = len(list((run / "checkpoints" / "segments").iterdir()))
    assert command("rm", run, 2000) == (0, f"removed the checkpoint of step 2,000 of {run}\n", "")
    assert len(list((run / "checkpoints" / "segments").iterdir())) < segments
    assert command("verify", run) == (0, f"good  {checkpoint(run, 1000)}\n", "")
    assert "holds no checkpoint of step 2,000" in command("rm", run, 2000).err
    assert "step_000001000 is the last one; remove the run's directory instead" in command("rm", run, 1000).err
    assert command("verify", run).code == 0


@pytest.mark.parametrize("verb", [["prune"], ["rm", "1000"]])
def test_nothing_is_removed_beside_a_run_that_trains_nor_where_there_is_none(verb, run, tmp_path, command):
    hold = "import sys; from pathlib import Path; from training.resume.run_directory import RunDirectory as R\n"
    hold += "with R(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    line = [sys.executable, "-c", hold, run]
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        refused = command(verb[0], run, *verb[1:])
        holder.kill()
    assert (refused.code, refused.err.count("is being trained already by another process")) == (1, 1)
    assert len(list_checkpoints(run / "checkpoints")) == 2
    (tmp_path / "none").mkdir()
    refused = command(verb[0], tmp_path / "none", *verb[1:])
    assert (refused.code, refused.err) == (
        2,
        f"checkpoints: {tmp_path / 'none'} is no run directory that holds a checkpoint\n",
    )


# As a command


def test_it_is_a_command(run):
    line = [sys.executable, "-m", "checkpoints", "verify", str(run)]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("good") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_reader_that_leaves_is_no_error(run):
    line = [sys.executable, "-m", "checkpoints", "list", str(run)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_an_output_that_takes_nothing_is_no_fault_of_the_run(run):
    line = [sys.executable, "-m", "checkpoints", "list", str(run)]
    with open("/dev/full", "w") as full:
        result = subprocess.run(line, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    told = "checkpoints: standard output: No space left on device; what was saved before is intact\n"
    assert (result.returncode, result.stderr) == (1, told)


def test_no_verb_is_a_usage_error(command):
    result = command()
    assert result.code == 2
    assert "python -m checkpoints --help" in result.err
