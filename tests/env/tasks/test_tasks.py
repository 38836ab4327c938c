"""Every task repeats itself exactly, observes what is documented, and has honest rewards and goals."""

import mujoco
import numpy as np
import pytest

from env import TASKS, EnvError, TaskConfig
from env.oracle import InverseKinematics, plan
from env.so101.contacts import Hold
from env.so101.model import CUBE_HALF, ArmModel
from env.so101.simulation import look
from env.so101.workspace import PAN_AXIS
from env.tasks.cube import LIFT_HEIGHT, LOST_RADIUS, SPAWN, SPAWN_SPREAD
from env.tasks.pick_place import AIR_HEIGHT, FIXED_GOAL, MIX
from env.tasks.push import TABLE_ANGLE, TABLE_RADIUS
from env.tasks.rewards import FAR, REACH_SCALE

GAMMA = 0.98
REWARDS = ("sparse", "sparse-reach", "staged")
EVERY_TASK = pytest.mark.parametrize("name", TASKS)
EVERY_REWARD = pytest.mark.parametrize("reward", REWARDS)


def random_actions(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 6))


def episode(task, actions):
    """Returns (obs, reward, terminated, truncated, info) of each step."""
    return [task.step(action) for action in actions]


def assert_same_steps(left, right):
    for (obs, *flags, info), (other_obs, *other_flags, other_info) in zip(left, right, strict=True):
        assert flags == other_flags
        for key, value in obs.items():
            np.testing.assert_array_equal(value, other_obs[key])
        assert info.keys() == other_info.keys()
        for key, value in info.items():
            np.testing.assert_array_equal(value, other_info[key])


def stored_info(steps):
    """Returns the info arrays of these steps, stacked as the buffer hands them back."""
    keys = [key for key, value in steps[0][4].items() if isinstance(value, np.ndarray)]
    return {key: np.stack([step[4][key] for step in steps]) for key in keys}


# The same bits again


@EVERY_TASK
def test_same_seed_and_actions_give_the_same_bits_and_another_seed_another_goal(make_task, name):
    first, second = make_task(name, "sparse-reach"), make_task(name, "sparse-reach")
    second.reset(seed=9)
    episode(second, random_actions(7, seed=1))  # what it did before must not matter
    np.testing.assert_equal(first.reset(seed=3), second.reset(seed=3))
    assert_same_steps(episode(first, random_actions(30)), episode(second, random_actions(30)))
    np.testing.assert_equal(first.reset(), second.reset())  # the generator goes on alike
    assert len({tuple(first.reset(seed=seed)[0]["desired_goal"]) for seed in range(20)}) > 10


@EVERY_TASK
@EVERY_REWARD
def test_restored_in_mid_episode_it_goes_on_bit_by_bit_in_another_instance(make_task, name, reward):
    original, other = make_task(name, reward), make_task(name, reward)
    original.reset(seed=3)
    episode(original, random_actions(17))
    other.reset(seed=8)
    episode(other, random_actions(5, seed=1))
    state = original.state_dict()
    future = episode(original, random_actions(30, seed=2))  # before loading: the state must be a snapshot
    next_reset = original.reset()
    other.load_state_dict(state)
    assert_same_steps(future, episode(other, random_actions(30, seed=2)))
    np.testing.assert_equal(other.reset(), next_reset)


@EVERY_TASK
def test_environments_on_one_model_are_what_they_are_alone_and_leave_it_as_it_was(make_task, name):
    tasks = [make_task(name, "sparse-reach") for _ in range(2)]
    assert tasks[0].sim.model.mj is tasks[1].sim.model.mj
    before = saved(tasks[0].sim.model.mj)
    alone = []
    for seed, task in enumerate(tasks):
        task.reset(seed=seed)
        alone.append(episode(task, random_actions(20, seed)))
    for seed, task in enumerate(tasks):
        task.reset(seed=seed)
    together = [[], []]
    for actions in zip(random_actions(20, 0), random_actions(20, 1), strict=True):
        for task, action, steps in zip(tasks, actions, together, strict=True):
            steps.append(task.step(action))
    for left, right in zip(alone, together, strict=True):
        assert_same_steps(left, right)
    np.testing.assert_array_equal(saved(tasks[0].sim.model.mj), before)


def saved(model):
    """Returns the bytes of a model."""
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer


# Actions


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (np.zeros(5), r"must have shape \(6,\), one number a servo, not \(5,\)"),
        (np.zeros((1, 6)), r"must have shape \(6,\).* not \(1, 6\)"),
        ([0, 0, np.nan, 0, 0, 0], "must be finite, not .*nan"),
        ([0, 0, 0, 0, 0, -np.inf], "must be finite, not .*inf"),
    ],
)
def test_a_bad_action_is_refused_and_changes_nothing(make_task, action, sentence):
    task = make_task("pick-place")
    task.reset(seed=0)
    before = task.state_dict()
    with pytest.raises(ValueError, match=sentence):
        task.step(action)
    np.testing.assert_equal(task.state_dict(), before)


def test_an_action_out_of_range_is_the_nearest_one_in_range(make_task):
    clipped, wild = make_task("reach"), make_task("reach")
    for task in (clipped, wild):
        task.reset(seed=0)
    actions = 5 * random_actions(10)
    assert_same_steps(episode(clipped, np.clip(actions, -1, 1)), episode(wild, actions))


