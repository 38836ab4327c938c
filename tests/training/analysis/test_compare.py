"""Runs side by side: which belong together, what their event files hold, the statistics, the command line."""

import json
import sys

import imageio.v3 as iio
import numpy as np
import pytest
from tensorboard.compat.proto.summary_pb2 import Summary

from errors import UserError
from training.analysis import compare, plot
from training.analysis.read_runs import Curve, group_runs, read_curve, read_run
from training.analysis.seed_statistics import (
    bootstrap_interval,
    common_steps,
    first_kept,
    first_reached,
    interquartile_mean,
    values_at,
)
from training.curves import events
from training.recipes import recipe

TAG = "eval/success_rate"


def options(env="reach", **changes):
    """A run's options as config.json holds them; `changes` by their flat names, a section's as sac__lr."""
    tree = recipe(env).to_dict()
    for name, value in changes.items():
        *section, last = name.split("__")
        (tree[section[0]] if section else tree)[last] = value
    return tree


def log(curves, values, step):
    curves.add(Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]), step)


def write_run(path, config, points, tag=TAG):
    """A run directory with one curve, {step: value}."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    curves = events.EventFile(path, 0)
    for step, value in points.items():
        log(curves, {tag: value}, step)
    curves.close()
    return path


def names(paths, tag=TAG):
    """The groups' names and the directories in each."""
    groups = group_runs([read_run(path, tag) for path in paths], tag)
    return {group.name: [run.path.name for run in group.runs] for group in groups}


def words(line):
    return " ".join(line.split())


