"""A batch as the next update would draw it: a few rows with a goal from hindsight, and a few with their real one.

python docs/examples/batch.py runs/reach-sparse-reach-0
"""

import sys

import numpy as np

from training.opened import open_run

ROWS = 5


def main(path: str) -> None:
    run = open_run(path)
    batch = run.sample(256)
    distance = np.linalg.norm(batch.desired_goal - batch.next_achieved_goal, axis=-1)
    print(f"{path}, after {run.env_steps:,} steps: {batch.relabelled.sum()} of 256 rows carry a goal from hindsight")
    for name, rows in (
        ("from hindsight", np.flatnonzero(batch.relabelled)[:ROWS]),
        ("real", np.flatnonzero(~batch.relabelled)[:ROWS]),
    ):
        print(
            f"\n{name:<16} achieved goal, then after the row's steps        goal                    distance   reward"
        )
        for row in rows:
            places = batch.achieved_goal[row], batch.next_achieved_goal[row], batch.desired_goal[row]
            shown = "   ".join(" ".join(f"{number:+.3f}" for number in place) for place in places)
            print(f"{'':<16} {shown} {distance[row]:8.3f} {batch.reward[row]:8.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