@pytest.mark.parametrize("slope", [1.0, 0.2, 0.01])
def test_what_an_action_is_worth_grows_with_it_alike_in_both_directions_and_has_an_inverse(make_task, slope):
    task = make_task("reach", action_slope=slope)
    shares = np.linspace(-1, 1, 1001)
    for there, back in ((task.target_change, task.action_for), (task.action_for, task.target_change)):
        np.testing.assert_allclose(back(there(shares)), shares, rtol=1e-12)
        assert (np.diff(there(shares)) > 0).all()
        np.testing.assert_array_equal(there(-shares), -there(shares))
        np.testing.assert_array_equal(there(np.array([-1.0, 0.0, 1.0])), [-1.0, 0.0, 1.0])
        if slope == 1:
            np.testing.assert_array_equal(there(shares), shares)


@pytest.mark.parametrize(("slope", "moved"), [(0.2, 0.07 * 0.3), (1.0, 0.07 * 0.5), (0.5, 0.07 * 0.375)])
def test_an_action_of_a_half_moves_a_servos_target_as_the_slope_says(make_task, slope, moved):
    task = make_task("pick-place", action_slope=slope)
    task.reset(seed=0)
    signs = np.array([1, -1, 1, -1, 1, -1])
    for steps in (1, 2):
        task.step(0.5 * signs)
        np.testing.assert_allclose(task.sim.servo_target, steps * moved * signs, rtol=1e-12)


# How episodes end


@EVERY_TASK
def test_the_time_limit_cuts_an_episode_off_and_nothing_ends_it(make_task, name):
    task = make_task(name, max_episode_steps=7)
    task.reset(seed=0)
    place_goal(task, True)
    steps = episode(task, np.zeros((7, 6)))
    assert [step[3] for step in steps] == [False] * 6 + [True]
    assert all(step[4]["is_success"] for step in steps)
    assert not any(step[2] for step in steps)
    task.reset()
    assert not task.step(np.zeros(6))[3]  # counted from the start again


def place_goal(task, success):
    task.goal = task.observe()["achieved_goal"] + np.array([0, 0, 0.001 if success else 0.2])


@EVERY_TASK
@pytest.mark.parametrize("success", [True, False])
def test_sparse_reward_is_0_exactly_on_success(make_task, name, success):
    task = make_task(name)
    task.reset(seed=0)
    place_goal(task, success)
    _, reward, terminated, truncated, info = task.step(np.zeros(6))
    assert (reward, info["is_success"]) == (0 if success else -1, success)
    assert not terminated
    assert not truncated


@pytest.mark.parametrize("hold", [Hold.TABLE, Hold.GRIP])
@pytest.mark.parametrize(("name", "threshold"), [("reach", 0.02), ("push", 0.03), ("pick-place", 0.03)])
def test_success_is_being_within_the_documented_distance(make_task, name, threshold, hold):
    task = make_task(name)
    achieved, desired = np.zeros((2, 3, 3))
    desired[:, 2] = achieved[:, 2] = 0.1 if hold == Hold.GRIP else CUBE_HALF
    achieved[:, 1] = 0, 0.99 * threshold, 1.01 * threshold
    info = {"cube_hold": np.full(3, hold, np.float32)}
    assert task.is_success(achieved, desired, info).tolist() == [True, True, False]


@pytest.mark.parametrize("name", ["push", "pick-place"])
def test_a_goal_on_the_table_takes_a_cube_on_the_table_and_one_in_the_air_a_grip_above_it(make_task, name):
    """Each transition of a batch is judged by its own goal and its own hold."""
    on_table, in_air = (0.01, 0.0149), (0.0151, 0.04, 0.15)
    cases = [(height, hold) for height in on_table + in_air for hold in Hold]
    expected = [hold == (Hold.TABLE if height in on_table else Hold.GRIP) for height, hold in cases]
    goals = np.array([(0.3, 0.1, height) for height, _ in cases], np.float32)
    info = {"cube_hold": np.array([hold for _, hold in cases], np.float32)}
    task = make_task(name)
    assert task.is_success(goals, goals, info).tolist() == expected
    assert task.compute_reward(goals, goals, info).tolist() == [0.0 if met else -1.0 for met in expected]
    one_by_one = zip(goals, info["cube_hold"], strict=True)
    assert [bool(task.is_success(goal, goal, {"cube_hold": hold})) for goal, hold in one_by_one] == expected


@EVERY_TASK
@EVERY_REWARD
def test_what_a_step_stores_is_what_its_reward_needs(make_task, name, reward):
    task = make_task(name, reward)
    task.reset(seed=0)
    info = task.step(np.zeros(6))[4]
    stored = {key for key, value in info.items() if isinstance(value, np.ndarray)}
    hold = {"cube_hold"} if task.has_cube else set()
    before = "potentials" if task.has_cube else "grasp_point_before"
    staged = {"reach_distance", "pinched", "cube_height", "cube_lost"} if task.has_cube else set()
    assert stored == hold | {"sparse": set(), "sparse-reach": {before}, "staged": staged}[reward]
    assert all(info[key].dtype == np.float32 for key in stored)


def test_a_steps_hold_is_that_of_the_state_it_led_to(make_task, scenes):
    task = make_task("pick-place")
    task.reset(seed=0)
    assert task.step(np.zeros(6))[4]["cube_hold"] == Hold.TABLE
    scenes.put(task.sim, scenes.HOME, scenes.OPEN, (0.2, 0.2, 0.3))
    assert task.step(np.zeros(6))[4]["cube_hold"] == Hold.NONE
    scenes.put_between_pads(task.sim)
    scenes.shut(task.sim)
    assert task.step(np.zeros(6))[4]["cube_hold"] == Hold.GRIP


# Stages