@pytest.fixture
def run(monkeypatch, capsys):
    """The command, in this process: returns what it says on stderr where it fails, or None where it ended well."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["training.analysis.compare", *map(str, options)])
        try:
            compare.main()
        except SystemExit as leaving:
            status = leaving.code
        else:
            return None
        out, error = capsys.readouterr()
        assert (status, out) == (2, "")
        return error.removeprefix("training.analysis.compare: ").strip()

    return run


def test_runs_that_differ_in_their_seed_alone_are_a_group(tmp_path):
    configs = {
        "a0": options(),
        "b0": options(her__k=9.0),
        "a1": options(seed=1, steps=30_000, eval__every=500, device="cpu", compile=False),
        "b1": options(her__k=9.0, seed=1),
    }
    paths = [write_run(tmp_path / name, config, {1: 0.5}) for name, config in configs.items()]
    assert names(paths) == {"--her.k 4.0": ["a0", "a1"], "--her.k 9.0": ["b0", "b1"]}
    assert names(paths[::2]) == {"reach-sparse-reach": ["a0", "a1"]}


def test_a_group_is_named_by_what_most_others_do_not_have_as_on_the_command_line(tmp_path):
    """An ablation: each leaves out one thing, and one nothing."""
    ways = {
        "nothing": options(),
        "norm": options(sac__layer_norm=False),
        "hindsight": options(her__strategy="none"),
        "two": options(sac__hidden=[32, 64], reduced_precision=True),
    }
    paths = [write_run(tmp_path / name, config, {1: 0.5}) for name, config in ways.items()]
    assert names(paths) == {
        "reach-sparse-reach": ["nothing"],
        "--sac.no-layer-norm": ["norm"],
        "--her.strategy none": ["hindsight"],
        "--reduced-precision --sac.hidden 32 64": ["two"],
    }


@pytest.mark.parametrize("tag", [TAG, "eval_funnel/lifted"])
def test_evaluations_of_other_goals_or_episodes_are_another_measure(tag, tmp_path):
    ways = {"fixed": {}, "same": {}, "air": {"eval__goal": "air"}, "few": {"eval__episodes": 5}}
    runs = {
        name: write_run(tmp_path / name, options("pick-place", seed=seed, **way), {1: 0.5}, tag)
        for seed, (name, way) in enumerate(ways.items())
    }
    assert names(runs.values(), tag) == {
        "pick-place-sparse-reach": ["fixed", "same"],
        "--eval.goal air": ["air"],
        "--eval.episodes 5": ["few"],
    }
    assert list(names([runs["air"], runs["fixed"]], tag)) == ["--eval.goal air", "--eval.goal fixed"]


def test_training_curves_do_not_care_how_runs_are_evaluated(tmp_path):
    tag = "rollout/success_rate"
    paths = [
        write_run(tmp_path / str(seed), options(seed=seed, eval__episodes=seed + 1), {1: 0.5}, tag) for seed in range(2)
    ]
    assert names(paths, tag) == {"reach-sparse-reach": ["0", "1"]}


def test_an_option_that_older_code_did_not_know_is_none(tmp_path):
    older = options(seed=1)
    del older["her"]["k"]
    paths = [write_run(tmp_path / str(i), config, {1: 0.5}) for i, config in enumerate((options(), older))]
    assert names(paths) == {"--her.k 4.0": ["0"], "--her.k None": ["1"]}


def test_a_directory_stands_for_the_runs_in_it_that_have_curves(tmp_path, run, capsys):
    sweep = tmp_path / "sweep"
    (sweep / ".sweep").mkdir(parents=True)
    for rate, seed in ((1e-4, 0), (1e-4, 1), (1e-3, 0)):
        config = options(seed=seed, sac__lr=rate)
        write_run(sweep / f"sac.lr={rate},seed={seed}", config, {1000: 0.0, 2000: 1000 * rate})
    begun = sweep / "begun"
    begun.mkdir()
    (begun / "config.json").write_text(json.dumps(options(seed=7)))
    table = tmp_path / "table.md"
    assert run(sweep, "--markdown", table) is None
    assert "sac.lr=0.0001,seed=1" in capsys.readouterr().out
    head, _, *rows = table.read_text().splitlines()
    assert head.startswith("| what differs | seeds | IQM | 95 % interval | lowest | highest | 0.95 reached |")
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| `--sac.lr 0.0001`", "2", "0.100", "0.100 to 0.100"],
        ["| `--sac.lr 0.001`", "1", "1.000", "– to –"],
    ]
    assert "holds no config.json" in run(begun.parent / ".sweep")


def test_a_seed_counts_once(tmp_path):
    paths = [write_run(tmp_path / name, options(seed=7), {1: 0.5}) for name in ("a", "b")]
    with pytest.raises(UserError, match=f"^{paths[0]} and {paths[1]} are the same run twice"):
        names(paths)


def test_a_resumed_runs_curve_is_that_of_its_last_process(tmp_path):
    path = write_run(tmp_path / "run", options(), {100: 0.125, 200: 0.25, 300: 0.375, 400: 0.5})
    (first,) = path.glob("events*")
    first.write_bytes(first.read_bytes()[:-5])  # killed in the middle of a record
    assert read_curve(path, TAG).steps.tolist() == [100, 200, 300]
    resumed = events.EventFile(path, 251)
    log(resumed, {"other": 1.0}, 260)
    log(resumed, {TAG: 0.75}, 350)
    curve = read_curve(path, TAG)
    assert curve.steps.tolist() == [100, 200, 350]
    assert curve.values.tolist() == [0.125, 0.25, 0.75]


def test_minutes_leave_out_the_time_in_which_a_run_did_not_run(tmp_path, monkeypatch):
    now = 1e9
    monkeypatch.setattr(events.time, "time", lambda: now)
    curves = events.EventFile(tmp_path, 0)
    log(curves, {"other": 0.0}, 0)  # the beginning
    for step in (100, 200, 300):  # the last of which is lost
        now += 60
        log(curves, {TAG: 0.0}, step)
    now += 86_400
    curves = events.EventFile(tmp_path, 201)
    log(curves, {"other": 0.0}, 250)
    now += 30
    log(curves, {TAG: 0.0}, 300)
    assert read_curve(tmp_path, TAG).minutes.tolist() == [1.0, 2.0, 2.5]


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([100, 3, 0, 5, 2, 4, 1, 6], 3.5),  # 2, 3, 4, 5 are left
        ([9, 1, 2, 3, -50], 2.0),  # 1, 2, 3
        ([9, 1, 5], 5.0),
    ],
)
def test_the_interquartile_mean_is_that_by_hand(values, mean):
    assert interquartile_mean(np.array(values, float)) == mean
    assert interquartile_mean(np.array([values, values], float).T).tolist() == [mean, mean]


def test_the_interval_covers_the_truth_as_often_as_it_says_and_shrinks_with_seeds():
    rng = np.random.default_rng(5)
    widths = {}
    for seeds in (10, 40):
        low, high = bootstrap_interval(rng.normal(3.0, 1.0, (seeds, 50)))  # 50 studies of so many seeds
        assert 0.85 <= np.mean((low <= 3.0) & (high >= 3.0)) < 1.0
        widths[seeds] = np.mean(high - low)
    assert widths[10] / widths[40] == pytest.approx(2.0, rel=0.15)  # the root of 40 / 10


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_the_interval_of_fewer_than_five_seeds_is_their_range(seeds):
    values = np.linspace(1.0, 2.0, seeds)[:, None]
    assert np.ravel(bootstrap_interval(values)).tolist() == [1.0, 2.0]


def test_the_interval_of_more_seeds_is_within_their_range_and_always_the_same():
    values = np.random.default_rng(0).normal(size=(compare.FEW, 3))
    low, high = bootstrap_interval(values)
    assert (low > values.min(0)).all()
    assert (high < values.max(0)).all()
    np.testing.assert_array_equal((low, high), bootstrap_interval(values))


def test_one_seed_has_no_interval():
    assert bootstrap_interval(np.ones((1, 4))) is None


def test_curves_with_other_steps_meet_within_what_all_of_them_have():
    curves = [
        Curve(np.array(steps), np.array(steps) * slope, np.zeros(len(steps)))
        for steps, slope in (([10, 20, 30, 40], 1.0), ([15, 25, 35, 45], 2.0))
    ]
    steps = common_steps(curves)
    assert steps.tolist() == [15, 20, 25, 30, 35, 40]
    np.testing.assert_allclose(values_at(curves, steps), [steps, 2.0 * steps])


def test_reached_is_the_first_and_kept_the_last_time():
    values = np.float32([0.0, 0.95, 0.9, 0.95, 1.0]).astype(float)  # single precision's 0.95 is below double's
    assert (first_reached(values, 0.95), first_kept(values, 0.95)) == (1, 3)
    assert (first_reached(values[:3], 0.95), first_kept(values[:3], 0.95)) == (1, None)
    assert (first_reached(values[:1], 0.95), first_kept(values[:1], 0.95)) == (None, None)
    assert (first_reached(values[3:], 0.95), first_kept(values[3:], 0.95)) == (0, 0)


@pytest.fixture
def three_seeds(tmp_path):
    curves = [
        {1000: 0.0, 2000: 0.5, 3000: 1.0, 4000: 1.0},
        {1000: 0.0, 2000: 1.0, 3000: 0.75, 4000: 1.0},
        {1500: 0.25, 2500: 0.75, 3500: 0.75},
    ]
    return [write_run(tmp_path / f"r{seed}", options(seed=seed), points) for seed, points in enumerate(curves)]


def test_the_table_says_what_the_file_says(three_seeds, tmp_path, run, capsys):
    file = tmp_path / "new" / "table.json"
    assert run(*three_seeds, "--json", file) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "eval/success_rate at step 3,500, the last that all runs have"
    # 1.0, halfway from 0.75 to 1.0, and 0.75
    figures = "0.875 0.750 to 1.000 0.875 0.750 1.000"
    assert words(lines[3]) == f"1 3 {figures} 3,000, 0.0 min 4,000, 0.0 min reach-sparse-reach"
    assert "Of fewer than 5 seeds the interval is their range" in lines[4]
    assert words(lines[7]) == f"1 0 1.000 1,000 4,000 3,000, 0.0 min 3,000, 0.0 min {three_seeds[0]}"
    assert words(lines[9]) == f"1 2 0.750 1,500 3,500 never never {three_seeds[2]}"
    content = json.loads(file.read_text())
    (group,) = content.pop("groups")
    assert content == {"tag": TAG, "step": 3500}
    assert (group["group"], group["seeds"], group["iqm"], group["low"], group["high"]) == (
        "reach-sparse-reach",
        3,
        0.875,
        0.75,
        1.0,
    )
    assert [entry["reached"] and entry["reached"]["step"] for entry in group["runs"]] == [3000, 2000, None]
    assert [entry["kept"] and entry["kept"]["step"] for entry in group["runs"]] == [3000, 4000, None]


def test_a_branch_is_told_with_what_it_changed(tmp_path, run, capsys):
    started = {"env_steps": 0}
    branched = {"env_steps": 10, "branched_from": "runs/r/step_000000010", "changed": {"sac.lr": [0.1, 0.2]}}
    write_run(tmp_path / "r", options() | {"starts": [started]}, {10: 0.5})
    write_run(tmp_path / "b", options(sac__lr=0.2) | {"starts": [branched, started]}, {10: 0.5})
    same = write_run(tmp_path / "s", options(seed=1) | {"starts": [branched | {"changed": {}}]}, {10: 0.5})
    assert names([tmp_path / "r", same]) == {"reach-sparse-reach": ["r"], "s, a branch": ["s"]}  # no seed of its own
    run(tmp_path / "r", tmp_path / "b")
    *_, last = capsys.readouterr().out.splitlines()
    told = "branched from runs/r/step_000000010, step 10; changed: --sac.lr: 0.1, now 0.2"
    assert last == f"{tmp_path / 'b'} {told}"


def test_a_group_of_which_half_never_came_there_never_did(three_seeds, run, capsys):
    assert run(*three_seeds[1:], "--at", 2000) is None
    out = capsys.readouterr().out
    assert out.startswith("eval/success_rate at step 2,000\n")
    expected = "1 2 0.750 0.500 to 1.000 0.750 0.500 1.000 never never reach-sparse-reach"
    assert words(out.splitlines()[3]) == expected


@pytest.mark.parametrize(("tag", "is_rate"), [("policy/saturated_share", False), ("eval_funnel/7_held", True),
                                              ("her/goal_moved_rate", True)])  # fmt: skip
def test_a_share_of_episodes_is_a_rate_and_saturation_is_none(tag, is_rate, tmp_path, run, capsys):
    assert run(write_run(tmp_path / "r", options(), {1000: 0.97}, tag), "--tag", tag) is None
    assert ("0.95 reached" in capsys.readouterr().out) == is_rate


def test_one_seed_of_a_curve_that_is_no_rate(tmp_path, run, capsys):
    path = write_run(tmp_path / "r", options(), {1000: -12.5}, tag="eval/mean_reward")
    file = tmp_path / "table.json"
    assert run(path, "--tag", "eval/mean_reward", "--json", file) is None
    out = capsys.readouterr().out
    assert words(out.splitlines()[3]) == "1 1 -12.5 none of one seed -12.5 -12.5 -12.5 reach-sparse-reach"
    assert "0.95" not in out
    (group,) = json.loads(file.read_text())["groups"]
    assert (group["low"], group["high"]) == (None, None)


@pytest.mark.parametrize("break_run", ["nothing", "no config", "bad config", "foreign config", "no curves"])
def test_a_directory_without_a_run_is_a_sentence(break_run, tmp_path, run):
    path = tmp_path / "r"
    expected = {
        "nothing": f"{path} holds no config.json and so no run; name directories that train.py has made",
        "no config": f"{path} holds no config.json and so no run; name directories that train.py has made",
        "bad config": f"{path}/config.json cannot be read (Expecting value: line 1 column 1 (char 0)); leave it out",
        "foreign config": f"{path}/config.json holds no configuration of a run; leave it out",
        "no curves": f"{path} has no curves yet; leave it out",
    }
    if break_run != "nothing":
        write_run(path, options(), {})
    if break_run == "no config":
        (path / "config.json").unlink()
    elif break_run == "bad config":
        (path / "config.json").write_text("x")
    elif break_run == "foreign config":
        (path / "config.json").write_text("[]")
    assert run(path) == expected[break_run]


def test_a_curve_that_is_not_there_is_a_sentence(three_seeds, run):
    assert run(*three_seeds, "--tag", "eval/x") == (
        f"{three_seeds[0]} has no curve eval/x; leave it out, or give a --tag of these: {TAG}"
    )


def test_what_cannot_be_is_a_sentence(three_seeds, tmp_path, run):
    for step, span in ((4000, "1,500 to 3,500"), (1000, "1,500 to 3,500")):
        assert run(*three_seeds, "--at", step) == (
            f"not all of the runs have step {step:,}: {TAG} of {three_seeds[2]} goes from {span}; "
            "leave it out, or give another --at"
        )
    late = write_run(tmp_path / "late", options(seed=9), {9000: 1.0})
    assert f"{TAG} of {late} goes from 9,000 to 9,000" in run(*three_seeds, late)
    infinite = write_run(tmp_path / "infinite", options(seed=8), {1000: float("inf")})
    assert run(infinite) == f"{infinite}: {TAG} holds a number that is not finite; leave it out"
    assert run() == "which runs? name one directory or more, such as runs/reach-sparse-reach-0"
    assert run(late, "--out", "x.gif") == "--out x.gif: the picture is a .png"
    assert run(late, "--json", tmp_path).startswith(f"--json {tmp_path}: cannot be written (")


def test_a_library_that_is_missing_is_a_sentence(three_seeds, tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    expected = "--out needs matplotlib, which is not installed: pip install -e '.[plots]'"
    assert run(*three_seeds, "--out", tmp_path / "picture.png") == expected


def test_the_picture_shows_each_group(three_seeds, tmp_path, run, capsys):
    other = write_run(tmp_path / "other", options(num_envs=4), {1000: 0.0, 4000: 0.5})
    file = tmp_path / "new" / "picture.png"
    assert run(*three_seeds, "--out", file) is None
    one = iio.imread(file)
    assert run(*three_seeds, other, "--out", file) is None
    assert f"picture: {file}" in capsys.readouterr().out
    two = iio.imread(file)
    blue, orange = ([31, 119, 180], [255, 127, 14])  # matplotlib's first colours
    assert (one[..., :3] == blue).all(-1).sum() > 200
    assert not (one[..., :3] == orange).all(-1).any()
    assert (two[..., :3] == orange).all(-1).sum() > 200


@pytest.mark.filterwarnings("error")
def test_a_picture_of_many_groups_has_a_colour_and_a_line_for_each(tmp_path, run):
    paths = [write_run(tmp_path / f"r{n}", options(num_envs=n), {1000: 0.0, 4000: n / 20}) for n in range(1, 15)]
    file = tmp_path / "many.png"
    assert run(*paths, "--out", file) is None
    colours = {str(colour.tolist()) for colour in plot.colours(len(paths))}
    assert len(colours) == len(paths)
    assert iio.imread(file).shape[0] > iio.imread(file).shape[1] * 0.8  # the curves keep their height
