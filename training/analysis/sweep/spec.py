"""Reads what a sweep is to try, from a TOML file, and checks all of it before anything is started."""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from shlex import split
from typing import Any

from errors import UserError
from training.analysis.sweep.runner import RECORDS, Job, read_record
from training.command_line import ignored_options
from training.config import TrainConfig, flatten, option_words
from training.recipes import from_stored, recipe, structured
from training.resume.run_directory import RunDirectory, differences

ENTRIES = {
    "env": (str, "a string"),
    "seeds": (list, "a list of whole numbers"),
    "runs": (str, "a string"),
    "threads": (int, "a whole number"),
    "options": (dict, "a table"),
    "grid": (dict, "a table"),
    "list": (list, "an array of tables: [[list]]"),
    "search": (dict, "a table"),
    "slurm": (dict, "a table"),
}
"""What a specification may hold, and what kind each is."""
OWN = ("seed", "run", "resume")
"""Options that a sweep gives each run itself."""
NAME = re.compile(r"[\w.=,+-]+")
LONGEST = 200
"""Characters of a run directory's name: its .log and the records beside it have longer ones, and 255 is the most."""
SEARCHED = {"trials": 20, "metric": "eval/success_rate", "direction": "maximize", "pruner": "median", "storage": ""}
"""Entries of [search] beside its space, and their defaults."""
CHOICES = {"direction": ("maximize", "minimize"), "pruner": ("median", "none")}


@dataclass(frozen=True)
class Point:
    """Names one run of a sweep: its job, and its options."""

    name: str
    job: Job
    config: TrainConfig


@dataclass(frozen=True)
class Search:
    """Says what is searched. space: for each option its choices (list), or {"low", "high"} and maybe "log", "step"."""

    trials: int
    metric: str
    direction: str
    pruner: str
    storage: str
    space: dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """Holds one specification. runs: the directory of its runs. points: empty where there is a search."""

    path: Path
    env: str
    seeds: tuple[int, ...]
    runs: Path
    threads: int
    options: dict[str, Any]
    points: list[Point] = field(default_factory=list)
    search: Search | None = None
    slurm: dict[str, Any] = field(default_factory=dict)

    def point(self, name: str, options: dict[str, Any], seed: int) -> Point:
        """Returns the run of `options`, by their names, on top of what all runs have. Raises UserError."""
        name = f"{name},seed={seed}" if name else f"seed={seed}"
        options = self.options | options
        env = options.get("env", self.env)
        if not isinstance(env, str):
            raise UserError(f"{self.path}: env = {env!r} is no string")
        run = self.runs.absolute() / name
        usual = _usual(env)
        for option in options:
            if option in OWN:
                raise UserError(f"{self.path}: {option} is not an option of a sweep, which gives each run its own")
            if option not in usual:
                raise UserError(f"{self.path}: train.py has no option {option}{_meant(option, usual)}")
        try:
            config = structured(_nested(usual | options | {"env": env, "seed": seed, "run": str(run)}))
        except UserError as error:
            raise UserError(f"{self.path}, {name}: {_readable(str(error))}") from error
        values = flatten(config.to_dict())
        words = [word for option in options if option != "env" for word in split(option_words(option, values[option]))]
        train = ("--env", env, "--seed", str(seed), *words)
        return Point(name, Job(run, config.steps, train, threads=self.threads, cwd=Path.cwd()), config)


