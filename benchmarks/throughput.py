"""Measures updates, samples, environment steps and whole-loop steps a second, beside the peers and the floor.

    python benchmarks/throughput.py                  all that can run here
    python benchmarks/throughput.py --only update    what has that in its name
    pip install -e '.[peers]'                        for Stable-Baselines3 and SBX

Each contender is a process of its own, and they take turns, several times over, while the others wait: so that what the
machine does meanwhile hits all of them. Printed are the median over the rounds, the smallest and the largest, and the
ratio to the first of the group: rounds of one run compare, runs on other days do not.

Updates are of the reference size: observation 24, action 6, two layers of 256, batch 256, no layer normalisation. The
floor is that update's matrix products alone (0.593 GFLOP), their outputs allocated before.
"""

import argparse
import importlib.util
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import torch
from checkpoint_cost import fill
from command_line import count

import her
import train
from her import HERConfig
from sac import SAC, Batch, SACConfig, choose_products, describe_device
from sac.capture import record_gpu_graph
from training.batches import Replay
from training.device_choice import compile_update
from training.recipes import PICK_PLACE
from training.state import TrainingState

OBS, ACTION, HIDDEN, BATCH = 24, 6, (256, 256), 256
CAPACITY = 1_000_000
EPISODE = 100
GOAL = 3
CPU, GPU = torch.device("cpu"), torch.device("cuda")
Work = Callable[[int], None]
"""Does that many of what is counted."""


# The floor


