"""Hands runs to a SLURM cluster as an array of jobs, by submitit. A job that is cut is queued again, and goes on."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import UserError
from training.analysis.sweep.runner import LEFT, RECORDS, ROOT, Job, Stop, run_all, write_whole

JOBS = "jobs.json"
"""File in RECORDS that says, by name, in which of the cluster's jobs a run is, or was."""
Work = Callable[[Stop], Iterable[int]]
"""Brings runs to their end, or to a stop. Returns their exit statuses."""
DEFAULTS = {"time": 240, "cpus_per_task": 2, "signal_delay_s": 120}
"""Minutes, cores, and seconds before the time is up at which a job is told to save and leave."""
STATE = ("squeue", "--noheader", "--format=%T", "--job")
"""Command that tells a job's state."""
KILLED = 137
"""Status of a job's step that SIGKILL has ended."""


class Task:
    """Does some work in a job of the cluster. submitit calls it there, and `checkpoint` when the job is to be cut."""

    def __call__(self, work: Work) -> list[int]:
        self._stop = Stop()
        # In a thread: submitit's handlers run in this one, and wait there until what is under way has been saved.
        with ThreadPoolExecutor(1) as pool:
            self._doing = pool.submit(work, self._stop)
            while not self._doing.done():
                time.sleep(0.2)
        statuses = list(self._doing.result())
        # A signal has reached the run alone. Where the job was cancelled by it, SLURM has another word for its state.
        if set(statuses) & set(LEFT) and _is_running():
            from submitit import JobEnvironment

            signal.raise_signal(getattr(signal, f"SIG{JobEnvironment.USR_SIG}"))
        return statuses

    def checkpoint(self, work: Work) -> Any:
        """Has the runs save and leave, and returns what is to be done when the job runs again."""
        from submitit.helpers import DelayedSubmission

        self._stop.ask(signal.SIGTERM)
        while not self._doing.done():
            time.sleep(0.1)
        return DelayedSubmission(Task(), work)


def _is_running() -> bool:
    told = subprocess.run([*STATE, os.environ["SLURM_JOB_ID"]], capture_output=True, text=True)
    return told.stdout.strip() == "RUNNING"


@dataclass(frozen=True)
class Runs:
    """Is the work of a job that brings some runs to their end, side by side."""

    jobs: tuple[Job, ...]

    def __call__(self, stop: Stop) -> Iterable[int]:
        return run_all(self.jobs, len(self.jobs), stop).values()


def executor(runs: Path, options: dict[str, Any], at_once: int | None) -> Any:
    """Returns submitit's executor with the options of [slurm]. Raises UserError.

    at_once: how many jobs of the array may run at once, None: as many as there is room for.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError("--on slurm needs submitit, which is not installed: pip install -e '.[sweep]'") from error
    if missing := [program for program in ("sbatch", "srun", "squeue") if not shutil.which(program)]:
        raise UserError(f"--on slurm: there is no {missing[0]} here; type this where jobs are submitted, or --on local")
    options = dict(options)
    for name, kind, told in (
        ("setup", list, "a list of lines"),
        ("additional_parameters", dict, "a table"),
        ("python", str, "a string"),
    ):
        if name in options and type(options[name]) is not kind:
            raise UserError(f"[slurm]: {name} must be {told}")
    python = options.pop("python", None)
    # A step that is killed takes its job along, and SLURM queues only those again that lost their node.
    lost = f'[ $? = {KILLED} ] && [ "$({" ".join(STATE)} "$SLURM_JOB_ID")" = RUNNING ]'
    again = f"trap '{lost} && scontrol requeue \"$SLURM_JOB_ID\"' EXIT"
    path = f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"
    setup = [*options.pop("setup", []), path, again]
    extra = {"requeue": True} | options.pop("additional_parameters", {})
    folder = runs.absolute() / RECORDS / "jobs"
    # Any number of time limits: each job gets further, or fails by itself.
    made = submitit.SlurmExecutor(folder, max_num_timeout=10**6, python=python)
    at_once = {} if at_once is None else {"array_parallelism": at_once}
    named = {"job_name": runs.name, "setup": setup, "additional_parameters": extra}
    try:
        made.update_parameters(**DEFAULTS | at_once | options | named)
    except (ValueError, TypeError) as error:
        raise UserError(f"[slurm]: {' '.join(str(error).split())}") from error
    return made


def submit(made: Any, runs: Path, works: dict[tuple[str, ...], Work]) -> list[str]:
    """Submits an array with a job for each of `works`, and writes down which names are in it. Returns the jobs' ids.

    Raises UserError.
    """
    import submitit

    try:
        submitted = made.map_array(Task(), list(works.values()))
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"sbatch has refused the jobs: {str(error).strip().splitlines()[-1]}", status=1) from error
    ids = [job.job_id for job in submitted]
    known = known_jobs(runs)
    known |= {name: number for names, number in zip(works, ids, strict=True) for name in names}
    write_whole(runs / RECORDS / JOBS, known)
    return ids


def known_jobs(runs: Path) -> dict[str, str]:
    """Returns, by name, in which job each run was put last."""
    with suppress(OSError, ValueError):
        return json.loads((runs / RECORDS / JOBS).read_bytes())
    return {}


def queue(runs: Path) -> dict[str, str]:
    """Returns, by name, the state of each run whose job the cluster still has: PENDING, RUNNING, … Raises UserError."""
    known = known_jobs(runs)
    if not known or not shutil.which("squeue"):
        return {}
    command = ["squeue", "--me", "--noheader", "--array", "--format", "%i %T"]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:
        sentence = f"squeue does not answer, so nobody knows what is queued: {asked.stderr.strip()}"
        raise UserError(sentence, status=1)
    states = dict(line.split() for line in asked.stdout.splitlines())
    return {name: states[number] for name, number in known.items() if number in states}


def together(jobs: Sequence[Job], count: int) -> list[tuple[Job, ...]]:
    """Splits `jobs` into groups of `count`, each for one job of the cluster."""
    return [tuple(jobs[i : i + count]) for i in range(0, len(jobs), count)]
