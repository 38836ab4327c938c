"""Tells how far the runs of a sweep are, from what they and their tries have left on the disk."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import checkpoints
from errors import UserError
from training.analysis.sweep.runner import RECORDS, Job, is_held, last_line, read_record, steps_saved
from training.analysis.sweep.spec import Point

STATES = ("running", "queued", "complete", "failed", "cut", "missing")
"""failed: with status 2, which no restart can cure. cut: begun, and to be continued. missing: not begun."""


@dataclass(frozen=True)
class Status:
    """Holds what is told of one run."""

    state: str
    step: int
    success: float | None
    minutes: float
    tries: int
    sentence: str


def state_of(job: Job, queued: Mapping[str, str], sweeping: bool) -> str:
    """Returns which of STATES the run of `job` is in.

    queued: what the cluster still has, by the run's name. sweeping: a sweep of this machine is at work.
    """
    record, at_work = read_record(job.run), queued.get(job.run.name)
    if is_held(job.run / ".lock") or (record.began is not None and (sweeping or at_work == "RUNNING")):
        return "running"
    if at_work is not None:
        return "queued"
    if record.status == 0 and steps_saved(job.run) >= job.steps and all(path.exists() for path, _ in job.evaluations):
        return "complete"
    if record.status == 2 and record.train == job.train:
        return "failed"
    return "cut" if record.tries or job.run.exists() else "missing"


def status_of(job: Job, state: str) -> Status:
    """Reads the rest of what is told of a run."""
    record = read_record(job.run)
    minutes, sentence = record.minutes, record.sentence
    if state == "running":
        sentence = last_line(job.log)
        if record.began is not None:
            minutes += (time.time() - record.began) / 60
    return Status(state, steps_saved(job.run), success(job.run), minutes, record.tries, sentence)


def success(run: Path) -> float | None:
    """Returns the last evaluation's success that a checkpoint tells of, None where none does."""
    with suppress(OSError, UserError):
        for path in reversed(checkpoints.list_checkpoints(run / "checkpoints")):
            if (rate := checkpoints.read_manifest(path).success) is not None:
                return rate
    return None


def is_sweeping(runs: Path) -> bool:
    """Tells whether a sweep of this machine is at work in the directory `runs`."""
    return is_held(runs / RECORDS / "lock")


def print_table(points: Sequence[Point], states: Sequence[str]) -> None:
    """Prints a line for each run, and how many there are of each state."""
    rows = [("run", "state", "step", "success", "minutes", "tries", "last said")]
    for point, state in zip(points, states, strict=True):
        told = Status(state, 0, None, 0.0, 0, "") if state == "missing" else status_of(point.job, state)
        is_rate = told.success is not None and 0 <= told.success <= 1
        rate = f"{told.success:.0%}" if is_rate else "" if told.success is None else f"{told.success:.4g}"  # a return
        step = f"{told.step:,} of {point.job.steps:,}"
        rows.append((point.name, state, step, rate, f"{told.minutes:.1f}", str(told.tries), told.sentence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, state, *numbers, sentence in rows:
        cells = (cell.rjust(width) for cell, width in zip(numbers, widths[2:], strict=False))
        print("  ".join([name.ljust(widths[0]), state.ljust(widths[1]), *cells, sentence]).rstrip())
    print(summary(states))


def summary(states: Sequence[str]) -> str:
    """Says how many runs there are, and in which states."""
    counts = [(states.count(state), state) for state in dict.fromkeys((*STATES, *states))]
    runs = "1 run" if len(states) == 1 else f"{len(states):,} runs"
    return f"{runs}: " + ", ".join(f"{count:,} {state}" for count, state in counts if count)
