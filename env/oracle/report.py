"""Sums up the attempts of the scripted policy: the funnel, and where it failed."""

import statistics
from collections.abc import Iterable
from typing import Any

from env.oracle.rollout import Attempt

FAILURES_SHOWN = 10


def figures(env: str, goal: str, attempts: list[Attempt]) -> dict[str, Any]:
    """Returns what --json holds: lengths in m, rates in [0, 1], steps of 20 ms, None where nothing was measured."""
    count = len(attempts)
    stages = attempts[0].stages
    funnel = {name: sum(attempt.stages[name] for attempt in attempts) / count for name in stages}
    held = sum(attempt.success for attempt in attempts) / count

    def largest(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    steps = [attempt.steps for attempt in attempts if attempt.steps is not None]
    return {
        "env": env,
        "goal": goal,
        "episodes": count,
        "funnel": funnel | {"held": held},
        "success": held,
        "success_once": sum(attempt.success_once for attempt in attempts) / count,
        "penetration_max_m": largest(attempt.penetration for attempt in attempts),
        "slip_max_m": largest(attempt.slip for attempt in attempts),
        "steps_median": statistics.median(steps) if steps else None,
    }


def print_table(columns: list[dict[str, Any]]) -> None:
    """Prints each kind of goals in a column, the funnel first."""

    def row(name: str, cells: list[str]) -> None:
        print(f"  {name:<34}" + "".join(f"{cell:>10}" for cell in cells))

    def millimetres(value: float | None) -> str:
        return "–" if value is None else f"{1e3 * value:.2f}"

    row("goal", [column["goal"] for column in columns])
    for stage in columns[0]["funnel"]:
        name = "held at the end (success)" if stage == "held" else stage
        row(name, [f"{column['funnel'][stage]:.1%}" for column in columns])
    row("success once", [f"{column['success_once']:.1%}" for column in columns])
    row("median steps until the goal is met", [f"{column['steps_median'] or '–'}" for column in columns])
    if any(column["penetration_max_m"] is not None for column in columns):
        row("deepest overlap of arm, cube, mm", [millimetres(column["penetration_max_m"]) for column in columns])
        row("slip in 3 s in the grip, mm", [millimetres(column["slip_max_m"]) for column in columns])


def print_failures(attempts: list[Attempt]) -> None:
    failed = [attempt for attempt in attempts if not attempt.success]
    for attempt in failed[:FAILURES_SHOWN]:
        print(f"  failed: seed {attempt.seed}, {attempt.where}: {attempt.why}")
    if len(failed) > FAILURES_SHOWN:
        print(f"  … and {len(failed) - FAILURES_SHOWN} more")
