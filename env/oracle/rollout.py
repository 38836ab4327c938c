"""Plays episodes of the scripted policy, and measures each."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from env.oracle.kinematics import InverseKinematics
from env.oracle.planning import CARRY_PHASE, Unreachable, place, plan
from env.oracle.script import Script
from env.protocol import SimulationDiverged
from env.so101.contacts import arm_overlap
from env.so101.model import ArmModel
from env.so101.simulation import CONTROL_STEP
from env.tasks import TASKS
from env.tasks.base import ArmTask, GoalKind, TaskConfig
from env.tasks.grasp_watch import cube_in_gripper

EPISODE_STEPS = {"reach": 50, "push": 100, "pick-place": 100}
"""Control steps of an episode, as many as training gives by default."""


@dataclass
class Attempt:
    """Records what became of one episode.

    stages: those it went through. success, success_once: as everywhere. steps: control steps until the goal was first
    met. penetration: of arm and cube, the deepest of all physics steps, m. slip: how far the cube moved in the gripper
    while it was held on, m. where: cube and goal at the start. why: the reason for a failure.
    """

    seed: int
    stages: dict[str, bool]
    where: str
    success: bool = False
    success_once: bool = False
    steps: int | None = None
    penetration: float | None = None
    slip: float | None = None
    why: str = ""


def try_episode(task: ArmTask, ik: InverseKinematics, seed: int) -> Attempt:
    """Plays one episode of the script, drawn from `seed`, and 3 s more where the cube is in the grip at its end.

    A simulation that diverges makes it a failure, in those 3 s too.
    """
    task.reset(seed=seed)
    cube = f"cube at {place(task.sim.cube_position)}, " if task.has_cube else ""
    attempt = Attempt(seed, dict.fromkeys(task.stages, False), f"{cube}goal {place(task.goal)}")
    try:
        script = plan(task, ik)
    except Unreachable as error:
        attempt.why = str(error)
        return attempt

    def look() -> None:
        attempt.penetration = max(attempt.penetration, arm_overlap(task.sim.model, task.sim.data))

    if task.has_cube:
        attempt.penetration = 0.0
        task.sim.after_physics_step = look
    try:
        pinched = follow(task, script, attempt)["stages"].get("pinched")
        # A cube on the table is about to be let go: only one that is carried can be held on.
        if pinched and script.phase == CARRY_PHASE:
            attempt.slip = slip_while_held(task, script)
    except SimulationDiverged as error:
        attempt.success, attempt.why = False, f"{error}, in phase '{script.phase}'"
    finally:
        task.sim.after_physics_step = None
    return attempt


def follow(task: ArmTask, script: Script, attempt: Attempt) -> dict[str, Any]:
    """Plays the episode to its end, and returns the last step's info. Raises SimulationDiverged."""
    for step in range(1, task.max_episode_steps + 1):
        info = advance(task, script)
        attempt.success = info["is_success"]
        if attempt.success and not attempt.success_once:
            attempt.success_once, attempt.steps = True, step
        attempt.stages = {name: attempt.stages[name] or met for name, met in info["stages"].items()}
    if not attempt.success:
        missed = [name for name, met in attempt.stages.items() if not met]
        what = f"never {missed[0]}" if missed else "the goal was met and not held"
        attempt.why = f"{what}; the episode ended in phase '{script.phase}'"
    return info


def advance(task: ArmTask, script: Script) -> dict[str, Any]:
    """Takes one control step of the script, and returns its info. Raises SimulationDiverged."""
    return task.step(task.action_for(script.act(task.sim.servo_target)))[4]


def slip_while_held(task: ArmTask, script: Script) -> float:
    """Holds on for 3 s. Returns how far the cube's centre moved in the gripper's frame at most, m.

    A lost cube moved far. Raises SimulationDiverged.
    """
    start, slip = cube_in_gripper(task.sim), 0.0
    for _ in range(round(3 / CONTROL_STEP)):
        advance(task, script)
        slip = max(slip, math.dist(cube_in_gripper(task.sim), start))
    return slip


def make_task(env: str, goal: GoalKind) -> ArmTask:
    """Makes the task `env` on a model of its own. The reward is one that takes no computing: nobody looks at it."""
    kind = TASKS[env]
    return kind(ArmModel.load(kind.has_cube), TaskConfig(goal=goal, max_episode_steps=EPISODE_STEPS[env]), "sparse")


def attempts_from(env: str, goal: GoalKind, seeds: range) -> list[Attempt]:
    """Makes one attempt for each of `seeds`."""
    task = make_task(env, goal)
    ik = InverseKinematics(task.sim.model)
    # disable=None: no bar where nobody looks at a terminal.
    return [try_episode(task, ik, seed) for seed in tqdm(seeds, desc=goal, unit="episode", leave=False, disable=None)]


def record(task: ArmTask, episodes: int, seed: int) -> Iterator[np.ndarray]:
    """Yields the frames (H, W, 3) uint8 of the first episodes, one a step, the start included. Raises UserError."""
    ik = InverseKinematics(task.sim.model)
    for i in range(episodes):
        task.reset(seed=seed + i)
        yield task.render()
        try:
            script = plan(task, ik)
            for _ in range(task.max_episode_steps):
                advance(task, script)
                yield task.render()
        except (Unreachable, SimulationDiverged):
            continue
