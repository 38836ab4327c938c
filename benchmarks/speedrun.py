"""Trains pick-place with default options until three evaluations in a row hold 95 %, and tells what that took.

python benchmarks/speedrun.py --seed 0                       runs/speedrun/0; typed again, it goes on
python benchmarks/speedrun.py --seed 0 --json record.json    keeps the record

Minutes are those of the run's curves, evaluations and checkpoints included: from after its start, which takes seconds,
and without the time between its parts.
"""

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from command_line import count, seed_number
from many_runs import job

from errors import UserError, check_writable, reporting, write_json
from training.analysis.read_runs import Curve, read_curves
from training.analysis.sweep.runner import ROOT, Stop, bring_to_end, exclusively, read_record

HELD, IN_A_ROW = 0.95, 3
POLL = 5.0
"""Seconds between two looks at the curves."""


def first_held(curve: Curve) -> int | None:
    """Returns the index of the evaluation that is the last of the first IN_A_ROW that hold, or None."""
    row = 0
    for i, value in enumerate(curve.values):
        row = row + 1 if value >= HELD else 0
        if row == IN_A_ROW:
            return i
    return None


@dataclass
class Goal:
    """Tells, each time it is asked, whether the run has come to its goal."""

    run: Path
    _next: float = 0.0

    def __call__(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + POLL
        return record(self.run) is not None


def record(run: Path) -> dict[str, Any] | None:
    """Returns what it took the run to hold, None where it has not."""
    curves = read_curves(run)
    success = curves.get("eval/success_rate")
    if success is None or (held := first_held(success)) is None:
        return None
    step = int(success.steps[held])
    updates = curves["train/n_updates"]
    config = json.loads((run / "config.json").read_text())
    return {
        "minutes": round(float(success.minutes[held]), 2),
        "env_steps": step,
        "updates": int(updates.values[updates.steps <= step][-1]),
        "seed": config["seed"],
        "commit": config["starts"][0].get("commit"),
        "device": config["starts"][0]["device"],
        "machine": machine(),
    }


def machine() -> str:
    """Names the processor and how many of its cores there are for this process."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What else stands on the command line goes to train.py: --device cuda, --reduced-precision, …",
    )
    parser.add_argument("--seed", type=seed_number, default=0)
    parser.add_argument("--threads", type=count, default=2, help="that PyTorch may compute with")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "speedrun")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    arguments, options = parser.parse_known_args()
    with reporting("speedrun.py"):
        if arguments.json is not None:
            check_writable("--json", arguments.json)
        given = ["--env", "pick-place", "--seed", str(arguments.seed), "--no-video", *options]
        run = arguments.runs / str(arguments.seed)
        planned = replace(job(run, given, {}), threads=arguments.threads)
        stop = Stop()
        with exclusively(arguments.runs), stop.listening():
            status = 0 if record(run) else bring_to_end(planned, stop, watch=Goal(run))
        if stop.signal is not None:
            sys.exit(128 + stop.signal)
        if (result := record(run)) is None:
            never = f"three evaluations in a row never held {HELD:.0%}" if not status else read_record(run).sentence
            raise UserError(f"{run}: {never}", status or 1)
        for name, value in result.items():
            told = f"{value:,}" if name in ("env_steps", "updates") else value
            print(f"{name.replace('_', ' '):<12}{told}")
        if arguments.json is not None:
            write_json("--json", arguments.json, result)


if __name__ == "__main__":
    main()
