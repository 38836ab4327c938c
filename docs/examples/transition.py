"""Follows one transition from the environment into the networks. docs/internals.md explains what it prints.

python docs/examples/transition.py runs/reach-sparse-reach-0
"""

from dataclasses import replace

import numpy as np
import torch

import her
from env import VectorEnv
from her.relabel import achieved_goal_is_success, met_at_episode_start, n_step_return, stored_info
from training.analysis.open_run import OpenedRun, open_run, run_example, show
from training.setup import make_buffer

STEP = 12
"""The transition to follow, counted from 0."""


def main(path: str) -> None:
    run = open_run(path)
    env, gamma = run.env, run.replay.gamma
    buffer = make_buffer(replace(run.config, num_envs=1), run.spec, np.random.default_rng(0))
    row = min(STEP, play_episode(run, buffer).length - 1)

    rows = np.array([row])
    before, after = buffer.steps_before[rows], buffer.steps_after[rows]
    sources = her.hindsight_rows("future", rows, before, after, buffer.rng)
    places = buffer.rows["achieved_goal"]
    real, goals = buffer.rows["desired_goal"][rows], places[sources]
    print(f"\nhindsight draws one of the rows {row + 1} to {row + after[0]}: row {sources[0]}, {show(goals[0])}")
    if hasattr(env, "is_success"):
        met = achieved_goal_is_success(buffer, sources, env.is_success)[0]
        trivial = met_at_episode_start(buffer, rows, goals, env.is_success)[0]
        print(f"met where it was reached: {'yes' if met else 'no'}; held from the start: {'yes' if trivial else 'no'}")

    judges = env.compute_reward, getattr(env, "compute_terminated", None)
    total, _, steps = n_step_return(buffer, rows, goals, np.array([True]), *judges, gamma, run.config.n_step)
    print("\nrow   achieved goal after it   to the real goal   reward   to the new goal   judged anew   γ^i")
    by_hand = 0.0
    for i in range(steps[0]):
        reached = places[rows + i + 1]
        anew = env.compute_reward(reached, goals, stored_info(buffer, rows + i))[0]
        by_hand += gamma**i * anew
        to_real, to_new = (np.linalg.norm(goal - reached) for goal in (real, goals))
        stored = buffer.rows["reward"][row + i]
        print(f"{row + i:>3}   {show(reached[0])} {to_real:18.6f} {stored:8.4f} {to_new:17.6f} {anew:13.4f}", end="")
        print(f" {gamma**i:8.4f}")
    print(f"sum of γ^i times the reward judged anew: {by_hand:.4f}; n_step_return has {total[0]:.4f}")
    print(f"discount of the value after them: γ^{steps[0]} = {gamma ** steps[0]:.4f}")

    print(
        f"\nthe networks see {run.spec.obs_dim} numbers, and after them achieved goal, goal and the way between them,"
    )
    print("all of it less its mean and by its standard deviation:")
    for name, at in (("s ", row), ("s'", row + steps[0])):
        raw = her.policy_input(buffer.rows["observation"][at], places[at], goals[0])
        seen = run.agent.normalizer(torch.from_numpy(raw)).numpy()
        print(f"{name} of row {at}: … {show(seen[run.spec.obs_dim :])}")


def play_episode(run: OpenedRun, buffer: her.ReplayBuffer) -> her.Episode:
    """Plays an episode with the policy's exploration into a buffer of one environment, and returns where it lies."""
    envs = VectorEnv([run.env], run.spec)
    envs.reset([0])
    stored = []
    while not stored:
        obs = {key: value.copy() for key, value in envs.obs.items()}
        action = run.agent.act(her.policy_input(**obs))
        step = envs.step(action)
        stored = buffer.add(obs, action, step)
        if buffer.staged[0] == STEP + 1:
            print(f"step {STEP}: action {show(action[0])}")
            for key in ("achieved_goal", "desired_goal"):
                print(f"{key} {show(obs[key][0])} → {show(step.next_obs[key][0])}")
            print(f"reward {step.reward[0]:.4f}; with it are stored: {', '.join(step.info) or 'no info arrays'}")
            print(f"{buffer.staged[0]} transitions are staged, {len(buffer)} can be drawn")
    print(f"step {stored[0].length - 1}: terminated {step.terminated[0]}, truncated {step.truncated[0]}")
    print(f"{buffer.staged[0]} transitions are staged, {len(buffer)} can be drawn, from row {stored[0].start} on")
    return stored[0]


if __name__ == "__main__":
    run_example(main)
