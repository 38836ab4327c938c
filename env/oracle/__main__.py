"""Can the arm do the task through the agent's own actions? A scripted policy tries, and tells how far it came.

python -m env.oracle                                           pick-place, every kind of goal
python -m env.oracle --env pick-place --goal air --episodes 200
python -m env.oracle --env push --json push.json --video push.mp4

The script knows where everything is and moves the arm through the same step() and the same limits as the agent. For
what success means and what the stages are, see docs/environments.md.
"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from env.make import TASKS
from env.oracle.report import figures, print_failures, print_table
from env.oracle.rollout import all_attempts, make_task, record
from env.outputs import OutputError, check_writable, leave_quietly, open_output, os_error_sentence, write_json
from env.protocol import EnvError
from env.so101.rendering import RenderingUnavailable
from env.tasks.base import ArmTask, GoalKind
from env.video import VideoError, check_video_path, write_video

VIDEO_EPISODES = 5


@dataclass(frozen=True)
class OracleConfig:
    """Roll a scripted policy out through the agent's own step() and limits: what works here can be done.

    The funnel is the share of episodes that went through each stage. Its last line, held, is the success of
    evaluate.py. For what each stage means see docs/environments.md.
    """

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


class OracleError(ValueError):
    """Something that was asked for and cannot be."""


def run(config: OracleConfig) -> None:
    """Raises OracleError, EnvError, VideoError, RenderingUnavailable, OSError."""
    if config.episodes < 1 or config.seed < 0:
        raise OracleError(f"--episodes {config.episodes} --seed {config.seed}: needs an episode and a seed from 0 up")
    known = TASKS[config.env].goal_kinds
    kinds = [kind for kind in known if kind != "mix"] if config.goal is None else [config.goal]
    task = make_task(config.env, kinds[-1])
    check_outputs(config, task)
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
        write_json("--json", config.json, content)
    if config.video is not None:
        count = min(config.episodes, VIDEO_EPISODES)
        write_video(config.video, record(task, count, config.seed))
        print(f"video of the first {count} episodes with {kinds[-1]} goals: {config.video}")


def check_outputs(config: OracleConfig, task: ArmTask) -> None:
    """What would fail after the last episode fails before the first."""
    if config.video is not None:
        check_video_path(config.video)
        task.reset(seed=config.seed)
        task.render()
    for option, path in (("--json", config.json), ("--video", config.video)):
        if path is not None:
            check_writable(option, path)


def main() -> None:
    open_output()
    config = tyro.cli(OracleConfig, prog="python -m env.oracle")
    # As an exception, it takes the worker processes down as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        run(config)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        leave_quietly()
    except (OracleError, EnvError, OutputError, VideoError, RenderingUnavailable) as error:
        sys.exit(f"env.oracle: {error}")
    except OSError as error:
        sys.exit(f"env.oracle: {os_error_sentence(error)}")


if __name__ == "__main__":
    main()
