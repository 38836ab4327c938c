"""evaluate.py: what it prints, writes and refuses."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest

import checkpoints
import evaluate
import train
from env import RenderingUnavailable, TaskConfig, make_envs
from env.so101.model import ArmModel

SMALL = ["--no-video", "--no-compile", "--no-overlap", "--sac.hidden", "32", "32", "--num-envs", "4", "--warmup", "100",
         "--eval.episodes", "2", "--steps", "200"]  # fmt: skip
SHORT = ["--task.max-episode-steps", "10"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A directory with a small pick-place run in it."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *SMALL, *SHORT, "--env", "pick-place", "--run", str(root / "r")])
        train.main()
    return root


def run(monkeypatch, *options):
    """evaluate.py in this process; returns its error message, or None where it ended well."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, options)])
    try:
        evaluate.main()
    except SystemExit as leaving:
        return str(leaving.code)
    return None


def test_json_holds_the_documented_summary(runs, tmp_path, monkeypatch, capsys):
    file = tmp_path / "new" / "result.json"
    assert run(monkeypatch, runs / "r", "--episodes", 7, "--json", file) is None
    content = json.loads(file.read_text())
    assert list(content) == ["env", "goal", "env_steps", "episodes", "success", "success_once", "return", "length",
                             "funnel", "largest"]  # fmt: skip
    assert (content["env"], content["goal"], content["env_steps"], content["episodes"]) == (
        "pick-place",
        "fixed",
        200,
        7,
    )
    assert set(content["success"]) == {"rate", "low", "high"}
    assert content["length"]["mean"] == 10
    assert list(content["funnel"]) == ["reached", "touched", "pinched", "lifted", "carried", "placed", "held"]
    assert all(0 <= rate <= 1 for rate in content["funnel"].values())
    assert (content["funnel"]["placed"], content["funnel"]["held"]) == (
        content["success_once"]["rate"],
        content["success"]["rate"],
    )
    assert list(content["largest"]) == ["penetration_mm"]
    out = capsys.readouterr().out
    assert out.count("\nepisode") == 7
    assert out.count("episodes that reached ") == out.count("largest penetration_mm: ") == 1


def test_an_evaluation_can_be_repeated_and_extended(runs, tmp_path, monkeypatch):
    lines = []
    for episodes in (3, 3, 6):
        file = tmp_path / "result.json"
        run(monkeypatch, runs / "r", "--episodes", episodes, "--json", file, "--goal", "mix")
        lines.append(json.loads(file.read_text()))
    assert lines[0] == lines[1]
    assert lines[2]["goal"] == "mix"


def test_a_checkpoint_can_be_named_itself(runs, monkeypatch, capsys):
    (path,) = checkpoints.list_checkpoints(runs / "r" / "checkpoints")
    assert run(monkeypatch, path, "--episodes", 1) is None
    assert str(path) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["policy.mp4", "policy.gif"])
def test_a_video_shows_the_episodes(name, runs, tmp_path, monkeypatch):
    (env,) = make_envs("pick-place", 1, TaskConfig(), "sparse")
    env.reset(seed=0)
    try:
        env.render()
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    assert run(monkeypatch, runs / "r", "--episodes", 2, "--video", tmp_path / name) is None
    frames = iio.imread(tmp_path / name)
    assert frames.shape[:3] == (11, 480, 640)  # 2 episodes of 11 frames, every second one
    assert (frames[0].astype(int) != frames[5].astype(int)).mean() > 0.001


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["nowhere"], "nowhere: no such run directory or checkpoint, and no pretrained policy"),
        (["{run}", "--episodes", "0"], "--episodes 0"),
        (["{run}", "--video", "film.avi"], "must end in .mp4 or .gif"),
        (["{parent}"], "is no checkpoint: it has no manifest.json"),
        (["{run}", "--viewer", "--json", "r.json"], "--viewer: is for watching, without --video and --json"),
        (["{run}", "--json", "{parent}"], "cannot be written ({parent}: Is a directory); name another file"),
        (["{run}", "--json", "{run}/config.json/result.json"], "cannot be written ({run}/config.json: File exists)"),
        (["{run}", "--json", "/proc/r.json"], "--json /proc/r.json: cannot be written (/proc"),
    ],
)
def test_bad_options_get_one_sentence_before_the_first_episode(options, sentence, runs, monkeypatch, capsys):
    filled = [option.format(run=runs / "r", parent=runs) for option in options]
    message = run(monkeypatch, *filled)
    sentence = sentence.format(run=runs / "r", parent=runs)
    assert sentence in message
    assert message.startswith("evaluate.py: ")
    assert message.count("\n") == 0
    assert "episode " not in capsys.readouterr().out


