"""Tells from where in a scripted grasp a policy can go on, and whether its critic knows.

The script plays the first n of its steps, the policy the rest of an episode: once deterministically, once with its
noise, as in training. Where it fails is where it has still to learn; where Q is far above the return that its noisy
self then gets, the critic has been flattered.

python benchmarks/along_the_script.py runs/pick-place-sparse-reach-0          its newest checkpoint
python benchmarks/along_the_script.py runs/…/checkpoints/step_000040000 --episodes 40
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from command_line import count, seed_number

import checkpoints
import her
from env.oracle import InverseKinematics, plan
from errors import UserError, reporting
from evaluate import load_policy
from sac import SAC, choose_products
from training.evaluation.rollout import Policy
from training.setup import evaluation_environments, make_agent, trained_with

SCRIPT_STEPS = (0, 8, 16, 20, 24, 28, 32, 36, 44, 52)


def go_on(envs: list, ik: InverseKinematics, policy: Policy, played: int, seed: int) -> tuple:
    """Plays N episodes, whose first `played` steps are the script's.

    Returns rewards (T, N), whether each held its goal at the end (N,), and the policy's input (N, O + G) and action
    (N, A) at its first step.
    """
    for i, env in enumerate(envs):
        env.reset(seed=seed + i)
        for _, change in plan(env, ik).rehearse(env.sim.servo_target)[:played]:
            env.step(env.action_for(change))
    obs, rewards, first = [env.observe() for env in envs], [], None
    for _ in range(envs[0].max_episode_steps - played):
        stacked = {key: np.stack([each[key] for each in obs]) for key in obs[0]}
        inputs = her.policy_input(**stacked)
        actions = policy(inputs)
        first = first or (inputs, actions)
        steps = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        obs, rewards = [step[0] for step in steps], [*rewards, [step[1] for step in steps]]
    return np.array(rewards), np.array([step[4]["is_success"] for step in steps]), *first


def discounted(rewards: np.ndarray, held: np.ndarray, gamma: float) -> np.ndarray:
    """Returns the return (N,) of rewards (T, N), if what is `held` (N,) at the end is held for ever, and nothing else.

    What progress adds to the last reward does not go on: only the sparse reward does.
    """
    weights = gamma ** np.arange(len(rewards))
    return weights @ rewards + gamma ** len(rewards) / (1 - gamma) * (held - 1.0)


def restore_critic(agent: SAC, path: Path) -> None:
    """Puts the critic of the checkpoint at `path` into `agent`. Raises UserError where it has none."""
    state, _ = checkpoints.load(path, only=["agent"], expected={"agent": agent.state_dict()})
    if "critic" not in state["agent"]:
        raise UserError(f"{path} holds a policy alone: the critic is in a run's own checkpoints")
    agent.load_state_dict(state["agent"])


def report(name: str, goal: str, episodes: int, seed: int) -> None:
    path, _ = checkpoints.find_policy(name)
    training = trained_with(checkpoints.read_manifest(path), path)
    if training.env != "pick-place":
        raise UserError(f"{path} is a policy for {training.env}: the script that is played here is pick-place's")
    envs, spec = evaluation_environments(training, episodes, goal)
    agent = make_agent(training, spec, torch.device("cpu"), seed)
    deterministic = load_policy(path, agent, training.env)
    restore_critic(agent, path)
    ik = InverseKinematics(envs[0].sim.model)
    print(f"{path} · goal {goal} · {episodes} episodes a row\n")
    print(f"{'script':>6}{'held':>8}{'with noise':>12}{'Q':>9}{'return':>9}")
    for played in SCRIPT_STEPS:
        _, held, *_ = go_on(envs, ik, deterministic, played, seed)
        rewards, noisily, inputs, actions = go_on(envs, ik, agent.act, played, seed)
        with torch.no_grad():
            q = agent.critic(torch.from_numpy(inputs), torch.from_numpy(actions)).amin(0).mean()
        got = discounted(rewards, noisily, training.gamma).mean()
        print(f"{played:>6}{held.mean():>8.0%}{noisily.mean():>12.0%}{q:>9.1f}{got:>9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="a run directory or one of its checkpoints")
    parser.add_argument("--goal", choices=("fixed", "table", "air"), default="fixed")
    parser.add_argument("--episodes", type=count, default=20)
    parser.add_argument("--seed", type=seed_number, default=10_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    choose_products(torch.device("cpu"), reduced_precision=False)
    with reporting("along_the_script.py"):
        report(arguments.path, arguments.goal, arguments.episodes, arguments.seed)


if __name__ == "__main__":
    main()
