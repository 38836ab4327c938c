"""The scripted policy does every task, within the agent's limits, and says where it fails and why."""

import json
import subprocess
import sys

import numpy as np
import pytest

from env import TASKS, TaskConfig, make_envs
from env.oracle import (
    InverseKinematics,
    Unreachable,
    all_attempts,
    attempt,
    attempts_from,
    figures,
    make_task,
    plan,
)
from env.oracle.__main__ import OracleConfig, run
from env.oracle.plan import plan_grasp

PICK_PLACE = ("reached", "touched", "pinched", "lifted", "carried", "placed", "held")
EVERY_GOAL = pytest.mark.parametrize(
    ("env", "goal"), [(name, goal) for name, task in TASKS.items() for goal in task.goal_kinds]
)


@EVERY_GOAL
def test_it_does_every_task_with_every_kind_of_goal(env, goal):
    result = figures(env, goal, attempts_from(env, goal, range(8)))
    assert result["success"] == result["success_once"] == 1
    assert set(result["funnel"].values()) == {1.0}
    assert result["steps_median"] < TASKS[env].episode_steps
    if TASKS[env].has_cube:
        assert 0 < result["penetration_max_m"] < 1e-3
    if goal in ("fixed",):
        assert 0 < result["slip_max_m"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("goal", "least"), [("fixed", 0.99), ("air", 0.97), ("table", 0.97)])
def test_the_figures_of_the_readme(goal, least):
    result = figures("pick-place", goal, all_attempts("pick-place", [goal], range(10_000, 10_200))[goal])
    assert result["success"] >= least
    assert result["penetration_max_m"] <= 1e-3
    assert (result["slip_max_m"] or 0) <= 1e-3


@pytest.mark.parametrize("env", TASKS)
def test_it_acts_within_the_agents_limits(env):
    task = make_task(env, None)
    ik = InverseKinematics(task.sim.model)
    for seed in range(3):
        task.reset(seed=seed)
        script = plan(task, ik)
        for _ in range(task.max_episode_steps):
            action = script.act(task.sim.servo_target)
            assert action.shape == (6,)
            assert np.abs(action).max() <= 1 + 1e-12
            task.step(action)


def test_an_attempt_depends_on_its_seed_alone():
    task = make_task("pick-place", "air")
    ik = InverseKinematics(task.sim.model)
    alone = [attempt(task, ik, seed) for seed in (5, 6)]
    assert alone == attempts_from("pick-place", "air", range(5, 7))
    assert alone == all_attempts("pick-place", ["air"], range(5, 7))["air"]
    assert alone[0] != alone[1]


def test_the_planned_poses_keep_the_fingers_off_the_table():
    task = make_task("pick-place", "fixed")
    ik = InverseKinematics(task.sim.model)
    for seed in range(20):
        task.reset(seed=seed)
        for waypoint in plan_grasp(ik, task.sim.cube_position, task.goal):
            assert ik.forward(waypoint.arm)[0][2] > 0.0105, waypoint.phase


def test_a_cube_out_of_reach_is_told_before_anything_moves(monkeypatch):
    monkeypatch.setattr("env.cube_task.SPAWN", np.array([0.60, 0.0, 0.01]))
    [failed] = attempts_from("pick-place", "fixed", range(1))
    assert not failed.success
    assert failed.why.startswith("no slant of the gripper reaches the cube at (0.")
    assert failed.where.startswith("cube at (0.")
    result = figures("pick-place", "fixed", [failed])
    assert set(result["funnel"].values()) == {0.0}
    assert result["penetration_max_m"] is result["slip_max_m"] is result["steps_median"] is None


def test_a_goal_out_of_reach_is_told():
    task = make_task("pick-place", "fixed")
    task.reset(seed=0)
    task.goal = np.array([0.1, 0.6, 0.1])
    with pytest.raises(Unreachable, match=r"can carry the cube to \(0.100, 0.600, 0.100\)"):
        plan(task, InverseKinematics(task.sim.model))


def slippery(task):
    """The same task on a model of its own, the cube and the pads without friction."""
    model = task.sim.model.mj
    model.geom_friction[[task.sim.model.cube_geom, *task.sim.model.jaw_pads]] = 1e-5


def test_without_friction_nothing_is_lifted_and_the_funnel_says_so():
    task = make_envs("pick-place", 1, TaskConfig(goal="fixed"), "sparse", 0.98)[0]
    slippery(task)
    failed = [attempt(task, InverseKinematics(task.sim.model), seed) for seed in range(4)]
    result = figures("pick-place", "fixed", failed)
    assert result["funnel"]["touched"] == 1
    assert result["funnel"]["carried"] == result["funnel"]["held"] == 0
    assert all("the episode ended in phase" in one.why and "never " in one.why for one in failed)


def test_with_mujocos_default_contacts_the_deep_overlap_is_told():
    """Ten times as deep as with the scene's own: whatever it lifts is no grasp, and none of it counts as success."""
    task = make_envs("pick-place", 1, TaskConfig(goal="fixed"), "sparse", 0.98)[0]
    model = task.sim.model.mj
    model.geom_solref[:], model.geom_solimp[:] = [0.02, 1], [0.9, 0.95, 0.001, 0.5, 2]
    result = figures(
        "pick-place", "fixed", [attempt(task, InverseKinematics(task.sim.model), seed) for seed in range(4)]
    )
    assert result["penetration_max_m"] > 5e-3
    assert result["success"] == 0


@pytest.mark.usefixtures("quiet_log")
def test_a_diverged_simulation_is_a_failure_with_a_reason(monkeypatch):
    task = make_task("pick-place", "fixed")
    ik = InverseKinematics(task.sim.model)
    step = task.step

    def poisoned(action):
        if task.steps == 30:
            task.sim.data.qvel[0] = np.nan
        return step(action)

    monkeypatch.setattr(task, "step", poisoned)
    failed = attempt(task, ik, 0)
    assert not failed.success
    assert "diverged" in failed.why
    assert failed.why.endswith("in phase 'pinch'")


KEYS = {
    "env",
    "goal",
    "episodes",
    "funnel",
    "success",
    "success_once",
    "penetration_max_m",
    "slip_max_m",
    "steps_median",
}


def test_json_and_table_of_one_kind_of_goal(tmp_path, capsys):
    path = tmp_path / "new" / "air.json"
    run(OracleConfig(goal="air", episodes=3, json=path))
    content = json.loads(path.read_text())
    assert set(content) == KEYS
    assert (content["env"], content["goal"], content["episodes"]) == ("pick-place", "air", 3)
    assert tuple(content["funnel"]) == PICK_PLACE
    table = capsys.readouterr().out
    assert "held at the end (success)" in table
    assert "100.0%" in table


def test_json_of_all_kinds_holds_each(tmp_path):
    path = tmp_path / "all.json"
    run(OracleConfig(episodes=2, json=path))
    content = json.loads(path.read_text())
    assert content["goal"] == "all"
    assert content["episodes"] == 6
    assert {kind: set(part) for kind, part in content["goals"].items()} == dict.fromkeys(
        ("fixed", "table", "air"), KEYS
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--env", "reach", "--goal", "fixed"], "env.oracle: --env reach: this task has no 'fixed' goals"),
        (["--episodes", "0"], "env.oracle: --episodes 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--video", "film.avi"], "must end in .mp4 or .gif"),
    ],
)
def test_a_users_mistake_gets_one_sentence(arguments, sentence):
    done = subprocess.run([sys.executable, "-m", "env.oracle", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
