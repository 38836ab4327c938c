"""No trick counts as success: each is put together in the real simulation, and judged as training judges it."""

from typing import NamedTuple

import numpy as np
import pytest

from env.oracle import InverseKinematics, plan
from env.so101.contacts import HELD_SPEED, MAX_OVERLAP, RESTING_SPEED, Hold, corner_speed
from env.so101.model import CUBE_HALF
from env.so101.simulation import MAX_TARGET_CHANGE
from env.tasks.cube import AIR_GOAL
from env.tasks.pick_place import FIXED_GOAL

STILL = np.zeros(6)
SIDEWAYS = np.array([1.0, 0, 0, 0, 0, 0])
UNCLENCH = np.array([0, 0, 0, 0, 0, 1.0])
GRAVITY = 9.81
TABLE_TASKS = pytest.mark.parametrize("name", ["push", "pick-place"])
AIR_GOALS = pytest.mark.parametrize(
    "goal", [FIXED_GOAL, (0.3, 0.1, 0.03), (0.3, -0.1, 0.12)], ids=["fixed", "low", "high"]
)


class Step(NamedTuple):
    """Holds what one control step led to. distance: of the cube's centre from the goal, m."""

    achieved: np.ndarray
    success: bool
    reward: float
    hold: Hold
    distance: float
    height: float
    speed: float
    """No corner of the cube is faster, m/s."""
    overlap: float
    """The deepest of arm and cube and of cube and table, m."""
    info: dict


def play(task, actions):
    """Returns a Step for each of `actions`. One that is a function gets the task."""
    steps = []
    for action in actions:
        obs, reward, _, _, info = task.step(action(task) if callable(action) else action)
        contacts, cube = task.sim.cube_contacts(), task.sim.cube_position
        steps.append(
            Step(
                achieved=obs["achieved_goal"],
                success=info["is_success"],
                reward=reward,
                hold=Hold(int(info["cube_hold"])),
                distance=float(np.linalg.norm(cube - task.goal)),
                height=float(cube[2]),
                speed=corner_speed(task.sim.cube_velocity),
                overlap=max(contacts.overlap, contacts.table_overlap),
                info=info,
            )
        )
    return steps


def near(task, steps):
    return [step for step in steps if step.distance <= task.threshold]


def columns(steps):
    """Returns what is stored of these steps: the goals that they achieved (N, 3), and {"cube_hold": (N,)}."""
    return np.stack([step.achieved for step in steps]), {
        "cube_hold": np.stack([step.info["cube_hold"] for step in steps])
    }


def hindsight_rewards(task, steps):
    """Returns what each step earns for the goal exactly where it led to."""
    achieved, info = columns(steps)
    return task.compute_reward(achieved, achieved, info)


def assert_never_a_success(task, steps):
    """Checks that steps come near enough, and that none counts."""
    assert near(task, steps)
    assert not any(step.success for step in steps)
    assert all(step.reward == -1 for step in steps)
    assert not any(step.info["stages"]["placed"] for step in steps)


@pytest.fixture
def task(make_task):
    task = make_task("pick-place")
    task.reset(seed=0)
    return task


def free(scenes, task, place, velocity=(0, 0, 0, 0, 0, 0), quat=(1, 0, 0, 0)):
    """Puts the cube on its own, the arm out of its way."""
    scenes.put(task.sim, [-1.5, 0, 0, 0, 0], scenes.OPEN, place, quat, velocity)


# a. Thrown through a goal in the air


@AIR_GOALS
def test_a_toss_whose_highest_point_is_the_goal_is_no_success(task, scenes, goal):
    task.goal = np.array(goal)
    rise = 0.0196 if goal[2] < 0.1 else 0.08  # the lower tosses begin just above the table
    free(scenes, task, task.goal - [0, 0, rise], (0, 0, np.sqrt(2 * GRAVITY * rise), 0, 0, 0))
    steps = play(task, [STILL] * 12)
    assert min(step.distance for step in steps) < 0.003
    assert min(step.speed for step in near(task, steps)) < 0.15
    assert_never_a_success(task, steps)


