"""The scripted policy does every task, within the agent's limits, and says where it fails and why."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from env import TASKS, TaskConfig, make_envs
from env.oracle import InverseKinematics, Unreachable, plan
from env.oracle.__main__ import OracleConfig, main, run
from env.oracle.planning import WIDEST, _pose, plan_grasp
from env.oracle.report import figures, print_failures
from env.oracle.rollout import (
    EPISODE_STEPS,
    Attempt,
    advance,
    attempts_from,
    follow,
    make_task,
    slip_while_held,
    try_episode,
)
from env.so101.model import CUBE_HALF
from env.so101.simulation import CONTROL_STEP, MAX_TARGET_CHANGE
from env.tasks.cube import AIR_GOAL

PICK_PLACE = ("reached", "touched", "pinched", "lifted", "carried", "placed", "held")
EVERY_GOAL = pytest.mark.parametrize(
    ("env", "goal"), [(name, goal) for name, task in TASKS.items() for goal in task.goal_kinds]
)


@EVERY_GOAL
def test_it_does_every_task_with_every_kind_of_goal(env, goal):
    result = figures(env, goal, attempts_from(env, goal, range(8)))
    assert result["success"] == result["success_once"] == 1
    assert set(result["funnel"].values()) == {1.0}
    assert result["steps_median"] < EPISODE_STEPS[env]
    if TASKS[env].has_cube:
        assert 0 < result["penetration_max_m"] < 1e-3
    if goal in ("fixed",):
        assert 0 < result["slip_max_m"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("goal", "least"), [("fixed", 0.99), ("air", 0.97), ("table", 0.97)])
def test_the_figures_of_the_readme(goal, least):
    result = figures("pick-place", goal, attempts_from("pick-place", goal, range(10_000, 10_200)))
    assert result["success"] >= least
    assert result["penetration_max_m"] <= 1e-3
    assert (result["slip_max_m"] or 0) <= 1e-3


@pytest.mark.parametrize("env", TASKS)
def test_it_acts_within_the_agents_limits(env):
    task = make_task(env, "own")
    ik = InverseKinematics(task.sim.model)
    for seed in range(3):
        task.reset(seed=seed)
        script = plan(task, ik)
        for _ in range(task.max_episode_steps):
            action = task.action_for(script.act(task.sim.servo_target))
            assert action.shape == (6,)
            assert np.abs(action).max() <= 1 + 1e-12
            task.step(action)


@pytest.mark.parametrize("slope", [1.0, 0.5, 0.1])
def test_the_servos_targets_go_where_the_script_says_whatever_an_action_is_worth(slope):
    task = make_envs("pick-place", 1, TaskConfig(goal="fixed", action_slope=slope), "sparse")[0]
    task.reset(seed=0)
    ik = InverseKinematics(task.sim.model)
    script, target = plan(task, ik), task.sim.servo_target.copy()
    for _, change in plan(task, ik).rehearse(target)[:40]:
        target += MAX_TARGET_CHANGE * change
        advance(task, script)
        np.testing.assert_allclose(task.sim.servo_target, target, atol=1e-9)


def test_an_attempt_depends_on_its_seed_alone():
    task = make_task("pick-place", "air")
    ik = InverseKinematics(task.sim.model)
    alone = [try_episode(task, ik, seed) for seed in (5, 6)]
    assert alone == attempts_from("pick-place", "air", range(5, 7))
    assert alone[0] != alone[1]


def test_the_planned_poses_keep_the_fingers_off_the_table():
    task = make_task("pick-place", "fixed")
    ik = InverseKinematics(task.sim.model)
    for seed in range(20):
        task.reset(seed=seed)
        for waypoint in plan_grasp(ik, task.sim.cube_position, task.goal):
            assert ik.forward(waypoint.arm)[0][2] > 0.0105, waypoint.phase


@pytest.mark.parametrize("opening", [0.22, 0.5, 0.9, WIDEST])
def test_it_grasps_however_wide_the_gripper_comes_in(opening):
    task = make_task("pick-place", "mix")
    ik = InverseKinematics(task.sim.model)
    for seed in range(8):
        task.reset(seed=seed)
        widest = 0.0
        script = plan(task, ik, opening).rehearse(task.sim.servo_target)
        for _, change in [*script, *[(None, np.append(np.zeros(5), script[-1][1][5]))] * 10]:
            *_, info = task.step(task.action_for(change))
            widest = max(widest, task.sim.joint_position[5])
        assert info["is_success"]
        if task.goal[2] > AIR_GOAL:  # on the table it opens again
            assert widest == pytest.approx(opening, abs=0.05)


def plans(goal, count=30):
    """(ik, cube, goal, waypoints by phase) of `count` episodes of pick-place."""
    task = make_task("pick-place", goal)
    ik = InverseKinematics(task.sim.model)
    for seed in range(count):
        task.reset(seed=seed)
        cube = task.sim.cube_position.copy()
        yield ik, cube, task.goal, {waypoint.phase: waypoint for waypoint in plan_grasp(ik, cube, task.goal)}


@pytest.mark.parametrize("goal", ["air", "table"])
def test_every_planned_pose_is_within_the_servos_ranges(goal):
    low, high = make_task("pick-place", goal).sim.model.control_range.T
    for _, _, _, waypoints in plans(goal):
        for waypoint in waypoints.values():
            target = np.append(waypoint.arm, waypoint.gripper)
            assert (low <= target).all(), waypoint.phase
            assert (target <= high).all(), waypoint.phase


def test_no_edge_of_a_tilted_cube_is_lowered_into_the_table():
    tilts = []
    for ik, _, goal, waypoints in plans("table"):
        tilt = abs(ik.slant(waypoints["lower"].arm) - ik.slant(waypoints["pinch"].arm))
        height = ik.forward(waypoints["lower"].arm)[0][2] - goal[2] + CUBE_HALF
        lowest_edge = height - CUBE_HALF * (np.cos(tilt) + np.sin(tilt))
        assert 0.0018 < lowest_edge < 0.005
        tilts.append(tilt)
    assert max(tilts) > np.radians(5)  # or the tilt would not matter


@pytest.mark.parametrize("goal", ["air", "table"])
def test_no_movement_near_the_cube_is_a_jerk(goal):
    """A quick stop makes the arm bounce: 0.18 s at least, however short the way."""
    for _, _, _, waypoints in plans(goal, 10):
        moves = {"come in", "lift", "carry", "lower"} & set(waypoints)
        assert min(waypoints[phase].steps for phase in moves) * CONTROL_STEP >= 0.18


@pytest.mark.parametrize("degrees", [-5, 12, 28])
def test_of_all_slants_that_reach_a_place_the_arm_takes_the_one_that_it_has(degrees):
    ik = InverseKinematics(make_task("pick-place", "air").sim.model)
    place, slant = np.array([0.3, 0.05, 0.1]), np.radians(degrees)
    joints = ik.solve(place, slant, np.array([-0.2, 0.3, 0.3, 0.2, -np.pi / 2]))
    assert ik.solve(place, np.radians(50), joints) is not None  # it could do otherwise
    np.testing.assert_allclose(_pose(ik, place, joints, slant, "stay at"), joints, atol=0.01)


def test_a_cube_out_of_reach_is_told_before_anything_moves(monkeypatch):
    monkeypatch.setattr("env.tasks.cube.SPAWN", np.array([0.60, 0.0, 0.01]))
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
    task = make_envs("pick-place", 1, TaskConfig(goal="fixed"), "sparse")[0]
    slippery(task)
    failed = [try_episode(task, InverseKinematics(task.sim.model), seed) for seed in range(4)]
    result = figures("pick-place", "fixed", failed)
    assert result["funnel"]["touched"] == 1
    assert result["funnel"]["carried"] == result["funnel"]["held"] == 0
    assert all("the episode ended in phase" in one.why and "never " in one.why for one in failed)


def test_with_mujocos_default_contacts_the_deep_overlap_is_told():
    """Ten times as deep as with the scene's own: whatever it lifts is no grasp, and none of it counts as success."""
    task = make_envs("pick-place", 1, TaskConfig(goal="fixed"), "sparse")[0]
    model = task.sim.model.mj
    model.geom_solref[:], model.geom_solimp[:] = [0.02, 1], [0.9, 0.95, 0.001, 0.5, 2]
    result = figures(
        "pick-place", "fixed", [try_episode(task, InverseKinematics(task.sim.model), seed) for seed in range(4)]
    )
    assert result["penetration_max_m"] > 5e-3
    assert result["success"] == 0