@EVERY_TASK
def test_every_step_tells_its_stages_in_their_order_and_the_last_is_success(make_task, name):
    task = make_task(name)
    task.reset(seed=0)
    for met in (False, True):
        place_goal(task, met)
        info = task.step(np.zeros(6))[4]
        assert tuple(info["stages"]) == task.stages
        assert all(isinstance(value, (bool, np.bool_)) for value in info["stages"].values())
        assert info["stages"][task.stages[-1]] == info["is_success"] == met


def staged_so_far(task):
    """Returns the stages that the state is in after a step of doing nothing."""
    stages = task.step(np.zeros(6))[4]["stages"]
    return [name for name in task.stages if stages[name]]


def test_stages_of_pick_place_one_by_one(make_task, scenes):
    task = make_task("pick-place", goal="air")
    task.reset(seed=0)
    sim = task.sim
    task.goal = np.array([0.2, 0.2, 0.15])
    assert staged_so_far(task) == []
    scenes.put_between_pads(sim, gripper=scenes.OPEN, shift=0.004)
    assert staged_so_far(task) == ["reached"]
    scenes.put_on_top_of_fingers(sim)
    assert staged_so_far(task) == ["reached", "touched"]
    scenes.put_on_table_between_pads(sim, scenes.GRASP_ON_TABLE)
    scenes.shut(sim)
    assert staged_so_far(task) == ["reached", "touched", "pinched"]
    scenes.put_between_pads(sim)
    scenes.shut(sim)
    assert staged_so_far(task) == ["reached", "touched", "pinched", "lifted"]
    task.goal = sim.cube_position + np.array([0, 0, 0.05])  # right below it
    assert staged_so_far(task) == ["reached", "touched", "pinched", "lifted", "carried"]
    task.goal = sim.cube_position + np.array([0, 0, 0.02])
    assert staged_so_far(task) == list(task.stages)


@pytest.mark.parametrize(("away", "reached"), [(0.027, True), (0.033, False)])
def test_a_cube_is_reached_within_three_centimetres(make_task, scenes, away, reached):
    task = make_task("push")
    task.reset(seed=0)
    scenes.put_away(task.sim, scenes.HOME, scenes.OPEN)
    scenes.place_cube(task.sim, task.sim.grasp_point - away * task.sim.gripper_axes[:, 2])  # ahead of the fingers
    stages = task.step(np.zeros(6))[4]["stages"]
    assert stages["reached"] == reached
    assert not stages["touched"]


@pytest.mark.parametrize(("aside", "carried"), [(0.027, True), (0.033, False), (0.055, False)])
def test_a_lifted_cube_is_carried_within_three_centimetres_aside_of_the_goal(make_task, scenes, aside, carried):
    task = make_task("pick-place", goal="air")
    task.reset(seed=0)
    scenes.put_between_pads(task.sim)
    scenes.shut(task.sim)
    task.goal = task.sim.cube_position + np.array([0, aside, -0.05])  # below it, which does not count
    stages = task.step(np.zeros(6))[4]["stages"]
    assert stages["lifted"]
    assert stages["carried"] == carried


def test_lying_on_the_goal_a_cube_is_placed_without_having_been_carried(make_task):
    task = make_task("pick-place", goal="table")
    task.reset(seed=0)
    place_goal(task, True)
    assert staged_so_far(task) == ["placed"]


def test_stages_of_push_one_by_one(make_task, scenes):
    task = make_task("push")
    task.reset(seed=0)
    sim = task.sim
    assert staged_so_far(task) == []
    scenes.place_cube(sim, sim.cube_position, velocity=(0.5, 0, 0, 0, 0, 0))
    assert staged_so_far(task) == []  # it moves, but by itself
    scenes.put_on_table_between_pads(sim, scenes.GRASP_ON_TABLE, scenes.OPEN, shift=0.004)
    assert staged_so_far(task) == ["reached"]
    scenes.put_on_table_between_pads(sim, scenes.GRASP_ON_TABLE)
    scenes.shut(sim)
    assert staged_so_far(task) == ["reached", "touched"]
    for _ in range(5):
        stages = task.step(scenes.moving(task, [0.02, 0, 0, 0, 0, 0]))[4]["stages"]
    assert stages == {"reached": True, "touched": True, "moved": True, "placed": False}
    task.goal = sim.cube_position.copy()
    stages = task.step(np.zeros(6))[4]["stages"]
    assert stages["placed"]


@pytest.mark.parametrize(("away", "stages"), [(0.06, []), (0.04, ["approached"]), (0.01, ["approached", "reached"])])
def test_stages_of_reach_one_by_one(make_task, away, stages):
    task = make_task("reach")
    task.reset(seed=0)
    task.goal = task.sim.grasp_point + np.array([0, away, 0])
    assert staged_so_far(task) == stages


def test_penetration_is_the_overlap_of_arm_and_cube_in_millimetres(make_task, scenes):
    task = make_task("pick-place")
    task.reset(seed=0)
    assert task.step(np.zeros(6))[4]["metrics"]["penetration_mm_max"] == 0
    scenes.put_between_pads(task.sim)
    scenes.shut(task.sim)
    for _ in range(10):
        metrics = task.step(np.zeros(6))[4]["metrics"]
    assert metrics["penetration_mm_max"] == 1e3 * task.sim.cube_contacts().overlap
    assert 0.01 < metrics["penetration_mm_max"] < 1


# Observations


