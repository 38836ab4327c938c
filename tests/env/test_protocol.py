"""An environment of somebody else's is taken as it is, or refused with a sentence that says what is wrong with it."""

import sys

import numpy as np
import pytest

from env import DEFAULT_REWARD, TASKS, EnvError, EnvFailed, TaskConfig, is_custom, make_envs, probe
from env.probe import load_factory


@pytest.mark.parametrize("reward", ["sparse", "sparse-reach", "staged"])
@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_follow_the_protocol(make_task, name, reward):
    task = make_task(name, reward)
    spec = probe(task, name)
    assert (spec.obs_dim, spec.goal_dim, spec.action_dim) == (task.obs_dim, 3, 6)
    assert spec.max_episode_steps == task.max_episode_steps
    assert spec.goal_scale == 10.0


@pytest.mark.parametrize("kind", ["PointEnv", "SavablePointEnv"])
def test_an_environment_of_forty_lines_follows_it_too(point_env, kind):
    spec = probe(getattr(point_env, kind)(), "point")
    assert (spec.obs_dim, spec.goal_dim, spec.action_dim, spec.max_episode_steps) == (2, 2, 2, 20)
    assert spec.info_shapes == {}
    assert spec.goal_scale == 1.0


def test_info_arrays_are_stored_and_numbers_are_not(point_env):
    class WithInfo(point_env.PointEnv):
        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            return obs, reward, terminated, truncated, info | {"force": np.zeros(3), "mass": np.array(1.0), "n": 7}

    assert probe(WithInfo(), "point").info_shapes == {"force": (3,), "mass": ()}


# Each violation with what the refusal must say. `result` is what the environment would have returned.


def without_goal(result):
    obs = {key: value for key, value in result[0].items() if key != "desired_goal"}
    return (obs, *result[1:])


def with_obs(**changes):
    return lambda result: (result[0] | changes, *result[1:])


def with_reward(reward):
    return lambda result: (result[0], reward, *result[2:])


RETURNS = [
    ("reset", lambda result: result[0], r"reset\(seed=…\) must return \(obs, info\)"),
    ("reset", without_goal, "the observation from reset must hold observation, achieved_goal, desired_goal"),
    ("reset", with_obs(observation=np.zeros(3)), r"observation of the observation from reset must have shape \(2,\)"),
    ("reset", with_obs(desired_goal=np.zeros((1, 2))), r"desired_goal of .* must have shape \(2,\), and has \(1, 2\)"),
    ("reset", with_obs(achieved_goal=np.array([0, np.nan])), "achieved_goal of .* holds a number that is not finite"),
    ("step", lambda result: result[:4], "step must return"),
    ("step", without_goal, "the observation from step must hold"),
    ("step", with_obs(observation=np.zeros(5)), r"observation of the observation from step must have shape \(2,\)"),
    ("step", with_reward(float("nan")), "the reward must be a finite number, not nan"),
    ("step", with_reward(np.zeros(1)), "the reward must be a finite number"),
    ("step", lambda result: (*result[:4], {}), 'info must hold "is_success"'),
    ("step", with_reward(-0.5), "compute_reward gives -1 for a step that was rewarded -0.5"),
]


@pytest.mark.parametrize(("method", "change", "sentence"), RETURNS)
def test_a_wrong_return_value_is_named(point_env, method, change, sentence):
    class Wrong(point_env.PointEnv):
        pass

    setattr(Wrong, method, lambda self, *a, **k: change(getattr(point_env.PointEnv, method)(self, *a, **k)))
    with pytest.raises(EnvError, match=f"--env point: .*{sentence}"):
        probe(Wrong(), "point")


@pytest.mark.parametrize("attribute", ["obs_dim", "goal_dim", "action_dim", "max_episode_steps"])
@pytest.mark.parametrize("value", [None, 0, 2.0])
def test_a_wrong_size_is_named(point_env, attribute, value):
    env = point_env.PointEnv()
    setattr(env, attribute, value)
    with pytest.raises(EnvError, match=f"{attribute} must be a positive whole number, and is {value}"):
        probe(env, "point")


