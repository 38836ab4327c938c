"""Whatever an environment of one's own answers is checked wherever it is used: training, evaluation, pictures."""

import copy

import numpy as np
import pytest

from env import EnvError, SimulationDiverged
from env.guard import Guarded
from env.make import make_envs
from env.tasks.base import TaskConfig
from training.evaluation.rollout import run_episodes

STILL = np.zeros(2, np.float32)
NAN = np.array([0.0, np.nan], np.float32)


def guarded(point_env, **methods):
    return Guarded(type("Odd", (point_env.PointEnv,), methods)(), "mine:Odd")


def answering(point_env, change):
    """Steps as PointEnv does, and answers what `change` makes of it from the third step on."""

    def step(self, action):
        result = point_env.PointEnv.step(self, action)
        return change(result) if self.steps >= 3 else result

    return guarded(point_env, step=step)


def evaluate(env):
    return list(run_episodes([env], lambda inputs: np.zeros((len(inputs), 2), np.float32), 1.0, 2, 0))


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def changed(result, place, value):
    return (*result[:place], value, *result[place + 1 :])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: changed(r, 0, r[0] | {"observation": NAN}), "gave observation with a number that is not finite"),
        (lambda r: changed(r, 0, r[0] | {"achieved_goal": NAN[:1]}), r"gave achieved_goal of shape \(1,\)"),
        (lambda r: changed(r, 0, without(r[0], "desired_goal")), "gave an observation without desired_goal"),
        (lambda r: changed(r, 0, None), "gave an observation without observation"),
        (lambda r: changed(r, 1, np.nan), "gave nan for a reward"),
        (lambda r: changed(r, 1, STILL), r"gave array\(.* for a reward"),
        (lambda r: changed(r, 4, {}), "gave an info without is_success"),
        (lambda r: changed(r, 4, None), "gave an info without is_success"),
        (lambda r: r[:4], r"must return \(obs, reward, terminated, truncated, info\)"),
        (lambda r: changed(r, 3, False), "goes on after max_episode_steps"),
    ],
)
def test_an_evaluation_that_runs_into_nonsense_is_none(point_env, change, sentence):
    with pytest.raises(EnvError, match=f"^step of mine:Odd {sentence}"):
        evaluate(answering(point_env, change))


def test_a_start_is_checked_too(point_env):
    env = guarded(point_env, reset=lambda self, seed=None: {"observation": STILL})
    with pytest.raises(EnvError, match=r"^reset of mine:Odd must return \(obs, info\)"):
        env.reset(seed=0)


@pytest.mark.parametrize("name", ["compute_reward", "compute_terminated", "is_success"])
def test_a_goal_function_answers_for_each_transition(point_env, name):
    env = guarded(point_env, **{name: lambda self, achieved, desired, info: np.zeros(3)})
    with pytest.raises(EnvError, match=rf"^{name} of mine:Odd gave shape \(3,\) for 5 transitions"):
        getattr(env, name)(np.zeros((5, 2)), np.zeros((5, 2)), {})


@pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError, FileNotFoundError])
def test_its_broken_pipe_is_not_ours(point_env, error):
    def step(self, action):
        raise error("the simulator is gone")

    with pytest.raises(EnvError, match=f"^step of mine:Odd failed: {error.__name__}: the simulator is gone"):
        evaluate(guarded(point_env, step=step))


@pytest.mark.parametrize("error", [RuntimeError, SimulationDiverged])
def test_other_errors_are_its_own(point_env, error):
    def step(self, action):
        raise error("in my own code")

    env = guarded(point_env, step=step)
    env.reset(seed=0)
    with pytest.raises(error, match=r"^in my own code"):
        env.step(STILL)


def test_all_else_is_the_environments(point_env):
    env = guarded(point_env, goal_scale=7.0)
    assert (env.obs_dim, env.goal_scale) == (2, 7.0)
    assert not hasattr(env, "state_dict")
    assert not hasattr(env, "is_success")
    assert copy.copy(env).goal_scale == 7.0
    plain = point_env.PointEnv()
    plain.reset(seed=3)
    env.reset(seed=3)
    for ours, theirs in zip(env.step(STILL)[0].values(), plain.step(STILL)[0].values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_each_call_makes_an_environment(tmp_path, monkeypatch):
    (tmp_path / "one_for_all.py").write_text("ONE = object()\ndef make():\n    return ONE\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvError, match="returned the same object twice"):
        make_envs("one_for_all:make", 2, TaskConfig(), "sparse")