def documented(task):
    """Returns the quantity behind each field's name, from a full mj_forward of the same state."""
    model = task.sim.model.mj
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, task.sim.state(), mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(model, data)
    grasp, gripper = data.site("grasp_point").xpos, data.body("gripper").xmat.reshape(3, 3)
    joints = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    position = np.array([data.joint(name).qpos[0] for name in joints])
    values = {
        f"joint positions, {', '.join(joints)}": position,
        "joint velocities": [data.joint(name).qvel[0] for name in joints],
        "servo targets minus joint positions": [data.actuator(name).ctrl[0] for name in joints] - position,
        "grasp point (between the fingertips)": grasp,
        "gripper's closing direction (its x axis)": gripper @ [1, 0, 0],
        "gripper's back (its z axis, away from the fingertips)": gripper @ [0, 0, 1],
    }
    if not task.has_cube:
        return values, grasp
    cube, velocity = data.body("cube"), np.zeros(6)
    axes = cube.xmat.reshape(3, 3)
    # A pinching pad's centre is half a cube and half a pad from the cube's, the fixed one on the side of smaller x.
    sides = {"fixed": [-0.0125, 0, 0], "moving": [0.0125, 0, 0]}
    pads = {name: gripper.T @ (data.geom(f"{name}_pad").xpos - cube.xpos) - side for name, side in sides.items()}
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, cube.id, velocity, 0)
    values |= {
        f"tanh of {name} pad from its side of the cube, gripper's frame, per 2 cm": np.tanh(pad / 0.02)
        for name, pad in pads.items()
    }
    values |= {
        "cube minus grasp point": cube.xpos - grasp,
        "cube position": cube.xpos,
        "cube's x axis": axes @ [1, 0, 0],
        "cube's y axis": axes @ [0, 1, 0],
        "cube's linear velocity": velocity[3:],
        "cube's angular velocity (in its own frame)": axes.T @ velocity[:3],
    }
    return values, cube.xpos


def assert_documented(task, obs):
    values, achieved = documented(task)
    pieces = np.split(obs["observation"], np.cumsum([field.size for field in task.observed])[:-1])
    for field, piece in zip(task.observed, pieces, strict=True):
        expected = np.asarray(values[field.name]) * field.scale
        np.testing.assert_allclose(piece, expected, rtol=1e-5, atol=1e-6, err_msg=field.name)
    np.testing.assert_allclose(obs["achieved_goal"], achieved, rtol=1e-6)
    np.testing.assert_allclose(obs["desired_goal"], task.goal, rtol=1e-6)


@EVERY_TASK
@pytest.mark.parametrize("observation", ["full", "reference"])
def test_observation_holds_the_documented_quantities_times_their_scales(make_task, name, observation):
    task = make_task(name, observation=observation)
    assert_documented(task, task.reset(seed=0)[0])
    for action in random_actions(25):
        if task.has_cube and task.steps == 10:  # thrown up and spinning: at rest, most of its numbers are 0
            task.sim.data.qpos[8] += 0.05
            task.sim.data.qvel[6:] = [0.1, -0.2, 0.3, 5.0, -3.0, 2.0]
        assert_documented(task, task.step(action)[0])


UNSEEN_BY_THE_REFERENCE = {
    "servo targets minus joint positions",
    "tanh of fixed pad from its side of the cube, gripper's frame, per 2 cm",
    "tanh of moving pad from its side of the cube, gripper's frame, per 2 cm",
    "cube's x axis",
    "cube's y axis",
    "cube's linear velocity",
    "cube's angular velocity (in its own frame)",
}


@EVERY_TASK
def test_the_reference_sees_less_and_nothing_else_changes(make_task, name):
    full, reference = make_task(name, "sparse-reach"), make_task(name, "sparse-reach", observation="reference")
    assert (full.obs_dim, reference.obs_dim) == {"reach": (27, 21)}.get(name, (51, 27))
    kept = np.concatenate([np.full(field.size, field.name not in UNSEEN_BY_THE_REFERENCE) for field in full.fields])
    for task in (full, reference):
        task.reset(seed=4)
    left, right = episode(full, random_actions(20)), episode(reference, random_actions(20))
    for obs, *_ in left:
        obs["observation"] = obs["observation"][kept]
    assert_same_steps(left, right)


@EVERY_TASK
def test_observations_are_float32_and_about_one(make_task, name):
    task = make_task(name)
    obs, _ = task.reset(seed=0)
    assert {key: value.shape for key, value in obs.items()} == {
        "observation": (task.obs_dim,),
        "achieved_goal": (3,),
        "desired_goal": (3,),
    }
    assert {value.dtype for value in obs.values()} == {np.dtype(np.float32)}
    seen = np.array([step[0]["observation"] for step in episode(task, random_actions(50))])
    assert 0.1 < np.abs(seen).mean() < 2
    assert np.abs(seen).max() < 10


# Rewards


@EVERY_TASK
@EVERY_REWARD
def test_rewards_of_a_batch_are_those_of_its_steps_and_the_sum_of_their_named_terms(make_task, scenes, name, reward):
    task = make_task(name, reward)
    task.reset(seed=1)
    steps = episode(task, random_actions(60))
    steps += episode(task, np.zeros((10, 6)))  # until it comes to rest
    if task.has_cube:
        scenes.put_between_pads(task.sim)  # so that every term is met
        steps += episode(task, np.zeros((10, 6)) - [0, 0, 0, 0, 0, 1])
    task.goal = task._achieved_goal(look([task.sim]))[0] + np.array([0, 0.01, 0])
    steps += episode(task, np.zeros((10, 6)))
    rewards = np.array([step[1] for step in steps], np.float32)
    achieved, desired = (np.stack([step[0][key] for step in steps]) for key in ("achieved_goal", "desired_goal"))
    info = stored_info(steps)
    np.testing.assert_array_equal(task.compute_reward(achieved, desired, info), rewards)
    assert task.compute_reward(achieved, desired, info).dtype == np.float32
    success = [step[4]["is_success"] for step in steps]
    assert {True, False} <= set(success)
    np.testing.assert_array_equal(task.is_success(achieved, desired, info), success)
    for _, total, _, _, info in steps:
        terms = {key: value for key, value in info["metrics"].items() if key.startswith("reward_")}
        assert len(terms) == {"sparse": 1, "sparse-reach": 2, "staged": {"reach": 2, "push": 4}.get(name, 6)}[reward]
        assert total == pytest.approx(sum(terms.values()), abs=1e-5)


