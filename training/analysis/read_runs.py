"""Reads what runs have left in their directories, and groups those that are the same but for the seed."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from errors import UserError
from training.config import defining_options, evaluated_options, option_words
from training.resume.run_directory import RunDirectory

EVENT_FILES = "events.out.tfevents.*"


@dataclass(frozen=True)
class Curve:
    """Holds the points of one curve, each array (P,): increasing steps, values, and minutes that the run had taken.

    The time between the parts of a resumed run is not counted, nor steps that were lost and taken again. A part's time
    begins with its event file.
    """

    steps: np.ndarray
    values: np.ndarray
    minutes: np.ndarray


@dataclass(frozen=True)
class Run:
    """Holds one run: its directory, its config.json, and the curve that was asked for."""

    path: Path
    config: dict[str, Any]
    curve: Curve

    @property
    def branch(self) -> dict[str, Any] | None:
        """Returns what config.json says of the start as a branch of another run, None where it is none."""
        starts = [start for start in self.config.get("starts", []) if isinstance(start, dict)]
        return next((start for start in starts if "branched_from" in start), None)


@dataclass(frozen=True)
class Group:
    """Holds runs that differ in nothing but their seed, as far as it makes them and the curve what they are."""

    name: str
    runs: list[Run]


def runs_in(path: Path) -> list[Path]:
    """Lists the runs in the directory `path` but those without curves yet; `path` where it is a run. Raises OSError."""
    if RunDirectory(path).config_file.exists() or not path.is_dir():
        return [path]
    inner = sorted(run for run in path.iterdir() if RunDirectory(run).config_file.exists())
    begun = [run for run in inner if any(run.glob(EVENT_FILES))]
    return begun or [path]


def read_run(path: Path, tag: str) -> Run:
    """Reads the run in the directory `path`, with one of its curves. Raises UserError, OSError."""
    return Run(path, _read_config(path), read_curve(path, tag))


def _read_config(path: Path) -> dict[str, Any]:
    file = RunDirectory(path).config_file
    if not file.exists():
        raise UserError(f"{path} holds no {file.name} and so no run; name directories that train.py has made")
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({error}); leave it out") from error
    if not isinstance(config, dict) or type(config.get("env")) is not str or type(config.get("seed")) is not int:
        raise UserError(f"{file} holds no configuration of a run; leave it out")
    return config


def read_curve(path: Path, tag: str) -> Curve:
    """Reads the curve `tag` of the run in the directory `path`. Raises UserError, OSError."""
    curves = read_curves(path)
    if not curves:
        raise UserError(f"{path} has no curves yet; leave it out")
    if tag not in curves:
        known = ", ".join(curves)
        raise UserError(f"{path} has no curve {tag}; leave it out, or give a --tag of these: {known}")
    if not np.isfinite(curves[tag].values).all():
        raise UserError(f"{path}: {tag} holds a number that is not finite; leave it out")
    return curves[tag]


def read_curves(path: Path) -> dict[str, Curve]:
    """Reads every curve of the run in the directory `path`, sorted by tag. Raises OSError."""
    values: dict[str, dict[int, float]] = {}
    seconds: dict[int, float] = {}
    # By name the files of a resumed run's parts are in order. A later one voids the steps from its first point on.
    for file in sorted(path.glob(EVENT_FILES)):
        part = EventAccumulator(str(file), {"scalars": 0}).Reload()
        points = [(tag, point) for tag in part.Tags()["scalars"] for point in part.Scalars(tag)]
        if not points:
            continue
        first = min(point.step for _, point in points)
        for kept in (seconds, *values.values()):
            for step in [step for step in kept if step >= first]:
                del kept[step]
        began = part.FirstEventTimestamp() - max(seconds.values(), default=0.0)
        for tag, point in points:
            values.setdefault(tag, {})[point.step] = point.value
            seconds[point.step] = point.wall_time - began
    curves = {}
    for tag, of_tag in sorted(values.items()):
        if steps := sorted(of_tag):
            minutes = np.array([seconds[step] for step in steps]) / 60
            curves[tag] = Curve(np.array(steps), np.array([of_tag[step] for step in steps]), minutes)
    return curves


def group_runs(runs: list[Run], tag: str) -> list[Group]:
    """Groups runs that differ in nothing but the seed, groups and runs in the order given. Raises UserError.

    Where the curve `tag` is one of evaluations, runs of a group have evaluated the same, too.
    """
    members: dict[frozenset[tuple[str, str]], list[Run]] = {}
    for run in runs:
        members.setdefault(_kind(run, tag), []).append(run)
    for group in members.values():
        by_seed: dict[int, Path] = {}
        for run in group:
            other = by_seed.setdefault(run.config["seed"], run.path)
            if other is not run.path:
                raise UserError(f"{other} and {run.path} are the same run twice: no option makes them differ; name one")
    options = [_options(group[0], tag) for group in members.values()]
    usual = {name: _usual([of_group.get(name) for of_group in options]) for name in set().union(*options)}
    return [Group(_name(group[0], tag, usual), group) for group in members.values()]


def _options(run: Run, tag: str) -> dict[str, Any]:
    """Returns the options, by name, that make the run and its curve `tag` what they are."""
    options = defining_options(run.config)
    if tag.startswith(("eval/", "eval_funnel/")):
        options |= evaluated_options(run.config)
    return options


def _kind(run: Run, tag: str) -> frozenset[tuple[str, str]]:
    """Returns what makes the run another than those of other groups. An option that older code did not know is None."""
    options = _options(run, tag).items()
    if run.branch:  # it shares its past with other branches: no seed of its own
        return frozenset({("run", str(run.path))})
    return frozenset((name, json.dumps(value)) for name, value in options if name != "seed" and value is not None)


def _usual(values: list[Any]) -> str | None:
    """Returns the value, as JSON, that more groups have than any other; None where there is no such value."""
    (first, count), *others = Counter(map(json.dumps, values)).most_common(2)
    return None if others and others[0][1] == count else first


def _name(run: Run, tag: str, usual: dict[str, str | None]) -> str:
    """Returns the options in which the run's group is not as most are, as on the command line; the task where it is."""
    if run.branch:
        return f"{run.path.name}, a branch"
    options = _options(run, tag)
    unusual = [name for name in sorted(usual) if name != "seed" and json.dumps(options.get(name)) != usual[name]]
    if not unusual:
        return "-".join(word for word in (run.config["env"], run.config.get("reward")) if word)
    return " ".join(option_words(name, options.get(name)) for name in unusual)
