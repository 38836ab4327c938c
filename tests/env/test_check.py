"""What is known of an environment before the first step of a run: from random steps, which a second instance judges."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from env import TASKS, EnvError, SimulationDiverged, probe
from env.check import STEPS
from env.foreign import Guarded

GOAL = np.array([[0.5, 0.5]], np.float32)
NEAR, FAR = GOAL + np.float32(0.05), GOAL - np.float32(0.5)


def distance(achieved, desired):
    return np.linalg.norm(achieved - desired, axis=-1)


@pytest.fixture
def made(point_env):
    """made(**attributes): two instances of a PointEnv with those of its own, as a run makes them."""

    def make(base=point_env.PointEnv, **attributes):
        kind = type("Odd", (base,), attributes)
        return Guarded(kind(), "mine:Odd"), Guarded(kind(), "mine:Odd")

    return make


@pytest.fixture
def told(point_env):
    """told(change): a `step` that returns what `change` makes of the environment and of what PointEnv's returned."""

    def make(change):
        return lambda self, action: change(self, *point_env.PointEnv.step(self, action))

    return make


def check(envs, **options):
    return probe(envs[0], "mine:Odd", envs[1], **options)


def refused(envs, sentence):
    with pytest.raises(EnvError, match=f"^--env mine:Odd: {sentence}") as caught:
        check(envs)
    assert caught.value.status == 2
    assert "\n" not in str(caught.value)


# Rewards, goals and endings agree with the steps


def test_a_reward_for_more_than_the_goal_is_refused(made, told):
    def step(self, obs, reward, *rest):
        return obs, reward - 0.1 * float(np.abs(self.point).sum()), *rest

    refused(made(step=told(step)), rf"compute_reward gives -1 where step paid -1\.\d+, at {STEPS} of {STEPS} random")


def test_a_rare_disagreement_is_refused_with_how_rare_it_is(made, told):
    def step(self, obs, reward, *rest):
        return obs, reward - (self.steps == 12), *rest

    refused(made(step=told(step)), rf"compute_reward gives -1 where step paid -2, at 3 of {STEPS} random steps")


@pytest.mark.parametrize("attribute", ["point", "goal"])
def test_a_reward_of_the_simulators_present_state_is_refused(made, attribute):
    """With sparse rewards nearly every step is paid -1 either way, and yet it is found."""

    def compute_reward(self, achieved, desired, info):
        seen = {"achieved": achieved, "desired": desired} | {
            {"point": "achieved", "goal": "desired"}[attribute]: getattr(self, attribute)
        }
        return -(distance(**seen) > 0.1).astype(np.float32)

    refused(made(compute_reward=compute_reward), "compute_reward of two instances gives -?[01] and -?[01] for the same")


def test_what_a_reward_needs_beyond_goals_is_handed_to_the_judge_in_info(made, told):
    def compute_reward(self, achieved, desired, info):
        return -distance(achieved, desired) - info["cost"]

    def step(self, obs, reward, terminated, truncated, info):
        info["cost"] = np.array(self.steps / 10)
        goals = obs["achieved_goal"][None], obs["desired_goal"][None]
        return obs, float(self.compute_reward(*goals, info)[0]), terminated, truncated, info

    def plain(self, achieved, desired, info):
        return compute_reward(self, achieved, desired, info or {"cost": 0.0})

    assert check(made(compute_reward=plain, step=told(step))).info_shapes == {"cost": ()}


@pytest.mark.parametrize(
    ("is_success", "sentence"),
    [
        (lambda self, a, d, info: distance(a, d) > 0.1, r'is_success gives 1 where info\["is_success"\] was 0, at'),
        (lambda self, a, d, info: self.compute_reward(a, d, info), r"is_success must return bools, .* returned -1"),
        (lambda self, a, d, info: 1 - distance(a, d) / 4, "is_success must return bools, or ones and zeros"),
        (
            lambda self, a, d, info: (distance(a, d) > 0.1) & (distance(a, d) < 0.2),
            r"is_success says that the goal is met at \d+ of \d+ transitions that are paid -1|is_success gives 1 where",
        ),
    ],
)
def test_an_is_success_that_contradicts_is_refused(made, is_success, sentence):
    refused(made(is_success=is_success), sentence)


@pytest.mark.parametrize("value", [0.25, -1.0, None, "yes", np.array([True]), np.nan])
def test_success_is_met_or_not(made, told, value):
    def step(self, obs, reward, terminated, truncated, info):
        return obs, reward, terminated, truncated, {"is_success": value}

    refused(made(step=told(step)), r"step gave .* for info\[.is_success.\]|step gave info\[.is_success.\] of shape")


@pytest.mark.parametrize("value", [False, 0, 0.0, np.float32(0), np.array(False)])
def test_whatever_means_no_is_no(made, told, value):
    def step(self, obs, reward, terminated, truncated, info):
        return obs, -1, value, int(truncated), {"is_success": value}

    check(made(step=told(step), compute_reward=lambda self, a, d, info: np.full(np.shape(a)[:-1], -1)))