@EVERY_TASK
def test_a_hindsight_goal_earns_what_reaching_it_would_have_earned(make_task, name):
    """The same states with the goal really set there give the rewards that relabelling computes."""
    task, relabelled = (make_task(name, "sparse-reach", potential=(2.0, 0.0, 0.0)) for _ in range(2))
    task.reset(seed=1)
    steps = episode(task, random_actions(30))
    hindsight = steps[-1][0]["achieved_goal"]
    relabelled.reset(seed=1)
    relabelled.goal = hindsight.astype(np.float64)
    expected = [step[1] for step in episode(relabelled, random_actions(30))]
    achieved = np.stack([step[0]["achieved_goal"] for step in steps])
    np.testing.assert_array_equal(
        task.compute_reward(achieved, np.tile(hindsight, (30, 1)), stored_info(steps)), np.array(expected, np.float32)
    )
    assert expected[-1] > -0.5  # there, success


def reach_distance(task, per_finger=True):
    """Returns what the reach potential is of, m, from MuJoCo's own numbers."""
    data = task.sim.data
    grasp = data.site("grasp_point").xpos
    if not task.has_cube:
        return np.linalg.norm(grasp - task.goal)
    cube, gripper = data.body("cube").xpos, data.body("gripper").xmat.reshape(3, 3)
    if not per_finger:
        return np.linalg.norm(grasp - cube)
    fixed, moving = (gripper.T @ (data.geom(f"{name}_pad").xpos - cube) for name in ("fixed", "moving"))
    return 0.5 * (np.abs(fixed - [-0.0125, 0, 0]).sum() + np.abs(moving - [0.0125, 0, 0]).sum())


NEAR, PINCH, OPENING = WEIGHTS = (2.0, 4.0, 1.5)


def potential(task):
    """Returns Phi of the present state by hand, with the task's weights."""
    near, pinch, opening = task.config.potential
    phi = -near * np.log(1 + reach_distance(task, task.config.reach_per_finger) / 0.05)
    if not task.has_cube or task.sim.cube_contacts().pinched:
        return phi
    pads = [task.sim.data.geom(f"{name}_pad").xpos for name in ("fixed", "moving")]
    clear = np.linalg.norm(np.subtract(*pads)) - 0.005  # between their faces: they are 5 mm thick
    return phi - opening * max(0, 1 - clear / 0.03) - pinch


def grasp(task, then=0):
    """Yields the steps of a scripted episode from the state that `task` is in, and `then` steps more."""
    ik = InverseKinematics(task.sim.model)
    script, length = plan(task, ik), len(plan(task, ik).rehearse(task.sim.servo_target))
    for _ in range(length + then):
        yield task.step(task.action_for(script.act(task.sim.servo_target)))


@pytest.mark.parametrize("per_finger", [True, False])
@pytest.mark.parametrize(
    ("name", "goal"), [("reach", "air"), ("push", "table"), ("pick-place", "table"), ("pick-place", "air")]
)
def test_progress_over_a_grasp_is_at_each_step_what_the_potential_gains(make_task, name, goal, per_finger):
    """The cube is pinched on the way, and with a goal on the table let go of again."""
    task = make_task(name, "sparse-reach", goal=goal, potential=WEIGHTS, reach_per_finger=per_finger)
    task.reset(seed=2)
    first = before = potential(task)
    progress, pinched = 0.0, []
    for *_, info in grasp(task, then=5):
        term, now = info["metrics"]["reward_progress"], potential(task)
        assert term == pytest.approx(now - before, abs=1e-5)
        progress, before = progress + term, now
        pinched.append(task.has_cube and task.sim.cube_contacts().pinched)
    assert abs(before - first) > 1
    assert progress == pytest.approx(before - first, abs=2e-5)
    assert not pinched[0]
    assert any(pinched) == task.has_cube
    assert pinched[-1] == (task.has_cube and goal == "air")


OPEN_AS_IN_A_GRASP = 0.22  # rad: the pads 34 mm apart


def test_opening_is_worth_its_weight_until_the_cube_is_pinched(make_task, scenes):
    task = make_task("pick-place", "sparse-reach", potential=(0.0, 0.0, 3.0))
    task.reset(seed=0)
    for gripper, opened in ((scenes.SHUT, 0.0057 / 0.03), (OPEN_AS_IN_A_GRASP, 1), (1.0, 1)):  # wide enough is enough
        scenes.put_away(task.sim, scenes.HOME, gripper)
        assert potential_of(task) == pytest.approx(-3 * (1 - opened), abs=0.01)


def test_shut_fingers_beside_the_cube_are_worse_than_open_ones_around_it(make_task, scenes):
    task = make_task("pick-place", "sparse-reach", potential=(NEAR, 0.0, 0.0))
    task.reset(seed=0)
    sim = task.sim
    scenes.put_between_pads(sim)
    assert reach_distance(task) < 0.008  # what is left is how far the pads' centres are behind the fingertips
    scenes.put_between_pads(sim, gripper=OPEN_AS_IN_A_GRASP, shift=0.006)
    assert not sim.cube_contacts().touched
    around = potential_of(task)
    scenes.put_between_pads(sim, gripper=scenes.SHUT, shift=-0.026)  # at the fixed finger's outer side
    assert not sim.cube_contacts().touched
    beside = potential_of(task)
    assert beside < around - 0.1 < -0.2


