"""Trains other people's tasks with default options, nothing per task but --steps, and tells what each run holds.

python benchmarks/foreign.py --only FetchReach FetchPush --seeds 0 1 --jobs 2    typed again, it goes on

It needs an environment of its own: pip install -e '.[gym]' (gymnasium-robotics 1.4 wants mujoco==3.8.*).
"""

import argparse
import json
import sys
from pathlib import Path

from command_line import count, seed_number
from many_runs import finish, job

from errors import reporting
from training.analysis.read_runs import read_curve
from training.analysis.sweep.runner import ROOT

EPISODES, EVALUATION_SEED = 100, 500_000
TASKS = {
    "FetchReach": ("gym:FetchReach-v4", 5_000, []),
    "FetchPush": ("gym:FetchPush-v4", 120_000, []),
    "FetchPickAndPlace": ("gym:FetchPickAndPlace-v4", 300_000, []),
    "FetchSlide": ("gym:FetchSlide-v4", 1_000_000, []),
    "PointMaze": ("gym:PointMaze_UMaze-v3", 100_000, []),
    "SmallPush": ("benchmarks.small_push:SmallPush", 20_000, ["--sac.hidden", "128", "128", "--eval.every", "2000"]),
    "HalfCheetah": ("gym:HalfCheetah-v5", 200_000, ["--her.strategy", "none"]),  # it has no goals
}
"""Environment, environment steps, and what it cannot do without, or what makes it quick."""


def train_options(task: str, seed: int, options: list[str]) -> list[str]:
    env, steps, needed = TASKS[task]
    return ["--env", env, "--seed", str(seed), "--steps", str(steps), "--no-video", *needed, *options]


def evaluation(run: Path) -> dict[Path, list[str]]:
    """Returns evaluate.py's options for the last policy, by the file that takes the result."""
    return {Path(f"{run}.json"): ["--episodes", str(EPISODES), "--seed", str(EVALUATION_SEED)]}


def row(task: str, seed: int, run: Path) -> tuple[str, ...]:
    """Returns task, seed, steps, updates, the last policy's success (or return), and where 95 % were first held."""
    result = json.loads(Path(f"{run}.json").read_text())
    updates = read_curve(run, "train/n_updates").values[-1]
    if result["success"] is None:
        told, first = f"return {result['return']['mean']:,.0f}", "-"
    else:
        curve = read_curve(run, "eval/success_rate")
        held = curve.steps[curve.values >= 0.95]
        told, first = f"{result['success']['rate']:.0%}", f"{held[0]:,}" if len(held) else "never"
    return task, str(seed), f"{result['env_steps']:,}", f"{updates:,.0f}", told, first


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What else stands on the command line goes to train.py: --steps 60000, --reduced-precision, …",
    )
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--seeds", type=seed_number, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--jobs", type=count, default=2, help="runs side by side")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "foreign")
    arguments, options = parser.parse_known_args()
    runs = {(task, seed): arguments.runs / f"{task}-{seed}" for task in arguments.only for seed in arguments.seeds}
    with reporting("foreign.py"):
        jobs = {which: job(run, train_options(*which, options), evaluation(run)) for which, run in runs.items()}
        finished = finish(jobs, arguments.jobs, arguments.runs)
    table = [row(*which, runs[which]) for which in finished]
    for cells in [("task", "seed", "steps", "updates", "held at the end", "95 % first"), *table]:
        print(f"{cells[0]:<20}" + "".join(f"{cell:>17}" for cell in cells[1:]))
    sys.exit(len(table) < len(runs))


if __name__ == "__main__":
    main()
