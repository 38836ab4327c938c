"""Episodes begin in the middle of a scripted grasp, at every part of it, and nothing of the script is learnt."""

import numpy as np
import pytest

from env import TASKS, EnvError, TaskConfig, make_envs, make_vector, probe
from env.oracle import InverseKinematics, plan
from env.oracle.planning import OPEN
from env.oracle.rollout import make_task as oracles_task
from env.oracle.script import Script, Waypoint
from env.oracle.starts import OPENING, SPARE_STEPS, ScriptedStarts
from env.so101.contacts import Hold
from env.so101.model import CUBE_HALF
from env.so101.simulation import look
from env.tasks.cube import SPAWN, SPAWN_SPREAD
from her import ReplayBuffer

EVER = 10**9
CUBE_TASKS = pytest.mark.parametrize("name", [name for name, kind in TASKS.items() if kind.has_cube])


@pytest.fixture
def begun(make_task, monkeypatch):
    """Provides begun(share=1.0, until=EVER, name=…, astray=0.0, opening=OPEN, **TaskConfig's): a task with such starts.

    opening: the widest that the gripper opens, rad. At OPEN, as the script has it, nothing is left to chance.
    """

    def make(share=1.0, until=EVER, name="pick-place", astray=0.0, opening=OPEN, **config):
        monkeypatch.setattr("env.oracle.starts.OPENING", opening)
        task = make_task(name, "sparse-reach", **config)
        task.starts = ScriptedStarts(InverseKinematics(task.sim.model), share, until, astray)
        return task

    return make


def random_actions(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 6))


def play_on(task, actions):
    """Returns what every step and every reset of a run of episodes returns, the metrics included."""
    seen = []
    for action in actions:
        obs, reward, terminated, truncated, info = task.step(action)
        seen.append((obs, reward, terminated, truncated, info))
        if terminated or truncated:
            seen.append((task.reset(), task.midway, task.steps))
    return seen


def scripted_states(twin):
    """Returns the simulation's states (steps + 1, S) along the script, from the start state that `twin` is in."""
    states = [twin.sim.state()]
    for _, action in plan(twin, InverseKinematics(twin.sim.model)).rehearse(twin.sim.servo_target):
        twin.sim.step(action)
        states.append(twin.sim.state())
    return np.array(states)


# How many begin midway


def test_the_share_stays_for_half_of_the_steps_and_falls_in_a_line_to_0():
    starts = ScriptedStarts(None, 0.8, until=1000, astray=0.0)
    steps = [0, 1, 499, 500, 625, 750, 875, 1000, 1001, 10**12]
    expected = [0.8, 0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0]
    assert [starts.share(step) for step in steps] == pytest.approx(expected)


def test_that_share_of_the_episodes_begins_midway(begun):
    task = begun(0.3)
    task.reset(seed=0)
    midway = []
    for _ in range(100):
        task.reset()
        midway.append(task.midway)
        assert task.midway == (task.steps > 0)
    assert np.mean(midway) == pytest.approx(0.3, abs=0.12)


def test_it_is_the_steps_of_all_episodes_that_count(begun):
    task = begun(share=1.0, until=60, max_episode_steps=20)
    task.reset(seed=0)
    assert task.midway
    midway = []
    for stepped in range(1, 61):
        *_, truncated, info = task.step(np.zeros(6))
        assert info["metrics"]["begun_midway"] == task.midway
        assert task.steps_so_far == stepped
        if truncated:
            task.reset()
            midway.append(task.midway)
    assert midway[0]
    for _ in range(20):
        task.reset()
        assert not task.midway


@pytest.mark.parametrize("count", [1, 4])
def test_the_steps_by_which_it_ends_are_those_of_all_environments_together(count):
    config = TaskConfig(scripted_starts=0.6, scripted_until=1000)
    for env in make_envs("pick-place", count, config, "sparse-reach"):
        shares = [env.starts.share(part * 1000 / count) for part in (0, 0.5, 0.75, 1)]
        assert shares == pytest.approx([0.6, 0.6, 0.3, 0.0])