def test_a_success_that_is_paid_as_none_is_refused(made, told):
    def step(self, obs, reward, terminated, truncated, info):
        return obs, reward, terminated, truncated, {"is_success": reward != 0}

    refused(made(step=told(step)), r'info\["is_success"\] says that the goal is met at \d+ of 60 transitions that are')


def test_compute_terminated_agrees_with_the_steps(made):
    every = {"compute_terminated": lambda self, a, d, info: np.ones(len(a), bool)}
    refused(made(**every), f"compute_terminated gives 1 where step's terminated was 0, at {STEPS} of {STEPS} random")


# Which goals are met


@pytest.mark.parametrize("unmet", [-1.0, -1000.0, -0.001, 0.0])
def test_two_rewards_tell_which_goals_are_met(made, told, unmet):
    def compute_reward(self, achieved, desired, info):
        return np.float32(unmet) + (distance(achieved, desired) < 0.1) * np.float32(abs(unmet) or 1)

    def step(self, obs, reward, *rest):
        return obs, reward, *rest[:2], {"is_success": bool(distance(self.point, self.goal) < 0.1)}

    envs = made(compute_reward=compute_reward, step=told(step))
    assert not hasattr(envs[0], "is_success")
    assert check(envs).reward_values == pytest.approx((unmet, unmet + (abs(unmet) or 1)), abs=1e-6)
    goals = np.concatenate([NEAR, FAR]), np.concatenate([GOAL, GOAL])
    assert envs[0].is_success(*goals, {}).tolist() == [True, False]


def test_an_is_success_of_its_own_stays(made):
    envs = made(is_success=lambda self, a, d, info: distance(a, d) < 0.02)
    assert check(envs).reward_values == (-1, 0)
    assert not envs[0].is_success(NEAR, GOAL, {})[0]


def test_two_rewards_of_which_a_goal_is_never_paid_the_higher_tell_nothing(made, told):
    def far(self, achieved, desired, info):
        return np.float32(distance(achieved, desired) > 0.1)

    def step(self, obs, reward, *rest):
        return obs, reward, *rest[:2], {"is_success": False}

    spec = check(made(compute_reward=far, step=told(step)))
    assert spec.reward_values is None
    assert "is_success" in spec.lacks


@pytest.fixture
def dense(made, told):
    """dense(met): instances that pay minus the distance, whose goal is met where met(distance) says so."""

    def make(met):
        def step(self, obs, reward, terminated, truncated, info):
            return obs, reward, terminated, truncated, {"is_success": bool(met(distance(self.point, self.goal)))}

        return made(step=told(step), compute_reward=lambda self, a, d, info: -distance(a, d))

    return make


def test_dense_rewards_tell_nothing_of_goals_that_no_random_step_met(dense):
    envs = dense(lambda far: far < 1e-6)
    spec = check(envs)
    assert spec.reward_values is None
    assert "hindsight takes any" in spec.lacks["is_success"]
    assert not hasattr(envs[0], "is_success")


def test_dense_rewards_tell_which_goals_are_met_where_steps_did_either(dense):
    envs = dense(lambda far: far < 1.0)
    spec = check(envs)
    assert spec.reward_values is None
    assert "is_success" not in spec.lacks
    places = GOAL + np.float32([[0.5, 0], [1.5, 0]])
    assert envs[0].is_success(places, np.concatenate([GOAL, GOAL]), {}).tolist() == [True, False]


def test_dense_rewards_that_successes_do_not_go_with_tell_nothing(dense):
    assert "is_success" in check(dense(lambda far: far > 1.0)).lacks


def test_hindsights_goals_end_episodes_as_real_ones_do(made):
    env, _ = envs = made()
    check(envs)
    assert not hasattr(env, "compute_terminated")
    env.met_goals_end_episodes = True
    assert env.compute_terminated(NEAR, GOAL, {}).tolist() == [True]
    assert env.compute_terminated(FAR, GOAL, {}).tolist() == [False]
    own, _ = made(compute_terminated=lambda self, a, d, info: np.zeros(len(a), bool))
    own.met_goals_end_episodes = True
    assert own.compute_terminated(NEAR, GOAL, {}).tolist() == [False]


def test_without_hindsight_nobody_asks_for_a_reward_of_other_goals(made, told):
    def step(self, obs, reward, *rest):
        return obs, float(self.point[0]), *rest

    refused(made(step=told(step)), "compute_reward gives")
    assert check(made(step=told(step)), hindsight=False).reward_values is None


def test_an_environment_without_compute_reward_is_for_training_without_hindsight(point_env, made):
    step = vars(point_env.PointEnv)["step"]
    point = {name: value for name, value in vars(point_env.PointEnv).items() if name[0] != "_"}

    def paid(self, action):
        self.compute_reward = point["compute_reward"].__get__(self)
        answer = step(self, action)
        del self.compute_reward
        return answer

    plain = {**point, "__init__": point_env.PointEnv.__init__, "step": paid}
    del plain["compute_reward"]
    refused(made(object, **plain), "it has no compute_reward, .* or train with --her.strategy none")
    check(made(object, **plain), hindsight=False)


