"""Measures how far Stable-Baselines3's SAC + HerReplayBuffer comes on the very same task, with rl-zoo's settings.

    pip install -e '.[peers]'
    python benchmarks/peer_pick_place.py --minutes 60 --seed 0

The environment is the one that train.py learns in by default: its reward with the reach potential, its goals, its
episodes that begin in a scripted grasp. Settings: rl-zoo's for FetchPickAndPlace (hyperparams/her.yml: gamma 0.95,
entropy coefficient learnt, 1,000 random steps, an update a step, 4 hindsight goals for each real one, the rest
Stable-Baselines3's defaults). Minutes are of this process's own computing, evaluations left out.
"""

import argparse
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from command_line import count, positive, seed_number

from training.config import TrainConfig
from training.recipes import PICK_PLACE
from training.setup import evaluation_environments

try:
    from peers import GymnasiumTask
    from stable_baselines3 import SAC, HerReplayBuffer
except ModuleNotFoundError as error:
    sys.exit(f"peer_pick_place.py: there is no {error.name} here: pip install -e '.[peers]'")


def evaluate(model: SAC, config: TrainConfig, episodes: int) -> tuple[float, float]:
    """Success at the last step, and at any step, on the fixed target from the true start state."""
    (env,), _ = evaluation_environments(config, 1, "fixed")
    results = []
    for seed in range(10_000, 10_000 + episodes):
        obs, _ = env.reset(seed)
        held, once = False, False
        for _ in range(env.max_episode_steps):
            obs, _, _, _, info = env.step(model.predict(obs, deterministic=True)[0])
            held = bool(info["is_success"])
            once = once or held
        results.append((held, once))
    return tuple(np.mean(results, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=positive, default=60)
    parser.add_argument("--seed", type=seed_number, default=0)
    parser.add_argument("--every", type=count, default=10_000, help="environment steps between two evaluations")
    arguments = parser.parse_args()
    config = replace(PICK_PLACE, num_envs=1, seed=arguments.seed)
    model = SAC(
        "MultiInputPolicy",
        GymnasiumTask(config),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future", "copy_info_dict": True},
        buffer_size=1_000_000,
        gamma=0.95,
        learning_starts=1_000,
        seed=arguments.seed,
        device="cpu",
    )
    computed = 0.0
    while computed < 60 * arguments.minutes:
        started = time.process_time() / torch.get_num_threads()
        model.learn(arguments.every, reset_num_timesteps=False)
        computed += time.process_time() / torch.get_num_threads() - started
        held, once = evaluate(model, config, 40)
        print(
            f"{model.num_timesteps:>9,} steps · {computed / 60:5.1f} min · held {held:.0%} · once {once:.0%} of 40",
            flush=True,
        )


if __name__ == "__main__":
    main()