@pytest.mark.parametrize(("share", "until", "stepped"), [(0.0, EVER, 0), (1.0, 10, 10), (1.0, 10, 11)])
def test_without_a_share_an_episode_has_the_very_bits_of_a_task_without_starts(begun, make_task, share, until, stepped):
    task, plain = begun(share, until), make_task("pick-place", "sparse-reach")
    task.steps_so_far = stepped
    for seed in (3, None, None):
        np.testing.assert_equal(task.reset(seed=seed), plain.reset(seed=seed))
        plain.rng.random()  # the draw that decides
        np.testing.assert_array_equal(task.sim.state(), plain.sim.state())
        assert (task.steps, task.midway) == (0, False)
        for action in random_actions(12):
            left, right = task.step(action), plain.step(action)
            assert left[4]["metrics"].pop("begun_midway") == 0
            np.testing.assert_equal(left, right)


# Where they begin


@CUBE_TASKS
def test_what_is_played_is_a_state_of_the_script_and_the_policy_gets_the_rest_and_some_steps_more(
    begun, make_task, name
):
    task, twin = begun(name=name), make_task(name, "sparse-reach")
    for seed in range(12):
        task.reset(seed=seed)
        twin.reset(seed=seed)
        np.testing.assert_array_equal(task.goal, twin.goal)
        states = scripted_states(twin)
        (played,) = np.flatnonzero((states == task.sim.state()).all(1))
        assert played >= 1
        expected = min(len(states) - 1 - played + SPARE_STEPS, task.max_episode_steps - 1)
        truncated = [task.step(np.zeros(6))[3] for _ in range(expected)]
        assert truncated == [False] * (expected - 1) + [True]


def test_an_episode_shorter_than_the_script_still_has_a_step_less_than_one_from_the_start(begun):
    task = begun(max_episode_steps=5)
    for seed in range(5):
        task.reset(seed=seed)
        assert task.midway
        assert [task.step(np.zeros(6))[3] for _ in range(4)] == [False, False, False, True]


def test_they_begin_before_the_cube_is_touched_in_the_grip_and_in_the_air(begun):
    task = begun()
    kinds = {"far": 0, "pinched on the table": 0, "in the air": 0, "at the goal": 0}
    for seed in range(200):
        task.reset(seed=seed)
        now, goal_distance = task.sim.cube_contacts(), np.linalg.norm(task.sim.cube_position - task.goal)
        resting = np.array([*SPAWN[:2], CUBE_HALF])
        if not now.touched and now.on_table and not now.pinched:
            kinds["far"] += np.abs(task.sim.cube_position - resting).max() < SPAWN_SPREAD + 1e-3
        kinds["pinched on the table"] += now.pinched and now.on_table
        kinds["in the air"] += now.pinched and not now.on_table and task.sim.cube_position[2] > CUBE_HALF + 0.005
        kinds["at the goal"] += task.sim.cube_hold() != Hold.NONE and goal_distance <= task.threshold
        assert now.overlap < 1e-3
    assert min(kinds.values()) >= 3, kinds
    assert kinds["far"] > 60
    assert kinds["in the air"] > 40


def test_they_begin_in_each_phase_of_the_script_as_often_and_at_each_of_its_steps(begun, monkeypatch):
    """A pinch is a few steps of many, and what is hard to find."""
    arm = np.array([0.1, -0.1, 0.1, 0.0, 0.0])
    waypoints = [
        Waypoint("one", arm, 0.1, steps=4),
        Waypoint("two", -arm, 0.1, steps=20),
        Waypoint("three", arm, 0.1, steps=6),
    ]
    monkeypatch.setattr("env.oracle.starts.plan", lambda task, ik, opening: Script(waypoints))
    task = begun()
    played = []
    for seed in range(600):
        task.reset(seed=seed)
        played.append(30 + SPARE_STEPS - (task.max_episode_steps - task.steps))
    counts = np.bincount(played, minlength=31)
    assert counts[0] == 0
    assert counts[1:].all()
    shares = [part.sum() / 600 for part in np.split(counts[1:], [4, 24])]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.06)
    assert counts[1:5] == pytest.approx([50] * 4, abs=20)