@pytest.mark.usefixtures("quiet_log")
def test_a_diverged_simulation_is_a_failure_with_a_reason(monkeypatch):
    task = make_task("pick-place", "fixed")
    ik = InverseKinematics(task.sim.model)
    step = task.step

    def poisoned(action):
        if task.steps == 35:
            task.sim.data.qvel[0] = np.nan
        return step(action)

    monkeypatch.setattr(task, "step", poisoned)
    failed = try_episode(task, ik, 0)
    assert not failed.success
    assert "diverged" in failed.why
    assert failed.why.endswith("in phase 'pinch'")


class Played:
    """A task whose every step does what a function of its number says; the gripper turns all the time."""

    max_episode_steps = 6
    has_cube = True

    def __init__(self, in_gripper=lambda number: np.zeros(3), met=lambda number: False):
        self._in_gripper, self._met, self.number = in_gripper, met, 0
        self.sim = SimpleNamespace(servo_target=np.zeros(6), after_physics_step=None)
        self._place()

    def _place(self):
        turn = 0.3 + 0.1 * self.number
        self.sim.gripper_axes = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        self.sim.grasp_point = np.array([0.3, 0.01 * self.number, 0.1])
        self.sim.cube_position = self.sim.grasp_point + self.sim.gripper_axes @ self._in_gripper(self.number)

    def action_for(self, change):
        return change

    def step(self, action):
        self.number += 1
        self._place()
        success = self._met(self.number)
        return None, 0.0, False, False, {"is_success": success, "stages": {"placed": success}}