@AIR_GOALS
@pytest.mark.parametrize("speed", [0.3, 3.0])
def test_a_cube_flicked_through_the_goal_is_no_success(task, scenes, goal, speed):
    task.goal = np.array(goal)
    start = 0.02  # s before it is there: one control step
    velocity = np.array([speed, 0, GRAVITY * start / 2])  # at the goal's height again when it gets there
    free(scenes, task, task.goal - [speed * start, 0, 0], (*velocity, 3.0, -5.0, 2.0))
    assert_never_a_success(task, play(task, [STILL] * 10))


def thrown(scenes, task):
    """Returns the steps of a cube that the arm swings and lets go, as any policy could."""
    scenes.put_between_pads(task.sim)
    scenes.shut(task.sim)
    return play(task, [STILL] * 5 + [SIDEWAYS] * 5 + [SIDEWAYS + UNCLENCH] * 20)


def test_a_cube_thrown_by_the_arm_meets_no_goal_on_its_flight(task, scenes):
    flight = [step for step in thrown(scenes, task) if not step.info["stages"]["touched"] and step.height > 0.05]
    assert len(flight) > 3
    assert max(step.speed for step in flight) > 0.5
    for i in range(len(flight)):
        task.reset(seed=0)
        task.goal = flight[i].achieved.astype(float)  # as if it had been the goal all along
        again = thrown(scenes, task)
        assert near(task, again)
        assert not any(step.success for step in again if not step.info["stages"]["touched"])
        assert not again[-1].success


# b. Sliding through a goal on the table


@TABLE_TASKS
@pytest.mark.parametrize("speed", [0.5, 0.8, 1.2])
def test_a_cube_that_slides_through_a_table_goal_does_not_meet_it(make_task, scenes, name, speed):
    task = make_task(name)
    task.reset(seed=0)
    task.goal = np.array([0.3, 0.0, CUBE_HALF])
    way = speed**2 / (2 * 0.5 * GRAVITY)  # Coulomb, mu = 0.5; the slide begins at the goal, and may well end near it
    free(scenes, task, task.goal, (0, speed, 0, 0, 0, 0))
    steps = play(task, [STILL] * 25)
    fast = [step for step in near(task, steps) if step.speed > RESTING_SPEED]
    assert fast
    assert not any(step.success for step in fast)
    assert steps[-1].success == (steps[-1].distance <= task.threshold) == (way < task.threshold)
    if way > task.threshold:
        assert_never_a_success(task, steps)


@TABLE_TASKS
def test_a_cube_that_comes_to_rest_in_a_table_goal_meets_it_from_then_on(make_task, scenes, name):
    task = make_task(name)
    task.reset(seed=0)
    task.goal = np.array([0.3, 0.0, CUBE_HALF])
    free(scenes, task, task.goal - [0, 0.0255, 0], (0, 0.5, 0, 0, 0, 0))  # it stops after 25.5 mm
    steps = play(task, [STILL] * 25)
    assert len(near(task, steps)) == 25
    met = [step.success for step in steps]
    first = met.index(True)
    assert first >= 2
    assert all(met[first:])
    assert max(step.speed for step in steps[:first]) > RESTING_SPEED >= max(step.speed for step in steps[first:])


@TABLE_TASKS
@pytest.mark.parametrize("spin", [25.0, 60.0])
def test_a_cube_that_spins_on_a_table_goal_does_not_meet_it(make_task, scenes, name, spin):
    task = make_task(name)
    task.reset(seed=0)
    task.goal = np.array([0.3, 0.0, CUBE_HALF])
    free(scenes, task, task.goal, (0, 0, 0, 0, 0, spin))
    assert_never_a_success(task, play(task, [STILL]))


# c. On an edge


@pytest.mark.parametrize("goal", [FIXED_GOAL, (0.40, 0.10, CUBE_HALF)], ids=["fixed", "table"])
def test_a_tumbling_cube_is_no_success(task, scenes, goal):
    """On its edge its centre is 14.1 mm high: near enough to the fixed target, which is 40 mm up."""
    task.goal = np.array(goal)
    on_edge = scenes.turned((1, 0, 0), np.radians(35))
    extent = np.sqrt(2) * CUBE_HALF * np.cos(np.radians(10))
    free(scenes, task, (0.40, 0.10, extent), (0, -0.14, 0, 10.0, 0, 0), on_edge)
    steps = play(task, [STILL] * 5)
    tumbling = [step for step in steps if step.height > 0.0125]
    assert_never_a_success(task, tumbling)