def test_the_gripper_is_as_open_as_chance_has_it_before_it_closes_on_the_cube(begun):
    task, coming = begun(opening=OPENING), []
    for seed in range(150):
        task.reset(seed=seed)
        fingers_around = np.abs(task._pad_offsets(look([task.sim]))[0, :, 1:]).max() < 0.045
        if fingers_around and not task.sim.cube_contacts().touched:
            coming.append(task.sim.joint_position[5])
    assert len(coming) > 30
    assert min(coming) > 0.05  # the last of them have begun to pinch
    assert max(coming) > 0.75
    assert np.mean(np.array(coming) > OPEN + 0.1) > 0.4


def test_that_share_of_them_strays_from_the_script_and_gets_the_time_of_a_whole_one(begun, make_task):
    task, twin = begun(astray=0.4), make_task("pick-place", "sparse-reach")
    astray = 0
    for seed in range(40):
        task.reset(seed=seed)
        twin.reset(seed=seed)
        states = scripted_states(twin)
        if (states == task.sim.state()).all(1).any():
            continue
        astray += 1
        assert task.max_episode_steps - task.steps == min(len(states) - 1 + SPARE_STEPS, task.max_episode_steps - 1)
    assert astray / 40 == pytest.approx(0.4, abs=0.15)


def test_those_astray_have_missed_the_cube_knocked_it_away_or_dropped_it(begun):
    task = begun(astray=1.0)
    pinched = knocked = tilted = 0
    for seed in range(60):
        task.reset(seed=seed)
        now, (x, y, _) = task.sim.cube_contacts(), task.sim.cube_position
        pinched += now.pinched
        knocked += np.hypot(x - SPAWN[0], y - SPAWN[1]) > 2 * SPAWN_SPREAD
        tilted += np.abs(task.sim.cube_axes[2]).max() < 0.98
    assert 3 <= pinched <= 40
    assert knocked >= 10
    assert tilted >= 5


def test_the_first_observation_and_progress_are_of_where_it_begins(begun):
    task = begun()
    for seed in range(10):
        obs, _ = task.reset(seed=seed)
        assert task.midway
        np.testing.assert_equal(obs, task.observe())
        np.testing.assert_allclose(obs["achieved_goal"], task.sim.cube_position, rtol=1e-6)
        np.testing.assert_array_equal(task.sim.data.mocap_pos[task.sim.model.target_mocap], task.goal)
        there = task._kept
        assert task.step(np.zeros(6))[4]["potentials"][0] == np.float32(there)


# The same bits again


def test_the_same_seed_and_the_same_steps_before_give_the_same_bits(begun):
    first, second = begun(0.8, until=600), begun(0.8, until=600)
    second.reset(seed=9)
    play_on(second, random_actions(30, seed=1))
    first.steps_so_far = second.steps_so_far  # of all that came before, this alone matters
    np.testing.assert_equal(first.reset(seed=3), second.reset(seed=3))
    left, right = (play_on(task, random_actions(500)) for task in (first, second))
    assert {step[1] for step in left if len(step) == 3} == {True, False}
    np.testing.assert_equal(left, right)


def test_restored_in_mid_episode_it_goes_on_bit_by_bit_through_the_resets_that_follow(begun):
    """The share is falling meanwhile: so the steps of all episodes before are restored, too."""
    original, other = (begun(1.0, 1000, max_episode_steps=40) for _ in range(2))
    original.reset(seed=3)
    play_on(original, random_actions(520))
    for _ in range(30):
        if original.midway and original.steps < original.max_episode_steps - 1:
            break
        original.reset()
    original.step(np.zeros(6))
    other.steps_so_far = 1000
    other.reset(seed=8)
    assert not other.midway
    state = original.state_dict()
    future = play_on(original, random_actions(500, seed=2))
    assert {step[1] for step in future if len(step) == 3} == {True, False}
    other.load_state_dict(state)
    assert other.midway
    np.testing.assert_equal(play_on(other, random_actions(500, seed=2)), future)
    np.testing.assert_equal(other.state_dict(), original.state_dict())


# Where the script cannot be played


