"""Prints what both critics think of actions that differ in one servo, in a state that training has seen.

python docs/examples/q_slice.py runs/reach-sparse-reach-0 0        the first servo
"""

import torch

from errors import UserError
from training.analysis.open_run import open_run, run_example

POINTS = 21


@torch.no_grad()
def main(path: str, servo: str = "0") -> None:
    run = open_run(path)
    if servo not in map(str, range(run.spec.action_dim)):
        raise UserError(f"servo {servo}: there are 0 to {run.spec.action_dim - 1}")
    number = int(servo)
    state = run.agent.normalizer(run.to_batch(*run.sample(64)).obs[-1:])  # the rows from hindsight come first
    mean, log_std = run.agent.actor(state)
    actions = torch.tanh(mean).repeat(POINTS, 1)
    actions[:, number] = torch.linspace(-1, 1, POINTS)
    q1, q2 = run.agent.critic(state.repeat(POINTS, 1), actions)
    smallest = torch.minimum(q1, q2)
    span = smallest.max() - smallest.min()

    print(f"the policy's mean is {torch.tanh(mean)[0, number]:+.2f} there, its spread before the tanh ", end="")
    print(f"{log_std.exp()[0, number]:.2f};\nthe best of these actions is worth {span:.3f} more than the worst\n")
    print("action      q1       q2   min(q1, q2), which the actor climbs")
    for action, first, second, least in zip(actions[:, number], q1, q2, smallest, strict=True):
        bar = "#" * round(40 * ((least - smallest.min()) / span.clamp(min=1e-6)).item())
        print(f"{action:+6.2f} {first:8.3f} {second:8.3f}   {bar}".rstrip())


if __name__ == "__main__":
    run_example(main)