@pytest.fixture
def leaning(task, scenes):
    """Provides a cube that leans on the shut jaw, and stays so, under the fixed target."""
    scenes.put_leaning_on_shut_jaw(task.sim, [-0.2, *scenes.GRASP_ON_TABLE[1:]])
    return task


@pytest.mark.parametrize("height", [0.04, 0.021, 0.0141, CUBE_HALF])
def test_a_cube_that_leans_on_the_jaw_is_no_success(leaning, height):
    leaning.goal = np.array([0.40, 0.10, height])
    steps = play(leaning, [STILL] * 50)
    assert len(near(leaning, steps)) == 50
    assert steps[-1].height == pytest.approx(0.0141, abs=2e-4)
    assert steps[-1].speed < 0.01  # the stillest of tricks
    assert sum(step.info["stages"]["touched"] for step in steps) > 40
    assert_never_a_success(leaning, steps)


# d. Below the fixed target


@pytest.mark.parametrize("height", [0.04, 0.0399, 0.021, 0.0151])
@pytest.mark.parametrize("pinched", [False, True])
def test_a_cube_that_lies_or_is_pinched_on_the_table_below_an_air_goal_is_no_success(task, scenes, height, pinched):
    if pinched:
        scenes.put_on_table_between_pads(task.sim, scenes.BELOW_TARGET)
        scenes.shut(task.sim)
    else:
        free(scenes, task, (0.40, 0.10, CUBE_HALF))
    task.goal = np.array([*task.sim.cube_position[:2], height])
    steps = play(task, [STILL] * 20)
    assert all(step.hold == Hold.TABLE and step.info["stages"]["pinched"] == pinched for step in steps)
    assert not any(step.success for step in steps)
    if height == 0.04:
        assert steps[-1].distance == pytest.approx(0.03, abs=1e-4)  # not a hair to spare
    else:
        assert_never_a_success(task, steps)


def to_pan(scenes, angle, speed):
    """Returns an action function that turns the shoulder to `angle` by `speed` rad a control step, the gripper shut."""

    def action(task):
        turn = np.clip(angle - task.sim.servo_target[0], -speed, speed)
        return scenes.moving(task, [turn, 0, 0, 0, 0, 0]) - UNCLENCH

    return action


@pytest.mark.parametrize(("start", "speed"), [(0.3, 0.05), (0.1, 0.02), (0.0, 0.01)])
def test_a_cube_dragged_below_the_fixed_target_gets_there_and_is_no_success(task, scenes, start, speed):
    """The shoulder drags it alone. It hops by up to 2.5 mm: now and then the pads alone hold it, by hundredths of a
    millimetre within the target's 3 cm."""
    task.goal = FIXED_GOAL.copy()
    scenes.put_on_table_between_pads(task.sim, [start, *scenes.BELOW_TARGET[1:]])
    scenes.shut(task.sim)
    steps = play(task, [STILL] * 6 + [to_pan(scenes, scenes.BELOW_TARGET[0], speed)] * 74)
    assert max(step.height for step in steps) < CUBE_HALF + 0.003
    assert np.linalg.norm(steps[-1].achieved[:2] - FIXED_GOAL[:2]) < 0.002
    assert not any(step.success for step in steps)


# e, f. Pressed, struck, crushed


class Watch:
    """Records the cube's contacts after each physics step of 2 ms, and not only at the end of a control step."""

    def __init__(self, sim):
        self._sim, self._contacts = sim, [sim.cube_contacts()]
        assert self._contacts[0].overlap < 0.5e-3  # as a pinched cube has it, or none
        sim.after_physics_step = self._look

    @property
    def touched(self):
        return any(contacts.touched for contacts in self._contacts)

    def _look(self):
        self._contacts.append(self._sim.cube_contacts())

    @property
    def overlap(self):
        """Returns the deepest of arm and cube, m."""
        return max(contacts.overlap for contacts in self._contacts)

    @property
    def table_overlap(self):
        return max(contacts.table_overlap for contacts in self._contacts)

    @property
    def longest_deep(self):
        """Returns for how many physics steps on end the arm was deeper in the cube than MAX_OVERLAP."""
        longest = run = 0
        for contacts in self._contacts:
            run = run + 1 if contacts.overlap > MAX_OVERLAP else 0
            longest = max(longest, run)
        return longest


def assert_nothing_deep_is_a_success(steps):
    assert all(step.hold == Hold.NONE and not step.success for step in steps if step.overlap > MAX_OVERLAP)