def read_spec(path: Path) -> Spec:
    """Reads the file `path`, and plans its runs. Raises UserError."""
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    for name, value in content.items():
        if name not in ENTRIES:
            raise UserError(f"{path}: a sweep has no entry {name}{_meant(name, ENTRIES)}")
        kind, told = ENTRIES[name]
        if type(value) is not kind:
            raise UserError(f"{path}: {name} must be {told}")
    if "env" not in content:
        raise UserError(f'{path}: names no task; write env = "reach" at its top')
    seeds, threads = content.get("seeds", [0]), content.get("threads", 1)
    if not seeds or any(type(seed) is not int for seed in seeds):
        raise UserError(f"{path}: seeds must be a list of whole numbers, such as [0, 1, 2]")
    if threads < 1:
        raise UserError(f"{path}: threads must be at least 1")
    if not Path(content.get("runs", "runs")).name:
        raise UserError(f"{path}: runs must name a directory of the sweep's own")
    runs = Path(content.get("runs", Path("runs") / path.stem))
    options, slurm = flatten(content.get("options", {})), content.get("slurm", {})
    spec = Spec(path, content["env"], tuple(seeds), runs, threads, options, slurm=slurm)
    if "search" in content:
        if "grid" in content or "list" in content:
            raise UserError(f"{path}: has a search and a grid or a list as well; make them two files")
        object.__setattr__(spec, "search", _search(spec, content["search"]))
    else:
        ways = list(_ways(spec, flatten(content.get("grid", {})), content.get("list", [{}])))
        spec.points.extend(spec.point(name, given, seed) for name, given in ways for seed in seeds)
        check_names(path, spec.points)
    return spec


def check_names(path: Path | str, points: list[Point]) -> None:
    """Raises UserError where two of the points have one name, or one has no name for a directory."""
    seen: set[str] = set()
    for point in points:
        if point.name in seen:
            raise UserError(f"{path}: two runs would be called {point.name}; leave one out, or give it a name")
        seen.add(point.name)
        if not NAME.fullmatch(point.name) or point.name.startswith("."):
            raise UserError(f"{path}: {point.name!r} is no name for a run; take letters, digits, and . = , + - _")
        if len(point.name) > LONGEST:
            raise UserError(
                f"{path}: {point.name[:40]}… has {len(point.name)} characters, and {LONGEST} are the most; write the "
                "runs as a [[list]] with a name for each"
            )


