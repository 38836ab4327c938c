"""Measures how many control steps a second one core takes, observations and rewards included, beside bare physics.

    python benchmarks/env_steps.py [--seconds 3] [--repeats 5]

For each task: random actions held for 5 steps, episodes reset as in training. `bare` is what the physics steps of a
control step cost alone, over the very same motion: the servo targets are recorded, and played back through mj_step.
The repeats of all rows are interleaved, so that a busy moment of the machine hits all of them.
"""

import argparse
import statistics
import time
from dataclasses import replace

import mujoco
import numpy as np
from command_line import count, positive

from env import make_envs
from sac import HeldRandomActions
from training.recipes import RECIPES


def run_task(env, seconds: float, seed: int) -> tuple[float, float]:
    """Returns the control steps a second of `env`, and of the bare physics over the same motion."""
    explorer = HeldRandomActions(1, env.action_dim, 5.0, np.random.default_rng(seed))
    model, data, substeps = env.sim.model.mj, env.sim.data, env.sim.substeps
    env.reset(seed=seed)
    start, targets, stepping = env.sim.state(), [], 0.0
    episodes = []
    while stepping < seconds or targets:  # to the end of an episode, since what is counted are whole ones
        action = explorer()[0]
        began = time.perf_counter()
        truncated = env.step(action)[3]
        stepping += time.perf_counter() - began
        targets.append(env.sim.servo_target.copy())
        if truncated:
            episodes.append((start, targets))
            began = time.perf_counter()
            env.reset()
            stepping += time.perf_counter() - began
            start, targets = env.sim.state(), []
    bare = 0.0
    for start, targets in episodes:
        env.sim.load_state(start)
        for target in targets:
            data.ctrl[:] = target
            began = time.perf_counter()
            mujoco.mj_step(model, data, substeps)
            bare += time.perf_counter() - began
    steps = sum(len(targets) for _, targets in episodes)
    return steps / stepping, steps / bare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=positive, default=3.0, help="length of one measurement")
    parser.add_argument("--repeats", type=count, default=5, help="measurements of each task")
    arguments = parser.parse_args()
    envs = {
        name: make_envs(name, 1, replace(config.task, scripted_starts=0.0), "sparse-reach")[0]
        for name, config in RECIPES.items()
    }
    results = {name: [] for name in envs}
    for repeat in range(arguments.repeats):
        for name, env in envs.items():
            results[name].append(run_task(env, arguments.seconds, repeat))
    print(f"MuJoCo {mujoco.__version__}, one thread, median (lowest–highest) of {arguments.repeats} runs")
    print(f"{'task':<12}{'control steps/s':>24}{'bare mj_step, /s':>24}{'time, env : bare':>18}")
    for name, pairs in results.items():
        cells = []
        for column in zip(*pairs, strict=True):
            cells.append(f"{statistics.median(column):,.0f} ({min(column):,.0f}–{max(column):,.0f})")
        ratio = statistics.median(bare / env for env, bare in pairs)
        print(f"{name:<12}{cells[0]:>24}{cells[1]:>24}{ratio:>18.2f}")


if __name__ == "__main__":
    main()
