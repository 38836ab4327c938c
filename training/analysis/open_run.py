"""Opens a run's checkpoint for whoever wants to look: the agent and the buffer as they were, and the task."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import checkpoints
import her
from env import EnvSpec, GoalEnv
from errors import UserError, reporting
from sac import SAC, Batch
from training.batches import Replay
from training.config import TrainConfig
from training.setup import discount, evaluation_environments, expected_sizes, make_agent, make_buffer, trained_with

CPU = torch.device("cpu")


@dataclass(frozen=True)
class OpenedRun:
    """Holds what open_run returns. Nothing that is done to it reaches the disk."""

    config: TrainConfig
    env_steps: int
    agent: SAC
    buffer: her.ReplayBuffer
    env: GoalEnv
    """To step with, and to judge goals by. Its goals are the training's; its episodes begin in the task's own start."""
    spec: EnvSpec
    replay: Replay
    """Draws from the buffer as the run does."""

    def sample(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws transitions as the next update would, the relabelled ones first.

        Returns rows (B,) of the buffer, the goals that they are taught (B, G), and which of these are hindsight's (B,).
        Raises CheckpointError where there is none.
        """
        if not len(self.buffer):
            raise checkpoints.CheckpointError("a policy without its training holds no transitions; open a run instead")
        return self.replay.draw(size)

    def to_batch(self, rows: np.ndarray, goals: np.ndarray, relabelled: np.ndarray) -> Batch:
        """Returns what `sample` drew as the agent's networks see it, (B, …)."""
        batches = self.replay.to_batches((rows, goals, relabelled), 1, CPU)
        return Batch(*(array[0] for array in batches))


def open_run(path: str | Path, seed: int = 0) -> OpenedRun:
    """Opens the newest checkpoint of a run directory, one checkpoint, or the shipped policy of that name.

    On the CPU. `seed` is for what is drawn from it. A policy without its training has networks, and an empty buffer.
    Raises UserError.
    """
    path, _ = checkpoints.find_policy(str(path))
    manifest = checkpoints.read_manifest(path)
    config = replace(trained_with(manifest, path), overlap=False)
    (env,), spec = evaluation_environments(config, 1, config.task.goal)
    agent = make_agent(config, spec, CPU, seed=seed)
    buffer = make_buffer(config, spec, np.random.default_rng(seed))
    expected = expected_sizes(agent, buffer, manifest)
    if "buffer" in manifest.values:
        state, _ = checkpoints.load(path, only=expected, expected=expected)
        agent.load_state_dict(state["agent"])
        buffer.load_state_dict(state["buffer"])
        if not len(buffer):
            raise checkpoints.CheckpointError(f"{path} was saved before the first episode had ended; let the run go on")
    else:
        networks = {name: tree for name, tree in expected["agent"].items() if name in checkpoints.NETWORKS}
        state, _ = checkpoints.load(path, only=["agent"], expected={"agent": networks})
        agent.load_networks(state["agent"])
    buffer.rng = np.random.default_rng(seed)
    gamma, scale = discount(config, spec), manifest.values["progress"]["reward_scale"]
    replay = Replay(buffer, env, config.her, gamma, config.n_step, spec.reward_values, scale)
    return OpenedRun(config, manifest.step, agent, buffer, env, spec, replay)


def show(numbers: np.ndarray) -> str:
    """Formats numbers (M,) for a line of text."""
    return " ".join(f"{number:+.3f}" for number in numbers)


def run_example(main: Callable[..., None]) -> None:
    """Calls `main` with the command line's arguments, and tells in one sentence what is wrong with them or the run."""
    with reporting(Path(sys.argv[0]).name):
        try:
            inspect.signature(main).bind(*sys.argv[1:])
        except TypeError as error:
            raise UserError(f"{error}\n\n{sys.modules[main.__module__].__doc__}") from error
        main(*sys.argv[1:])
