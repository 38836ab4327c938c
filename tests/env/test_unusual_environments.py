"""Environments that people bring: what is legal works, and what is not is named in a sentence."""

from types import SimpleNamespace

import numpy as np
import pytest

from env import EnvError, SimulationDiverged, VectorEnv, probe


def vector(env):
    """One environment twice, side by side."""
    spec = probe(env, "mine:Env")
    envs = VectorEnv([env, env], spec)
    envs.reset([0, 1])
    return envs


def run(envs, steps):
    for _ in range(steps):
        envs.step(np.zeros((2, 2), np.float32))


def test_an_environment_that_scales_its_action_in_place_does_not_change_ours(point_env):
    class InPlace(point_env.PointEnv):
        def step(self, action):
            action *= 0.05
            return super().step(action)

    actions = np.full((2, 2), 0.5, np.float32)
    vector(InPlace()).step(actions)
    np.testing.assert_array_equal(actions, 0.5)


@pytest.mark.parametrize("arrays", [{}, {"cost": np.zeros(2)}, {"other": np.zeros(1)}])
def test_info_arrays_that_come_and_go_are_named(point_env, arrays):
    class Changing(point_env.PointEnv):
        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            late = {"cost": np.zeros(1)} if self.steps < 3 else arrays
            return obs, reward, terminated, truncated, info | late

    envs = vector(Changing())
    with pytest.raises(EnvError, match="the same NumPy arrays"):
        run(envs, 3)


@pytest.mark.parametrize("name", ["reset", "reward", "metrics"])
def test_a_number_that_is_not_finite_is_named_before_it_is_stored(point_env, name):
    class Poisoned(point_env.PointEnv):
        episodes = 0

        def reset(self, seed=None):
            self.episodes += 1
            obs, info = super().reset(seed)
            if name == "reset" and self.episodes > 4:
                obs = obs | {"observation": np.full(2, np.nan, np.float32)}
            return obs, info

        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            if self.steps == 3:
                reward = np.nan if name == "reward" else reward
                info = info | {"metrics": {"speed": np.nan}} if name == "metrics" else info
            return obs, reward, terminated, truncated, info

    envs = vector(Poisoned())
    expected = {"reset": "observation", "reward": "reward", "metrics": "speed"}[name]
    with pytest.raises(EnvError, match=f"{expected} of environment [01] is not finite"):
        run(envs, 50)


def test_an_observation_that_changes_its_shape_is_named(point_env):
    class Shrinking(point_env.PointEnv):
        def step(self, action):
            obs, *rest = super().step(action)
            return obs | {"observation": obs["observation"][: 1 if self.steps > 2 else 2]}, *rest

    envs = vector(Shrinking())
    with pytest.raises(EnvError, match=r"observation of environment 0 had shape \(2,\), and now has \(1,\)"):
        run(envs, 3)


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"goal_scale": float("nan")}, "goal_scale must be a positive number"),
        ({"goal_scale": np.ones(2)}, "goal_scale must be a positive number"),
        ({"return_range": lambda self, gamma: (1.0, -1.0)}, "the lower first"),
        ({"return_range": lambda self, gamma: (-np.inf, 0.0)}, "two finite numbers"),
        ({"return_range": (-1.0, 0.0)}, r"return_range\(gamma\) failed: TypeError"),
        ({"return_range": lambda self: (-1.0, 0.0)}, r"return_range\(gamma\) failed: TypeError"),
        ({"reset": lambda self: ({}, {})}, "trying it failed: TypeError"),
        ({"action_space": SimpleNamespace(low=np.zeros(2), high=np.ones(2))}, r"action_space.low is \[0.\]; rescale"),
        ({"action_space": SimpleNamespace(low=-1, high=2)}, r"action_space.high is \[2\]; rescale"),
    ],
)
def test_optional_parts_that_make_no_sense_are_named(point_env, attributes, sentence):
    with pytest.raises(EnvError, match=f"^--env mine:Env: .*{sentence}"):
        probe(type("Odd", (point_env.PointEnv,), attributes)(), "mine:Env")


@pytest.mark.parametrize("extra", [{"a|b": np.zeros(1)}, {"metrics": {"a|b": 1.0}}, {"stages": {"a|b": True}}])
def test_a_name_that_no_checkpoint_can_hold_is_found_at_once(point_env, extra):
    class Named(point_env.PointEnv):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, info | extra

    with pytest.raises(EnvError, match=r"^--env mine:Env: info's 'a\|b': names are strings without \|"):
        probe(Named(), "mine:Env")


def test_goal_functions_are_tried_with_the_numbers_that_the_buffer_keeps(point_env):
    class ByKind(point_env.PointEnv):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, info | {"kind": np.array(1)}

        def is_success(self, achieved_goal, desired_goal, info):
            return np.array([False, True])[info["kind"]]

    with pytest.raises(EnvError, match=r"^--env mine:Env: is_success\(.*info's arrays as float32, failed: IndexError"):
        probe(ByKind(), "mine:Env")

    class OfWholeNumbers(ByKind):
        def is_success(self, achieved_goal, desired_goal, info):
            return np.array([False, True])[info["kind"].astype(int)]

    assert probe(OfWholeNumbers(), "mine:Env").info_shapes == {"kind": ()}


def test_an_evaluation_counts_a_diverged_episode_as_failed(point_env):
    from training.evaluation.rollout import record_episodes, run_episodes

    class Exploding(point_env.PointEnv):
        def step(self, action):
            if self.steps == 4:
                raise SimulationDiverged("boom")
            return super().step(action)

        def render(self):
            return np.zeros((2, 2, 3), np.uint8)

    def stay(inputs):
        return np.zeros((len(inputs), 2), np.float32)

    episodes = list(run_episodes([Exploding(), point_env.PointEnv()], stay, 1.0, 2, seed=0))
    assert [episode.length for episode in episodes] == [5, 20]
    assert not episodes[0].success
    assert len(list(record_episodes(Exploding(), stay, 1.0, 1, seed=0))) == 5
