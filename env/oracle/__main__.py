"""Tries the task with a scripted policy, through the agent's own actions, and tells how far it came.

python -m env.oracle                                           pick-place, every kind of goal
python -m env.oracle --env pick-place --goal air --episodes 200
python -m env.oracle --env push --json push.json --video push.mp4

The script knows where everything is and moves the arm through the same step() and the same limits as the agent. For
what success means and what the stages are, see docs/environments.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from env.oracle.report import figures, print_failures, print_table
from env.oracle.rollout import attempts_from, make_task, record
from env.tasks import TASKS
from env.tasks.base import ArmTask, GoalKind
from env.video import check_video_path, write_video
from errors import UserError, check_writable, reporting, write_json


@dataclass(frozen=True)
class OracleConfig:
    """Rolls a scripted policy out through the agent's own step() and limits: what works here can be done.

    The funnel is the share of episodes that went through each stage. Its last line, held, is the success of
    evaluate.py. For what each stage means see docs/environments.md.
    """

    env: Literal["reach", "push", "pick-place"] = "pick-place"
    """Task to try."""
    goal: Annotated[GoalKind | None, tyro.conf.arg(metavar="KIND", help_behavior_hint="(default: each)")] = None
    """Kind of goals: air, table, fixed, mix, or own, which is the task's first. Each kind that it knows by default."""
    episodes: int = 100
    """Episodes of each kind of goal."""
    seed: int = 10_000
    """Episode i is drawn from this seed + i and from nothing else, as evaluate.py draws it."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """Write the figures to this file."""
    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """Record the first episodes to this .mp4 or .gif."""


def run(config: OracleConfig) -> None:
    """Plays the episodes, and prints and writes what was asked for. Raises UserError, OSError."""
    if config.episodes < 1 or config.seed < 0:
        raise UserError(f"--episodes {config.episodes} --seed {config.seed}: needs an episode and a seed from 0 up")
    known = TASKS[config.env].goal_kinds
    if config.goal not in (None, "own", *known):
        raise UserError(f"--goal {config.goal}: {config.env} has no such goals; there are: {', '.join(known)}")
    chosen = known[0] if config.goal == "own" else config.goal
    kinds = [kind for kind in known if kind != "mix"] if chosen is None else [chosen]
    task = make_task(config.env, kinds[-1])
    check_outputs(config, task)
    print(f"{config.env}, {config.episodes} episodes of each kind of goal from seed {config.seed:,}, by script")
    seeds = range(config.seed, config.seed + config.episodes)
    tried = {kind: attempts_from(config.env, kind, seeds) for kind in kinds}
    columns = [figures(config.env, kind, attempts) for kind, attempts in tried.items()]
    attempts = [attempt for of_kind in tried.values() for attempt in of_kind]
    print_table(columns)
    print_failures(attempts)
    if config.json is not None:
        content = columns[0]
        if len(columns) > 1:
            content = figures(config.env, "all", attempts) | {"goals": {column["goal"]: column for column in columns}}
        write_json("--json", config.json, content)
    if config.video is not None:
        count = min(config.episodes, 5)
        write_video(config.video, record(task, count, config.seed))
        print(f"video of the first {count} episodes with {kinds[-1]} goals: {config.video}")


def check_outputs(config: OracleConfig, task: ArmTask) -> None:
    """Fails before the first episode where it would fail after the last. Raises UserError."""
    if config.video is not None:
        check_video_path(config.video)
        task.reset(seed=config.seed)
        task.render()
    for option, path in (("--json", config.json), ("--video", config.video)):
        if path is not None:
            check_writable(option, path)


def main() -> None:
    with reporting("env.oracle"):
        run(tyro.cli(OracleConfig, prog="python -m env.oracle"))


if __name__ == "__main__":
    main()