@pytest.mark.parametrize("per_finger", [True, False])
def test_per_finger_open_fingers_before_the_cube_are_better_than_shut_ones(make_task, scenes, per_finger):
    task = make_task("pick-place", "sparse-reach", potential=(NEAR, PINCH, 0.0), reach_per_finger=per_finger)
    task.reset(seed=0)
    sim = task.sim
    phi = []
    for gripper in (OPEN_AS_IN_A_GRASP, scenes.SHUT):
        scenes.put_away(sim, scenes.HOME, gripper)
        scenes.place_cube(sim, sim.grasp_point - 0.03 * sim.gripper_axes[:, 2], sim.data.body("gripper").xquat.copy())
        phi.append(potential_of(task))
    assert phi[0] > phi[1] + 0.04 if per_finger else phi[0] == phi[1]


@EVERY_TASK
@pytest.mark.parametrize("begin", ["reset", "restored"])
def test_the_first_progress_starts_from_the_state_that_it_begins_in(make_task, scenes, name, begin):
    task, other = (make_task(name, "sparse-reach", potential=WEIGHTS) for _ in range(2))
    task.reset(seed=3)
    episode(task, random_actions(17))
    elsewhere = potential(task)
    if begin == "reset":
        task.reset()
    else:
        other.reset(seed=8)
        if task.has_cube:
            scenes.put_between_pads(other.sim)
            scenes.shut(other.sim)
        episode(other, np.zeros((5, 6)))
        task.load_state_dict(other.state_dict())
    before = potential(task)
    assert abs(before - elsewhere) > 0.05
    progress = task.step(random_actions(1, seed=1)[0])[4]["metrics"]["reward_progress"]
    assert progress == pytest.approx(potential(task) - before, abs=1e-5)


# What a return can be


@EVERY_TASK
def test_return_bounds_of_a_sparse_reward_are_those_of_its_penalties_and_a_staged_one_has_none(make_task, name):
    goals = np.zeros((2, 3), np.float32)
    low, high = make_task(name, "sparse").return_bounds(GAMMA, goals, {})
    assert (low.tolist(), high.tolist()) == ([pytest.approx(-1 / (1 - GAMMA))] * 2, [0.0] * 2)
    assert make_task(name, "staged").return_bounds(GAMMA, goals, {}) is None
    assert make_task(name, "staged-reference").return_bounds(GAMMA, goals, {}) is None


def potential_of(task):
    """Returns Phi of the present state, as the task computes it."""
    (kept,) = task._to_keep(task._examine(look([task.sim])))
    if task.has_cube:
        return kept
    info = {"grasp_point_before": kept}
    return -float(task.reward_terms(task.goal, task.goal, info)["progress"])  # of a step to the goal, where Phi is 0


@EVERY_TASK
@pytest.mark.parametrize("per_finger", [True, False])
def test_return_bounds_reach_to_the_lowest_potential_there_is(make_task, scenes, name, per_finger):
    """What progress takes from a return is at most the way from 0 to there."""
    task = make_task(name, "sparse-reach", reach_per_finger=per_finger)
    task.reset(seed=0)
    low_return, _ = bounds_of(task, np.zeros(1))
    deepest = low_return.item() + 1 / (1 - GAMMA)
    rng = np.random.default_rng(0)
    low, top = task.sim.model.control_range.T
    lowest = 0.0
    for reach in np.geomspace(0.05, 100, 60):  # a cube that fell off the table is far away in the end
        joints, place = rng.uniform(low, top), rng.uniform(-reach, reach, 3)
        if task.has_cube:
            scenes.put(task.sim, joints[:5], joints[5], place)
        else:
            task.sim.data.qpos[:], task.goal = joints, place
            mujoco.mj_step1(task.sim.model.mj, task.sim.data)
        lowest = min(lowest, potential_of(task))
    assert deepest - 1e-5 <= lowest <= 0.96 * deepest  # the pads never meet, and joints are drawn at random


def rewards_of(task, potentials, met):
    """Returns rewards (N, T) of steps through states of these potentials (N, T + 1), that are met (N, T) or not.

    Where the potential is of the goal itself, that of a state decides whether it is at the goal.
    """
    if task.has_cube:
        away = np.where(met, 0.0, 1.0)
        info = {
            "cube_hold": np.full(met.size, Hold.TABLE, np.float32),
            "potentials": np.stack([potentials[:, :-1], potentials[:, 1:]], -1).reshape(-1, 2).astype(np.float32),
        }
    else:
        distance = REACH_SCALE * np.expm1(-potentials / NEAR)
        before, away = distance[:, :-1], distance[:, 1:]
        info = {"grasp_point_before": points_at(before)}
    goals = np.zeros((met.size, 3), np.float32)
    return task.compute_reward(points_at(away), goals, info).astype(np.float64).reshape(met.shape)


def bounds_of(task, potentials):
    """Returns the bounds of the returns, (N,) both, from states of these potentials (N,) on."""
    info = {"potentials": np.stack([potentials, potentials], -1)}
    if not task.has_cube:
        info = {"grasp_point_before": points_at(REACH_SCALE * np.expm1(-potentials / NEAR))}
    return task.return_bounds(GAMMA, np.zeros((len(potentials), 3), np.float32), info)


def points_at(distance):
    """Returns points (N, 3) at these distances from the origin."""
    return (distance.reshape(-1, 1) * [1.0, 0.0, 0.0]).astype(np.float32)


