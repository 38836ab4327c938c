"""The command line starts from its task's recipe, and so does a stored configuration that says less."""

import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from errors import UserError
from sac import SACConfig
from training.command_line import parse, whole_number
from training.config import flatten
from training.recipes import PICK_PLACE, PUSH, REACH, from_stored, newer_options, recipe
from training.resume.run_directory import differences

SOURCE = Path("runs/r/config.json")


# The command line


@pytest.mark.parametrize("arguments", [["--env", "push"], ["--env=push"], ["--env", "reach", "--env", "push"]])
def test_what_is_not_given_is_the_tasks_own_default(arguments):
    assert parse(arguments) == replace(PUSH, run="runs/push-sparse-reach-0")


def test_without_a_task_it_is_reach_and_what_is_given_stands():
    config = parse(["--steps", "70000", "--sac.tau", "0.5", "--seed", "3", "--reward", "sparse"])
    changed = replace(REACH, steps=70_000, sac=replace(REACH.sac, tau=0.5), seed=3, reward="sparse")
    assert config == replace(changed, run="runs/reach-sparse-3")
    assert parse(["--env", "fetch:Reach", "--run", "x{seed}"]) == replace(recipe("fetch:Reach"), run="x0")
    assert parse(["--env", "fetch:Reach"]).run == "runs/fetch-Reach-0"


@pytest.mark.parametrize("env", ["reach", "push", "pick-place", "mine:Env"])
def test_help_shows_the_true_defaults_of_the_task(env, capsys):
    with pytest.raises(SystemExit) as leaving:
        parse(["--env", env, "--help"])
    assert leaving.value.code == 0
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert "default: None" not in shown
    assert len(re.findall(r"\(default: ", shown)) == len(flatten(asdict(recipe(env))))
    for name, value in flatten(asdict(recipe(env))).items():
        words = shlex.join(map(str, value if isinstance(value, tuple) else (value,)))
        assert re.search(rf"--{re.escape(name)}[ ,](?:(?!\(default).)*\(default: {re.escape(words)}\)", shown), name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--run", ""], "--run: names nothing"),
        (["--resume", ""], "--resume: names nothing"),
        (["--resume", "reach"], "--resume reach: is a policy without its training; --init reach begins"),
        (["--resume", "docs"], "--resume docs: is neither a run directory nor a checkpoint"),
    ],
)
def test_a_run_that_is_none_is_named(arguments, told):
    with pytest.raises(UserError) as caught:
        parse(arguments)
    assert told in str(caught.value)


def test_widths_may_be_written_with_commas():
    assert parse(["--sac.hidden", "256,128"]) == parse(["--sac.hidden", "256", "128"])


@pytest.mark.parametrize(("text", "number"), [("100000", 10**5), ("100_000", 10**5), ("1e5", 10**5), ("2.5e4", 25_000)])
def test_whole_numbers_may_be_written_with_an_exponent(text, number):
    assert whole_number(text) == parse(["--steps", text]).steps == number


@pytest.mark.parametrize(
    "arguments",
    [["--steps", "1e5x"], ["--steps", "1.5"], ["--steps", "nan"], ["--steps", "inf"], ["--sac.n-step", "1"]],
)
def test_what_is_no_option_or_no_number_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as leaving:
        parse(arguments)
    assert leaving.value.code == 2
    assert arguments[0] in capsys.readouterr().err


# A stored configuration


def test_json_and_back():
    config = replace(PUSH, sac=SACConfig(hidden=(64, 32), target_entropy=-0.75))
    assert from_stored(config.to_dict(), SOURCE) == config


def test_what_older_code_did_not_know_is_the_tasks_default_and_named():
    content = PICK_PLACE.to_dict()
    del content["gamma"], content["her"]["proposed_goals"]
    assert from_stored(content, SOURCE) == PICK_PLACE
    assert newer_options(content, PICK_PLACE) == ["gamma", "her.proposed-goals"]
    assert newer_options(PICK_PLACE.to_dict(), PICK_PLACE) == []


@pytest.mark.parametrize(
    ("group", "option", "value", "named"),
    [
        ("sac", "optimism", 1.0, r"was written by other code, which had options of its own \(--sac.optimism\)"),
        (None, "sac", 5, r"was written by other code, which had options of its own \(--sac\)"),
        ("her", "k", -1.0, "cannot be: --her.k -1.0: must be at least 0"),
        ("sac", "lr", "fast", "cannot be: .*'fast' is no float"),
        (None, "compile", "false", "cannot be: .*'false' is no bool"),
        (None, "seed", 0.9, "cannot be: .*0.9 is no int"),
        (None, "num_envs", "16", "cannot be: .*'16' is no int"),
        (None, "run", None, "cannot be: .*None is no str"),
        ("task", "potential", [1.0, 2.0], "cannot be: .*potential"),
        (None, "env", "juggle", "cannot be: .*no such task"),
        (None, "env", {}, "holds no configuration of a run: it names no env"),
    ],
)
def test_a_configuration_that_this_code_does_not_know_or_that_is_out_of_bounds_is_refused(group, option, value, named):
    content = REACH.to_dict()
    (content[group] if group else content)[option] = value
    with pytest.raises(UserError, match=rf"config\.json .*{named}"):
        from_stored(content, SOURCE)


# What is another run


def test_differences_name_what_would_make_it_another_run_and_nothing_else():
    allowed = replace(REACH, steps=99_999, device="cpu", video=False, eval=replace(REACH.eval, every=7))
    assert differences(REACH.to_dict(), allowed.to_dict()) == {}
    other = replace(REACH, num_envs=8, sac=replace(REACH.sac, lr=0.1), eval=replace(REACH.eval, episodes=3))
    assert differences(REACH.to_dict(), other.to_dict()) == {
        "eval.episodes": (40, 3),
        "num-envs": (16, 8),
        "sac.lr": (0.0005, 0.1),
    }
