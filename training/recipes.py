"""Holds the defaults of each task, and reads a stored configuration on top of them."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cattrs
from cattrs.errors import ClassValidationError

from env import TaskConfig
from errors import UserError
from her import HERConfig
from sac import SACConfig
from training.config import BESIDE, EvalConfig, TrainConfig, check, flatten

REACH = TrainConfig(
    env="reach",
    reward="sparse-reach",
    run="runs/{env}-{reward}-{seed}",
    steps=20_000,
    task=TaskConfig(goal="air", max_episode_steps=50),
    sac=SACConfig(),
    eval=EvalConfig(every=2_000, goal="air"),
)
PICK_PLACE = replace(
    REACH,
    env="pick-place",
    steps=400_000,
    warmup=3_000,
    updates_per_step=0.4,
    gamma=0.98,
    n_step=4,
    task=TaskConfig(goal="mix", scripted_starts=0.8),
    # As little entropy as a grasp can bear (benchmarks/grasp_noise.py).
    sac=SACConfig(target_entropy=-1.0),
    her=HERConfig(proposed_goals=0.0),
    eval=EvalConfig(every=10_000, goal="fixed"),
)
PUSH = replace(
    PICK_PLACE,
    env="push",
    steps=200_000,
    task=replace(PICK_PLACE.task, goal="table", scripted_until=100_000),
    eval=EvalConfig(goal="table"),
)
RECIPES = {config.env: config for config in (REACH, PUSH, PICK_PLACE)}


def recipe(env: str) -> TrainConfig:
    """Returns the defaults for the task `env`. Environments of one's own have those of TrainConfig itself."""
    return RECIPES.get(env) or TrainConfig(env)


def from_stored(content: dict[str, Any], source: Path) -> TrainConfig:
    """Returns the configuration that TrainConfig.to_dict gave. What older code did not know is the recipe's default.

    Raises UserError that names `source`.
    """
    content = {key: value for key, value in content.items() if key not in BESIDE}
    if not isinstance(content.get("env"), str):
        raise UserError(f"{source} holds no configuration of a run: it names no env")
    defaults = recipe(content["env"]).to_dict()
    if unknown := sorted(flatten(content).keys() - flatten(defaults).keys()):
        names = ", ".join(f"--{name}" for name in unknown)
        raise UserError(f"{source} was written by other code, which had options of its own ({names}); use that code")
    try:
        return structured(_merged(defaults, content))
    except UserError as error:
        raise UserError(f"{source} holds a configuration that cannot be: {error}") from error


def structured(content: dict[str, Any]) -> TrainConfig:
    """Returns the configuration that every option of a run makes, as to_dict() has them. Raises UserError."""
    try:
        config = _converter().structure(content, TrainConfig)
    except ClassValidationError as error:
        reasons = cattrs.transform_error(error, format_exception=lambda error, kind: str(error))
        raise UserError("; ".join(reasons)) from error
    check(config)
    return config


@cache
def _converter() -> cattrs.Converter:
    """Returns a converter that takes every value for what it is: the string "false" is no bool."""

    def strict(value: Any, kind: type) -> Any:
        alike = type(value) in (int, float) and kind in (int, float) and value == kind(value)  # JSON has one kind
        if type(value) is not kind and not alike:
            raise ValueError(f"{value!r:.80} is no {kind.__name__}")
        return kind(value)

    converter = cattrs.Converter()
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, strict)

    def number_or_word(value: Any, kind: Any) -> Any:
        number, words = get_args(kind)
        is_word = isinstance(value, str) and value in get_args(words)
        return value if is_word else strict(value, get_args(number)[0])

    for name in ("gamma", "env_workers"):
        converter.register_structure_hook(get_type_hints(TrainConfig, include_extras=True)[name], number_or_word)
    return converter


def newer_options(content: dict[str, Any], config: TrainConfig) -> list[str]:
    """Lists the options, by name, of which the stored `content` says nothing: older code did not know them."""
    return sorted(flatten(config.to_dict()).keys() - flatten(content).keys())


def _merged(defaults: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _merged(value, content.get(key, {})) if isinstance(value, dict) else content.get(key, value)
        for key, value in defaults.items()
    }
