"""evaluate.py: what it prints, writes and refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import pytest

import checkpoints
import evaluate
import train
from env import make_envs
from env.so101.model import ArmModel
from errors import UserError
from training.recipes import recipe

ROOT = Path(evaluate.__file__).parent
SMALL = ["--no-video", "--no-compile", "--no-overlap", "--sac.hidden", "32", "32", "--num-envs", "4", "--warmup", "100",
         "--eval.episodes", "2", "--steps", "200"]  # fmt: skip
SHORT = ["--task.max-episode-steps", "10"]
OTHERS = """
import numpy as np
from point_env import PointEnv

class Drawn(PointEnv):
    closed = 0

    def close(self):
        Drawn.closed += 1

    def render(self):
        return np.zeros((16, 16, 4), np.uint8)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A directory with small runs in it: r of pick-place, point of PointEnv, drawn of one that draws no picture."""
    root = tmp_path_factory.mktemp("runs")
    shutil.copy(Path(__file__).parent / "point_env.py", root)
    (root / "drawing_env.py").write_text(OTHERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        for name, options in (
            ("r", ["--env", "pick-place", *SHORT]),
            ("point", ["--env", "point_env:PointEnv"]),
            ("drawn", ["--env", "drawing_env:Drawn"]),
        ):
            patch.setattr(sys, "argv", ["train.py", *SMALL, *options, "--run", str(root / name)])
            train.main()
        yield root
    for module in ("point_env", "drawing_env"):
        sys.modules.pop(module)


@pytest.fixture
def saved(runs):
    """The checkpoint of the run r."""
    (path,) = checkpoints.list_checkpoints(runs / "r" / "checkpoints")
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    """evaluate.py in this process, which must end with `status`. Returns what it printed, or its last sentence."""

    def call(*options, status=0):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, options)])
        capsys.readouterr()
        with pytest.raises(SystemExit, match=rf"^{status}$") if status else nullcontext():
            evaluate.main()
        said = capsys.readouterr()
        if not status:
            return said.out
        assert said.err.startswith("evaluate.py: ")
        assert said.err.count("\n") == 1
        assert "episode " not in said.out
        return said.err

    return call


def saved_with(saved: Path, root: Path, part: str = "", lacks: tuple[str, ...] = (), config: dict | None = None):
    """The checkpoint `saved` as other code might have written it: without some of the agent's parts or of the task's
    options, or of another configuration."""
    state, manifest = checkpoints.load(saved)
    state["agent"].pop(part, None)
    content = config or manifest.config | {
        "task": {name: value for name, value in manifest.config["task"].items() if name not in lacks}
    }
    return checkpoints.save(root, 200, state, checkpoints.About(content, manifest.versions, manifest.fingerprint))


def test_json_holds_the_documented_summary(runs, tmp_path, run):
    file = tmp_path / "new" / "result.json"
    out = run(runs / "r", "--episodes", 7, "--json", file)
    content = json.loads(file.read_text())
    assert list(content) == ["env", "goal", "env_steps", "episodes", "success", "success_once", "return", "length",
                             "funnel", "largest"]  # fmt: skip
    assert [content[name] for name in ("env", "goal", "env_steps", "episodes")] == ["pick-place", "fixed", 200, 7]
    assert set(content["success"]) == {"rate", "low", "high"}
    assert content["length"]["mean"] == 10
    assert list(content["funnel"]) == ["reached", "touched", "pinched", "lifted", "carried", "placed", "held"]
    assert all(0 <= rate <= 1 for rate in content["funnel"].values())
    assert content["funnel"]["placed"] == content["success_once"]["rate"]
    assert content["funnel"]["held"] == content["success"]["rate"]
    assert list(content["largest"]) == ["penetration_mm"]
    assert out.count("\nepisode") == 7
    assert out.count("episodes that reached ") == out.count("largest penetration_mm: ") == 1


def test_an_evaluation_can_be_repeated_and_extended_and_a_checkpoint_be_named_itself(runs, saved, tmp_path, run):
    printed, written = [], []
    for path, episodes in ((runs / "r", 3), (saved, 3), (saved, 6)):
        file = tmp_path / "result.json"
        out = run(path, "--episodes", episodes, "--json", file, "--goal", "mix")
        assert str(saved) in out
        printed.append([line for line in out.splitlines() if line.startswith("episode ")])
        written.append(json.loads(file.read_text()))
    assert written[0] == written[1]
    assert printed[0] == printed[1] == printed[2][:3]
    assert written[2]["goal"] == "mix"


@pytest.mark.parametrize("name", ["policy.mp4", "policy.gif"])
def test_a_video_shows_the_episodes(name, runs, tmp_path, run):
    (env,) = make_envs("pick-place", 1, replace(recipe("pick-place").task, scripted_starts=0.0), "sparse")
    env.reset(seed=0)
    try:
        env.render()
    except UserError as error:
        pytest.skip(str(error))
    run(runs / "r", "--episodes", 2, "--video", tmp_path / name)
    frames = iio.imread(tmp_path / name)
    assert frames.shape[:3] == (11, 480, 640)  # 2 episodes of 11 frames, every second one
    assert (frames[0].astype(int) != frames[5].astype(int)).mean() > 0.001


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["nowhere"], "nowhere: no such run directory or checkpoint, and no pretrained policy"),
        (["{root}/r", "--episodes", "0"], "--episodes 0: must be at least 1"),
        (["{root}/r", "--seed", "-1"], "--seed -1: must be at least 0"),
        (["{root}/r", "--video", "film.avi"], "must end in .mp4 or .gif"),
        (["{root}/r", "--video", f"{'x' * 245}.mp4"], "the name is too long; give a shorter one"),
        (["{root}"], "is no checkpoint: it has no manifest.json"),
        (["{root}/r", "--viewer", "--json", "r.json"], "--viewer: is for watching, without --video and --json"),
        (["{root}/r", "--json", "{root}"], "cannot be written ({root}: Is a directory); name another file"),
        (
            ["{root}/r", "--json", "{root}/r/config.json/a.json"],
            "cannot be written ({root}/r/config.json: File exists)",
        ),
        (["{root}/r", "--json", "/proc/r.json"], "--json /proc/r.json: cannot be written (/proc"),
        (["{root}/point", "--goal", "air"], "--goal air: is for the built-in tasks; point_env:PointEnv has goals of"),
        (["{root}/point", "--video", "{root}/v.mp4"], "--video: point_env:PointEnv has no render()"),
        (["{root}/drawn", "--video", "{root}/v.mp4"], "must return (H, W, 3) uint8, and returned (16, 16, 4) uint8"),
        (["{root}/point", "--viewer"], "only the built-in tasks can be watched"),
    ],
)
def test_what_cannot_be_gets_one_sentence_before_the_first_episode(options, sentence, runs, run):
    filled = [option.format(root=runs) for option in options]
    assert sentence.format(root=runs) in run(*filled, status=2)
    assert not (runs / "v.mp4").exists()


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--video", "{root}/v.mp4"], 2)])
def test_the_environments_are_closed_however_it_ends(options, status, runs, run):
    before = sys.modules["drawing_env"].Drawn.closed
    run(runs / "drawn", "--episodes", 3, *[option.format(root=runs) for option in options], status=status)
    assert sys.modules["drawing_env"].Drawn.closed - before == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_the_environments_closed(number, runs, tmp_path):
    (tmp_path / "closing.py").write_text(
        "import os, sys\nfrom point_env import PointEnv\n"
        "class Closing(PointEnv):\n"
        "    def step(self, action):\n"
        "        print('steps', flush=True)\n"
        "        return super().step(action)\n"
        "    def close(self): print('closed', flush=True)\n"
    )
    state, manifest = checkpoints.load(checkpoints.find(runs / "point")[0])
    about = checkpoints.About(manifest.config | {"env": "closing:Closing"}, manifest.versions)
    checkpoints.save(tmp_path, 200, state, about)
    line = [sys.executable, ROOT / "evaluate.py", tmp_path / "step_000000200", "--episodes", "100000"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{runs}", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for told in process.stdout:
            if told.startswith("episode"):
                process.send_signal(number)
                break
        rest = process.stdout.read()
        assert (process.wait(), process.stderr.read()) == (128 + number, "")
    assert "closed" in rest


def test_a_cut_short_checkpoint_is_refused_by_name(runs, tmp_path, run):
    shutil.copytree(runs / "r", tmp_path / "r")
    (path,) = checkpoints.list_checkpoints(tmp_path / "r" / "checkpoints")
    file = path / "agent.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert "agent.safetensors is cut short" in run(path, status=2)
    assert "holds no checkpoint that can be used" in run(tmp_path / "r", status=2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has no screen")
def test_the_viewer_needs_a_screen(runs, monkeypatch, run):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "no screen here" in run(runs / "r", "--viewer", status=2)


def test_an_exported_policy_is_the_same_policy_and_small(saved, tmp_path, run):
    checkpoints.export_policy(saved, tmp_path / "mine", command="python train.py …")
    results = []
    for source in (saved, tmp_path / "mine"):
        run(source, "--episodes", 4, "--json", tmp_path / "result.json")
        results.append(json.loads((tmp_path / "result.json").read_text()))
    assert results[0] == results[1]
    assert sum(file.stat().st_size for file in (tmp_path / "mine").iterdir()) < 100_000


def test_the_best_checkpoint_is_the_one_that_did_best_in_training(saved, tmp_path, run):
    state, manifest = checkpoints.load(saved)
    about = checkpoints.About(manifest.config, manifest.versions, manifest.fingerprint)
    steps = {100: 0.5, 200: 1.0, 300: 0.75}
    for step, success in steps.items():
        checkpoints.save(tmp_path / "r" / "checkpoints", step, state, about, success)
    for asked, step in (("best", 200), ("last", 300)):
        said = run(tmp_path / "r", "--episodes", 1, "--checkpoint", asked)
        assert f"step_{step:09d} · pick-place, goal fixed · trained for {step} steps" in said
    (tmp_path / "r" / "checkpoints" / "step_000000200" / "agent.safetensors").write_bytes(b"")
    said = run(tmp_path / "r", "--episodes", 1, "--checkpoint", "best")
    assert "passed over: " in said
    assert "step_000000300 · pick-place" in said
    checkpoints.save(tmp_path / "n" / "checkpoints", 100, state, about)
    told = "n: none of its checkpoints was evaluated; leave --checkpoint best out"
    assert told in run(tmp_path / "n", "--checkpoint", "best", status=2)


def test_an_environment_that_tells_no_stages_gets_no_funnel(runs, tmp_path, run):
    file = tmp_path / "result.json"
    assert "episodes that" not in run(runs / "point", "--episodes", 2, "--json", file)
    assert not {"funnel", "largest"} & set(json.loads(file.read_text()))


# Policies of other code


def test_a_policy_without_the_average_or_of_another_environment_gets_one_sentence(saved, tmp_path, run):
    older = saved_with(saved, tmp_path / "older", part="actor_average")
    sentence = run(older, status=2)
    assert f"{older}/agent.safetensors does not fit this run: actor_average|net.0.weight is missing there" in sentence
    other = saved_with(saved, tmp_path / "other", config=recipe("point_env:PointEnv").to_dict())
    assert "(needed for point_env:PointEnv as it is now)" in run(other, status=2)


def test_a_policy_of_older_code_is_evaluated_with_what_that_code_did_not_say(runs, saved, tmp_path, run):
    lacks = ("action_slope", "retry_missed", "scripted_astray", "observation")
    out = run(saved_with(saved, tmp_path, lacks=lacks), "--episodes", 1)
    assert "older code trained it, without --task.action-slope, --task.observation: as by default now" in out
    assert "older code" not in run(runs / "r", "--episodes", 1)


@pytest.mark.parametrize("changed", [False, True])
def test_a_policy_of_another_model_is_evaluated_and_said_to_be(changed, runs, monkeypatch, run):
    if changed:
        monkeypatch.setattr(ArmModel, "fingerprint", "0" * 64)
    out = run(runs / "r", "--episodes", 1)
    assert ("trained on another model of the environment" in out) == changed
    assert "success" in out


# What can go wrong around it


def test_without_the_policies_that_come_along_a_wrong_name_is_still_one_sentence(tmp_path, monkeypatch, run):
    monkeypatch.setattr(checkpoints.export, "PRETRAINED", tmp_path / "nowhere")
    assert "no pretrained policy (none came with the code)" in run("reach-for-the-stars", status=2)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_reader_that_leaves_is_no_error(runs):
    line = [sys.executable, ROOT / "evaluate.py", runs / "r", "--episodes", "1"]
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
    command = f"exec {sys.executable} {program.format(run=runs / 'r')} >&-"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["sh", "-c", command], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