def test_a_cut_short_checkpoint_is_refused_by_name(runs, tmp_path, monkeypatch):
    shutil.copytree(runs / "r", tmp_path / "r")
    (path,) = checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")
    file = path / "agent.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert "agent.safetensors is cut short" in run(monkeypatch, path)
    assert "holds no checkpoint that can be used" in run(monkeypatch, tmp_path / "r")


def test_the_viewer_needs_a_screen(runs, monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has no screen")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "no screen here" in run(monkeypatch, runs / "r", "--viewer")


def test_an_exported_policy_is_the_same_policy_and_small(runs, tmp_path, monkeypatch):
    (path,) = checkpoints.list_checkpoints(runs / "r" / "checkpoints")
    checkpoints.export_policy(path, tmp_path / "mine", command="python train.py …")
    results = []
    for source in (path, tmp_path / "mine"):
        run(monkeypatch, source, "--episodes", 4, "--json", tmp_path / "result.json")
        results.append(json.loads((tmp_path / "result.json").read_text()))
    assert results[0] == results[1]
    assert sum(file.stat().st_size for file in (tmp_path / "mine").iterdir()) < 100_000


# Environments of other people

OTHERS = """
import numpy as np
from point_env import PointEnv

class Drawn(PointEnv):
    def render(self):
        return np.zeros((16, 16, 4), np.uint8)
"""


@pytest.fixture(scope="module")
def point_run(tmp_path_factory):
    """A directory with a small run on PointEnv in r, and on one that draws what is no picture in drawn."""
    root = tmp_path_factory.mktemp("point")
    shutil.copy(Path(__file__).parent / "point_env.py", root / "point_env.py")
    (root / "drawing_env.py").write_text(OTHERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        for name, kind in (("r", "point_env:PointEnv"), ("drawn", "drawing_env:Drawn")):
            patch.setattr(sys, "argv", ["train.py", *SMALL, "--env", kind, "--run", str(root / name)])
            train.main()
        yield root
    for module in ("point_env", "drawing_env"):
        sys.modules.pop(module)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("r", ["--goal", "air"], "--goal air: is for the built-in tasks; point_env:PointEnv has goals of its own"),
        ("r", ["--video", "{root}/v.mp4"], "--video: point_env:PointEnv has no render()"),
        ("drawn", ["--video", "{root}/v.mp4"], "render() must return (H, W, 3) uint8, and returned (16, 16, 4) uint8"),
        ("r", ["--viewer"], "only the built-in tasks can be watched"),
    ],
)
def test_what_an_environment_lacks_is_said_before_the_first_episode(
    name, options, sentence, point_run, monkeypatch, capsys
):
    filled = [option.format(root=point_run) for option in options]
    assert sentence in run(monkeypatch, point_run / name, *filled)
    assert "episode " not in capsys.readouterr().out
    assert not (point_run / "v.mp4").exists()


def test_a_policy_of_older_code_gets_one_sentence(runs, tmp_path, monkeypatch):
    (saved,) = checkpoints.list_checkpoints(runs / "r" / "checkpoints")
    state, manifest = checkpoints.load(saved)
    del state["agent"]["actor_average"]
    about = checkpoints.About(manifest.config, manifest.versions, manifest.fingerprint)
    saved = checkpoints.save(tmp_path / "r" / "checkpoints", 200, state, about)
    message = run(monkeypatch, saved)
    assert message.endswith("holds no averaged policy: older code wrote it; train it again")
    assert message.count("\n") == 0


