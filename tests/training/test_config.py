"""Every option has its bounds, and options that contradict each other are refused by name."""

import math
from dataclasses import fields, is_dataclass, replace

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt

from env import TaskConfig
from errors import UserError
from her import HERConfig
from sac import SACConfig
from training.config import TrainConfig, check, flatten, out_of_bounds
from training.recipes import RECIPES, recipe


def numbers(config, groups=()):
    """Yields (groups, field, value) of each option whose value is a number or holds numbers."""
    for option in fields(config):
        value = getattr(config, option.name)
        if is_dataclass(value):
            yield from numbers(value, (*groups, option.name))
        elif isinstance(value, (int, float, tuple)) and not isinstance(value, bool) and value != ():
            yield groups, option, value


def just_outside(bound, whole):
    """Yields the nearest numbers that break a bound."""
    step = 1 if whole else 1e-9
    if isinstance(bound, Interval):
        kinds = ((bound.ge, Ge), (bound.gt, Gt), (bound.le, Le), (bound.lt, Lt))
        for limit, kind in kinds:
            if limit is not None:
                yield from just_outside(kind(limit), whole)
    elif isinstance(bound, Ge):
        yield bound.ge - step
    elif isinstance(bound, Gt):
        yield bound.gt
    elif isinstance(bound, Le):
        yield bound.le * (1 + 1e-9) + step
    elif isinstance(bound, Lt):
        yield bound.lt


def changed(config, groups, name, value):
    if not groups:
        return replace(config, **{name: value})
    part = changed(getattr(config, groups[0]), groups[1:], name, value)
    return replace(config, **{groups[0]: part})


CASES = list(numbers(TrainConfig("reach")))


@pytest.mark.parametrize(("groups", "option", "value"), CASES, ids=lambda case: getattr(case, "name", None))
def test_every_number_among_the_options_has_bounds_and_what_lies_outside_is_refused(groups, option, value):
    bounds = getattr(option.type, "__metadata__", ())
    first = value[0] if isinstance(value, tuple) else value
    outside = [number for bound in bounds for number in just_outside(bound, isinstance(first, int))]
    assert outside, "no bounds"
    for number in [*outside, *([math.nan, math.inf] if isinstance(first, float) else [])]:
        given = (*value[:-1], number) if isinstance(value, tuple) else number
        name = ".".join(part.replace("_", "-") for part in (*groups, option.name))
        with pytest.raises(UserError, match=rf"^--{name} {number}: must be ") as caught:
            check(changed(TrainConfig("reach", reward="sparse"), groups, option.name, given))
        assert caught.value.status == 2


@pytest.mark.parametrize("env", ["reach", "push", "pick-place", "mine:Env"])
def test_a_recipe_is_within_its_bounds_and_has_few_options(env):
    check(recipe(env))
    assert list(out_of_bounds(recipe(env))) == []
    assert len(flatten(recipe(env).to_dict())) <= 51


@pytest.mark.parametrize(
    ("env", "change", "named"),
    [
        (
            "reach",
            {"env": "juggle"},
            "--env juggle: no such task; there are reach, push, pick-place, gym:ID, or MODULE",
        ),
        ("reach", {"steps": 500}, "--steps 500: the first 1000 steps are random warm-up"),
        ("reach", {"sac": SACConfig(backup_entropy=True), "n_step": 4}, "--sac.backup-entropy --n-step 4: the entropy"),
        ("reach", {"sac": SACConfig(hidden=())}, "--sac.hidden"),
        ("reach", {"reward": "own"}, "--reward own: is for environments of your own, and not for reach"),
        (
            "reach",
            {"env_args": ("a=1",)},
            "--env-args: is for environments of your own and Gymnasium's, and not for reach",
        ),
        (
            "mine:Env",
            {"env_args": ("a",)},
            "--env-args a: each must be KEY=VALUE, with the name of an argument for KEY",
        ),
        ("mine:Env", {"env_args": ("a-b=1",)}, "--env-args a-b=1: each must be KEY=VALUE"),
        ("mine:Env", {"env_args": ("=1",)}, "--env-args =1: each must be KEY=VALUE"),
        ("mine:Env", {"env_args": ("a=1", "a=2")}, "--env-args a=2: a is given twice"),
        ("mine:Env", {"reward": "sparse"}, "--reward sparse: mine:Env brings its own"),
        ("mine:Env", {"task": TaskConfig(goal="air")}, "--task.*: is for the built-in tasks, and not for mine:Env"),
        ("mine:Env", {"eval": replace(recipe("mine:Env").eval, goal="air")}, "--eval.goal air: is for the built-in"),
        ("pick-place", {"her": HERConfig(k=-1.0)}, "--her.k -1.0: must be at least 0"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(env, change, named):
    with pytest.raises(UserError) as caught:
        check(replace(recipe(env), **change))
    assert str(caught.value).startswith(named) or named in str(caught.value)
    assert (caught.value.status, str(caught.value).count("\n")) == (2, 0)


@pytest.mark.parametrize("env", RECIPES)
def test_a_run_of_one_update_a_step_on_one_environment_may_be(env):
    check(replace(recipe(env), num_envs=1, updates_per_step=1.0, watchdog=1))
