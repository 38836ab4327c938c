"""Measures how far Stable-Baselines3 comes on the very same task, in the same steps: SAC or TQC, with its HER.

    pip install -e '.[peers]'
    python benchmarks/peer.py --env gym:FetchPush-v4 --algorithm tqc --steps 120000 --seed 100
    python benchmarks/peer.py --env pick-place --algorithm tqc --minutes 60

The environment is the one that train.py learns in by default, with its reward and goals. Where the task has goals, the
settings are rl-zoo's later ones (hyperparams/tqc.yml: gamma 0.95, learning rate 1e-3, tau 0.05, 512 x 3, batches of
2,048, an update a step, 4 hindsight goals for each real one). Elsewhere they are Stable-Baselines3's own, after 10,000
random steps. Minutes are of this process's own computing, evaluations left out.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from command_line import count, positive, seed_number

from env import EnvSpec
from env.protocol import GOAL_KEYS
from errors import reporting
from training.command_line import parse
from training.evaluation.rollout import Policy, run_episodes, summarise
from training.setup import evaluation_environments, evaluation_goal

try:
    from peers import GymnasiumTask
    from sb3_contrib import TQC
    from stable_baselines3 import SAC, HerReplayBuffer
except ModuleNotFoundError as error:
    sys.exit(f"peer.py: there is no {error.name} here: pip install -e '.[peers]'")

EPISODES, EVALUATION_SEED = 100, 500_000
"""The last policy is evaluated on so many episodes, the first of them drawn from that seed."""


def make_model(algorithm: str, env: GymnasiumTask, seed: int) -> SAC:
    """Makes the peer's untrained agent."""
    kind = {"sac": SAC, "tqc": TQC}[algorithm]
    if not env.has_goals:
        return kind("MlpPolicy", env, learning_starts=10_000, seed=seed, device="auto")
    return kind(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future", "copy_info_dict": True},
        policy_kwargs={"net_arch": [512, 512, 512], "n_critics": 2},
        buffer_size=1_000_000,
        batch_size=2048,
        gamma=0.95,
        learning_rate=1e-3,
        tau=0.05,
        seed=seed,
        device="auto",
    )


def policy_of(model: SAC, spec: EnvSpec) -> Policy:
    """Returns what the model does for inputs (N, O + 3 G) of our policies, whose first columns are its observations."""
    ends = np.cumsum([spec.obs_dim, spec.goal_dim, spec.goal_dim])

    def act(inputs: np.ndarray) -> np.ndarray:
        parts = dict(zip(GOAL_KEYS, np.split(inputs, ends, axis=1), strict=False))
        return model.predict(parts if spec.goal_dim else parts["observation"], deterministic=True)[0]

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True, help="as train.py takes it")
    parser.add_argument("--algorithm", choices=["sac", "tqc"], default="tqc")
    parser.add_argument("--seed", type=seed_number, default=0)
    parser.add_argument("--steps", type=count, default=1_000_000, help="environment steps")
    parser.add_argument("--minutes", type=positive, default=float("inf"), help="end after so many, if that is sooner")
    parser.add_argument("--every", type=count, default=10_000, help="environment steps between two evaluations")
    parser.add_argument("--json", type=Path, help="write what the last policy holds to this file")
    arguments = parser.parse_args()
    with reporting("peer.py"):
        train(arguments)


def train(arguments: argparse.Namespace) -> None:
    config = parse(["--env", arguments.env, "--seed", str(arguments.seed)])
    (env,), spec = evaluation_environments(config, 1, evaluation_goal(config.env, "own"))
    model = make_model(arguments.algorithm, GymnasiumTask(config), arguments.seed)
    computed = 0.0
    while model.num_timesteps < arguments.steps and computed < 60 * arguments.minutes:
        started = time.process_time() / torch.get_num_threads()
        model.learn(min(arguments.every, arguments.steps - model.num_timesteps), reset_num_timesteps=False)
        computed += time.process_time() / torch.get_num_threads() - started
        tell(model, computed, summarise(list(run_episodes([env], policy_of(model, spec), 40, 10_000))))
    last = summarise(list(run_episodes([env], policy_of(model, spec), EPISODES, EVALUATION_SEED)))
    tell(model, computed, last)
    if arguments.json:
        about = {"env": config.env, "algorithm": arguments.algorithm, "env_steps": model.num_timesteps}
        arguments.json.write_text(json.dumps(about | last, indent=2))


def tell(model: SAC, computed: float, result: dict) -> None:
    told = [f"{model.num_timesteps:>9,} steps", f"{computed / 60:5.1f} min"]
    if result["success"]:
        told += [f"held {result['success']['rate']:.0%}", f"once {result['success_once']['rate']:.0%}"]
    print(*told, f"return {result['return']['mean']:.1f} of {result['episodes']} episodes", sep=" · ", flush=True)


if __name__ == "__main__":
    main()
