"""Can the arm do the task through the agent's own actions? A scripted policy tries, and tells how far it came.

python -m env.oracle                                           pick-place, every kind of goal
python -m env.oracle --env pick-place --goal air --episodes 200
python -m env.oracle --env push --json push.json --video push.mp4

The script knows where everything is and moves the arm through the same step() and the same limits as the agent. For
what success means and what the stages are, see docs/environments.md.
"""

import json
import math
import signal
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from env.contacts import arm_overlap
from env.kinematics import InverseKinematics
from env.plan import Unreachable, plan
from env.registry import DEFAULT_REWARD, TASKS, make_envs
from env.rendering import RenderingUnavailable
from env.script import Script
from env.simulation import CONTROL_STEP, SimulationDiverged
from env.task import ArmTask, GoalKind, TaskConfig
from env.video import VideoError, check_video_path, write_video

HOLD_SECONDS = 3.0
"""How long a cube that is in the grip at the end of its episode is held on, to see whether it slips."""
VIDEO_EPISODES = 5
FAILURES_SHOWN = 10
PART = 10
"""Episodes that a process takes on at a time."""


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


@dataclass(frozen=True)
class Attempt:
    """What became of one episode.

    stages: those it went through; success, success_once: as everywhere; steps: control steps until the goal was first
    met; penetration: of arm and cube, the deepest of all physics steps, m; slip: how far the cube moved in the gripper
    while it was held on, m; where: cube and goal at the start; why: of a failure.
    """

    seed: int
    stages: dict[str, bool]
    success: bool = False
    success_once: bool = False
    steps: int | None = None
    penetration: float | None = None
    slip: float | None = None
    where: str = ""
    why: str = ""


class Overlap:
    """Watches the arm and the cube at every physics step, and keeps their deepest overlap, m."""

    def __init__(self, task: ArmTask):
        self.deepest = 0.0
        self._simulation = task.sim
        task.sim.after_physics_step = self.look

    def look(self) -> None:
        self.deepest = max(self.deepest, arm_overlap(self._simulation.model, self._simulation.data))


def attempt(task: ArmTask, ik: InverseKinematics, seed: int) -> Attempt:
    """One episode of the script, drawn from `seed`; where the cube is in the grip at its end, 3 s more of holding."""
    task.reset(seed=seed)
    stages = dict.fromkeys(task.stages, False)
    where = describe_start(task)
    overlap = Overlap(task) if task.has_cube else None
    try:
        script = plan(task, ik)
    except Unreachable as error:
        return Attempt(seed, stages, where=where, why=str(error))
    steps, phase, info = None, "", {}
    for step in range(1, task.max_episode_steps + 1):
        try:
            info = advance(task, script, overlap)
        except SimulationDiverged as error:
            return Attempt(seed, stages, where=where, why=f"{error}, in phase '{script.phase}'")
        if info["is_success"] and steps is None:
            steps = step
        stages = {name: stages[name] or met for name, met in info["stages"].items()}
        phase = script.phase
    success, pinched = info["is_success"], info["stages"].get("pinched", False)
    return Attempt(
        seed=seed,
        stages=stages,
        success=success,
        success_once=steps is not None,
        steps=steps,
        penetration=overlap.deepest if overlap else None,
        # A cube on the table is about to be let go: only one that is carried can be held on.
        slip=slip_while_held(task, script, overlap) if pinched and script.phase == "carry" else None,
        where=where,
        why="" if success else describe_failure(stages, phase),
    )


def attempts_from(env: str, goal: GoalKind, seeds: range) -> list[Attempt]:
    """One attempt for each of `seeds`."""
    task = make_task(env, goal)
    ik = InverseKinematics(task.sim.model)
    return [attempt(task, ik, seed) for seed in seeds]


def make_task(env: str, goal: GoalKind) -> ArmTask:
    return make_envs(env, 1, TaskConfig(goal=goal), DEFAULT_REWARD, gamma=0.98)[0]


def all_attempts(env: str, goals: list[GoalKind], seeds: range) -> dict[GoalKind, list[Attempt]]:
    """Attempts at each kind of goal, spread over the cores: an attempt depends on its seed alone."""
    parts = [seeds[i : i + PART] for i in range(0, len(seeds), PART)]
    # Ctrl-C reaches every process of a terminal; the parent alone should answer it.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(initializer=signal.signal, initargs=ignore) as pool:
        jobs = {goal: [pool.submit(attempts_from, env, goal, part) for part in parts] for goal in goals}
        try:
            return {goal: [done for job in jobs[goal] for done in job.result()] for goal in goals}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def advance(task: ArmTask, script: Script, overlap: Overlap | None) -> dict[str, Any]:
    """One control step of the script; returns the step's info. Raises SimulationDiverged."""
    info = task.step(script.act(task.sim.servo_target))[4]
    if overlap is not None:
        overlap.look()
    return info


