"""Reads the command line of train.py, on top of the task's recipe or of the run that it goes on from.

And names what of it has no effect: who gives such an option should hear of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

import tyro

import checkpoints
from errors import UserError
from training.config import TrainConfig, check, flatten
from training.recipes import REACH, recipe
from training.resume.run_directory import options_of, run_of


def parse(arguments: Sequence[str]) -> TrainConfig:
    """Reads the command line of train.py. Raises UserError, and SystemExit as tyro does.

    What it does not say is as in the task's recipe or, with --resume PATH, as in that run.
    """
    resume, run = _given("--resume", arguments), _given("--run", arguments)
    for option, value in (("--resume", resume), ("--run", run)):
        if value == "":
            raise UserError(f"{option}: names nothing")
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
    if options is None and (checkpoints.PRETRAINED / source).is_dir():
        raise UserError(
            f"--resume {source}: is a policy without its training; --init {source} begins with its networks"
        )
    if options is None:
        raise UserError(f"--resume {source}: is neither a run directory nor a checkpoint")
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


def ignored_options(config: TrainConfig) -> list[str]:
    """Returns a sentence for each option of `config` that is not its task's default and has no effect."""
    usual, values = flatten(asdict(recipe(config.env))), flatten(asdict(config))
    reasons: dict[str, str] = {}
    for name, reason in _ignored(config):
        reasons.setdefault(name, reason)
    return [f"--{name} has no effect with {why}" for name, why in reasons.items() if values[name] != usual[name]]


def has_effect(name: str, config: TrainConfig) -> bool:
    """Tells whether the option `name` ("task.goal") is read in a run of `config`."""
    return name not in dict(_ignored(config))


def _ignored(config: TrainConfig) -> Iterator[tuple[str, str]]:
    her, task = config.her, config.task
    if not config.overlap:
        yield "env-workers", "--no-overlap"
    if config.init != "none":
        yield "warmup-hold", "--init"
    if her.strategy == "none":
        yield from ((f"her.{name}", "--her.strategy none") for name in ("k", "skip-met-at-start", "proposed-goals"))
    if config.sac.backup_entropy:
        yield "sac.clip-target", "--sac.backup-entropy"
    if config.reward.startswith("staged"):
        yield "sac.clip-target", f"--reward {config.reward}"
    if config.reward == "own":  # nothing of the following is read for an environment of somebody's own
        yield from ((name, f"--env {config.env}") for name in flatten({"task": asdict(task)}))
        return
    if not task.scripted_starts:
        yield from ((f"task.{name}", "no scripted starts") for name in ("scripted-until", "scripted-astray"))
    if config.reward != "sparse-reach":
        yield from ((name, f"--reward {config.reward}") for name in ("task.potential", "task.reach-per-finger"))
    if config.env == "reach":
        yield "task.reach-per-finger", "--env reach"
    if config.env != "pick-place":
        yield "task.retry-missed", f"--env {config.env}"
    elif task.goal != "mix":
        yield "task.retry-missed", f"--task.goal {task.goal}"
