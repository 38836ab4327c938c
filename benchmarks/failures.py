"""Tells where and how a policy's episodes fail: by the goal's place, by the cube's start, by how far they came.

python benchmarks/failures.py runs/pick-place-sparse-reach-0 --goal air       the newest checkpoint of a run
python benchmarks/failures.py pick-place                                      a policy that came with the code
"""

import argparse
import math
from dataclasses import dataclass

import numpy as np
import torch
from command_line import count, seed_number

import checkpoints
from env import TASKS, GoalKind
from env.so101.workspace import PAN_AXIS
from env.tasks.base import ArmTask
from env.tasks.rewards import goal_distance
from errors import UserError, reporting
from evaluate import ENVS, load_policy
from sac import choose_products
from training.evaluation.rollout import Episode, Policy, run_episodes
from training.evaluation.statistics import wilson_interval
from training.setup import evaluation_environments, evaluation_goal, make_agent, trained_with


@dataclass
class Rollout:
    """Holds an episode, which bin of each table of success it is in, and its distance from the goal at the end, m."""

    bins: dict[str, str]
    distance: float
    episode: Episode


def roll_out(tasks: list[ArmTask], policy: Policy, episodes: int, seed: int) -> list[Rollout]:
    """Runs the episodes that evaluate.py runs, as many at once as there are tasks."""
    rollouts: list[Rollout] = []
    for first in range(seed, seed + episodes, len(tasks)):
        wave = tasks[: seed + episodes - first]
        bins = [begin(task, first + i) for i, task in enumerate(wave)]
        ended = list(run_episodes(wave, policy, len(wave), first))
        distances = [goal_distance(task.observe()["achieved_goal"], task.goal) for task in wave]
        rollouts += map(Rollout, bins, distances, ended)
    return rollouts


def begin(task: ArmTask, seed: int) -> dict[str, str]:
    """Returns the bins of the episode that begins with this seed, by the headings of the tables."""
    task.reset(seed)
    bins = {"by the goal's distance from the pan axis": span(math.dist(task.goal[:2], PAN_AXIS), 0.03)}
    bins["by the goal's height"] = span(task.goal[2], 0.05)
    if task.has_cube:
        bins["by the cube's start from the pan axis"] = span(math.dist(task.sim.cube_position[:2], PAN_AXIS), 0.02)
    return bins


def span(value: float, width: float) -> str:
    """Returns the bin of `width` m that `value` m, from 0 up, is in."""
    return f"{value // width * width:.2f} to {(value // width + 1) * width:.2f} m"


def print_success(rollouts: list[Rollout], table: str) -> None:
    print(f"\n{table:<44}{'held':>12}{'rate':>10}   95 % interval")
    for its in sorted({rollout.bins[table] for rollout in rollouts}):
        print(f"  {its:<42}{rate([rollout for rollout in rollouts if rollout.bins[table] == its])}")


def rate(rollouts: list[Rollout]) -> str:
    held, of = sum(rollout.episode.success for rollout in rollouts), len(rollouts)
    low, high = wilson_interval(held, of)
    return f"{f'{held} of {of}':>12}{held / of:>10.1%}   {low:.1%} to {high:.1%}"


def print_failures(rollouts: list[Rollout], stages: tuple[str, ...]) -> None:
    """Prints those that failed, by the last of the task's `stages` that they went through."""
    failed = [rollout for rollout in rollouts if not rollout.episode.success]
    rows = {name: [] for name in (f"never {stages[0]}", *stages[:-1], "met the goal, not at the end")}
    for rollout in failed:
        last = max((i for i, stage in enumerate(stages, 1) if rollout.episode.stages.get(stage)), default=0)
        list(rows.values())[last].append(rollout)
    if "lifted" in stages:
        rows["all that lifted the cube"] = [rollout for rollout in failed if rollout.episode.stages.get("lifted")]
    print(f"\n{'how far those came that failed':<44}{'episodes':>12}   cm from the goal at the end, quartiles")
    for name, its in rows.items():
        quartiles = np.percentile([rollout.distance for rollout in its], (25, 50, 75)) if its else ()
        print(f"  {name:<42}{len(its):>12}{''.join(f'{100 * distance:7.1f}' for distance in quartiles)}")


def report(name: str, asked: GoalKind, episodes: int, seed: int) -> None:
    path, _ = checkpoints.find_policy(name)
    training = trained_with(checkpoints.read_manifest(path), path)
    if training.env not in TASKS:
        raise UserError(f"{path} is a policy for {training.env}, and only built-in tasks tell where things are")
    tasks, spec = evaluation_environments(training, min(episodes, ENVS), evaluation_goal(training.env, asked))
    policy = load_policy(path, make_agent(training, spec, torch.device("cpu"), seed=0), training.env)
    rollouts = roll_out(tasks, policy, episodes, seed)
    print(f"{path} · {training.env}, goal {tasks[0].goal_kind}\n\n{'all episodes':<44}{rate(rollouts)}")
    for table in rollouts[0].bins:
        print_success(rollouts, table)
    print_failures(rollouts, tasks[0].stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="a run directory, one of its checkpoints, or a pretrained policy's name")
    parser.add_argument("--goal", default="own", help="kind of goals: fixed, table, air, mix, or the task's own")
    parser.add_argument("--episodes", type=count, default=200)
    parser.add_argument("--seed", type=seed_number, default=10_000, help="episode i is drawn from this seed + i")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    choose_products(torch.device("cpu"), reduced_precision=False)
    with reporting("failures.py"):
        report(arguments.path, arguments.goal, arguments.episodes, arguments.seed)


if __name__ == "__main__":
    main()
