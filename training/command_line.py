"""Reads the command line of train.py, on top of the task's recipe or of the options of the run that it goes on from."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

import tyro

import checkpoints
from errors import UserError
from training.config import TrainConfig, check
from training.recipes import REACH, recipe
from training.resume.run_directory import options_of, run_of


def parse(arguments: Sequence[str]) -> TrainConfig:
    """Reads the command line of train.py. Raises UserError, and SystemExit as tyro does.

    What it does not say is as in the task's recipe or, with --resume PATH, as in that run.
    """
    resume, run = _given("--resume", arguments), _given("--run", arguments)
    defaults = recipe(_given("--env", arguments) or REACH.env)
    if resume not in (None, "auto", "never"):
        asked, defaults = defaults.env, _defaults_of(Path(resume), None if run is None else Path(run))
        if _given("--env", arguments) and asked != defaults.env:
            raise UserError(
                f"--resume {resume}: is a run of {defaults.env}, and --env {asked} another task; leave --env out"
            )
    arguments = [word for given in _pairs(arguments) for word in given]
    with whole_numbers():
        config = tyro.cli(TrainConfig, prog="train.py", args=arguments, default=defaults)
    kind = config.env.replace(":", "-").replace("/", "-")
    name = config.run.replace("{env}", kind).replace("{reward}", config.reward).replace("{seed}", str(config.seed))
    config = replace(config, run=name, env_args=tuple(sorted(config.env_args)))  # the same in any order
    if config.resume not in ("auto", "never") and Path(config.resume).resolve() == Path(name).resolve():
        config = replace(config, resume="auto")  # the run itself
    check(config)
    return config


def _pairs(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yields the words of the command line, those of --sac.hidden 256,256 one by one."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        yield word.split(",") if before == "--sac.hidden" else [word]


def _defaults_of(source: Path, run: Path | None) -> TrainConfig:
    """Returns the options of what --resume names, or of the branch that the directory `run` holds already."""
    options = (run and options_of(run)) or options_of(source)
    if options is None:
        checkpoints.find(source)  # which says that nothing is there
    return replace(options, run=str(run or run_of(source)))


def _given(option: str, arguments: Sequence[str]) -> str | None:
    """Returns the last value of `option` on the command line, None where there is none."""
    value = None
    for word, following in zip(arguments, [*arguments[1:], None], strict=False):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.removeprefix(f"{option}=")
    return value


def whole_numbers() -> tyro.constructors.ConstructorRegistry:
    """Returns a context in which options that are whole numbers may be written as 1e5."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def _(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if info.type is not int:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: whole_number(words[0]),
            is_instance=lambda value: isinstance(value, int),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def whole_number(text: str) -> int:
    """Returns the whole number that "100000", "100_000" or "1e5" means. Raises ValueError."""
    try:
        number = Decimal(text)
        whole = int(number)
    except (InvalidOperation, OverflowError, ValueError):
        raise ValueError(f"{text} is not a number") from None
    if whole != number:
        raise ValueError(f"{text} is not a whole number")
    return whole
