"""Can the arm do the task through the agent's own actions? A scripted policy tries, and tells how far it came.

python -m env.oracle                                           pick-place, every kind of goal
python -m env.oracle --env pick-place --goal air --episodes 200
python -m env.oracle --env push --json push.json --video push.mp4

The script knows where everything is and moves the arm through the same step() and the same limits as the agent. For
what success means and what the stages are, see docs/environments.md.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from env.oracle.attempt import all_attempts, make_task, record
from env.oracle.report import figures, print_failures, print_table
from env.registry import TASKS
from env.rendering import RenderingUnavailable
from env.task import GoalKind
from env.video import VideoError, check_video_path, write_video

VIDEO_EPISODES = 5


@dataclass(frozen=True)
class OracleConfig:
    """Roll the scripted policy out: what fails here cannot be learnt either, what works here can be done."""

    env: Literal["reach", "push", "pick-place"] = "pick-place"
    """Which task."""
    goal: GoalKind | None = None
    """Kind of goals; None is each kind that the task knows."""
    episodes: int = 100
    """How many episodes, of each kind."""
    seed: int = 10_000
    """Episode i is drawn from this seed + i and from nothing else, as evaluate.py draws it."""
    json: Path | None = None
    """Write the figures to this file."""
    video: Path | None = None
    """Record the first episodes to this .mp4 or .gif."""


def run(config: OracleConfig) -> None:
    if config.episodes < 1 or config.seed < 0:
        raise ValueError(f"--episodes {config.episodes} --seed {config.seed}: needs an episode and a seed from 0 up")
    if config.video is not None:
        check_video_path(config.video)
    if config.json is not None:
        config.json.parent.mkdir(parents=True, exist_ok=True)
    known = TASKS[config.env].goal_kinds
    kinds = [kind for kind in known if kind != "mix"] if config.goal is None else [config.goal]
    print(f"{config.env}, {config.episodes} episodes of each kind of goal from seed {config.seed:,}, by script")
    tried = all_attempts(config.env, kinds, range(config.seed, config.seed + config.episodes))
    columns = [figures(config.env, kind, attempts) for kind, attempts in tried.items()]
    attempts = [one for of_kind in tried.values() for one in of_kind]
    print_table(columns)
    print_failures(attempts)
    if config.json is not None:
        content = columns[0]
        if len(columns) > 1:
            content = figures(config.env, "all", attempts) | {"goals": {column["goal"]: column for column in columns}}
        config.json.write_text(json.dumps(content, indent=2) + "\n")
    if config.video is not None:
        count = min(config.episodes, VIDEO_EPISODES)
        write_video(config.video, record(make_task(config.env, kinds[-1]), count, config.seed))
        print(f"video of the first {count} episodes with {kinds[-1]} goals: {config.video}")


def main() -> None:
    config = tyro.cli(OracleConfig, prog="python -m env.oracle", description=__doc__)
    try:
        run(config)
    except (ValueError, VideoError, RenderingUnavailable) as error:
        sys.exit(f"env.oracle: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"env.oracle: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
