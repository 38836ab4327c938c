"""Pick-place with each ingredient of docs/recipe.md left out alone: which matters how much.

python benchmarks/ablation.py --seeds 0 1 --jobs 2 --reduced-precision    runs/ablation/…; typed again, it goes on
python -m training.compare runs/ablation/*/ --out ablation.png            the curves

Each run's last policy is evaluated on episodes that nothing else sees; the table at the end says how many it held.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tyro
from command_line import count, seed_number

from training.config import ConfigError, TrainConfig

ROOT = Path(__file__).parents[1]
SCHEDULE = ["--steps", "150000", "--task.scripted-until", "120000", "--her.late-from", "120000"]
SCHEDULE += ["--sac.lr-decay-after", "30000"]
"""Everything that changes with time comes early enough to act in runs as short as these."""
EPISODES, EVALUATION_SEED = 100, 130_000
GOALS = ("fixed", "air")
LEFT_OUT = {
    "nothing": [],
    "scripted-starts": ["--task.scripted-starts", "0"],
    "wide-opening": ["--task.scripted-opening", "0.22"],
    "strays": ["--task.scripted-astray", "0"],
    "progress": ["--reward", "sparse"],
    "per-finger": ["--task.no-reach-per-finger"],
    "pinch-potential": ["--task.pinch-weight", "0"],
    "opening-potential": ["--task.opening-weight", "0"],
    "fine-actions": ["--task.action-slope", "1"],
    "observation": ["--task.observation", "reference"],
    "hindsight": ["--her.strategy", "none"],
    "skip-met-at-start": ["--her.no-skip-met-at-start"],
    "less-hindsight-late": ["--her.late-ratio", "0.8"],
    "four-step-targets": ["--sac.n-step", "1"],
    "clipped-targets": ["--sac.no-clip-target"],
    "no-entropy-in-target": ["--sac.backup-entropy", "--sac.n-step", "1"],
    "layer-norm": ["--sac.no-layer-norm"],
    "quiet-exploration": ["--sac.target-entropy", "-3"],
    "averaged-actor": ["--sac.average-tau", "1"],
    "falling-learning-rate": ["--sac.lr-decay-after", "1000000000"],
    "replay-ratio": ["--updates-per-step", "0.25"],
    "goal-mixture": ["--task.goal", "fixed"],
    "missed-goals-again": ["--task.retry-missed", "0"],
}
"""Options that leave out each."""


def train_options(name: str, seed: int, options: list[str]) -> list[str]:
    """Of train.py; what leaves the ingredient `name` out has the last word, after the schedule and `options`."""
    return ["--env", "pick-place", "--seed", str(seed), "--no-video", *SCHEDULE, *options, *LEFT_OUT[name]]


def train_and_evaluate(run: Path, options: list[str]) -> int:
    """Runs or continues one run, and evaluates it where it went on since. Returns the first exit status above 0."""
    run.parent.mkdir(parents=True, exist_ok=True)
    status = program(run, ["train.py", "--run", str(run), *options])
    for goal in GOALS:
        path = report(run, goal)
        if status or (path.exists() and path.stat().st_mtime > (run / "checkpoints").stat().st_mtime):
            continue
        evaluation = ["--episodes", str(EPISODES), "--seed", str(EVALUATION_SEED), "--goal", goal, "--json", str(path)]
        status = program(run, ["evaluate.py", str(run), "--device", "cpu", *evaluation])
    return status


def program(run: Path, command: list[str]) -> int:
    # Runs side by side each have the cores that they can get: threads that wait for each other lose.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(f"{run}.log", "a") as log:
        command = [sys.executable, *command]
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode


def report(run: Path, goal: str) -> Path:
    """Where a run's evaluation is kept."""
    return Path(f"{run}-{goal}.json")


def held(run: Path, goal: str) -> str:
    return f"{json.loads(report(run, goal).read_text())['success']['rate']:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What else stands on the command line goes to train.py: --device cuda, --reduced-precision, …",
    )
    parser.add_argument("--only", nargs="+", choices=LEFT_OUT, default=list(LEFT_OUT), metavar="INGREDIENT")
    parser.add_argument("--seeds", type=seed_number, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=count, default=2, help="runs side by side")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "ablation")
    arguments, options = parser.parse_known_args()
    try:
        tyro.cli(TrainConfig, args=options).resolved()
    except ConfigError as error:
        parser.error(str(error))
    runs = {(name, seed): arguments.runs / f"{name}-{seed}" for seed in arguments.seeds for name in arguments.only}
    table = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [pool.submit(train_and_evaluate, run, train_options(*arm, options)) for arm, run in runs.items()]
        try:
            for (name, seed), run, job in zip(runs, runs.values(), jobs, strict=True):
                status = job.result()
                print(f"{run}: {f'exit status {status}, see {run}.log' if status else 'done'}", flush=True)
                if not status:
                    table.append((name, str(seed), *(held(run, goal) for goal in GOALS)))
        except KeyboardInterrupt:
            # It has reached the runs, too, which save and leave; the others are not to begin.
            pool.shutdown(cancel_futures=True)
            sys.exit(130)
    for row in [("left out", "seed", *GOALS), *sorted(table)]:
        print("".join(f"{cell:<26}" if column == 0 else f"{cell:>8}" for column, cell in enumerate(row)))
    sys.exit(0 if len(table) == len(runs) else 1)


if __name__ == "__main__":
    main()