def _ways(spec: Spec, grid: dict[str, Any], entries: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields a name and the options of each entry of the list with each of the grid's combinations."""
    for option, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{spec.path}: grid: {option} = {values!r}: give a list of values to try")
    for entry in entries:
        if not isinstance(entry, dict):
            raise UserError(f"{spec.path}: list must be {ENTRIES['list'][1]}")
        named = flatten(entry)
        name = named.pop("name", None)
        if twice := named.keys() & grid.keys():
            raise UserError(f"{spec.path}: {min(twice)} stands in the grid and in the list; give it once")
        if name is not None and not isinstance(name, str):
            raise UserError(f"{spec.path}: list: name = {name!r} is no string")
        if name is None:
            name = _differs(named) or ("default" if len(entries) > 1 else "")
        for values in product(*grid.values()):
            combination = dict(zip(grid, values, strict=True))
            yield ",".join(filter(None, (name, _differs(combination)))), named | combination


def _differs(options: dict[str, Any]) -> str:
    """Returns the part of a directory's name that tells of some options: "sac.lr=0.001,sac.hidden=64-64"."""

    def word(value: Any) -> str:
        if isinstance(value, list):
            return "-".join(map(word, value))
        return re.sub(r"[^\w.+-]", "-", str(value).lower() if isinstance(value, bool) else str(value))

    return ",".join(f"{option}={word(value)}" for option, value in options.items())


def _search(spec: Spec, content: dict[str, Any]) -> Search:
    """Reads [search], and tries the ends of its space. Raises UserError."""
    space = _leaves(content.get("space", {})) if isinstance(content.get("space", {}), dict) else {}
    given = {name: value for name, value in content.items() if name != "space"}
    for name, value in given.items():
        if name not in SEARCHED:
            raise UserError(f"{spec.path}: search has no entry {name}{_meant(name, [*SEARCHED, 'space'])}")
        if type(value) is not type(SEARCHED[name]):
            raise UserError(f"{spec.path}: search: {name} = {value!r} is no {type(SEARCHED[name]).__name__}")
        if value not in CHOICES.get(name, (value,)):
            raise UserError(f"{spec.path}: search: {name} = {value!r} is none of {', '.join(CHOICES[name])}")
    search = Search(**SEARCHED | given, space=space)
    if search.trials < 1:
        raise UserError(f"{spec.path}: search: trials must be at least 1")
    if not space:
        raise UserError(f"{spec.path}: search has no space: write options below [search.space]")
    for option, span in space.items():
        if isinstance(span, dict):
            _check_span(spec.path, option, span)
        elif not isinstance(span, list) or not span:
            raise UserError(f"{spec.path}: search: {option} = {span!r}: give a list of choices, or low and high")
        for end in (span["low"], span["high"]) if isinstance(span, dict) else span:
            spec.point("trial", {option: end}, spec.seeds[0])
    return search


def _check_span(path: Path, option: str, span: dict[str, Any]) -> None:
    if not {"low", "high"} <= span.keys() <= {"low", "high", "log", "step"}:
        raise UserError(f"{path}: search: {option}: takes low, high, and maybe log or step")
    low, high, step = (span.get(name) for name in ("low", "high", "step"))
    if any(type(end) not in (int, float) for end in (low, high)) or not low < high:
        raise UserError(f"{path}: search: {option}: low must be a number, and high a larger one")
    if type(span.get("log", False)) is not bool or (span.get("log") and (low <= 0 or step is not None)):
        raise UserError(f"{path}: search: {option}: log = true takes a low above 0, and no step")
    kinds = (int,) if type(low) is type(high) is int else (int, float)
    if step is not None and (type(step) not in kinds or step <= 0):
        raise UserError(f"{path}: search: {option}: step must be a number above 0, and whole where low and high are")


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a search's space by the options' names. A table that has a low or a high is one option's."""
    leaves = {}
    for key, value in tree.items():
        name = f"{prefix}{key.replace('_', '-')}"
        inner = isinstance(value, dict) and not {"low", "high"} & value.keys()
        leaves |= _leaves(value, f"{name}.") if inner else {name: value}
    return leaves


@cache
def _usual(env: str) -> dict[str, Any]:
    return flatten(recipe(env).to_dict())


def _readable(reasons: str) -> str:
    """Returns what cattrs says of a value in this project's words: "'fast' is no float (sac.lr)"."""
    reasons = re.sub(r"(\S+) not in literal typing\.Literal\[(.*?)\]", r"'\1' is none of \2", reasons)
    return re.sub(r" @ \$\.(\S+)", lambda found: f" ({found[1].replace('_', '-')})", reasons)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Undoes flatten()."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, last = name.replace("-", "_").split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return tree


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}" if len(known) < 20 else ""


def check_directories(runs: Path, points: list[Point]) -> None:
    """Raises UserError where `runs` holds what is none of these runs, nor was begun by this sweep before."""
    if runs.exists() and not runs.is_dir():
        raise UserError(f"{runs} is a file; give the sweep another directory (runs)")
    ours = {point.name for point in points}
    for other in sorted(runs.iterdir()) if runs.is_dir() else ():
        if other.name not in ours and RunDirectory(other).config_file.exists() and not read_record(other).tries:
            raise UserError(f"{runs} holds {other.name}, which is another's run; give another directory (runs)")
    for point in points:
        run = RunDirectory(point.job.run)
        if not run.path.exists():
            continue
        if run.config_file.exists():
            changed = differences(from_stored(run.read_config(), run.config_file).to_dict(), point.config.to_dict())
            if changed:
                told = "; ".join(f"--{name}: {before}, here {now}" for name, (before, now) in changed.items())
                raise UserError(f"{run.path} holds another run ({told}); give another directory (runs)")
        elif not run.path.is_dir() or (set(_names(run.path)) - {run.lock_file.name, RECORDS}):
            raise UserError(f"{run.path} is there already and is no run; give another directory (runs)")


def _names(path: Path) -> list[str]:
    return [inner.name for inner in path.iterdir()]


def notes(points: list[Point]) -> list[str]:
    """Returns a sentence for each option that has no effect in some of the runs."""
    told: dict[str, Callable] = {}
    for point in points:
        for sentence in ignored_options(point.config):
            told.setdefault(sentence, point.name)
    return [f"{sentence} ({name})" for sentence, name in told.items()]