def slip_while_held(task: ArmTask, script: Script, overlap: Overlap) -> float:
    """Holds on for 3 s; how far the cube's centre moved in the gripper's frame at most, m. A lost cube moved far."""
    start, slip = in_gripper(task), 0.0
    for _ in range(round(HOLD_SECONDS / CONTROL_STEP)):
        advance(task, script, overlap)
        slip = max(slip, math.dist(in_gripper(task), start))
    return slip


def in_gripper(task: ArmTask) -> np.ndarray:
    sim = task.sim
    return sim.gripper_axes.T @ (sim.cube_position - sim.grasp_point)


def describe_start(task: ArmTask) -> str:
    def place(point: np.ndarray) -> str:
        return f"({point[0]:.3f}, {point[1]:.3f}, {point[2]:.3f})"

    goal = f"goal {place(task.goal)}"
    return f"cube at {place(task.sim.cube_position)}, {goal}" if task.has_cube else goal


def describe_failure(stages: dict[str, bool], phase: str) -> str:
    missed = [name for name, met in stages.items() if not met]
    if missed:
        return f"never {missed[0]}; the episode ended in phase '{phase}'"
    return f"the goal was met and not held; the episode ended in phase '{phase}'"


def figures(env: str, goal: str, attempts: list[Attempt]) -> dict[str, Any]:
    """What --json holds; lengths in m, rates in [0, 1], steps of 20 ms; None where there is nothing to measure."""
    count = len(attempts)
    stages = attempts[0].stages
    funnel = {name: sum(attempt.stages[name] for attempt in attempts) / count for name in stages}
    held = sum(attempt.success for attempt in attempts) / count

    def largest(values: Iterator[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    steps = [attempt.steps for attempt in attempts if attempt.steps is not None]
    return {
        "env": env,
        "goal": goal,
        "episodes": count,
        "funnel": funnel | {"held": held},
        "success": held,
        "success_once": sum(attempt.success_once for attempt in attempts) / count,
        "penetration_max_m": largest(attempt.penetration for attempt in attempts),
        "slip_max_m": largest(attempt.slip for attempt in attempts),
        "steps_median": statistics.median(steps) if steps else None,
    }


def print_table(columns: list[dict[str, Any]]) -> None:
    """Each kind of goals in a column: the funnel first."""

    def row(name: str, cells: list[str]) -> None:
        print(f"  {name:<34}" + "".join(f"{cell:>10}" for cell in cells))

    def millimetres(value: float | None) -> str:
        return "–" if value is None else f"{1e3 * value:.2f}"

    row("goal", [column["goal"] for column in columns])
    for stage in columns[0]["funnel"]:
        name = "held at the end (success)" if stage == "held" else stage
        row(name, [f"{column['funnel'][stage]:.1%}" for column in columns])
    row("success once", [f"{column['success_once']:.1%}" for column in columns])
    row("median steps until the goal is met", [f"{column['steps_median'] or '–'}" for column in columns])
    if TASKS[columns[0]["env"]].has_cube:
        row("deepest overlap of arm, cube, mm", [millimetres(column["penetration_max_m"]) for column in columns])
        row("slip in 3 s in the grip, mm", [millimetres(column["slip_max_m"]) for column in columns])


def print_failures(attempts: list[Attempt]) -> None:
    failed = [attempt for attempt in attempts if not attempt.success]
    for attempt in failed[:FAILURES_SHOWN]:
        print(f"  failed: seed {attempt.seed}, {attempt.where}: {attempt.why}")
    if len(failed) > FAILURES_SHOWN:
        print(f"  … and {len(failed) - FAILURES_SHOWN} more")


def record(task: ArmTask, episodes: int, seed: int) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 of the first episodes, one a step, the start included."""
    ik = InverseKinematics(task.sim.model)
    for i in range(episodes):
        task.reset(seed=seed + i)
        yield task.render()
        try:
            script = plan(task, ik)
            for _ in range(task.max_episode_steps):
                advance(task, script, None)
                yield task.render()
        except (Unreachable, SimulationDiverged):
            continue


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