def push_down(task):
    """Returns the action that drives the arm into the table, as fast and as hard as it can."""
    below = np.array([0.2632, 1.8332, -0.0750, 1.0446, -1.5221])
    change = np.clip((below - task.sim.servo_target[:5]) / MAX_TARGET_CHANGE, -1, 1)
    return task.action_for(np.append(change, 0))


def presses(scenes, sim, gripper):
    """Puts the arm above a cube on the table, from next to it to 3 cm up, straight and aside. Yields the cube."""
    for raised in (0.003, 0.006, 0.01, 0.02, 0.05, 0.1, 0.2):
        for shift in (-0.006, -0.002, 0.0, 0.002, 0.006):
            scenes.put_on_table_between_pads(sim, scenes.ABOVE_CUBE, gripper, shift)
            cube, quat = sim.cube_position.copy(), sim.data.qpos[sim.model.cube_qpos + 3 :][:4].copy()
            scenes.put(sim, scenes.ABOVE_CUBE - [0, raised, 0, 0, 0], gripper, cube, quat)
            if sim.cube_contacts().overlap == 0:
                yield cube


@TABLE_TASKS
@pytest.mark.parametrize("gripper", ["SHUT", "AROUND_CUBE"])
def test_a_cube_pressed_into_the_table_with_all_torque_is_no_success_while_it_is_deep(make_task, scenes, name, gripper):
    """For a physics step it gets 1.9 mm into the table and 5.3 mm into the fingers. Then it slips away."""
    task = make_task(name)
    task.reset(seed=0)
    deepest = []
    for cube in presses(scenes, task.sim, getattr(scenes, gripper)):
        task.goal = cube
        watch = Watch(task.sim)
        steps = play(task, [push_down] * 50)
        assert_nothing_deep_is_a_success(steps)
        if watch.touched:
            deepest.append(max(watch.overlap, watch.table_overlap))
    assert len(deepest) > 10
    assert max(deepest) > MAX_OVERLAP


def test_a_pinched_cube_jammed_into_the_table_with_all_torque_is_not_entered_and_lies_on_the_table(task, scenes):
    """It gets 0.25 mm into the table and 0.12 mm into the pads, for as long as the arm likes: it cannot slip away."""
    scenes.put_on_table_between_pads(task.sim, scenes.GRASP_ON_TABLE)
    scenes.shut(task.sim)
    play(task, [STILL] * 15)
    watch = Watch(task.sim)
    steps = play(task, [push_down] * 50)
    assert all(step.info["stages"]["pinched"] and step.hold == Hold.TABLE for step in steps)
    assert 1e-4 < watch.table_overlap < 0.5e-3
    assert watch.overlap < 0.5e-3


def between_open_fingers(scenes, sim, gripper, shift, yaw=0.0):
    """Puts the cube on the table between the fingers, turned by `yaw`. Returns whether there is room for it."""
    scenes.put_on_table_between_pads(sim, scenes.GRASP_ON_TABLE, gripper, shift)
    turn = scenes.yaw(sim.gripper_axes[:, 0]) + yaw
    scenes.place_cube(sim, sim.cube_position.copy(), scenes.turned((0, 0, 1), turn))
    return sim.cube_contacts().overlap == 0


@pytest.mark.parametrize("opening", [0.3, 1.0, 1.7])
def test_a_gripper_that_snaps_shut_does_not_enter_the_cube(task, scenes, opening):
    """The deepest overlap is 0.75 mm."""
    trials = 0
    for shift in (0.001, 0.003, 0.005, 0.009):
        for yaw in np.radians((-45, -20, 0, 15, 30)):
            if not between_open_fingers(scenes, task.sim, opening, shift, yaw):
                continue
            watch = Watch(task.sim)
            play(task, [-UNCLENCH] * 45)
            assert watch.overlap <= MAX_OVERLAP
            assert watch.touched
            trials += 1
    assert trials > 10


def slams(scenes, task):
    """Yields (Watch, steps) of each blow: fingers are swung sideways into a cube at rest, as fast as the arm turns."""
    for gripper in (scenes.SHUT, 0.3, scenes.OPEN):
        for swing in np.linspace(0.3, 0.6, 6):
            for direction in (-1, 1):
                task.reset(seed=0)
                arm = scenes.GRASP_ON_TABLE - [direction * swing, 0, 0, 0, 0]
                scenes.put(task.sim, arm, gripper, (0.40, -0.10, CUBE_HALF))
                task.goal = task.sim.cube_position.copy()
                watch = Watch(task.sim)
                yield watch, play(task, [direction * SIDEWAYS] * 25)