@EVERY_TASK
def test_return_bounds_hold_whatever_the_potentials_are_and_are_reached_at_both_ends(make_task, name):
    """The episodes are as good as endless: after 1000 steps a reward counts 2e-9 of itself."""
    task = make_task(name, "sparse-reach", potential=WEIGHTS)
    lowest = -NEAR * np.log1p(FAR / REACH_SCALE) - (PINCH + OPENING) * task.has_cube
    steps, rng = 1000, np.random.default_rng(0)

    def returns(potentials, met):
        return rewards_of(task, potentials, met) @ GAMMA ** np.arange(steps)

    shape = (100, steps + 1)
    anywhere, from_end_to_end = rng.uniform(lowest, 0, shape), rng.choice([lowest, 0.0], shape)
    held = np.where(np.arange(steps + 1) < rng.integers(0, steps, (100, 1)), *rng.choice([lowest, 0.0], (2, 100, 1)))
    for potentials in (anywhere, from_end_to_end, held):
        for met in (rng.random((100, steps)) < 0.5, np.ones((100, steps), bool), np.zeros((100, steps), bool)):
            total, (low, high) = returns(potentials, met), bounds_of(task, potentials[:, 0])
            assert (low - 1e-3 <= total).all()
            assert (total <= high + 1e-3).all()
    rise, fall = (np.array([[first] + steps * [then]]) for first, then in ((lowest, 0.0), (0.0, lowest)))
    assert returns(rise, np.ones((1, steps), bool)) == pytest.approx(bounds_of(task, rise[:, 0])[1], abs=1e-3)
    assert returns(fall, np.zeros((1, steps), bool)) == pytest.approx(bounds_of(task, fall[:, 0])[0], abs=1e-3)


# Staged reward, state by state


def staged_step(task, action=(0, 0, 0, 0, 0, 0)):
    """Returns the metrics and the stages of one step."""
    *_, info = task.step(np.array(action, float))
    return info["metrics"], info["stages"]


@pytest.fixture
def pick_place(make_task):
    task = make_task("pick-place", "staged", goal="fixed")
    task.reset(seed=0)
    return task


def test_staged_nothing_touched(pick_place):
    metrics, stages = staged_step(pick_place)
    distance = np.linalg.norm(pick_place.sim.grasp_point - pick_place.sim.cube_position)
    assert metrics["reward_reach"] == pytest.approx(-distance, rel=1e-5)
    rest = {name for name, value in metrics.items() if value != 0} - {"reward_reach"}
    assert rest == set()
    assert not any(stages.values())


def test_staged_one_jaw_touching_earns_nothing(pick_place, scenes):
    sim = pick_place.sim
    scenes.put_on_table_between_pads(sim, scenes.GRASP_ON_TABLE, scenes.OPEN, shift=0.003)
    # Turn the shoulder so that the fixed jaw pushes the cube before it.
    away, cube = sim.gripper_axes[:, 0], sim.cube_position - [*PAN_AXIS, 0]
    push = np.sign(np.cross(sim.data.joint("shoulder_pan").xaxis, cube) @ away)
    for _ in range(20):
        metrics, stages = staged_step(pick_place, scenes.moving(pick_place, [0.03 * push, 0, 0, 0, 0, 0]))
        assert not stages["pinched"]
        assert metrics["reward_grasp"] == metrics["reward_lift"] == 0
        if stages["touched"]:
            return
    pytest.fail("the jaw never met the cube")


def test_staged_pinched_on_the_table_is_a_grasp_and_no_lift(pick_place, scenes):
    scenes.put_on_table_between_pads(pick_place.sim, scenes.GRASP_ON_TABLE)
    scenes.shut(pick_place.sim)
    metrics, stages = staged_step(pick_place)
    assert [stages[name] for name in ("touched", "pinched", "lifted")] == [True, True, False]
    assert metrics["reward_grasp"] == 1
    assert metrics["reward_lift"] == metrics["reward_place"] == 0


def test_staged_pinched_in_the_air_is_a_lift(pick_place, scenes):
    scenes.put_between_pads(pick_place.sim)
    scenes.shut(pick_place.sim)
    metrics, stages = staged_step(pick_place)
    height = pick_place.sim.cube_position[2] - CUBE_HALF
    assert height > 0.1
    assert stages["lifted"]
    assert metrics["reward_lift"] == pytest.approx(2 + 10 * (FIXED_GOAL[2] - CUBE_HALF), rel=1e-5)
    to_goal = np.linalg.norm(pick_place.sim.cube_position - FIXED_GOAL)
    assert metrics["reward_place"] == pytest.approx(-2 * to_goal, rel=1e-5)
    assert metrics["reward_success"] == 0


def test_staged_thrown_up_is_no_lift(pick_place, scenes):
    scenes.put(pick_place.sim, scenes.HOME, scenes.OPEN, (0.2, 0.2, 0.3))
    metrics, stages = staged_step(pick_place)
    assert pick_place.sim.cube_position[2] > CUBE_HALF + LIFT_HEIGHT
    assert not stages["lifted"]
    assert metrics["reward_lift"] == metrics["reward_place"] == 0


@pytest.mark.parametrize(("beyond", "lost"), [(-0.005, 0), (0.005, 1)])
def test_staged_out_of_reach_is_lost(pick_place, scenes, beyond, lost):
    scenes.put(pick_place.sim, scenes.HOME, scenes.OPEN, (PAN_AXIS[0] + LOST_RADIUS + beyond, 0, CUBE_HALF))
    metrics, _ = staged_step(pick_place)
    assert metrics["cube_lost"] == lost
    assert metrics["reward_lost"] == -lost


