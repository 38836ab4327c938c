"""Trains and evaluates many runs side by side, as python -m training.analysis.sweep does. Typed again, they go on."""

import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TypeVar

from training.analysis.sweep.runner import Job, Stop, exclusively, run_all
from training.analysis.sweep.status import state_of
from training.command_line import parse

Name = TypeVar("Name", bound=Hashable)


def job(run: Path, options: list[str], evaluations: Mapping[Path, list[str]]) -> Job:
    """Returns the run of train.py's `options`, which are checked. Raises UserError.

    evaluations: options of evaluate.py, by the file that takes its result.
    """
    run = run.absolute()
    asked = tuple((path.absolute(), tuple(words)) for path, words in evaluations.items())
    return Job(run, parse([*options, "--run", str(run)]).steps, tuple(options), asked)


def finish(jobs: Mapping[Name, Job], parallel: int, runs: Path) -> list[Name]:
    """Brings what is not complete to its end, `parallel` at a time. Returns the names of the complete, in order.

    runs: the directory of them all. Ctrl-C has what runs save and leave, and the program end. Raises UserError.
    """
    stop = Stop()
    with exclusively(runs), stop.listening():
        run_all([job for job in jobs.values() if state_of(job, {}, False) != "complete"], parallel, stop)
        if stop.signal is not None:
            sys.exit(128 + stop.signal)
        return [name for name, job in jobs.items() if state_of(job, {}, False) == "complete"]
