"""Measures how much noise on its actions a grasp survives: what the policy's entropy may be while it explores.

    python benchmarks/grasp_noise.py [--episodes 100] [--goal fixed] [--slope 0.2]

A scripted grasp knows where every servo's target should be next, and heads there from wherever noise has left it. The
noise is on the actions, as a policy's is, before --task.action-slope makes them changes of the servos' targets.
`entropy` is that of a Gaussian policy of the same noise, all six actions together: six times --sac.target-entropy.
"""

import argparse
import math

import numpy as np
from command_line import count, seed_number, share

from env import TaskConfig, make_envs
from env.oracle import InverseKinematics, plan
from env.so101.simulation import MAX_TARGET_CHANGE
from env.tasks.base import ArmTask
from env.tasks.pick_place import PickPlace

NOISES = (0.0, 0.01, 0.02, 0.035, 0.05, 0.1, 0.15, 0.25)


def noisy_grasp(task: ArmTask, ik: InverseKinematics, noise: float, seed: int) -> tuple[bool, bool]:
    """Tells whether an episode with Gaussian `noise` on each action pinched the cube at all and met its goal at all."""
    rng = np.random.default_rng(seed)
    task.reset(seed=seed)
    script, planned = plan(task, ik), task.sim.servo_target.copy()
    pinched = met = False
    for _ in range(task.max_episode_steps):
        planned += MAX_TARGET_CHANGE * script.act(planned)
        change = np.clip((planned - task.sim.servo_target) / MAX_TARGET_CHANGE, -1, 1)
        info = task.step(task.action_for(change) + noise * rng.normal(size=task.action_dim))[4]
        pinched |= info["stages"]["pinched"]
        met |= info["is_success"]
    return pinched, met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=count, default=100, help="episodes with each noise")
    parser.add_argument("--goal", default="fixed", choices=PickPlace.goal_kinds)
    parser.add_argument("--seed", type=seed_number, default=10_000, help="episode i is drawn from this seed + i")
    parser.add_argument("--slope", type=share, default=TaskConfig.action_slope, help="--task.action-slope")
    arguments = parser.parse_args()
    config = TaskConfig(goal=arguments.goal, action_slope=arguments.slope)
    task = make_envs("pick-place", 1, config, "sparse")[0]
    ik = InverseKinematics(task.sim.model)
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    print(f"{'noise':>8}{'entropy':>10}{'pinched':>10}{'goal met':>10}   of {arguments.episodes} episodes")
    for noise in NOISES:
        pinched, met = np.mean([noisy_grasp(task, ik, noise, seed) for seed in seeds], axis=0)
        entropy = task.action_dim * (0.5 * math.log(2 * math.pi * math.e) + math.log(noise)) if noise else -math.inf
        print(f"{noise:>8.3f}{entropy:>10.1f}{pinched:>10.0%}{met:>10.0%}")


if __name__ == "__main__":
    main()
