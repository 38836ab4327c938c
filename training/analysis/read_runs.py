"""What runs have left in their directories, and which of them are the same but for the seed."""

import json
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from training.options import defining_options, evaluated_options
from training.resume.run_directory import RunDirectory


class NotComparable(ValueError):
    """A directory that holds no run, or not the curve that was asked for, or a run that another stands for already."""


@dataclass(frozen=True)
class Curve:
    """steps (P,), increasing; values (P,); minutes (P,): how long the run had taken by then.

    The time between the parts of a resumed run is not counted, nor steps that were lost and taken again. A part's time
    begins at its first point of any curve; that of a run's first part is its very beginning.
    """

    steps: np.ndarray
    values: np.ndarray
    minutes: np.ndarray


@dataclass(frozen=True)
class Run:
    path: Path
    config: dict[str, Any]
    curve: Curve


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed and in nothing else that makes them, and the curve, what they are."""

    name: str
    runs: list[Run]


def read_run(path: Path, tag: str) -> Run:
    """The run in the directory `path`, with one of its curves. Raises NotComparable, OSError."""
    return Run(path, _read_config(path), read_curve(path, tag))


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise NotComparable(f"{path} is no directory; name some that train.py has made")
    file = RunDirectory(path).config_file
    if not file.exists():
        raise NotComparable(f"{path} holds no {file.name} and so no run; name directories that train.py has made")
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NotComparable(f"{file} cannot be read ({error}); leave it out") from error
    if not isinstance(config, dict) or type(config.get("env")) is not str or type(config.get("seed")) is not int:
        raise NotComparable(f"{file} holds no configuration of a run; leave it out")
    return config


def read_curve(path: Path, tag: str) -> Curve:
    """The curve `tag` of the run in the directory `path`. Raises NotComparable, OSError."""
    values: dict[int, float] = {}
    seconds: dict[int, float] = {}
    tags: set[str] = set()
    # By name a resumed run's files are in order, and what lies beyond the start of a later one is void.
    for file in sorted(path.glob("events.out.tfevents.*")):
        began = None
        for event in _read_events(file):
            if event.session_log.status == SessionLog.START:
                values = {step: value for step, value in values.items() if step < event.step}
                seconds = {step: second for step, second in seconds.items() if step < event.step}
            if not event.HasField("summary"):
                continue
            if began is None:
                began = event.wall_time - max(seconds.values(), default=0.0)
            seconds[event.step] = event.wall_time - began
            points = {point.tag: point.simple_value for point in event.summary.value if point.HasField("simple_value")}
            tags |= points.keys()
            if tag in points:
                values[event.step] = points[tag]
    if not values:
        if not tags:
            raise NotComparable(f"{path} has no curves yet; leave it out")
        known = ", ".join(sorted(tags))
        raise NotComparable(f"{path} has no curve {tag}; leave it out, or give a --tag of these: {known}")
    steps = sorted(values)
    curve = Curve(
        steps=np.array(steps),
        values=np.array([values[step] for step in steps]),
        minutes=np.array([seconds[step] for step in steps]) / 60,
    )
    if not np.isfinite(curve.values).all():
        raise NotComparable(f"{path}: {tag} holds a number that is not finite; leave it out")
    return curve


def _read_events(file: Path) -> Iterator[Event]:
    """Every event of a file, but for a last one that is not whole: still being written, or cut off by a crash, after
    which there may be zeros.

    Raises NotComparable where one is damaged, and others follow; TensorBoard's reader takes that for the file's end.
    """
    end = 0
    for record in RawEventFileLoader(str(file)).Load():
        end += 16 + len(record)  # its length, and a checksum of each
        yield Event.FromString(record)
    with open(file, "rb") as opened:
        opened.seek(end)
        rest = opened.read()
    if len(rest) < 12:
        return
    length, checksum = struct.unpack("<QI", rest[:12])
    whole = masked_crc32c(rest[:8]) == checksum
    if whole and rest[12 + length : 16 + length] == struct.pack("<I", masked_crc32c(rest[12 : 12 + length])):
        return  # written since
    if any(rest[16 + length if whole else 12 :]):
        raise NotComparable(f"{file} is damaged from byte {end:,} on; leave the run out")


def group_runs(runs: list[Run], tag: str) -> list[Group]:
    """The runs by what they are but for the seed, groups and runs in the order given; where their curve `tag` is one of
    evaluations, also by what those measure. Raises NotComparable."""
    members: dict[frozenset[tuple[str, str]], list[Run]] = {}
    for run in runs:
        members.setdefault(_kind(run, tag), []).append(run)
    for group in members.values():
        by_seed: dict[int, Path] = {}
        for run in group:
            other = by_seed.setdefault(run.config["seed"], run.path)
            if other is not run.path:
                raise NotComparable(
                    f"{other} and {run.path} are the same run twice: no option makes them differ; name one"
                )
    options = [_options(group[0], tag) for group in members.values()]
    usual = {name: _usual([of_group.get(name) for of_group in options]) for name in set().union(*options)}
    return [Group(_name(group[0], tag, usual), group) for group in members.values()]


def _options(run: Run, tag: str) -> dict[str, Any]:
    """The options, by name, that make the run and its curve `tag` what they are."""
    options = defining_options(run.config)
    if tag.startswith(("eval/", "eval_funnel/")):
        options |= evaluated_options(run.config)
    return options


def _kind(run: Run, tag: str) -> frozenset[tuple[str, str]]:
    """What makes the run another than those of other groups. An option that older code did not know is None."""
    options = _options(run, tag).items()
    return frozenset((name, json.dumps(value)) for name, value in options if name != "seed" and value is not None)


def _usual(values: list[Any]) -> str | None:
    """The value, as JSON, that more groups have than any other; None where there is no such value."""
    (first, count), *others = Counter(map(json.dumps, values)).most_common(2)
    return None if others and others[0][1] == count else first


def _name(run: Run, tag: str, usual: dict[str, str | None]) -> str:
    """The options in which the run's group is not as most are, as on the command line; the task where it is."""
    options = _options(run, tag)
    unusual = [name for name in sorted(usual) if name != "seed" and json.dumps(options.get(name)) != usual[name]]
    if not unusual:
        return "-".join(word for word in (run.config["env"], run.config.get("reward")) if word)
    return " ".join(_option(name, options.get(name)) for name in unusual)


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        section, dot, last = name.rpartition(".")
        return f"--{section}{dot}{'' if value else 'no-'}{last}"
    return f"--{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"
