"""docs/examples/*.py on small runs: what they print is what they promise, and what docs/internals.md shows."""

import os
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import checkpoints
import train
from env.tasks.pick_place import FIXED_GOAL
from sac import Batch
from training.analysis.open_run import open_run

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "internals.md").read_text()
REACH, STUCK = "runs/reach-sparse-reach-0", "runs/pick-place-sparse-1"
SMALL = ["--no-video", "--no-compile", "--no-overlap", "--num-envs", "4", "--sac.hidden", "32", "32",
         "--eval.episodes", "2"]  # fmt: skip
SCRIPTS = sorted(file.name for file in EXAMPLES.glob("*.py") if "run_example(" in file.read_text())
OPTIONS = {
    REACH: ["--env", "reach", "--steps", "600", "--warmup", "200"],
    STUCK: ["--env", "pick-place", "--seed", "1", "--reward", "sparse", "--task.goal", "fixed",
            "--task.scripted-starts", "0", "--task.observation", "reference", "--task.action-slope", "1",
            "--her.no-skip-met-at-start", "--warmup-hold", "1", "--n-step", "1", "--steps", "500", "--warmup", "400"],
}  # fmt: skip
"""The commands of docs/internals.md, in small."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A directory in which the two runs of docs/internals.md lie where its commands expect them."""
    root = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for run, options in OPTIONS.items():
            patch.setattr(sys, "argv", ["train.py", *SMALL, *options, "--run", run])
            train.main()
    return root


@pytest.fixture
def here(runs, monkeypatch):
    monkeypatch.chdir(runs)


@pytest.fixture
def printed(here, monkeypatch, capsys):
    """printed(name, arguments …): what an example prints, started in this process."""

    def start(name, *arguments):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return start


