"""Prints rows of a batch as the next update would draw it: a few with a goal from hindsight, a few with their real one.

python docs/examples/batch.py runs/reach-sparse-reach-0
"""

import numpy as np

import her
from training.analysis.open_run import open_run, run_example, show

SIZE, SHOWN = 256, 3


def main(path: str) -> None:
    run = open_run(path)
    batch = run.sample(SIZE)
    distance = np.linalg.norm(batch.desired_goal - batch.next_achieved_goal, axis=-1)
    print(f"{path}, after {run.env_steps:,} steps: {batch.relabelled.sum()} of {SIZE} rows carry a goal from hindsight")
    for name, rows in (
        ("from hindsight", np.flatnonzero(batch.relabelled)[:SHOWN]),
        ("real", np.flatnonzero(~batch.relabelled)[:SHOWN]),
    ):
        print(f"\n{name:<15} {'achieved goal':<22} {'after its steps':<22} goal{'distance':>25}   reward  discount")
        for row in rows:
            places = batch.achieved_goal[row], batch.next_achieved_goal[row], batch.desired_goal[row]
            shown = "   ".join(map(show, places))
            print(f"{'':<15} {shown} {distance[row]:8.3f} {batch.reward[row]:8.3f} {batch.discount[row]:9.4f}")

    is_success = getattr(run.env, "is_success", None)
    if is_success is not None:
        health = her.goal_health(run.buffer, 1024, run.config.her, is_success, cell=1 / run.spec.goal_scale)
        print("\nof 1,024 goals that hindsight draws, before it draws any of them again,")
        print(f"{health.trivial:.1%} held from the start, and {health.unmet:.1%} were not met where they were reached;")
        print(
            f"{health.success_hindsight:.1%} of their transitions meet them, {health.success_real:.1%} their real goal"
        )


if __name__ == "__main__":
    run_example(main)
