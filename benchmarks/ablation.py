"""Pick-place with each ingredient of docs/recipe.md left out alone: which matters how much.

python benchmarks/ablation.py --seeds 0 1 --jobs 2                  runs/ablation/…; typed again, it goes on
python -m training.compare runs/ablation/*/ --out ablation.png      what came of it
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tyro
from command_line import count, seed_number

from training.config import ConfigError, TrainConfig

ROOT = Path(__file__).parents[1]
STEPS = 400_000
"""Of fewer steps the last ingredients never come to act: the learning rate falls after 203,000."""
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
    "no-entropy-in-target": ["--sac.backup-entropy"],
    "layer-norm": ["--sac.no-layer-norm"],
    "quiet-exploration": ["--sac.target-entropy", "-3"],
    "averaged-actor": ["--sac.average-tau", "1"],
    "falling-learning-rate": ["--sac.lr-decay-after", "1000000000"],
    "replay-ratio": ["--updates-per-step", "0.25"],
    "goal-mixture": ["--task.goal", "fixed"],
    "missed-goals-again": ["--task.retry-missed", "0"],
}
"""Options that leave out each."""


def train(name: str, seed: int, arguments: argparse.Namespace, options: list[str]) -> tuple[Path, int]:
    """Runs or continues one run; returns its directory and its exit status."""
    run = arguments.runs / f"{name}-{seed}"
    run.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "train.py", "--env", "pick-place", "--seed", str(seed), "--steps", str(arguments.steps)]
    command += ["--run", str(run), "--no-video", *LEFT_OUT[name], *options]
    with open(f"{run}.log", "a") as log:
        # Runs side by side each have the cores that they can get: threads that wait for each other lose.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        status = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
    return run, status


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What else stands on the command line goes to train.py: --device cuda, --reduced-precision, …",
    )
    parser.add_argument("--only", nargs="+", choices=LEFT_OUT, default=list(LEFT_OUT), metavar="INGREDIENT")
    parser.add_argument("--seeds", type=seed_number, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=count, default=STEPS)
    parser.add_argument("--jobs", type=count, default=2, help="runs side by side")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "ablation")
    arguments, options = parser.parse_known_args()
    try:
        tyro.cli(TrainConfig, args=options).resolved()
    except ConfigError as error:
        parser.error(str(error))
    failed = False
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [
            pool.submit(train, name, seed, arguments, options) for seed in arguments.seeds for name in arguments.only
        ]
        try:
            for job in jobs:
                run, status = job.result()
                failed |= status != 0
                print(f"{run}: {f'exit status {status}, see {run}.log' if status else 'done'}", flush=True)
        except KeyboardInterrupt:
            # It has reached the runs, too, which save and leave; the others are not to begin.
            pool.shutdown(cancel_futures=True)
            sys.exit(130)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
