"""Computes 95 % confidence intervals. scipy.stats is imported where it is first needed: that takes half a second."""

import numpy as np


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Returns the interval of a rate (Wilson 1927): right also near 0 and 1, where the usual one is not."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: np.ndarray) -> dict[str, float]:
    """Returns {"mean", "low", "high"} of values (M,), by the normal distribution; of one value the interval is it."""
    from scipy import stats

    half = stats.norm.ppf(0.975) * stats.sem(values) if len(values) > 1 else 0.0
    return {"mean": float(values.mean()), "low": float(values.mean() - half), "high": float(values.mean() + half)}
