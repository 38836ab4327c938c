"""Measures how the cost of an update, a sample and a step grows: with batch, width, environments, buffer fill.

    python benchmarks/scaling.py                              the table
    python benchmarks/scaling.py --out docs/images/scaling.png  and the plot (pip install -e '.[plots]')

The rest stays what pick-place trains with: observation 54, three layers of 256, batch 256, layer normalisation, the
update compiled. Rounds take turns through all sizes of a row; printed is the median.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from checkpoint_cost import fill
from command_line import count

import her
from her import HERConfig
from sac import SAC, Batch, SACConfig, choose_products, describe_device
from training.batches import Replay
from training.recipes import PICK_PLACE
from training.setup import evaluation_environments, training_environments

OBS, ACTION, GOAL, EPISODE = 54, 6, 3, 100
CPU = torch.device("cpu")
Work = Callable[[], int]
"""Does some work, and returns how much of what is counted."""


def update(hidden: tuple[int, ...], batch_size: int) -> Work:
    agent = SAC(OBS, ACTION, replace(SACConfig(), hidden=hidden), CPU, 0)
    torch._dynamo.reset()  # each size is a program of its own, and PyTorch gives up on a function with many
    agent.compile(batch_size)
    zeros = Batch.zeros((4, batch_size), OBS, ACTION)
    batch = zeros._replace(obs=torch.randn_like(zeros.obs), action=torch.rand_like(zeros.action))

    def work() -> int:
        agent.update(batch)
        return 4

    return work


def sample(transitions: int) -> Work:
    dims = {"observation": OBS - GOAL, "goal": GOAL, "action": ACTION}
    capacity = transitions + transitions // EPISODE  # each episode takes one row more
    buffer = her.ReplayBuffer(capacity, 16, EPISODE, dims, {}, np.random.default_rng(0))
    fill(buffer, np.random.default_rng(1))

    def reward(achieved: np.ndarray, desired: np.ndarray, _: dict) -> np.ndarray:
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.03).astype(np.float32)

    replay = Replay(buffer, SimpleNamespace(compute_reward=reward), HERConfig(), 0.98, n_step=1, reward_values=(-1, 0))

    def work() -> int:
        for _ in range(50):
            replay.to_batches(replay.draw(256), 1, CPU)
        return 50

    return work


def environments(count: int, workers: int | None = None) -> Work:
    """Steps `count` environments in this process, or in so many others."""
    config = replace(PICK_PLACE, num_envs=count, overlap=workers is not None, env_workers=workers or "auto")
    envs = training_environments(config, evaluation_environments(config, 1, "own")[1])
    envs.reset(list(range(count)))
    rng = np.random.default_rng(0)

    def work() -> int:
        for _ in range(10):
            envs.step(rng.uniform(-1, 1, (count, ACTION)).astype(np.float32))
        return 10 * count

    return work


ROWS: dict[str, tuple[str, dict[int, Callable[[], Work]]]] = {
    "batch": ("ms an update", {n: lambda n=n: update((256,) * 3, n) for n in (64, 128, 256, 512, 1024)}),
    "width": ("ms an update", {n: lambda n=n: update((n,) * 3, 256) for n in (64, 128, 256, 512)}),
    "transitions in the buffer": ("ms a sample of 256", {n: lambda n=n: sample(n) for n in (10**4, 10**5, 10**6)}),
    "environments": ("ms a step of one", {n: lambda n=n: environments(n) for n in (1, 4, 16, 64, 256, 1024)}),
    "workers of 64 environments": (
        "ms a step of one",
        {n: lambda n=n: environments(64, n) for n in (1, 2, 4, 8, 16) if n <= (os.cpu_count() or 1)},
    ),
}


def measure(sizes: dict[int, Callable[[], Work]], rounds: int) -> dict[int, float]:
    """Returns the median milliseconds of one of what each size counts."""
    works = {size: make() for size, make in sizes.items()}
    times: dict[int, list[float]] = {size: [] for size in works}
    for each in works.values():
        each()
    for _ in range(rounds):
        for size, work in works.items():
            done, started = 0, time.perf_counter()
            while (passed := time.perf_counter() - started) < 0.3:
                done += work()
            times[size].append(1e3 * passed / done)
    return {size: float(np.median(each)) for size, each in times.items()}


def plot(results: dict[str, dict[int, float]], out: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(results), figsize=(3 * len(results), 2.8), layout="constrained", squeeze=False
    )
    for axis, (name, milliseconds) in zip(axes.flat, results.items(), strict=True):
        axis.plot(list(milliseconds), list(milliseconds.values()), marker="o")
        axis.set(xscale="log", xlabel=name, ylabel=ROWS[name][0], ylim=(0, 1.08 * max(milliseconds.values())))
        axis.set_xticks(
            list(milliseconds), [f"{size:,}" if size < 10_000 else f"{size // 1000:,} k" for size in milliseconds]
        )
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--out", help="a picture of the table, for example docs/images/scaling.png")
    arguments = parser.parse_args()
    print(describe_device(CPU))
    choose_products(CPU, reduced_precision=False)
    torch.set_num_threads(1)
    results = {}
    for name in arguments.only:
        unit, sizes = ROWS[name]
        results[name] = measure(sizes, arguments.rounds)
        for size, milliseconds in results[name].items():
            print(f"{name:<26} {size:>9,} {milliseconds:9.3f} {unit}", flush=True)
    if arguments.out:
        plot(results, arguments.out)


if __name__ == "__main__":
    main()