@pytest.mark.usefixtures("quiet_log")
def test_a_simulation_that_diverges_in_the_script_leaves_a_start_state(begun, monkeypatch):
    task = begun()
    reset_scene, resets = task._reset_scene, []

    def reset_absurdly():
        reset_scene()
        resets.append(task.goal.copy())
        if len(resets) == 1:
            task.sim.cube_velocity[:] = 1e30

    monkeypatch.setattr(task, "_reset_scene", reset_absurdly)
    obs, _ = task.reset(seed=1)
    assert len(resets) == 2
    assert not np.array_equal(*resets)  # another episode, drawn afresh
    assert (task.steps, task.midway) == (0, False)
    np.testing.assert_array_equal(task.sim.joint_position, 0)
    np.testing.assert_array_equal(task.sim.servo_target, 0)
    assert np.abs(task.sim.cube_position - SPAWN).max() <= SPAWN_SPREAD
    np.testing.assert_equal(obs, task.observe())
    assert np.isfinite(obs["observation"]).all()
    assert task.step(np.zeros(6))[4]["metrics"]["begun_midway"] == 0
    task.reset()
    assert task.midway  # and the next one is none the worse


def test_where_the_script_has_no_pose_the_episode_begins_in_the_start_state(begun, make_task, monkeypatch):
    task, plain = begun(goal="fixed"), make_task("pick-place", "sparse-reach", goal="fixed")
    monkeypatch.setattr("env.tasks.cube.SPAWN", np.array([0.60, 0.0, CUBE_HALF]))
    for seed in range(3):
        np.testing.assert_equal(task.reset(seed=seed), plain.reset(seed=seed))
        np.testing.assert_array_equal(task.sim.state(), plain.sim.state())
        assert (task.steps, task.midway) == (0, False)
    assert not task.step(np.zeros(6))[3]


# Who has them


@pytest.mark.parametrize("name", TASKS)
def test_without_a_share_there_are_none(name):
    config = TaskConfig(scripted_starts=0.0)
    assert all(env.starts is None for env in make_envs(name, 2, config, "sparse-reach"))
    assert oracles_task(name, "own").starts is None  # the oracle does the whole task itself


def test_reach_has_no_cube_to_grasp_and_is_refused():
    with pytest.raises(EnvError) as refused:
        make_envs("reach", 1, TaskConfig(scripted_starts=0.5), "sparse-reach")
    assert str(refused.value) == "--task.scripted-starts 0.5: reach has no cube to be grasped"


# What is learnt


def test_nothing_of_the_script_is_stored():
    """Every action in the buffer is one that was given, in their order, and none is missing."""
    config = TaskConfig(goal="mix", scripted_starts=0.8)
    spec = probe(*make_envs("pick-place", 1, config, "sparse-reach"), "pick-place")
    envs = make_vector("pick-place", 1, config, "sparse-reach", spec)
    dims = {"observation": spec.obs_dim, "goal": spec.goal_dim, "action": spec.action_dim}
    buffer = ReplayBuffer(1000, 1, spec.max_episode_steps, dims, spec.info_shapes, np.random.default_rng(0))
    envs.reset([0])
    actions, seen, begun_midway = random_actions(500).astype(np.float32), [], []
    for action in actions:
        obs = {key: value.copy() for key, value in envs.obs.items()}
        seen.append(obs["observation"][0])
        begun_midway.append(envs.envs[0].midway)
        buffer.add(obs, action[None], envs.step(action[None]))

    staged = int(buffer.staged[0])
    assert buffer.num_transitions + staged == 500
    leaving = np.flatnonzero(buffer.steps_after[: buffer.used] > 0)
    for key, expected in (("action", actions), ("observation", seen)):
        stored = np.concatenate([buffer.rows[key][leaving], buffer.staging[key][0, :staged]])
        np.testing.assert_array_equal(stored, expected)
    first = np.flatnonzero((buffer.steps_before[: buffer.used] == 0) & (buffer.steps_after[: buffer.used] > 0))
    lengths = buffer.steps_after[first]
    assert (lengths == 100).any()
    assert (lengths < 90).sum() >= 3
    starts = np.cumsum([0, *lengths[:-1]])
    assert [begun_midway[at] for at in starts] == [length < 100 for length in lengths]