def products() -> list[tuple[int, int, int, int]]:
    """Returns (networks, rows, inner, columns) of every matrix product in one update of the reference size."""

    def forward(stack: int, sizes: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
        return [(stack, BATCH, n_in, n_out) for n_in, n_out in pairwise(sizes)]

    def by_weights(stack: int, sizes: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
        return [(stack, n_in, BATCH, n_out) for n_in, n_out in pairwise(sizes)]

    def by_inputs(stack: int, sizes: tuple[int, ...], first: bool) -> list[tuple[int, int, int, int]]:
        return [(stack, BATCH, n_out, n_in) for n_in, n_out in list(pairwise(sizes))[0 if first else 1 :]]

    actor, critic = (OBS, *HIDDEN, 2 * ACTION), (OBS + ACTION, *HIDDEN, 1)
    critics_half = [*forward(1, actor), *forward(2, critic), *forward(2, critic)]
    critics_half += [*by_weights(2, critic), *by_inputs(2, critic, first=False)]
    actors_half = [*forward(1, actor), *forward(2, critic), *by_inputs(2, critic, first=True)]
    actors_half += [*by_weights(1, actor), *by_inputs(1, actor, first=False)]
    return critics_half + actors_half


def floor(reduced_precision: bool, device: torch.device = CPU, threads: int | None = None) -> Work:
    choose_products(device, reduced_precision)
    torch.set_num_threads(threads or torch.get_num_threads())
    triples = [
        tuple(
            torch.randn(sizes, device=device) for sizes in ((n, rows, inner), (n, inner, columns), (n, rows, columns))
        )
        for n, rows, inner, columns in products()
    ]

    def once() -> list:
        for left, right, out in triples:
            torch.bmm(left, right, out=out)
        return []

    if device == GPU:
        once()
        _, once = record_gpu_graph(once)

    def work(count: int) -> None:
        for _ in range(count):
            once()
        wait_for(device)

    return work


# Updates


def wait_for(device: torch.device) -> None:
    if device == GPU:
        torch.cuda.synchronize()


def update(
    compiled: bool,
    reduced_precision: bool = False,
    threads: int = 1,
    device: torch.device = CPU,
    at_once: int = 8,
    batch_size: int = BATCH,
) -> Work:
    """Updates; on a GPU each update brings its batches over from the CPU's memory, as training does."""
    choose_products(device, reduced_precision)
    agent = SAC(OBS, ACTION, SACConfig(hidden=HIDDEN, layer_norm=False), device, 0)
    if compiled:
        torch.set_num_threads(threads)
        agent.compile(batch_size)
    rng = np.random.default_rng(0)

    def columns(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((at_once, batch_size, *shape), np.float32))

    empty = Batch.zeros((at_once, batch_size), OBS, ACTION)
    batch = empty._replace(
        obs=columns(OBS),
        action=columns(ACTION),
        reward=columns(),
        next_obs=columns(OBS),
        discount=empty.discount + 0.98,
        low=empty.low - 50,
        high=empty.high + 50,
    )

    def work(count: int) -> None:
        for _ in range(count // at_once):
            agent.update(Batch(*(array.to(device) for array in batch)))
        wait_for(device)

    return work


def peers_update(library: str, device: str = "cpu") -> Work:
    from peers import FixedSizes

    if library == "sb3":
        from stable_baselines3 import SAC as Peer

        options = {"device": device}
    else:
        from sbx import SAC as Peer

        options = {}
    model = Peer(
        "MlpPolicy",
        FixedSizes(),
        batch_size=BATCH,
        buffer_size=10_000,
        learning_starts=1_000,
        policy_kwargs={"net_arch": list(HIDDEN)},
        seed=0,
        **options,
    )
    model.learn(1_010)

    def work(count: int) -> None:
        model.train(gradient_steps=count, batch_size=BATCH)
        if library == "sbx":  # it computes behind the caller's back
            import jax

            jax.block_until_ready((model.policy.actor_state.params, model.policy.qf_state.params))

    return work


# Samples of 256 transitions out of a full buffer of 1,000,000, with "future" goals for four fifths of them


def compute_reward(achieved_goal, desired_goal, info):
    return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.03).astype(np.float32)


def our_sample(at_once: int) -> Work:
    dims = {"observation": OBS, "goal": GOAL, "action": ACTION}
    buffer = her.ReplayBuffer(CAPACITY, 16, EPISODE, dims, {}, np.random.default_rng(0))
    fill(buffer, np.random.default_rng(1))

    replay = Replay(
        buffer, SimpleNamespace(compute_reward=compute_reward), HERConfig(), 0.98, n_step=1, reward_values=(-1, 0)
    )

    def work(count: int) -> None:
        for _ in range(count // at_once):
            replay.to_batches(replay.draw(at_once * BATCH), at_once, CPU)

    return work


def peers_sample() -> Work:
    from gymnasium import Env, spaces
    from stable_baselines3 import HerReplayBuffer
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Task(Env):
        observation_space = spaces.Dict(
            {
                key: spaces.Box(-np.inf, np.inf, (n,), np.float32)
                for key, n in (("observation", OBS), ("achieved_goal", GOAL), ("desired_goal", GOAL))
            }
        )
        action_space = spaces.Box(-1, 1, (ACTION,), np.float32)

        def compute_reward(self, achieved_goal, desired_goal, infos):
            return compute_reward(achieved_goal, desired_goal, infos)

    env = DummyVecEnv([Task])
    buffer = HerReplayBuffer(CAPACITY, env.observation_space, env.action_space, env, device="cpu")
    rng = np.random.default_rng(1)
    for t in range(CAPACITY):
        obs = {key: rng.standard_normal((1, *space.shape), np.float32) for key, space in env.observation_space.items()}
        ends = np.array([(t + 1) % EPISODE == 0])
        action = rng.standard_normal((1, ACTION), np.float32)
        buffer.add(obs, obs, action, np.zeros(1, np.float32), ends, [{"TimeLimit.truncated": bool(ends[0])}])

    def work(count: int) -> None:
        for _ in range(count):
            buffer.sample(BATCH)

    return work


# The loop: pick-place as it trains by default, one update to four steps, and its halves alone


class Loop:
    """Holds a run after its first 10,000 steps, its networks hardly trained."""

    def __init__(self):
        self.config = replace(PICK_PLACE, updates_per_step=0.25, warmup=10_000)
        choose_products(CPU, reduced_precision=False)
        self.state = TrainingState.new(self.config, CPU)
        while self.state.env_steps <= self.config.warmup + 2 * self.config.num_envs:
            train.collect_and_learn(self.state, self.config)
        compile_update(self.state.agent, self.config.batch_size)

    def whole(self, count: int) -> None:
        for _ in range(count // self.config.num_envs):
            train.collect_and_learn(self.state, self.config)

    def collect(self, count: int) -> None:
        """Steps without the updates."""
        for _ in range(count // self.config.num_envs):
            obs = {key: value.copy() for key, value in self.state.envs.obs.items()}
            action = train.choose_actions(self.state, self.config, obs)
            train.store(self.state, obs, action, self.state.envs.step(action))
        self.state.learning_since += count

    def learn(self, count: int) -> None:
        """Makes the updates of so many steps, without the steps."""
        for _ in range(count // self.config.num_envs):
            self.state.env_steps += self.config.num_envs
            train.learn(self.state, self.config)


def peers_loop() -> Work:
    from peers import GymnasiumTask
    from stable_baselines3 import SAC as Peer
    from stable_baselines3 import HerReplayBuffer

    model = Peer(
        "MultiInputPolicy",
        GymnasiumTask(replace(PICK_PLACE, num_envs=1)),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "copy_info_dict": True},
        learning_starts=1_000,
        train_freq=4,
        gradient_steps=1,
        policy_kwargs={"net_arch": [256, 256, 256]},
        device="cpu",
        seed=0,
    )
    model.learn(2_000)

    def work(count: int) -> None:
        model.learn(count, reset_num_timesteps=False)

    return work


GROUPS: dict[str, dict[str, tuple[Callable[[], Work], int]]] = {
    "updates / s": {
        "update sb3": (lambda: peers_update("sb3"), 100),
        "update sbx": (lambda: peers_update("sbx"), 100),
        "floor, float32": (lambda: floor(False), 100),
        "floor, float32, one thread": (lambda: floor(False, threads=1), 100),
        "floor, bfloat16": (lambda: floor(True), 100),
        "update": (lambda: update(True), 200),
        "update, bfloat16 products": (lambda: update(True, reduced_precision=True), 200),
        "update, two threads": (lambda: update(True, threads=2), 200),
        "update, eager": (lambda: update(False), 96),
    },
    "updates / s on the GPU": {
        "GPU: update sb3": (lambda: peers_update("sb3", "cuda"), 200),
        "GPU: update sbx": (lambda: peers_update("sbx"), 200),
        "GPU: floor, float32": (lambda: floor(False, GPU), 1_000),
        "GPU: update": (lambda: update(False, device=GPU), 2_000),
        "GPU: update, TF32 products": (lambda: update(False, True, device=GPU), 2_000),
        "GPU: update, one a launch": (lambda: update(False, device=GPU, at_once=1), 2_000),
        "GPU: update, batch 4,096": (lambda: update(False, device=GPU, batch_size=4_096), 1_000),
    },
    "samples of 256 / s": {
        "sample sb3": (peers_sample, 500),
        "sample": (lambda: our_sample(1), 2_000),
        "sample, 8 batches at once": (lambda: our_sample(8), 4_000),
    },
    "environment steps / s": {
        "loop sb3": (peers_loop, 400),
        "loop": (lambda: Loop().whole, 1_600),
        "loop, environments alone": (lambda: Loop().collect, 1_600),
        "loop, updates alone": (lambda: Loop().learn, 1_600),
    },
}


def work_on_demand(name: str) -> None:
    """Works once for each line on its input, as a contender's process, and prints the rate."""
    make, count = next(group[name] for group in GROUPS.values() if name in group)
    work = make()
    work(count)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        work(count)
        print(count / (time.perf_counter() - started), flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def is_there(name: str) -> bool:
    library = {"sb3": "stable_baselines3", "sbx": "sbx"}.get(name.split()[-1])
    if name.startswith("GPU") and not torch.cuda.is_available():
        return False
    return library is None or importlib.util.find_spec(library) is not None


def compare(unit: str, names: list[str], rounds: int) -> None:
    def start(name: str) -> subprocess.Popen:
        command = [sys.executable, __file__, "--worker", name]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    processes = {name: start(name) for name in names}
    for name, process in list(processes.items()):
        while (line := process.stdout.readline()) and line != "ready\n":
            pass
        if not line:
            print(f"{name}: ended with status {process.wait()} before it was ready", file=sys.stderr)
            del processes[name]
    rates: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(rounds):
        for name, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            rates[name].append(float(process.stdout.readline()))
    print(f"\n{unit:<38} {'median':>8} {'smallest':>9} {'largest':>8} {'ratio':>7} {'peak MiB':>9}")
    first = np.median(next(iter(rates.values())))
    for name, process in processes.items():
        memory = float(process.communicate()[0])
        low, middle, high = np.quantile(rates[name], [0, 0.5, 1])
        print(f"{name:<38} {middle:8.0f} {low:9.0f} {high:8.0f} {middle / first:6.2f}× {memory:9.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="contenders with this in their names")
    parser.add_argument("--rounds", type=count, default=7)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work_on_demand(arguments.worker)
        return
    print(describe_device(CPU))
    if torch.cuda.is_available():
        print(describe_device(GPU))
    flops = sum(2 * stack * rows * inner * columns for stack, rows, inner, columns in products())
    print(f"the matrix products of an update: {flops / 1e9:.3f} GFLOP")
    for unit, group in GROUPS.items():
        names = [name for name in group if arguments.only in name]
        for name in (name for name in names if not is_there(name)):
            print(f"{name}: not here")
        names = [name for name in names if is_there(name)]
        if names:
            compare(unit, names, arguments.rounds)


if __name__ == "__main__":
    main()
