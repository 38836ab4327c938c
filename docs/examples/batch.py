"""Prints rows of a batch as the next update would draw it: a few with a goal from hindsight, a few with their real one.

python docs/examples/batch.py runs/reach-sparse-reach-0
"""

import numpy as np

import her
from training.analysis.open_run import open_run, run_example, show

SIZE, SHOWN = 256, 3


def main(path: str) -> None:
    run = open_run(path)
    rows, goals, relabelled = drawn = run.sample(SIZE)
    judges = run.env.compute_reward, getattr(run.env, "compute_terminated", None)
    reward, _, steps = her.n_step_return(run.buffer, *drawn, *judges, run.replay.gamma, run.replay.n_step)
    achieved, reached = (run.buffer.rows["achieved_goal"][at] for at in (rows, rows + steps))
    distance, discount = np.linalg.norm(goals - reached, axis=-1), run.replay.gamma**steps
    print(f"{path}, after {run.env_steps:,} steps: {relabelled.sum()} of {SIZE} rows carry a goal from hindsight")
    for name, shown in (
        ("from hindsight", np.flatnonzero(relabelled)[:SHOWN]),
        ("real", np.flatnonzero(~relabelled)[:SHOWN]),
    ):
        print(f"\n{name:<15} {'achieved goal':<22} {'after its steps':<22} goal{'distance':>25}   reward  discount")
        for i in shown:
            places = "   ".join(map(show, (achieved[i], reached[i], goals[i])))
            print(f"{'':<15} {places} {distance[i]:8.3f} {reward[i]:8.3f} {discount[i]:9.4f}")

    is_success = getattr(run.env, "is_success", None)
    if is_success is not None:
        health = her.goal_health(run.buffer, 1024, run.config.her, is_success)
        print("\nof 1,024 goals that hindsight draws, before it draws any of them again,")
        trivial, unmet = health["trivial_share"], health["unmet_share"]
        print(f"{trivial:.1%} held from the start, and {unmet:.1%} were not met where they were reached;")
        hindsight, real = health["success_hindsight"], health["success_real"]
        print(f"{hindsight:.1%} of their transitions meet them, {real:.1%} their real goal")


if __name__ == "__main__":
    run_example(main)
