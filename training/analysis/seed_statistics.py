"""Sums up the curves of several seeds.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv:2108.13264: the
interquartile mean, and its interval from a bootstrap stratified by task. A group is of one task, and so one stratum.
"""

from typing import Any

import numpy as np
from scipy import stats

from training.analysis.read_runs import Curve, Group


def interquartile_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Returns the mean along `axis` without the lowest and the highest quarter, each rounded down: of fewer than four
    values the mean of all."""
    return stats.trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the 95 % interval, (…) and (…), of the interquartile mean over the seeds of `values` (S, …).

    Percentiles over 9,999 draws of S seeds with replacement, each with all of its values; the generator is fixed. Of
    fewer than five seeds it is their range: in more than 2.5 % of the draws nothing but the lowest is left to average.
    One seed has no interval: None.
    """
    if len(values) < 2:
        return None
    rng = np.random.default_rng(0)
    # So many resamples at once, not to have all of a long curve's in memory.
    result = stats.bootstrap((values,), interquartile_mean, axis=0, method="percentile", batch=1_000, rng=rng)
    return result.confidence_interval.low, result.confidence_interval.high


def common_steps(curves: list[Curve]) -> np.ndarray:
    """Returns every step (T,) at which one of the curves has a point, within the range that all of them have."""
    first = max(curve.steps[0] for curve in curves)
    last = min(curve.steps[-1] for curve in curves)
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    return steps[(first <= steps) & (steps <= last)]


def values_at(curves: list[Curve], steps: np.ndarray) -> np.ndarray:
    """Returns the curves (S, T) at `steps` (T,), which all of them span, by straight lines between their points."""
    return np.stack([np.interp(steps, curve.steps, curve.values) for curve in curves])


def first_reached(values: np.ndarray, threshold: float) -> int | None:
    """Returns the index of the first of the values (P,) that is at least `threshold`; None where none is."""
    reached = np.flatnonzero(_at_least(values, threshold))
    return int(reached[0]) if len(reached) else None


def first_kept(values: np.ndarray, threshold: float) -> int | None:
    """Returns the index of the value (P,) from which on all are at least `threshold`; None where the last is not."""
    below = np.flatnonzero(~_at_least(values, threshold))
    index = int(below[-1]) + 1 if len(below) else 0
    return index if index < len(values) else None


def _at_least(values: np.ndarray, threshold: float) -> np.ndarray:
    # Event files hold single precision, in which 38 of 40 episodes are less than the 0.95 of double.
    return values.astype(np.float32) >= np.float32(threshold)


def summarise(group: Group, at: int, threshold: float | None) -> dict[str, Any]:
    """Returns {"group", "seeds", "iqm", "low", "high", "mean", "lowest", "highest", "runs": [{"run", "seed", "value",
    …}, …]} of step `at`, which every run's curve spans. low and high are None of one seed.

    With a threshold each run has "reached", the {"step", "minutes"} of its first point that is not below, and "kept",
    that of the first from which on none is. The group has the medians over its seeds. None is for those that never
    came there.
    """
    values = values_at([run.curve for run in group.runs], np.array([at]))[:, 0]
    low, high = bootstrap_interval(values) or (None, None)
    runs = [
        {
            "run": str(run.path),
            "seed": run.config["seed"],
            "value": float(value),
            "first_step": int(run.curve.steps[0]),
            "last_step": int(run.curve.steps[-1]),
        }
        for run, value in zip(group.runs, values, strict=True)
    ]
    summary = {
        "group": group.name,
        "seeds": len(values),
        "iqm": float(interquartile_mean(values)),
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "mean": float(values.mean()),
        "lowest": float(values.min()),
        "highest": float(values.max()),
    }
    if threshold is not None:
        for name, find in (("reached", first_reached), ("kept", first_kept)):
            for entry, run in zip(runs, group.runs, strict=True):
                entry[name] = _point(run.curve, find(run.curve.values, threshold))
            summary[name] = _median([entry[name] for entry in runs])
    return summary | {"runs": runs}


def _point(curve: Curve, index: int | None) -> dict[str, float] | None:
    return None if index is None else {"step": int(curve.steps[index]), "minutes": float(curve.minutes[index])}


def _median(points: list[dict[str, float] | None]) -> dict[str, float] | None:
    """Returns the median seed's; one that never came there counts as last."""
    medians = {
        name: float(np.median([np.inf if point is None else point[name] for point in points]))
        for name in ("step", "minutes")
    }
    return medians if np.isfinite(medians["step"]) else None
