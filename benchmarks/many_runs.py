"""Trains and evaluates many runs side by side, each in processes of its own. Typed again, they go on."""

import os
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[1]
Name = TypeVar("Name", bound=Hashable)


def do_all(runs: Mapping[Name, Path], do: Callable[[Name, Path], int], jobs: int) -> Iterator[Name]:
    """Yields the runs that `do` brought to their end, in order, `jobs` at a time; it returns an exit status.

    Ctrl-C reaches the programs that run, too, which save and leave. The others do not begin then.
    """
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {name: pool.submit(do, name, run) for name, run in runs.items()}
        try:
            for name, job in waiting.items():
                status = job.result()
                told = f"exit status {status}, see {runs[name]}.log" if status else "done"
                print(f"{runs[name]}: {told}", flush=True)
                if not status:
                    yield name
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            sys.exit(130)


def train_and_evaluate(run: Path, options: list[str], evaluations: Mapping[Path, list[str]]) -> int:
    """Runs or continues train.py, and evaluate.py where the run went on since. Returns the first status above 0.

    evaluations: options of each evaluation, by the file that takes its result.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    status = program(run, ["train.py", "--run", str(run), *options])
    for path, asked in evaluations.items():
        if status or (path.exists() and path.stat().st_mtime > (run / "checkpoints").stat().st_mtime):
            continue
        status = program(run, ["evaluate.py", str(run), "--device", "cpu", *asked, "--json", str(path)])
    return status


def program(run: Path, command: list[str]) -> int:
    """Runs a program of this project, which writes to the run's .log. Returns its exit status."""
    # Runs side by side each have the cores that they can get: threads that wait for each other lose.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(f"{run}.log", "a") as log:
        command = [sys.executable, *command]
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
