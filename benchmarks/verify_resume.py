"""Tries the promise of exact resume on its owner's machine: a run left alone against one killed and resumed.

python benchmarks/verify_resume.py --env pick-place --device cuda          any options of train.py
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import checkpoints
from checkpoints.tree import split
from errors import UserError, reporting
from training.analysis.read_runs import read_curves
from training.command_line import parse
from training.config import TrainConfig
from training.progress import say
from training.resume.versions import ROOT
from training.setup import evaluation_environments

LEARNING_STEPS = 3_000
"""Environment steps after the warm-up: enough for hundreds of updates."""
TIMING = ("time/fps",)
"""Curves of the clock, which no two runs share."""


def verify_resume(config: TrainConfig, options: Sequence[str]) -> bool:
    """Tells whether a run of `options` ends with the same bits when it is killed and resumed, by a table of hashes.

    Args:
        config: what `options` mean.
        options: of train.py, as on the command line.

    Raises UserError.
    """
    _, spec = evaluation_environments(config, 1, "own")
    warmup = max(config.warmup, config.num_envs * spec.max_episode_steps)
    learning = max(LEARNING_STEPS, 10 * config.num_envs)
    steps, every = warmup + learning, learning // 6
    kills = (warmup // 2, warmup + learning // 4, warmup + learning // 2)
    cadence = {"steps": steps, "checkpoint.every": every, "eval.every": every, "eval.episodes": 4, "log.every": 500}
    options = [*options, *(word for name, value in cadence.items() for word in (f"--{name}", str(value)))]
    options += ["--no-video", "--resume", "auto"]
    with tempfile.TemporaryDirectory(prefix="verify-resume-") as directory:
        whole, killed = Path(directory) / "whole", Path(directory) / "killed"
        say(f"a run of {steps:,} steps, left alone …")
        _finish(options, whole)
        say(f"the same, killed {len(kills)} times and resumed …")
        for step in kills:
            _kill_after(step, options, killed)
        _finish(options, killed)
        rows = list(compare(whole, killed))
    width = max(len(name) for name, _, _, _ in rows)
    say(f"\n{'':<{width}}  left alone    killed, resumed")
    for name, left, right, difference in rows:
        verdict = "same" if left == right else f"DIFFERENT{difference}"
        say(f"{name:<{width}}  {left[:12]}  {right[:12]}  {verdict}")
    different = sum(left != right for _, left, right, _ in rows)
    say(
        f"\n{different} of {len(rows)} parts differ: with these options, on this device, a resumed run is not bit-exact"
        if different
        else f"\nall {len(rows)} parts are the same, bit for bit"
    )
    return not different


def compare(left: Path, right: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yields each part of two run directories' last checkpoints: its name, both hashes, and how far its arrays differ.

    The last one is the curves.
    """
    states = [checkpoints.load(checkpoints.list_checkpoints(run / "checkpoints")[-1])[0] for run in (left, right)]
    for part in sorted(states[0].keys() | states[1].keys()):
        parts = [state.get(part, {}) for state in states]
        names = sorted(parts[0].keys() | parts[1].keys()) if part in ("agent", "buffer") else [None]
        for name in names:
            values = parts if name is None else [part.get(name) for part in parts]
            hashes = [checkpoints.digest(value) for value in values]
            yield part if name is None else f"{part} · {name}", *hashes, _difference(*values)
    curves = [scalars(run) for run in (left, right)]
    points = len(curves[0])
    yield f"curves · {points} points", *(checkpoints.digest(json.dumps(points)) for points in curves), ""


def _difference(left: Any, right: Any) -> str:
    """Says how far the arrays of two like trees lie apart at most; empty where they hold none."""
    flat = [split({"": tree})[0] for tree in (left, right)]
    pairs = [(array, flat[1][key]) for key, array in flat[0].items() if key in flat[1]]
    apart = [
        float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
        for a, b in pairs
        if a.shape == b.shape and a.size
    ]
    return f", by {max(apart):.1e} at most" if apart else ""


def scalars(run: Path) -> list[tuple[str, int, float]]:
    """Returns every point of a run's curves: tag, step, value. Those of the clock are left out."""
    return [
        (tag, step, value)
        for tag, curve in read_curves(run).items()
        if tag not in TIMING
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True)
    ]


@contextmanager
def _running(options: Sequence[str], run: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, str(ROOT / "train.py"), *options, "--run", str(run)]
    with open(run.with_suffix(".log"), "a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _finish(options: Sequence[str], run: Path) -> None:
    with _running(options, run) as process:
        if process.wait() != 0:
            raise _failed(process, run)


def _kill_after(step: int, options: Sequence[str], run: Path) -> None:
    """Sends SIGKILL at a random instant after a checkpoint of `step` or later is there. Raises UserError."""
    wait = random.SystemRandom().uniform(0, 0.5)
    with _running(options, run) as process:
        while not (saved := checkpoints.list_checkpoints(run / "checkpoints")) or checkpoints.step_of(saved[-1]) < step:
            if process.poll() is not None:
                raise _failed(process, run)
            time.sleep(0.01)
        time.sleep(wait)
    say(f"  killed {wait:.2f} s after {saved[-1].name}")


def _failed(process: subprocess.Popen, run: Path) -> UserError:
    lines = run.with_suffix(".log").read_text().strip().splitlines() or ["(it said nothing)"]
    return UserError(f"the run ended with status {process.returncode}: {lines[-1]}", status=1)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # its two runs must not outlive it
    with reporting("verify_resume.py"):
        options = sys.argv[1:]
        if not verify_resume(parse(options), options):
            sys.exit(1)


if __name__ == "__main__":
    main()
