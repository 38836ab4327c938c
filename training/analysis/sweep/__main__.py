"""Brings many runs to their end, on this machine or on a SLURM cluster. docs/cluster.md shows specifications.

python -m training.analysis.sweep rates.toml                       on this machine's cores; typed again, it goes on
python -m training.analysis.sweep rates.toml --on slurm            an array of jobs
python -m training.analysis.sweep status rates.toml                how far each run is
"""

import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from errors import UserError, reporting
from training.analysis.sweep import slurm
from training.analysis.sweep.runner import Stop, exclusively, run_all
from training.analysis.sweep.spec import Point, Spec, check_directories, notes, read_spec
from training.analysis.sweep.status import is_sweeping, print_table, state_of, summary
from training.command_line import whole_numbers

PROGRAM = "python -m training.analysis.sweep"
WORKERS = 4
"""Jobs of a cluster that take part in a search, by default."""


@dataclass(frozen=True)
class SweepConfig:
    """Bring the runs of a sweep to their end. The same command, typed again, does what is missing.

    python -m training.analysis.sweep status SPEC.toml     how far each run is
    """

    spec: Annotated[Path, tyro.conf.Positional]
    """What to try, in TOML (docs/cluster.md)."""
    on: Literal["local", "slurm"] = "local"
    """local: this machine. slurm: an array of jobs of a cluster, which is left to work by itself."""
    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Runs side by side, or jobs of the array at once. Default: local, as many as there are cores (with --gpus: one for
    each); slurm, as many as there is room for, and 4 for a search."""
    gpus: tuple[int, ...] = ()
    """GPUs of this machine that the runs take turns on, by number. With as many --jobs as there are GPUs each has one
    run at a time, with twice as many two."""
    again: bool = False
    """Try again what ended with status 2, too: after its cause was mended."""


@dataclass(frozen=True)
class StatusConfig:
    """Tell how far each run of a sweep is."""

    spec: Annotated[Path, tyro.conf.Positional]
    """What was given to the sweep."""


def sweep(config: SweepConfig) -> int:
    """Does what is left to do. Returns the exit status. Raises UserError before anything is started."""
    if config.jobs is not None and config.jobs < 1:
        raise UserError(f"--jobs {config.jobs}: must be at least 1")
    if config.gpus and config.on == "slurm":
        raise UserError("--gpus: is for this machine; on a cluster ask for them in [slurm], as gpus_per_node = 1")
    spec = read_spec(config.spec)
    check_directories(spec.runs, planned(spec))
    for note in notes(spec.points):
        print(note)
    made, options = None, dict(spec.slurm)
    together = options.pop("runs_per_job", 1)
    if type(together) is not int or together < 1:
        raise UserError(f"{spec.path}: [slurm]: runs_per_job must be a whole number from 1 up")
    if config.on == "slurm":
        made = slurm.executor(spec.runs, options, config.jobs)
    with exclusively(spec.runs):
        if spec.search:
            return search(config, spec, made, together)
        states = states_of(spec, spec.points, sweeping=False)
        print(summary(states))
        # What runs and is none of the cluster's was left by a sweep that is no more: it is waited for.
        left = {"complete", "queued"} | (set() if config.again else {"failed"})
        at_work = slurm.queue(spec.runs)
        pairs = zip(spec.points, states, strict=True)
        todo = [point.job for point, state in pairs if state not in left and point.name not in at_work]
        if made is not None:
            groups = slurm.together(todo, together)
            return submit(spec, made, {tuple(job.run.name for job in group): slurm.Runs(group) for group in groups})
        parallel, stop = side_by_side(config), Stop()
        with stop.listening():
            statuses = run_all(todo, parallel, stop, config.gpus)
        states = states_of(spec, spec.points, sweeping=False)
        print(summary(states))
        return ending(stop, statuses.values(), "failed" in states)


def ending(stop: Stop, statuses: Collection[int], failed: bool) -> int:
    """Returns a sweep's exit status: 0 complete, 1 another try may do better, 2 none can, 128 + n left on signal n."""
    if stop.signal is not None:
        return 128 + stop.signal
    if any(status not in (0, 2) for status in statuses):
        return 1
    return 2 if failed else 0


def search(config: SweepConfig, spec: Spec, made: Any, together: int) -> int:
    """Runs the trials that are left. Returns the exit status."""
    from training.analysis.sweep import search as trials

    study = trials.open_study(spec)
    queued = slurm.queue(spec.runs)
    if not queued:
        trials.resume_what_was_cut(study)
    if made is not None:
        if queued:
            raise UserError(f"{len(queued)} jobs of the cluster search already; wait for them, or scancel them", 1)
        if not trials.left_to_do(study, spec.search.trials):
            return submit(spec, made, {})
        workers = min(config.jobs or WORKERS, spec.search.trials)
        return submit(spec, made, {(f"worker-{i}",): trials.Worker(spec, together) for i in range(workers)})
    if queued:
        raise UserError("jobs of the cluster search already; wait for them, or scancel them", 1)
    stop = Stop()
    with stop.listening():
        statuses = trials.search_all(spec, side_by_side(config), stop, config.gpus)
    print(trials.told(study))
    return ending(stop, statuses, 2 in statuses)


def submit(spec: Spec, made: Any, works: dict[tuple[str, ...], slurm.Work]) -> int:
    """Submits the jobs that are left to do. Returns the exit status."""
    if not works:
        print("nothing to submit")
        return 0
    ids = slurm.submit(made, spec.runs, works)
    print(f"submitted {len(ids)} jobs ({ids[0]} …); how far they are: {PROGRAM} status {spec.path}")
    return 0


def side_by_side(config: SweepConfig) -> int:
    """Returns how many runs are side by side on this machine."""
    return config.jobs or len(config.gpus) or len(os.sched_getaffinity(0))


def planned(spec: Spec) -> list[Point]:
    """Returns all runs of `spec` that are known by now, those of a search's trials included."""
    if not spec.search:
        return spec.points
    from training.analysis.sweep import search as trials

    return trials.all_points(spec)


def states_of(spec: Spec, points: list[Point], sweeping: bool) -> list[str]:
    """Returns the state of each run."""
    queued, given_up = slurm.queue(spec.runs), {}
    if spec.search:
        from training.analysis.sweep import search as trials

        given_up = trials.given_up(spec)
    return [given_up.get(point.name) or state_of(point.job, queued, sweeping) for point in points]


def status(config: StatusConfig) -> None:
    """Prints the table. Raises UserError."""
    spec = read_spec(config.spec)
    points = planned(spec)
    print_table(points, states_of(spec, points, is_sweeping(spec.runs)))


def main() -> None:
    with reporting("training.analysis.sweep"), whole_numbers():
        if sys.argv[1:2] == ["status"]:
            status(tyro.cli(StatusConfig, prog=f"{PROGRAM} status", args=sys.argv[2:]))
        else:
            sys.exit(sweep(tyro.cli(SweepConfig, prog=PROGRAM)))


if __name__ == "__main__":
    main()
