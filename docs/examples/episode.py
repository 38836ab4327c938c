"""An episode as the buffer holds it: where the achieved goal was, and which of its places hindsight can take as a goal.

python docs/examples/episode.py runs/reach-sparse-reach-0
"""

import sys

import numpy as np

import her
from her.relabel import holds_from_the_start, is_met_where_reached
from training.opened import open_run


def main(path: str) -> None:
    run = open_run(path)
    buffer = run.buffer
    row = int(buffer.sample_rows(1)[0])
    first, last = row - int(buffer.steps_before[row]), row + int(buffer.steps_after[row])
    rows = np.arange(first, last + 1)
    places, goal = buffer.rows["achieved_goal"][rows], buffer.rows["desired_goal"][first]
    met = is_met_where_reached(buffer, rows[1:], run.env.is_success)
    trivial = holds_from_the_start(buffer, rows[1:], places[1:], run.env.is_success)
    print(f"rows {first} to {last} of the buffer; the real goal is {goal.round(3)}")
    print(f"the achieved goal moved by up to {her.goal_displacement(places):.3f}")
    print(f"hindsight can take {np.sum(met & ~trivial)} of its {len(met)} places as a goal:")
    print(f"{np.sum(~met)} are not met where they were reached, {np.sum(met & trivial)} held from the start\n")
    print("step   achieved goal          to the real goal   as a goal of hindsight")
    for step in range(0, len(rows), max(1, len(rows) // 10)):
        kind = "the start" if step == 0 else "no: held from the start" if trivial[step - 1] else "yes"
        kind = "no: not met where it was reached" if step and not met[step - 1] else kind
        place = " ".join(f"{number:+.3f}" for number in places[step])
        print(f"{step:>4}   {place}   {np.linalg.norm(goal - places[step]):16.3f}   {kind}")


if __name__ == "__main__":
    main(*sys.argv[1:])