HANDS_OFF = SimpleNamespace(act=lambda servo_target: np.zeros(6), phase="carry")


def test_a_cube_that_turns_with_the_gripper_does_not_slip():
    assert slip_while_held(Played(lambda number: np.array([0.004, -0.002, 0.001])), HANDS_OFF) < 1e-12


def test_slip_is_the_farthest_that_the_cube_was_from_where_it_was_gripped():
    """Along the gripper's own axes, and be it for one step only, the last of the 3 s included."""
    for moved in (1, 70, 150):
        task = Played(lambda number, moved=moved: np.array([0.001, 0.0, 0.003 * (number == moved)]))
        assert slip_while_held(task, HANDS_OFF) == pytest.approx(0.003)
        assert task.number * CONTROL_STEP == pytest.approx(3)
    assert slip_while_held(Played(lambda number: np.array([0.001, 0.0, 0.003 * (number == 151)])), HANDS_OFF) < 1e-12


@pytest.mark.parametrize(
    ("met", "steps", "success"), [({1}, 1, False), ({3, 5}, 3, False), ({6}, 6, True), ({2, 6}, 2, True)]
)
def test_an_attempt_counts_the_steps_until_its_goal_was_first_met(met, steps, success):
    one = Attempt(0, {"placed": False}, "")
    follow(Played(met=lambda number: number in met), HANDS_OFF, one)
    assert (one.steps, one.success, one.success_once, one.stages) == (steps, success, True, {"placed": True})


def test_the_contacts_of_every_physics_step_are_looked_at():
    """The last of a control step's, which the simulation itself leaves out, included."""
    task = make_task("pick-place", "fixed")
    task.reset(seed=0)
    looks = []
    task.sim.after_physics_step = lambda: looks.append(task.sim.data.time)
    for steps in (1, 2):
        advance(task, HANDS_OFF)
        assert len(looks) == steps * task.sim.substeps
    task.sim.after_physics_step = None
    advance(task, HANDS_OFF)
    assert len(looks) == 2 * task.sim.substeps


def test_an_attempt_leaves_nobody_looking_at_the_contacts():
    task = make_task("pick-place", "fixed")
    try_episode(task, InverseKinematics(task.sim.model), 0)
    assert task.sim.after_physics_step is None


def by_hand(seed, success, **measured):
    return Attempt(seed, {"reached": True, "placed": success}, f"cube {seed}", success, success, **measured)


def test_figures_of_attempts_by_hand():
    attempts = [
        by_hand(0, True, steps=10, penetration=1e-4, slip=3e-4),
        by_hand(1, True, steps=20, penetration=5e-4, slip=1e-4),
        by_hand(2, True, steps=90, penetration=2e-4),
        by_hand(3, False, penetration=3e-4, why="never placed"),
    ]
    assert figures("pick-place", "air", attempts) == {
        "env": "pick-place",
        "goal": "air",
        "episodes": 4,
        "funnel": {"reached": 1.0, "placed": 0.75, "held": 0.75},
        "success": 0.75,
        "success_once": 0.75,
        "penetration_max_m": 5e-4,
        "slip_max_m": 3e-4,
        "steps_median": 20,
    }


@pytest.mark.parametrize(("failures", "last"), [(10, "  failed: seed 9, cube 9: why 9"), (13, "  … and 3 more")])
def test_the_first_ten_failures_are_shown_and_the_others_counted(capsys, failures, last):
    print_failures([by_hand(99, True), *(by_hand(i, False, why=f"why {i}") for i in range(failures))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:10] == [f"  failed: seed {i}, cube {i}: why {i}" for i in range(10)]
    assert lines[-1] == last


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
        (["--env", "reach", "--goal", "fixed"], "env.oracle: --goal fixed: reach has no such goals; there are: air"),
        (["--episodes", "0"], "env.oracle: --episodes 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--video", "film.avi"], "must end in .mp4 or .gif"),
    ],
)
def test_a_users_mistake_gets_one_sentence(arguments, sentence):
    done = subprocess.run([sys.executable, "-m", "env.oracle", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_json_onto_a_directory_fails_before_the_first_episode(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["env.oracle", "--json", str(tmp_path)])
    monkeypatch.setattr("env.oracle.__main__.attempts_from", None)  # whoever gets as far as this fails
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    out, said = capsys.readouterr()
    assert said.startswith(f"env.oracle: --json {tmp_path}: cannot be written (")
    assert out == said[:-1].partition("\n")[2] == ""
    assert tmp_path.is_dir()


def start(*arguments):
    """python -m env.oracle in a process group of its own."""
    line = [sys.executable, "-m", "env.oracle", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, env=environment, text=True, start_new_session=True, **pipes)


def test_a_reader_that_leaves_is_no_error():
    with start("--env", "reach", "--episodes", "1") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
