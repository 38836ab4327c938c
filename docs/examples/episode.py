"""Prints a stored episode: where the achieved goal was, and which of its places hindsight can take as a goal.

python docs/examples/episode.py runs/reach-sparse-reach-0
"""

import numpy as np

import her
from errors import UserError
from her.relabel import achieved_goal_is_success, met_at_episode_start
from training.analysis.open_run import open_run, run_example, show


def main(path: str) -> None:
    run = open_run(path)
    if not hasattr(run.env, "is_success"):
        raise UserError(f"{run.config.env} has no is_success: hindsight takes every place as a goal")
    buffer = run.buffer
    row = int(buffer.sample_rows(1)[0])
    first, last = row - int(buffer.steps_before[row]), row + int(buffer.steps_after[row])
    rows = np.arange(first, last + 1)
    places, goal = buffer.rows["achieved_goal"][rows], buffer.rows["desired_goal"][first]
    met = achieved_goal_is_success(buffer, rows[1:], run.env.is_success)
    trivial = met_at_episode_start(buffer, rows[1:], places[1:], run.env.is_success)
    print(f"rows {first} to {last} of the buffer; the real goal is {show(goal)}")
    print(f"the achieved goal moved by up to {her.goal_displacement(places, buffer.rows['desired_goal'][rows])[0]:.3f}")
    print(f"{np.sum(met & ~trivial)} of its {len(met)} places are goals to learn from;")
    print(f"{np.sum(~met)} are not met where they were reached, {np.sum(met & trivial)} held from the start\n")
    print("step   achieved goal          to the real goal   as a goal of hindsight")
    verdicts = ["the start", *np.where(met, np.where(trivial, "no: held from the start", "yes"), "no: not met there")]
    for step in range(0, len(rows), max(1, len(rows) // 10)):
        print(f"{step:>4}   {show(places[step])}   {np.linalg.norm(goal - places[step]):16.3f}   {verdicts[step]}")


if __name__ == "__main__":
    run_example(main)
