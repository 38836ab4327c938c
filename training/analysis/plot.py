"""Draws groups of runs: a thin line for each seed, a thick one for their interquartile mean, and its interval."""

import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from training.analysis.read_runs import Group
from training.analysis.seed_statistics import bootstrap_interval, common_steps, interquartile_mean, values_at


def draw(groups: list[Group], tag: str, rate: bool, path: Path) -> None:
    """Writes the picture to `path`, a .png. Raises OSError."""
    figure = Figure(figsize=(6.4, 3.0 + 0.18 * (len(groups) + 1)), dpi=110, layout="constrained")
    axes = figure.subplots()
    for colour, group in zip(colours(len(groups)), groups, strict=True):
        curves = [run.curve for run in group.runs]
        for curve in curves:
            axes.plot(curve.steps / 1000, curve.values, color=colour, alpha=0.45, linewidth=0.8)
        steps = common_steps(curves)
        values = values_at(curves, steps)
        name = textwrap.fill(group.name, 90, break_on_hyphens=False)
        seeds = f"{len(curves)} seeds" if len(curves) > 1 else "1 seed"
        axes.plot(steps / 1000, interquartile_mean(values), color=colour, linewidth=2.2, label=f"{name}, {seeds}")
        if interval := bootstrap_interval(values):
            axes.fill_between(steps / 1000, *interval, color=colour, alpha=0.18, linewidth=0)
    axes.set(xlabel="environment steps (thousands)", ylabel=tag, xlim=(0, None))
    if rate:
        axes.set_ylim(-0.02, 1.02)
    title = "interquartile mean and its 95 % interval"
    look = {"frameon": False, "fontsize": "small", "title_fontsize": "small", "alignment": "left"}
    figure.legend(loc="outside lower left", title=title, **look)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def colours(count: int) -> np.ndarray | list[str]:
    """Returns `count` colours, (count, 4) or names; where few will do, those that are easiest to tell apart."""
    if count <= 10:
        return [f"C{i}" for i in range(count)]
    return matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count))