def test_a_policy_of_older_code_is_evaluated_with_what_that_code_did_not_say(runs, tmp_path, monkeypatch, capsys):
    (saved,) = checkpoints.list_checkpoints(runs / "r" / "checkpoints")
    state, manifest = checkpoints.load(saved)
    config = manifest.config | {"task": dict(manifest.config["task"])}
    for name in ("action_slope", "retry_missed", "scripted_astray", "observation"):
        del config["task"][name]
    saved = checkpoints.save(tmp_path / "r" / "checkpoints", 200, state, checkpoints.About(config, manifest.versions))
    assert run(monkeypatch, saved, "--episodes", 1) is None
    assert "older code trained it, without --task.action-slope, --task.observation: " in capsys.readouterr().out
    assert run(monkeypatch, runs / "r", "--episodes", 1) is None
    assert "older code" not in capsys.readouterr().out


@pytest.mark.parametrize("changed", [False, True])
def test_a_policy_of_another_model_is_evaluated_and_said_to_be(changed, runs, monkeypatch, capsys):
    if changed:
        monkeypatch.setattr(ArmModel, "fingerprint", "0" * 64)
    assert run(monkeypatch, runs / "r", "--episodes", 1) is None
    output = capsys.readouterr().out
    assert ("trained on another model of the environment" in output) == changed
    assert "success" in output


def test_a_policy_that_does_not_fit_gets_one_sentence(runs, point_run, tmp_path, monkeypatch):
    shutil.copytree(runs / "r", tmp_path / "r")
    (saved,) = checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")
    state, manifest = checkpoints.load(saved)
    config = manifest.config | {"env": "point_env:PointEnv", "reward": None}
    saved = checkpoints.save(tmp_path / "r" / "checkpoints", 200, state, checkpoints.About(config, manifest.versions))
    message = run(monkeypatch, saved)
    assert "does not fit point_env:PointEnv as it is now: size mismatch for" in message
    assert message.count("\n") == 0


def test_an_environment_that_tells_no_stages_gets_no_funnel(point_run, tmp_path, monkeypatch, capsys):
    file = tmp_path / "result.json"
    assert run(monkeypatch, point_run / "r", "--episodes", 2, "--json", file) is None
    assert not {"funnel", "largest"} & set(json.loads(file.read_text()))
    assert "episodes that" not in capsys.readouterr().out


# What can go wrong around it


def test_without_the_policies_that_come_along_a_wrong_name_is_still_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "PRETRAINED", tmp_path / "nowhere")
    assert "no pretrained policy (none came with the code)" in run(monkeypatch, "reach-for-the-stars")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "130"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/r"), "evaluate.py: runs/r: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "evaluate.py: [Errno 28] No space left on device"),
        (OSError("ffmpeg failed\n\nits whole output"), "evaluate.py: ffmpeg failed"),
    ],
)
def test_interruptions_and_the_disks_errors_end_without_a_traceback(error, message, monkeypatch):
    def failing(config):
        raise error

    monkeypatch.setattr(evaluate, "evaluate", failing)
    assert run(monkeypatch, "r") == message


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_reader_that_leaves_is_no_error(runs):
    root = Path(evaluate.__file__).parent
    line = [sys.executable, root / "evaluate.py", runs / "r", "--episodes", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(sys.platform == "win32", reason="has no such shell")
@pytest.mark.parametrize(
    "program",
    ["evaluate.py {run} --episodes 1", "benchmarks/failures.py {run} --episodes 1", "-m checkpoints list {run}",
     "-m env.oracle --episodes 1", "docs/examples/episode.py {run}"],
)  # fmt: skip
def test_what_nobody_can_read_is_not_printed(program, runs):
    root = Path(evaluate.__file__).parent
    command = f"exec {sys.executable} {program.format(run=runs / 'r')} >&-"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    ended = subprocess.run(["sh", "-c", command], cwd=root, env=environment, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