# Instances and generators


def test_two_that_share_a_simulation_are_refused(point_env):
    one = point_env.PointEnv()
    shared = type("Shared", (), {"__getattr__": lambda self, name: getattr(one, name)})
    refused([Guarded(shared(), "mine:Odd") for _ in range(2)], "two instances of it share a simulation")


def from_global_generator(self, seed=None):
    self.point, self.goal = np.random.uniform(-1, 1, (2, 2)).astype(np.float32)  # noqa: NPY002
    self.steps = 0
    return self.observe(), {}


def from_seeded_global_generator(self, seed=None):
    if seed is not None:
        np.random.seed(seed)  # noqa: NPY002
    return from_global_generator(self)


@pytest.mark.parametrize(("reset", "repeats"), [(from_global_generator, False), (from_seeded_global_generator, True)])
def test_an_episode_that_its_seed_does_not_repeat_is_told(made, reset, repeats):
    lacks = check(made(reset=reset)).lacks
    assert any("repeats an episode" in name for name in lacks) == (not repeats)


def test_an_environment_whose_noise_is_not_seeded_is_told(made, told):
    def step(self, obs, *rest):
        return obs | {"observation": obs["observation"] + np.random.uniform()}, *rest  # noqa: NPY002

    assert any("repeats an episode" in name for name in check(made(step=told(step))).lacks)


def test_global_generators_stay_as_they_were(made):
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    expected = np.random.uniform(), random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    check(made(reset=lambda self, seed=None: random.random() and from_global_generator(self)))
    assert (np.random.uniform(), random.random()) == expected  # noqa: NPY002


def test_the_same_is_asked_of_an_environment_each_time(made):
    actions = []

    def step(self, action):
        actions.append(action)
        return type(self).__mro__[1].step(self, action)

    for _ in range(2):
        check(made(step=step))
    half = len(actions) // 2
    np.testing.assert_array_equal(actions[:half], actions[half:])
    assert len({tuple(action) for action in actions}) >= STEPS
    assert np.abs(actions).max() <= 1


# Steps


def test_an_episode_that_diverges_is_dropped_and_another_one_tried(made, told):
    count = iter(range(10**6))

    def step(self, obs, *rest):
        if next(count) % 50 == 7:
            raise SimulationDiverged("boom")
        return obs, *rest

    assert check(made(step=told(step))).reward_values == (-1, 0)


def test_ten_that_diverge_are_no_accident(made, told):
    def step(self, obs, *rest):
        return obs | {"observation": obs["observation"] * (np.nan if self.steps > 3 else 1)}, *rest

    refused(made(step=told(step)), "10 episodes of random actions were dropped; the last: step gave array")


def test_info_that_changes_is_refused(made, told):
    def step(self, obs, reward, terminated, truncated, info):
        return obs, reward, terminated, truncated, info | ({"late": np.zeros(1)} if self.steps > 9 else {})

    refused(made(step=told(step)), r"info must hold the same NumPy arrays at every step: first they were {}, now {'la")


@pytest.mark.parametrize("place", [2, 3])
def test_flags_are_met_or_not(made, told, place):
    def step(self, *answer):
        return *answer[:place], "no", *answer[place + 1 :]

    refused(made(step=told(step)), "step gave 'no' for t.*ed; it must be one number")


@pytest.mark.parametrize(
    "space",
    [
        SimpleNamespace(n=4, shape=(), dtype=np.int64),
        SimpleNamespace(nvec=[2, 2], shape=(2,), dtype=np.int64),
        SimpleNamespace(spaces=()),
        SimpleNamespace(low=-np.ones(3), high=np.ones(3), shape=(3,), dtype=np.float32),
        SimpleNamespace(low=-np.ones((2, 1)), high=np.ones((2, 1))),
        SimpleNamespace(low=-np.ones(2), high=np.ones(2), shape=(2,), dtype=np.int64),
    ],
)
def test_a_space_of_other_actions_is_refused(made, space):
    refused(made(action_space=space), r"actions are 2 numbers in \[-1, 1\] \(action_dim\), and its action_space is")


def test_the_right_space_is_right(made):
    check(made(action_space=SimpleNamespace(low=-np.ones(2), high=np.ones(2), shape=(2,), dtype=np.float32)))
    check(made(action_space=SimpleNamespace(low=-1, high=1)))


# What it lacks


def test_what_it_lacks_is_told_with_what_is_so_without(point_env, made):
    assert set(check(made()).lacks) == {"state_dict", "render"}
    assert set(check(made(point_env.SavablePointEnv)).lacks) == {"render"}
    assert set(check(made(state_dict=lambda self: {}, render=lambda self: None)).lacks) == {"state_dict"}


def test_endings_that_hindsight_has_to_suppose_are_told(made, told):
    def step(self, obs, reward, terminated, truncated, info):
        return obs, reward, self.steps == 5, truncated, info

    assert "compute_terminated" in check(made(step=told(step))).lacks


@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_lack_nothing(make_task, name):
    assert probe(make_task(name), name, make_task(name)).lacks == {}
