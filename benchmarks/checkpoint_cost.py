"""Measures what saving costs a pick-place run whose buffer is full: stalls, share of the time, bytes, time to load.

python benchmarks/checkpoint_cost.py                      the figures of docs/results.md
python benchmarks/checkpoint_cost.py --memory             memory of a run of 1M steps, over time
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from command_line import count

import checkpoints
import her
import train
from sac import choose_products, describe_device, select_device
from training.config import CheckpointConfig
from training.curves.tensorboard import Curves
from training.recipes import PICK_PLACE
from training.resume.run_directory import RunDirectory
from training.resume.saving import Saver, restore
from training.state import TrainingState


def fill(buffer: her.ReplayBuffer, rng: np.random.Generator) -> None:
    """Fills the ring with episodes of noise, as long as real ones."""
    envs = len(buffer.staged)
    shapes = {key: (envs, *column.shape[1:]) for key, column in buffer.rows.items()}
    while buffer.position < buffer.capacity:
        for t in range(buffer.max_episode_steps):
            noise = {key: rng.standard_normal(shape, np.float32) for key, shape in shapes.items()}
            goals = {key: noise[key] for key in ("observation", "achieved_goal", "desired_goal")}
            step = SimpleNamespace(
                next_obs=goals,
                reward=noise["reward"],
                terminated=np.zeros(envs, bool),
                truncated=np.full(envs, t + 1 == buffer.max_episode_steps),
                diverged=np.zeros(envs, bool),
                info={key[5:]: value for key, value in noise.items() if key.startswith("info/")},
            )
            buffer.add(goals, noise["action"], step)


def cost(capacity: int, every: int, saves: int) -> None:
    device = select_device("auto")
    choose_products(device, reduced_precision=False)
    print(describe_device(device))
    with tempfile.TemporaryDirectory() as directory:
        config = replace(
            PICK_PLACE,
            steps=10**7,
            run=directory,
            her=replace(PICK_PLACE.her, capacity=capacity),
            checkpoint=CheckpointConfig(every=every),
        )
        should_save = train.Every(every, config.num_envs)
        run, state = RunDirectory(Path(directory)), TrainingState.new(config, device)
        fill(state.buffer, np.random.default_rng(0))
        state.env_steps = state.learning_since = config.warmup
        iterations, saved_at, calls, background, written = [], [], [], [], [0]
        with (
            run.lock(),
            closing(Curves(run.path, config, 0)) as curves,
            closing(Saver(run, config, state, curves, None)) as saver,
        ):
            saver.save(None)  # of a full buffer all at once, as no run ever has to
            saver.finish()
            known = set(segments(newest(run)))
            half_way = every // config.num_envs // 2
            while len(calls) <= saves:
                started = time.perf_counter()
                train.collect_and_learn(state, config)
                if should_save(state.env_steps):
                    before_call = time.perf_counter()
                    saver.save(None)
                    calls.append(time.perf_counter() - before_call)
                    saved_at.append(len(iterations))
                iterations.append(time.perf_counter() - started)
                if calls and len(iterations) % (every // config.num_envs) == half_way:  # by now it is written
                    path = newest(run)
                    new = {name: size for name, size in segments(path).items() if name not in known}
                    own = checkpoints.read_manifest(path).files.values()
                    manifest = (path / "manifest.json").stat().st_size
                    written.append(sum(new.values()) + sum(file.size for file in own) + manifest)
                    known |= new.keys()
            # What the background thread costs, apart: nothing else runs while it is waited for.
            for _ in range(5):
                train.collect_and_learn(state, config)
                saver.save(None)
                cpu = time.process_time()
                saver.finish()
                background.append(time.process_time() - cpu)
        interval = every / config.num_envs * np.mean(iterations)
        share = (np.mean(calls) + np.mean(background)) / interval
        print(f"buffer: {len(state.buffer):,} transitions; {len(iterations):,} iterations of {config.num_envs} steps")
        for name, quantile in (("median", 0.5), ("99 %", 0.99), ("largest", 1.0)):
            print(f"iteration, {name:<8} {1e3 * np.quantile(iterations, quantile):8.1f} ms")
        beside = [iterations[i + 1] for i in saved_at if i + 1 < len(iterations)]
        print(f"the one after a save {1e3 * np.median(beside):7.1f} ms, median; it is being written meanwhile")
        print(f"a save stalls it    {1e3 * np.mean(calls):8.1f} ms (largest {1e3 * max(calls):.1f} ms)")
        print(f"and computes beside {1e3 * np.mean(background):8.1f} ms")
        print(f"together            {share:8.2%}    of the {interval:.1f} s between two saves")
        print(f"and writes          {max(written) / 2**20:8.1f} MiB at most")

        fresh = TrainingState.new(config, device)
        started = time.perf_counter()
        path, _ = checkpoints.newest_valid(run.checkpoints)
        found = time.perf_counter()
        restore(fresh, path, config)
        loaded = time.perf_counter()
        print(f"found and verified in {found - started:.2f} s, loaded in {loaded - found:.2f} s")


def newest(run: RunDirectory) -> Path:
    return checkpoints.list_checkpoints(run.checkpoints)[-1]


def segments(checkpoint: Path) -> dict[str, int]:
    """Returns the sizes of the segments that a checkpoint names."""
    logs = checkpoints.read_manifest(checkpoint).logs
    return {segment.name(name): segment.size for name, log in logs.items() for segment in log.segments}


def memory(steps: int, capacity: int) -> None:
    """Prints the resident memory of a real run that updates seldom, each tenth of its steps."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        options = ["--env", "pick-place", "--steps", steps, "--her.capacity", capacity, "--updates-per-step", 0.01]
        options += ["--eval.every", steps // 20, "--no-video", "--run", run]
        command = [sys.executable, "train.py", *map(str, options)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = 0
        while process.poll() is None:
            saved = checkpoints.list_checkpoints(run / "checkpoints")
            step = checkpoints.step_of(saved[-1]) if saved else 0
            if step >= seen + steps // 20:
                seen = step
                status = Path(f"/proc/{process.pid}/status").read_text()
                resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
                print(f"step {step:>9,}: {resident:7.1f} MiB resident", flush=True)
            time.sleep(0.1)
        print(f"ended with status {process.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=count, help="rows of the buffer; default 1,000,000, with --memory 200,000")
    parser.add_argument("--every", type=count, default=10_000, help="environment steps between two checkpoints")
    parser.add_argument("--saves", type=count, default=4, help="checkpoints to measure")
    parser.add_argument("--memory", action="store_true", help="measure the memory of a long run instead")
    parser.add_argument("--steps", type=count, default=1_000_000, help="length of that run")
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.steps, arguments.capacity or 200_000)
    else:
        cost(arguments.capacity or 1_000_000, arguments.every, arguments.saves)


if __name__ == "__main__":
    main()
