"""evaluate.py: what it prints, writes and refuses."""

import json
import shutil
import sys

import imageio.v3 as iio
import pytest

import checkpoints
import evaluate
import train
from env import RenderingUnavailable, TaskConfig, make_envs

SMALL = ["--no-video", "--sac.hidden", "32", "32", "--num-envs", "4", "--warmup", "100", "--eval.episodes", "2",
         "--task.max-episode-steps", "10", "--steps", "200"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A directory with a small pick-place run in it."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *SMALL, "--env", "pick-place", "--run", str(root / "r")])
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
    assert list(content) == ["env", "goal", "env_steps", "episodes", "success", "success_once", "return", "length"]
    assert (content["env"], content["goal"], content["env_steps"], content["episodes"]) == (
        "pick-place",
        "fixed",
        200,
        7,
    )
    assert set(content["success"]) == {"rate", "low", "high"}
    assert content["length"]["mean"] == 10
    assert capsys.readouterr().out.count("\nepisode") == 7


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
    (env,) = make_envs("pick-place", 1, TaskConfig(), "sparse", 0.98)
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
    ],
)
def test_bad_options_get_one_sentence(options, sentence, runs, monkeypatch):
    filled = [option.format(run=runs / "r", parent=runs) for option in options]
    message = run(monkeypatch, *filled)
    assert sentence in message
    assert message.startswith("evaluate.py: ")
    assert message.count("\n") == 0


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
