"""Trains pick-place with each ingredient of docs/recipe.md left out alone, to tell which matters how much.

python benchmarks/ablation.py --seeds 0 1 --jobs 2 --reduced-precision    runs/ablation/…; typed again, it goes on
python benchmarks/ablation.py … --out ablation.png                        draws the curves as well (the extra "plots")

Each run's last policy is evaluated on episodes that nothing else sees; the table at the end says how many it held, and
after how many steps the run first held half of its evaluation episodes, which are on the fixed target.
"""

import argparse
import json
import sys
from pathlib import Path

from command_line import count, seed_number
from many_runs import finish, job

from errors import UserError, reporting
from training.analysis.compare import check_picture
from training.analysis.read_runs import read_curve
from training.analysis.sweep.runner import ROOT

SCHEDULE = ["--steps", "150000", "--task.scripted-until", "120000"]
"""Everything that changes with time comes early enough to act in runs as short as these."""
EPISODES, EVALUATION_SEED = 100, 130_000
GOALS = ("fixed", "air")
COLUMNS = 5
"""Of panels in the picture."""
LEFT_OUT = {
    "nothing": [],
    "scripted-starts": ["--task.scripted-starts", "0"],
    "strays": ["--task.scripted-astray", "0"],
    "progress": ["--reward", "sparse"],
    "per-finger": ["--task.no-reach-per-finger"],
    "pinch-potential": ["--task.potential", "14", "0", "6"],
    "opening-potential": ["--task.potential", "14", "14", "0"],
    "fine-actions": ["--task.action-slope", "1"],
    "observation": ["--task.observation", "reference"],
    "hindsight": ["--her.strategy", "none"],
    "skip-met-at-start": ["--her.no-skip-met-at-start"],
    "four-step-targets": ["--n-step", "1"],
    "clipped-targets": ["--sac.no-clip-target"],
    "no-entropy-in-target": ["--sac.backup-entropy", "--n-step", "1"],
    "layer-norm": ["--sac.no-layer-norm"],
    "quiet-exploration": ["--sac.target-entropy", "-0.5"],
    "replay-ratio": ["--updates-per-step", "0.25"],
    "goal-mixture": ["--task.goal", "fixed"],
    "missed-goals-again": ["--task.retry-missed", "0"],
}
"""Options that leave out each."""


def train_options(name: str, seed: int, options: list[str]) -> list[str]:
    """Returns options of train.py. What leaves the ingredient `name` out has the last word, after the schedule."""
    return ["--env", "pick-place", "--seed", str(seed), "--no-video", *SCHEDULE, *options, *LEFT_OUT[name]]


def report(run: Path, goal: str) -> Path:
    """Returns the file that keeps a run's evaluation."""
    return Path(f"{run}-{goal}.json")


def evaluations(run: Path) -> dict[Path, list[str]]:
    """Returns evaluate.py's options, by the file that takes the result."""
    episodes = ["--episodes", str(EPISODES), "--seed", str(EVALUATION_SEED)]
    return {report(run, goal): ["--goal", goal, *episodes] for goal in GOALS}


def row(name: str, seed: int, run: Path) -> tuple[str, ...]:
    curve = read_curve(run, "eval/success_rate")
    half = curve.steps[curve.values >= 0.5]
    held = (json.loads(report(run, goal).read_text())["success"]["rate"] for goal in GOALS)
    return name, str(seed), f"{half[0]:,}" if len(half) else "never", *(f"{rate:.0%}" for rate in held)


def draw(runs: dict[tuple[str, int], Path], path: Path) -> None:
    """Draws a panel for each ingredient: success of the runs without it, over those that leave out nothing in grey."""
    from matplotlib.figure import Figure

    names = [name for name in dict.fromkeys(name for name, _ in runs) if name != "nothing"]
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(2.1 * COLUMNS, 1.6 * rows + 0.3), dpi=110, layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    for name, panel in zip(names, panels, strict=False):  # in this order: zip takes from the first before it ends
        for (left_out, _), run in runs.items():
            if left_out in ("nothing", name):
                curve = read_curve(run, "eval/success_rate")
                look = {"color": "C0", "zorder": 3} if left_out == name else {"color": "0.7"}
                panel.plot(curve.steps / 1000, curve.values, linewidth=1.4, **look)
        panel.set_title(name, fontsize="small")
        panel.set(ylim=(-0.02, 1.02), xlim=(0, None))
        panel.tick_params(labelbottom=name in names[-COLUMNS:])  # where no panel is below
        panel.grid(alpha=0.25)
    for panel in list(panels):
        panel.axis("off")
    figure.supxlabel("environment steps (thousands)", fontsize="small")
    figure.supylabel("success", fontsize="small")
    figure.savefig(path)


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
    parser.add_argument("--out", type=Path, help="draw the curves to this .png")
    arguments, options = parser.parse_known_args()
    with reporting("ablation.py"):
        runs = {(name, seed): arguments.runs / f"{name}-{seed}" for seed in arguments.seeds for name in arguments.only}
        jobs = {arm: job(run, train_options(*arm, options), evaluations(run)) for arm, run in runs.items()}
        if arguments.out is not None:
            if set(arguments.only) <= {"nothing"}:
                raise UserError("--out has a panel for each ingredient, and none is left out")
            check_picture(arguments.out)
        finished = finish(jobs, arguments.jobs, arguments.runs)
    table = [row(*arm, runs[arm]) for arm in finished]
    for name, *cells in [("left out", "seed", "half held", *GOALS), *sorted(table)]:
        print(f"{name:<24}" + "".join(f"{cell:>11}" for cell in cells))
    if len(table) < len(runs):
        sys.exit(1)
    if arguments.out is not None:
        draw(runs, arguments.out)


if __name__ == "__main__":
    main()
