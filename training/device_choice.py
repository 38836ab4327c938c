"""Finds out by trying on which device a run is faster: small networks are often faster on a CPU."""

import time
from contextlib import suppress

import torch

from env import EnvSpec, GoalEnv, close_envs
from sac import SAC, Batch, CompilerUnavailable, choose_products, select_device
from training.batches import UPDATES_AT_ONCE
from training.config import TrainConfig
from training.setup import evaluation_environments, make_agent

SECONDS = 1.0
"""How long each device is tried, at least."""


def choose_device(config: TrainConfig) -> tuple[torch.device, str]:
    """Returns the device that config.device names, and why it is that one. Raises UserError."""
    if config.device != "auto":
        return select_device(config.device), "as asked"
    if not torch.cuda.is_available():
        return torch.device("cpu"), "PyTorch sees no GPU"
    (env,), spec = evaluation_environments(config, 1, "own")
    seconds = {name: seconds_per_update(config, env, spec, torch.device(name)) for name in ("cpu", "cuda")}
    close_envs([env])
    return fastest(seconds)


def fastest(seconds: dict[str, float]) -> tuple[torch.device, str]:
    """Returns the device with the fewest seconds an update, of those given by name, and what was measured."""
    measured = ", ".join(f"{1e3 * each:.2f} ms on {name}" for name, each in seconds.items())
    return torch.device(min(seconds, key=seconds.__getitem__)), f"an update takes {measured}"


def seconds_per_update(config: TrainConfig, env: GoalEnv, spec: EnvSpec, device: torch.device) -> float:
    """Measures updates as the run will have them: of its sizes, as many at once, compiled or captured, handed over."""
    choose_products(device, config.reduced_precision)
    agent = make_agent(config, spec, device, seed=0)
    threads = torch.get_num_threads()
    if config.compile and device.type == "cpu":
        with suppress(CompilerUnavailable):  # the run will say so
            compile_update(agent, config.batch_size)
    count = min(max(1, int(config.num_envs * config.updates_per_step)), UPDATES_AT_ONCE)
    batch = Batch.zeros((count, config.batch_size), agent.obs_dim, agent.action_dim)

    def update() -> None:
        metrics = agent.update(Batch(*(array.to(device) for array in batch)))
        float(metrics["train/critic_loss"])  # waits for the device

    for _ in range(3):
        update()
    started, launches = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < SECONDS:
        update()
        launches += 1
    torch.set_num_threads(threads)
    return passed / (launches * count)


def compile_update(agent: SAC, batch_size: int) -> None:
    """Lets PyTorch compile the update on a CPU, for one thread, or for two where it may have four or more.

    Threads inside a product wait for each other at its end. Where something else needs their cores, all wait with them,
    so the environments and a second run are left room. Raises CompilerUnavailable; the threads are as they were then.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(min(max(threads // 2, 1), 2))
    try:
        agent.compile(batch_size)
    except CompilerUnavailable:
        torch.set_num_threads(threads)
        raise
