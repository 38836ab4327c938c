"""Measures what it costs to look inside a run: pick-place as it trains by default, its loop and its curves' points.

python benchmarks/inside_cost.py
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from command_line import count
from throughput import Loop

import train
from training.curves.look_inside import draw_goals
from training.curves.pictures import as_png
from training.curves.tensorboard import Curves
from training.progress import Progress


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=count, default=9)
    rounds = parser.parse_args().rounds
    loop = Loop()
    loop.config = replace(loop.config, updates_per_step=0.4)
    state, config = loop.state, loop.config
    state.learning_since = state.env_steps - int(state.agent.updates / config.updates_per_step)
    with tempfile.TemporaryDirectory() as directory:
        curves = Curves(Path(directory), config, 0)
        outputs = train.Outputs(curves, Progress(config.steps, 0), None)
        rows = [
            (
                seconds(lambda: loop.whole(config.log.every)),
                seconds(lambda: train.log(state, config, outputs)),
                seconds(
                    lambda: curves.picture(
                        "her/goal_coverage",
                        as_png(draw_goals(state.buffer, config.seed, state.env_steps)),
                        state.env_steps,
                    )
                ),
            )
            for _ in range(rounds + 1)
        ][1:]
        curves.close()
    loop_s, log_s, picture_s = np.median(rows, axis=0)
    share = log_s / loop_s + picture_s / (loop_s * config.eval.every / config.log.every)
    print(f"{config.log.every:,} steps            {1e3 * loop_s:8.1f} ms")
    print(f"a point on the curves  {1e3 * log_s:8.1f} ms")
    print(f"a picture of the goals {1e3 * picture_s:8.1f} ms, one in {config.eval.every:,} steps")
    print(f"share of the time      {share:8.2%}")


if __name__ == "__main__":
    main()