def swings(scenes, task):
    """Yields (Watch, steps) of each episode in which a pinched cube is swung about, and against the table."""
    for seed in range(20):
        task.reset(seed=0)
        scenes.put_between_pads(task.sim)
        scenes.shut(task.sim)
        actions = np.repeat(np.random.default_rng(seed).choice([-1.0, 1.0], (20, 6)), 7, axis=0)
        actions[:, 5] = -1
        task.goal = np.array([0.3, 0.1, 0.05])
        watch = Watch(task.sim)
        yield watch, play(task, actions)


def scuffles(scenes, task):
    """Yields (Watch, steps) of each episode of random actions that begins with the cube between open fingers."""
    for seed in range(40):
        task.reset(seed=0)
        between_open_fingers(scenes, task.sim, 0.3, 0.004)
        task.goal = task.sim.cube_position.copy()
        watch = Watch(task.sim)
        yield watch, play(task, np.random.default_rng(seed).uniform(-1, 1, (50, 6)))


# A blow is found when the finger is in the cube already, as deep as its speed, up to 2 m/s at the fingertips, times the
# 2 ms of a physics step: 3.2 mm in a slam, and 7 mm where a carried cube is swung against the table.


@pytest.mark.parametrize("violence", [slams, swings, scuffles])
def test_a_blow_that_gets_into_the_cube_is_undone_at_once_and_counts_for_nothing(task, scenes, violence):
    deep = 0
    for watch, steps in violence(scenes, task):
        assert_nothing_deep_is_a_success(steps)
        assert watch.longest_deep <= 10  # 20 ms; 3 physics steps for a slam, 4 for a cube that rattles between the jaws
        deep += watch.overlap > MAX_OVERLAP
    assert deep


# g. Carried through


def carried(scenes, task):
    """Returns the steps of a pinched cube that the shoulder carries sideways, never faster than a held cube may be."""
    scenes.put_between_pads(task.sim)
    scenes.shut(task.sim)
    return play(task, [STILL] * 5 + [scenes.moving(task, 0.02 * SIDEWAYS)] * 20)


def swung(scenes, task):
    """Returns the same at up to 1.9 m/s, from where it is faster than that."""
    scenes.put_between_pads(task.sim)
    scenes.shut(task.sim)
    play(task, [STILL] * 5 + [SIDEWAYS])
    return play(task, [SIDEWAYS] * 20)


def test_a_cube_swung_in_the_grip_is_pinched_and_held_nowhere(task, scenes):
    steps = swung(scenes, task)
    assert all(step.info["stages"]["pinched"] and step.speed > HELD_SPEED for step in steps)
    assert all(step.hold == Hold.NONE for step in steps)


def test_a_cube_carried_through_the_goal_and_out_again_is_a_success_once_and_not_at_last(task, scenes):
    way = carried(scenes, task)
    task.reset(seed=0)
    task.goal = way[15].achieved.astype(float)
    steps = carried(scenes, task)
    assert steps[15].success
    assert 0.2 < steps[15].speed < HELD_SPEED
    assert all(step.hold == Hold.GRIP for step in steps)
    assert steps[-1].distance > task.threshold
    assert not steps[-1].success
    assert [step.reward for step in steps].count(0) == [step.success for step in steps].count(True) < 20


def test_a_cube_carried_to_the_goal_and_dropped_there_is_a_success_once_and_not_at_last(task, scenes):
    scenes.put_between_pads(task.sim)
    scenes.shut(task.sim)
    task.goal = task.sim.cube_position.copy()
    steps = play(task, [STILL] * 10 + [UNCLENCH] * 30)
    assert all(step.success for step in steps[1:10])
    assert [step.success for step in steps] == [step.hold == Hold.GRIP for step in steps]
    assert not steps[-1].success
    dropped = [step for step in near(task, steps[10:]) if not step.success]
    assert dropped  # it fell through the goal's neighbourhood, and that counted for nothing


# Flung