@pytest.mark.parametrize("function", ["compute_reward", "compute_terminated", "is_success"])
def test_a_function_that_is_not_vectorised_is_named(point_env, function):
    env = point_env.PointEnv()
    setattr(env, function, lambda *goals_and_info: -1.0)
    with pytest.raises(EnvError, match=rf"{function} of 2 transitions must return shape \(2,\), and returned \(\)"):
        probe(env, "point")


@pytest.mark.parametrize("function", ["compute_terminated", "is_success"])
def test_a_function_that_does_not_take_the_info_is_named_with_what_it_must_take(point_env, function):
    env = point_env.PointEnv()
    setattr(env, function, lambda achieved, desired: np.zeros(len(achieved), bool))
    sentence = rf"--env point: {function}\(achieved_goal, desired_goal, info\) of 2 .*3 were given"
    with pytest.raises(EnvError, match=sentence):
        probe(env, "point")


# Finding it


@pytest.fixture
def write_module(monkeypatch, tmp_path):
    """Puts a module into the working directory, which load_factory searches; sys.path is put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return lambda name, text: (tmp_path / f"{name}.py").write_text(text)


def test_a_callable_of_a_module_in_the_working_directory_is_found(write_module):
    write_module("their_env_found", "def make():\n    return 'an environment'\n")
    assert load_factory("their_env_found:make")() == "an environment"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("their_env_nowhere:make", "there is no module 'their_env_nowhere' in "),
        ("their_env.nowhere:make", "there is no module 'their_env.nowhere' in "),
        ("their_env_broken:make", "importing their_env_broken failed: No module named 'their_missing_dependency'"),
        ("their_env_small:other", "'other' is no callable of .*their_env_small.py"),
        ("their_env_small:NUMBER", "'NUMBER' is no callable"),
        ("their_env_small:", "it takes a module and a callable of it"),
        (":make", "it takes a module and a callable of it"),
    ],
)
def test_what_cannot_be_found_is_named(write_module, name, sentence):
    write_module("their_env_broken", "import their_missing_dependency\n")
    write_module("their_env_small", "NUMBER = 1\n")
    with pytest.raises(EnvError, match=f"--env {name}: {sentence}"):
        load_factory(name)


def test_an_error_inside_their_module_is_shown_as_it_is(write_module):
    write_module("their_env_raising", "raise RuntimeError('their own trouble')\n")
    with pytest.raises(RuntimeError, match="their own trouble"):
        load_factory("their_env_raising:make")


def test_each_environment_of_a_custom_factory_is_its_own(write_module):
    write_module("their_env_class", "class Env:\n    pass\n")
    envs = make_envs("their_env_class:Env", 3, TaskConfig(), DEFAULT_REWARD)
    assert len({id(env) for env in envs}) == 3


def test_what_is_not_plugged_in_may_be_later(write_module):
    fails = "    def {}(self, seed=None):\n        raise OSError('the gripper is not plugged in')\n"
    write_module("their_env_unplugged", "class Env:\n" + fails.format("__init__"))
    with pytest.raises(EnvFailed, match="--env their_env_unplugged:Env: calling it failed: OSError: the gripper"):
        make_envs("their_env_unplugged:Env", 1, TaskConfig(), DEFAULT_REWARD)
    sizes = "    obs_dim = goal_dim = action_dim = max_episode_steps = 1\n"
    write_module("their_env_unplugged_later", "class Env:\n" + sizes + fails.format("reset"))
    (env,) = make_envs("their_env_unplugged_later:Env", 1, TaskConfig(), DEFAULT_REWARD)
    with pytest.raises(EnvFailed, match="--env mine:Env: trying it failed: OSError: the gripper"):
        probe(env, "mine:Env")


def test_an_unknown_task_is_named_with_those_that_exist():
    with pytest.raises(EnvError, match="--env stack: no such task; there are reach, push, pick-place, or MODULE:CALL"):
        make_envs("stack", 1, TaskConfig(), DEFAULT_REWARD)


def test_a_goal_kind_that_a_task_has_not_is_named_with_those_that_it_has():
    with pytest.raises(EnvError, match="--env push: this task has no 'air' goals; there are: table"):
        make_envs("push", 1, TaskConfig(goal="air"), DEFAULT_REWARD)


def test_a_colon_makes_a_name_custom():
    assert is_custom("module:Env")
    assert not is_custom("pick-place")