def test_a_cube_below_the_table_is_lost():
    model = ArmModel.load()
    model.mj.geom_contype[model.floor_geom] = model.mj.geom_conaffinity[model.floor_geom] = 0  # it falls through
    task = TASKS["pick-place"](model, TaskConfig(), "staged")
    task.reset(seed=0)
    lost, heights = [], []
    for _ in range(5):
        lost.append(task.step(np.zeros(6))[4]["metrics"]["cube_lost"])
        heights.append(task.sim.cube_position[2])
    assert lost == [float(height < 0) for height in heights]
    assert lost[0] == 0
    assert lost[-1] == 1


# Goals


def drawn(task, count):
    """Returns goals and achieved goals at the start of `count` episodes."""
    starts = [task.reset(seed=seed)[0] for seed in range(count)]
    return np.array([obs["desired_goal"] for obs in starts]), np.array([obs["achieved_goal"] for obs in starts])


def polar(points):
    away = points[:, :2] - PAN_AXIS
    return np.hypot(*away.T), np.abs(np.arctan2(away[:, 1], away[:, 0]))


EVERY_GOAL_KIND = pytest.mark.parametrize(
    ("name", "goal"), [(name, goal) for name, kind in TASKS.items() for goal in kind.goal_kinds]
)


@EVERY_GOAL_KIND
def test_goals_fill_their_region_stay_within_and_are_not_met_from_the_start(make_task, name, goal):
    task = make_task(name, goal=goal)
    goals, starts = drawn(task, 1500)
    assert np.linalg.norm(goals - starts, axis=1).min() >= 1.999 * task.threshold
    for place in goals[:100]:
        np.testing.assert_allclose(task.goal_sector.confine(place), place, atol=1e-6)  # where a moved goal may lie
    if goal == "fixed":
        np.testing.assert_allclose(goals, np.tile(FIXED_GOAL, (1500, 1)), rtol=1e-6)
        return
    (near, far), angle = ((0.16, 0.34), 1.0) if name == "reach" else (TABLE_RADIUS, TABLE_ANGLE)
    heights = {
        "reach air": (0.05, 0.30),
        "pick-place air": AIR_HEIGHT,
        "pick-place mix": (CUBE_HALF, AIR_HEIGHT[1]),
    }.get(f"{name} {goal}", (CUBE_HALF, CUBE_HALF))
    radius, turn = polar(goals)
    for values, low, high in ((radius, near, far), (turn, 0, angle), (goals[:, 2], *heights)):
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        assert values.min() <= low + 0.05 * (high - low)
        assert values.max() >= high - 0.05 * (high - low)


@pytest.mark.parametrize(
    ("name", "farthest", "lowest", "highest"),
    [("reach", 0.34, 0.05, 0.30), ("push", 0.40, 0.01, 0.01), ("pick-place", 0.40, 0.01, 0.15)],
)
def test_a_goal_moved_in_mid_episode_stays_in_the_workspace_and_is_the_next_steps(
    make_task, name, farthest, lowest, highest
):
    task = make_task(name)
    task.reset(seed=0)
    before = task.observe()
    for place, expected in (
        ((0.9, 0.0, -0.5), (PAN_AXIS[0] + farthest, 0, lowest)),
        ((0.9, 0.0, 0.9), (PAN_AXIS[0] + farthest, 0, highest)),
        ((0.33, -0.08, 0.12), (0.33, -0.08, min(0.12, highest))),
    ):
        task.move_goal(np.array(place))
        np.testing.assert_allclose(task.goal, expected)
        np.testing.assert_array_equal(task.sim.data.mocap_pos[task.sim.model.target_mocap], task.goal)
    after = task.observe()
    np.testing.assert_array_equal(after["desired_goal"], task.goal.astype(np.float32))
    np.testing.assert_array_equal(after["observation"], before["observation"])
    np.testing.assert_array_equal(task.step(np.zeros(6))[0]["desired_goal"], after["desired_goal"])


def test_mixed_goals_come_in_their_shares(make_task):
    goals, starts = drawn(make_task("pick-place", goal="mix"), 1000)
    fixed = np.isclose(goals, FIXED_GOAL).all(1)
    table = ~fixed & np.isclose(goals[:, 2], CUBE_HALF)
    assert fixed.mean() == pytest.approx(MIX["fixed"], abs=0.05)
    assert table.mean() == pytest.approx(MIX["near"], abs=0.05)
    assert (~fixed & ~table).mean() == pytest.approx(MIX["air"], abs=0.05)
    assert np.linalg.norm(goals - starts, axis=1)[table].max() <= 0.12


@pytest.mark.parametrize(("name", "goal"), [("reach", "air"), ("push", "table"), ("pick-place", "fixed")])
def test_a_tasks_own_goals_are_of_its_first_kind(make_task, name, goal):
    assert make_task(name, goal="own").goal_kind == goal


def test_an_unknown_goal_kind_is_named(make_task):
    with pytest.raises(EnvError, match=r"this task has no goals of kind fixed; there are: air"):
        make_task("reach", goal="fixed")


@pytest.mark.parametrize("name", ["push", "pick-place"])
def test_the_cube_starts_flat_within_its_area(make_task, name):
    _, starts = drawn(make_task(name), 300)
    offset = starts - SPAWN
    assert np.abs(offset[:, :2]).max() <= SPAWN_SPREAD + 1e-6
    assert (np.abs(offset[:, :2]).max(0) > 0.9 * SPAWN_SPREAD).all()
    np.testing.assert_allclose(offset[:, 2], 0, atol=1e-7)


def test_reach_goals_can_be_reached_without_touching_anything(make_task):
    task = make_task("reach")
    for seed in range(30):
        task.reset(seed=seed)
        steps = list(grasp(task, then=10))
        assert steps[-1][4]["is_success"]
        assert task.sim.data.ncon == 0