def flung(task, ik):
    """Plays a true episode: the script fetches the cube, and it is swung past the target as the time runs out."""
    task.reset(seed=10_002)
    script = plan(task, ik)
    shut = -UNCLENCH
    fetch = [lambda task: task.action_for(script.act(task.sim.servo_target))] * 60
    return play(task, fetch + [SIDEWAYS + shut] * 3 + [shut] * 26 + [shut - SIDEWAYS] * 11)


def test_a_cube_flung_past_the_fixed_target_by_the_last_step_is_no_success(make_task):
    task = make_task("pick-place", goal="fixed")
    steps = flung(task, InverseKinematics(task.sim.model))
    assert len(steps) == task.max_episode_steps
    last = steps[-1]
    assert last.distance < task.threshold
    assert last.speed > 1.8
    assert last.info["stages"]["pinched"]
    assert last.info["stages"]["carried"]
    assert_never_a_success(task, steps)
    assert (hindsight_rewards(task, steps[-8:]) == -1).all()


# Gripped above a goal on the table


@TABLE_TASKS
def test_a_cube_gripped_above_a_table_goal_meets_it_once_it_is_let_down_in_hindsight_too(make_task, scenes, name):
    """It is lifted by about 2 cm, held there, and let down."""
    task = make_task(name)
    task.reset(seed=0)
    scenes.put_on_table_between_pads(task.sim, scenes.GRASP_ON_TABLE)
    task.goal = task.sim.cube_position.copy()
    scenes.shut(task.sim)
    lift = scenes.moving(task, [0, -0.01, 0, 0, 0, 0])
    steps = play(task, [STILL] * 10 + [lift] * 6 + [STILL] * 20 + [-lift] * 6 + [STILL] * 20)
    assert all(step.distance <= task.threshold for step in steps)
    above = [step for step in steps if step.height > CUBE_HALF + 0.01]
    assert len(above) > 15
    assert all(step.hold == Hold.GRIP for step in above)
    assert_never_a_success(task, above)
    assert all(step.hold == Hold.TABLE and step.success for step in [*steps[:10], *steps[-10:]])

    achieved, info = columns(steps)
    goals = np.tile(achieved[-1], (len(steps), 1))  # where it lies in the end
    assert goals[0, 2] < AIR_GOAL
    assert (np.linalg.norm(achieved - goals, axis=1) < task.threshold).all()
    down = info["cube_hold"] == Hold.TABLE
    assert 15 < down.sum() < 40
    assert task.compute_reward(achieved, goals, info).tolist() == np.where(down, 0.0, -1.0).tolist()
    assert task.is_success(achieved, goals, info).tolist() == down.tolist()


# h. Hindsight


def flying(scenes, task):
    free(scenes, task, (0.3, 0.1, 0.10), (0.5, 0.2, 0.5, 1.0, 2.0, 3.0))
    return play(task, [STILL] * 10)


def sliding(scenes, task):
    free(scenes, task, (0.3, 0.0, CUBE_HALF), (0, 1.2, 0, 0, 0, 0))
    return play(task, [STILL] * 6)


def leaning_on_the_jaw(scenes, task):
    scenes.put_leaning_on_shut_jaw(task.sim, scenes.GRASP_ON_TABLE)
    return play(task, [STILL] * 20)


def balanced_on_the_gripper(scenes, task):
    scenes.put_on_top_of_fingers(task.sim)
    return play(task, [STILL] * 20)


def lying(scenes, task):
    free(scenes, task, (0.3, 0.1, CUBE_HALF))
    return play(task, [STILL] * 20)


def pinched_on_the_table(scenes, task):
    scenes.put_on_table_between_pads(task.sim, scenes.GRASP_ON_TABLE)
    scenes.shut(task.sim)
    return play(task, [STILL] * 20)


def pinched_in_the_air(scenes, task):
    scenes.put_between_pads(task.sim)
    scenes.shut(task.sim)
    return play(task, [STILL] * 20)


TRICKS = {
    flying: False, sliding: False, leaning_on_the_jaw: False, balanced_on_the_gripper: False, swung: False,
    lying: True, pinched_on_the_table: True, pinched_in_the_air: True, carried: True,
}  # fmt: skip
"""Whether the cube is held at each step."""


@pytest.mark.parametrize(("trick", "held"), TRICKS.items())
def test_hindsight_pays_for_the_goal_right_where_the_cube_is_only_if_it_is_held_there(task, scenes, trick, held):
    steps = trick(scenes, task)
    assert hindsight_rewards(task, steps).tolist() == [0 if held else -1] * len(steps)