def command(name, *arguments):
    """An example's command line, and the environment for it."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return [sys.executable, str(EXAMPLES / name), *map(str, arguments)], os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
    }


def started(name, *arguments, encoding="utf-8"):
    """What an example prints in a process of its own, as a reader starts it."""
    line, environment = command(name, *arguments)
    environment["PYTHONIOENCODING"] = encoding
    result = subprocess.run(line, env=environment, capture_output=True, encoding=encoding, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


NUMBER = r"(?<![\w^])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?"
"""One that is not part of a name or an exponent."""


def numbers(line):
    return [float(number.replace(",", "")) for number in re.findall(NUMBER, line)]


def the_line(out, start):
    (line,) = [line for line in out.splitlines() if line.strip().startswith(start)]
    return line


def check_targets(out):
    """That of each row that one_update.py prints, target = reward + discount min(q1, q2), clipped.

    Returns [("yes" or "no" hindsight, reward, target)].
    """
    low, high, clipped, _ = numbers(the_line(out, "returns lie in"))
    rows = []
    for relabelled, row in re.findall(r"^ +(yes|no) +(.*)", out, flags=re.MULTILINE):
        reward, discount, q1, q2, target, *_ = map(float, row.split())
        bootstrapped = reward + discount * min(q1, q2)
        assert target == pytest.approx(min(max(bootstrapped, low), high), abs=3e-3)
        assert clipped or low - 3e-3 <= bootstrapped <= high + 3e-3
        rows.append((relabelled, reward, target))
    return rows


# As a reader starts them, on a run that learns


def test_transition_judges_a_row_anew(here):
    out = started("transition.py", REACH, encoding="ascii")  # a terminal that has no γ
    assert "13 transitions are staged, 0 can be drawn" in out
    assert "step 49: terminated False, truncated True\n0 transitions are staged, 50 can be drawn" in out
    first, last, source, *goal = numbers(the_line(out, "hindsight draws"))
    assert (first, last) == (13, 50)
    assert 13 <= source <= 50
    rows = [numbers(line) for line in re.findall(r"^ +\d+   [-+].*", out, flags=re.MULTILINE)]
    assert [row[0] for row in rows] == [12]
    summed = sum(row[7] * row[8] for row in rows)
    assert numbers(the_line(out, "sum of")) == pytest.approx([summed, summed], abs=2e-3)
    for row in rows:
        assert np.linalg.norm(np.subtract(goal, row[1:4])) == pytest.approx(row[6], abs=2e-3)
    for row, then in pairwise(rows):
        gained = 14 * np.log((0.05 + row[6]) / (0.05 + then[6]))
        assert then[7] == pytest.approx(gained - (then[6] > 0.02), abs=2e-3)
    seen = numbers(the_line(out, "s' of row 13:"))[-9:]  # both goals and the way between them, normalised
    assert np.abs(seen).max() <= 5


def test_one_update_is_the_agents_own(here):
    out = started("one_update.py", REACH)
    assert the_line(out, "returns lie in").startswith("returns lie in [-")
    assert [relabelled for relabelled, _, _ in check_targets(out)] == ["yes"] * 3 + ["no"] * 3

    losses = [numbers(the_line(out, f"{name} loss"))[0] for name in ("critic", "actor", "alpha")]
    assert numbers(the_line(out, "as the agent's own update has them")) == pytest.approx(losses, abs=2e-4)
    _, alpha, log_prob, q = numbers(the_line(out, "actor loss"))
    assert losses[1] == pytest.approx(alpha * log_prob - q, abs=2e-3)
    _, alpha, entropy, target = numbers(the_line(out, "alpha loss"))
    assert losses[2] == pytest.approx(alpha * (entropy - target), abs=1e-3)
    assert ("alpha falls" in out) == (entropy > target)

    before, _, by_hand, theirs = numbers(the_line(out, "log α ="))
    assert by_hand == pytest.approx(theirs, abs=2e-6)
    assert by_hand != before
    biases = {line.split()[0]: numbers(line)[-2:] for line in out.splitlines() if "→" in line}
    for average, own, share in (("critic_target", "critic", 0.01), ("actor_average", "actor", 1 / (1 + 0.1 * 396))):
        (before, after), (_, moved) = biases[average], biases[own]
        assert after == pytest.approx((1 - share) * before + share * moved, abs=2e-7)
        assert after != before


def test_batch_shows_relabelled_and_real_rows(here):
    out = started("batch.py", REACH)
    assert "after 600 steps: 205 of 256 rows carry a goal from hindsight" in out
    for part in out.split("\nreal "):
        rows = [numbers(line) for line in re.findall(r"^ {16}.*", part, flags=re.MULTILINE)]
        assert len(rows) == 3
        for row in rows:
            assert np.linalg.norm(np.subtract(row[6:9], row[3:6])) == pytest.approx(row[9], abs=2e-3)
            assert row[11] == pytest.approx(0.96, abs=1e-4)


def test_episode_counts_what_hindsight_can_take(here):
    out = started("episode.py", REACH)
    to_learn, places = numbers(the_line(out, f"{numbers(out.splitlines()[2])[0]:.0f} of its"))
    unmet, trivial = numbers(out.splitlines()[3])
    assert places == to_learn + unmet + trivial == 50
    verdicts = re.findall(r"^ +(\d+)   .*   (the start|yes|no: .*)$", out, flags=re.MULTILINE)
    assert [int(step) for step, _ in verdicts] == list(range(0, 51, 5))
    assert verdicts[0][1] == "the start"


def test_q_slice_is_a_slice_of_both_critics(here):
    out = started("q_slice.py", REACH, 2)
    lines = re.findall(r"^ [-+]\d.*", out, flags=re.MULTILINE)
    rows = [numbers(line) for line in lines]
    assert [action for action, _, _ in rows] == pytest.approx(np.linspace(-1, 1, 21))
    smallest = [min(q1, q2) for _, q1, q2 in rows]
    assert numbers(the_line(out, "the best of"))[0] == pytest.approx(max(smallest) - min(smallest), abs=2e-3)
    bars = [line.count("#") for line in lines]
    assert (max(bars), min(bars)) == (40, 0)
    assert smallest[bars.index(40)] == max(smallest)


# On a run in which nothing touches the cube


def test_where_the_goal_never_moves_every_relabelled_row_is_met(printed):
    out = printed("batch.py", STUCK)
    hindsight, real = out.split("\nreal ")
    for part, reward in ((hindsight, 0), (real, -1)):
        rows = [numbers(line) for line in re.findall(r"^ {16}.*", part, flags=re.MULTILINE)]
        assert [row[10] for row in rows] == [reward] * 3
        assert all(row[:3] == row[3:6] for row in rows)
        assert all((row[6:9] == row[:3]) == (part is hindsight) for row in rows)
    assert "100.0% held from the start" in out
    assert "100.0% of their transitions meet them, 0.0% their real goal" in out


def test_where_the_goal_never_moves_no_place_of_an_episode_is_a_goal_to_learn_from(printed):
    out = printed("episode.py", STUCK)
    assert "the achieved goal moved by up to 0.000\n0 of its 100 places are goals to learn from" in out
    assert out.count("no: held from the start") == 10


def test_where_the_goal_never_moves_targets_differ_by_the_goal_alone(printed):
    rows = check_targets(printed("one_update.py", STUCK))
    assert [(relabelled, reward) for relabelled, reward, _ in rows] == [("yes", 0)] * 3 + [("no", -1)] * 3


# What docs/internals.md shows of them


def shape_of(text):
    """The lines of a text without what differs from run to run."""
    for pattern, common in (
        (NUMBER, "0"),
        (r"\^\d+", "^0"),
        (r"\b(yes|no)\b", "yes"),
        (r"\b(rises|falls)\b", "moves"),
        ("#+", "#"),
        (" +", ""),
    ):
        text = re.sub(pattern, common, text)
    return text.splitlines()


BLOCK = r"^\$ python docs/examples/(\w+\.py) ([^|\n]*)(?:\| head -(\d+))?\n(.*?)^```"
BLOCKS = [
    pytest.param(name, arguments.split(), int(head or 1000), shown, id=f"{name} {arguments}")
    for name, arguments, head, shown in re.findall(BLOCK, PAGE, re.DOTALL | re.MULTILINE)
]


def test_every_example_is_shown():
    assert {block.values[0] for block in BLOCKS} == set(SCRIPTS) - {"act_onnx.py"}  # docs/deploy.md has that one


@pytest.mark.parametrize(("name", "arguments", "head", "shown"), BLOCKS)
def test_examples_print_what_the_page_shows(name, arguments, head, shown, printed):
    assert shape_of(printed(name, *arguments))[:head] == shape_of(shown)


def test_the_prompt_returns_what_the_page_shows(here):
    names = {}
    blocks = re.findall(r"^```pycon\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for code, shown in re.findall(r"^>>> (.*)\n((?:(?!>>>).*\n)*)", "".join(blocks), re.MULTILINE):
        if shown:
            assert shape_of(repr(eval(code, names))) == shape_of(shown)
        else:
            exec(code, names)
    assert names["run"].env_steps == 600
    assert names["relabelled"].tolist() == [True, True, True, False]
    assert names["useful"].sum() == 0


# Opening a run


def test_opening_a_run_and_using_it_leaves_it_as_it_was(runs):
    def contents():
        return {file: file.read_bytes() for file in runs.rglob("*") if file.is_file()}

    before = contents()
    run = open_run(runs / REACH)
    run.agent.update(Batch(*(array[None] for array in run.to_batch(*run.sample(64)))))
    run.env.reset(seed=0)
    assert contents() == before


def test_what_is_drawn_depends_on_the_seed_alone(runs):
    first, again, other = (open_run(runs / REACH, seed).sample(64) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_its_environment_has_the_goals_of_training(runs):
    run = open_run(runs / STUCK)
    for seed in range(5):
        obs, _ = run.env.reset(seed=seed)
        assert obs["desired_goal"] == pytest.approx(FIXED_GOAL)
    _, goals, _ = run.sample(64)
    assert goals[-1] == pytest.approx(FIXED_GOAL)


def test_one_checkpoint_can_be_opened(runs):
    *_, newest = checkpoints.list_checkpoints(runs / REACH / "checkpoints")
    assert open_run(newest).env_steps == open_run(runs / REACH).env_steps == 600


# What cannot be opened


@pytest.fixture
def refused(printed, capsys):
    """refused(name, arguments …): the sentence of an example that ends with status 2."""

    def start(*arguments):
        with pytest.raises(SystemExit, match=r"^2$"):
            printed(*arguments)
        return capsys.readouterr().err

    return start


@pytest.mark.parametrize("example", SCRIPTS)
def test_a_path_that_holds_no_run_gets_one_sentence(example, refused):
    what = "file" if example == "act_onnx.py" else "run directory or checkpoint"
    sentence = refused(example, "runs/nowhere")
    assert sentence.startswith(f"{example}: runs/nowhere: no such {what}")
    assert sentence.count("\n") == 1


def test_a_policy_without_its_buffer_gets_one_sentence(refused):
    sentence = refused("batch.py", checkpoints.PRETRAINED / "reach")
    assert sentence == "batch.py: a policy without its training holds no transitions; open a run instead\n"
    assert sentence.count("\n") == 1


def test_a_path_that_is_missing_gets_the_command_line(refused):
    message = refused("q_slice.py")
    assert message.startswith("q_slice.py: missing a required argument: 'path'\n")
    assert "python docs/examples/q_slice.py runs/reach-sparse-reach-0" in message


@pytest.mark.parametrize("servo", ["6", "-1", "elbow"])
def test_a_servo_that_is_none_gets_one_sentence(servo, refused):
    assert refused("q_slice.py", REACH, servo) == f"q_slice.py: servo {servo}: there are 0 to 5\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_reader_that_leaves_is_no_error(here):
    line, environment = command("q_slice.py", REACH)
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_checkpoint_from_before_the_first_episode_has_nothing_to_show(tmp_path, monkeypatch):
    early = ["--env", "reach", "--steps", "300", "--warmup", "200", "--checkpoint.every", "100"]
    monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, *early, "--checkpoint.keep", "9", "--run", str(tmp_path)])
    train.main()
    with pytest.raises(checkpoints.CheckpointError, match="saved before the first episode had ended"):
        open_run(tmp_path / "checkpoints" / "step_000000100")
    assert len(open_run(tmp_path / "checkpoints" / "step_000000200").buffer) == 200


@pytest.mark.slow
def test_the_arm_from_scratch_is_learnt(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    options = ["--env", "docs.examples.two_link_arm:TwoLinkArm", "--steps", "10000", "--no-compile", "--no-video"]
    monkeypatch.setattr(sys, "argv", ["train.py", *options, "--run", str(tmp_path / "arm")])
    train.main()
    _, manifest = checkpoints.load(tmp_path / "arm/checkpoints/step_000010000", only=["progress"])
    assert manifest.success >= 0.9
