"""A curve of several runs, each thin and their mean thick, as a picture: the ones in the README.

pip install -e '.[plots]'
python benchmarks/learning_curves.py runs/reach-sparse-reach-{0,1,2} --out docs/images/reach_curve.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read(run: Path, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps and values of one curve of one run."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    points = sorted((event.step, event.value) for event in events.Scalars(tag))
    return np.array([step for step, _ in points]), np.array([value for _, value in points])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--tag", default="eval/success_rate")
    parser.add_argument("--title", default=None)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    curves = [read(run, arguments.tag) for run in arguments.runs]
    steps = curves[0][0]
    figure, axes = plt.subplots(figsize=(6.4, 3.2), dpi=110)
    for run_steps, values in curves:
        axes.plot(run_steps / 1000, values, color="#f08a24", alpha=0.45, linewidth=1)
    if len(curves) > 1:
        mean = np.mean([np.interp(steps, *curve) for curve in curves], axis=0)
        axes.plot(steps / 1000, mean, color="#c75a00", linewidth=2.2, label=f"mean of {len(curves)} seeds")
        axes.legend(frameon=False, loc="lower right")
    axes.set(xlabel="environment steps (thousands)", ylabel=arguments.tag, title=arguments.title, xlim=(0, None))
    if "rate" in arguments.tag:
        axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