@pytest.mark.parametrize("trick", [lying, pinched_on_the_table, leaning_on_the_jaw])
def test_hindsight_does_not_pay_on_the_table_for_a_goal_in_the_air(task, scenes, trick):
    achieved, info = columns(trick(scenes, task))
    for above in (0.0055, 0.0125, 0.0299):
        desired = achieved + np.array([0, 0, above], np.float32)
        assert (desired[:, 2] > AIR_GOAL).all()
        assert (task.compute_reward(achieved, desired, info) == -1).all()


@pytest.mark.parametrize("trick", [*TRICKS, thrown])
def test_hindsight_judges_as_the_step_would_have_with_that_goal(task, scenes, trick):
    """The rewards of compute_reward for a goal achieved later are those of an episode played for it."""
    achieved, info = columns(trick(scenes, task))
    for later in {0, len(achieved) // 2, len(achieved) - 1}:
        relabelled = task.compute_reward(achieved, np.tile(achieved[later], (len(achieved), 1)), info)
        task.reset(seed=0)
        task.goal = achieved[later].astype(float)
        played = trick(scenes, task)
        np.testing.assert_array_equal([step.achieved for step in played], achieved)
        assert relabelled.tolist() == [step.reward for step in played]


# What must succeed


@pytest.mark.parametrize(("offset", "near"), [((0, 0, 0), True), ((0.029, 0, 0), True), ((0.0301, 0, 0), False)])
@TABLE_TASKS
def test_a_cube_that_lies_still_near_a_table_goal_is_a_success_at_every_step(make_task, scenes, name, offset, near):
    task = make_task(name)
    task.reset(seed=0)
    task.goal = np.array([0.3, 0.1, CUBE_HALF])
    free(scenes, task, task.goal + offset)
    assert all(step.success == near and step.reward == near - 1 for step in play(task, [STILL] * 100))


@pytest.mark.parametrize(
    ("put", "offset"),
    [
        ("put_on_table_between_pads", (0.02, 0, 0)),
        ("put_between_pads", (0, 0, 0)),
        ("put_between_pads", (0.01, 0, -0.02)),
        ("put_between_pads", (0, 0, 0.029)),
    ],
)
def test_a_cube_pinched_on_the_table_or_in_the_air_near_a_goal_is_a_success_at_every_step(task, scenes, put, offset):
    getattr(scenes, put)(task.sim, scenes.HOME if put == "put_between_pads" else scenes.GRASP_ON_TABLE)
    task.goal = task.sim.cube_position + offset
    scenes.shut(task.sim)
    assert all(step.success and step.reward == 0 for step in play(task, [STILL] * 100))


@pytest.mark.parametrize("squeeze", [0.02, -0.01, -0.17])
def test_a_cube_held_at_the_fixed_target_is_a_success_whatever_the_grip(task, scenes, squeeze):
    """It is pinched below the target, lifted there, and held."""
    scenes.put_on_table_between_pads(task.sim, scenes.BELOW_TARGET)
    task.goal = FIXED_GOAL.copy()
    task.sim.servo_target[5] = squeeze
    lift = scenes.moving(task, [0, -0.02, 0, 0, 0, 0])
    steps = play(task, [STILL] * 10 + [lift] * 6 + [STILL] * 60)
    assert steps[-1].height > 0.03
    assert all(step.success for step in steps[-60:])
    assert steps[-1].info["stages"]["carried"]


@pytest.mark.parametrize("reward", ["sparse-reach", "staged"])
@pytest.mark.parametrize("trick", [flying, balanced_on_the_gripper, leaning_on_the_jaw, pinched_in_the_air])
def test_the_other_rewards_judge_success_alike(make_task, scenes, reward, trick):
    task = make_task("pick-place", reward)
    task.reset(seed=0)
    first = trick(scenes, task)
    task.reset(seed=0)
    task.goal = first[-1].achieved.astype(float)
    steps = trick(scenes, task)
    held = trick is pinched_in_the_air
    name, met, missed = ("reward_success", 10, 0) if reward == "staged" else ("reward_sparse", 0, -1)
    assert steps[-1].success == held
    assert steps[-1].info["metrics"][name] == (met if held else missed)
