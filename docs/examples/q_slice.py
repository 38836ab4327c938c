"""What both critics think of actions that differ in one servo, in a state that training has seen.

python docs/examples/q_slice.py runs/reach-sparse-reach-0 0        the first servo
"""

import sys

import torch

from training.opened import open_run

POINTS = 21


def main(path: str, servo: str = "0") -> None:
    run = open_run(path)
    batch = run.to_batch(run.sample(64))
    with torch.no_grad():
        state = batch.obs[-1:]  # the last row has its real goal
        mean, log_std = run.agent.actor(state)
        actions = torch.tanh(mean).repeat(POINTS, 1)
        actions[:, int(servo)] = torch.linspace(-1, 1, POINTS)
        q1, q2 = run.agent.critic(state.repeat(POINTS, 1), actions)
    chosen = torch.tanh(mean)[0, int(servo)].item()
    print(f"the policy's mean is {chosen:+.2f} there, its spread before the tanh {log_std.exp()[0, int(servo)]:.2f}\n")
    print("action      q1       q2   min(q1, q2), which the actor climbs")
    smallest = torch.minimum(q1, q2)
    span = (smallest.max() - smallest.min()).clamp(min=1e-6)
    for action, first, second, least in zip(actions[:, int(servo)], q1, q2, smallest, strict=True):
        bar = "#" * round(40 * ((least - smallest.min()) / span).item())
        print(f"{action:+6.2f} {first:8.3f} {second:8.3f}   {bar}")


if __name__ == "__main__":
    main(*sys.argv[1:])
