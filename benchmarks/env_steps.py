"""Measures how many control steps a second one core takes, observations and rewards included, beside bare physics.

    python benchmarks/env_steps.py [--blocks 20] [--only pick-place]

For each task, with one environment and with sixteen: random actions held for 5 steps, episodes reset as in training.
`bare` is what the physics steps of a control step cost alone, over the very same motion: the servo targets are
recorded, and played back through mj_step. A block is an episode, and right after it its playback. The blocks of all
rows take turns. What is counted is this process's time on the processor, so that others on the machine disturb little.
"""

import argparse
import statistics
import time
from dataclasses import replace

import mujoco
import numpy as np
from command_line import count

from env import VectorEnv, make_envs, probe
from sac import HeldRandomActions
from training.recipes import RECIPES


def make_vector(name: str, count: int) -> VectorEnv:
    """Makes `count` environments of a task as it trains by default, but begun in its start state, and resets them."""
    envs = make_envs(name, count, replace(RECIPES[name].task, scripted_starts=0.0), "sparse-reach")
    vector = VectorEnv(envs, probe(envs[0], name))
    vector.reset(list(range(count)))
    return vector


def run_block(vector: VectorEnv, seed: int) -> tuple[float, float]:
    """Returns the control steps a second of an episode in every environment, and of its bare physics."""
    explorer = HeldRandomActions(len(vector), 6, 5.0, np.random.default_rng(seed))
    sims = [env.sim for env in vector.envs]
    model, data, substeps = sims[0].model.mj, [sim.data for sim in sims], sims[0].substeps
    starts, targets, stepping, bare = [sim.state() for sim in sims], [], 0.0, 0.0
    ended = False
    while not ended:
        actions = explorer()
        began = time.process_time()
        ended = vector.step(actions).truncated.any()
        stepping += time.process_time() - began
        # After an episode's last step the reset has put them back already.
        targets.append(targets[-1] if ended else [each.ctrl.copy() for each in data])
    kept = vector.state_dict()
    for sim, start in zip(sims, starts, strict=True):
        sim.load_state(start)
    for step in targets:
        for each, target in zip(data, step, strict=True):
            each.ctrl[:] = target
        began = time.process_time()
        for each in data:
            mujoco.mj_step(model, each, substeps)
        bare += time.process_time() - began
    vector.load_state_dict(kept, [0] * len(vector))
    steps = len(targets) * len(vector)
    return steps / stepping, steps / bare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=count, default=20, help="measurements of each row")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="tasks")
    arguments = parser.parse_args()
    vectors = {(name, n): make_vector(name, n) for name in arguments.only for n in (1, 16)}
    results = {row: [] for row in vectors}
    for block in range(arguments.blocks):
        for row, vector in vectors.items():
            results[row].append(run_block(vector, block))
    print(f"MuJoCo {mujoco.__version__}, one core, median (lowest–highest) of {arguments.blocks} blocks")
    print(f"{'task':<12}{'environments':>13}{'control steps/s':>24}{'bare mj_step, /s':>24}{'to bare':>10}")
    for (name, n), pairs in results.items():
        cells = []
        for column in zip(*pairs, strict=True):
            cells.append(f"{statistics.median(column):,.0f} ({min(column):,.0f}–{max(column):,.0f})")
        ratio = statistics.median(stepping / bare for stepping, bare in pairs)
        print(f"{name:<12}{n:>13}{cells[0]:>24}{cells[1]:>24}{ratio:>10.2f}")


if __name__ == "__main__":
    main()
