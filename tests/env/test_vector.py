"""Environments side by side are what each of them is alone."""

import numpy as np
import pytest

from env import TASKS, EnvError, EnvSpec, VectorEnv, probe
from env.foreign import Guarded

KEYS = ("observation", "achieved_goal", "desired_goal")


@pytest.fixture
def make_vector(make_task):
    def make(count=3, seeds=None, name="reach", reward="sparse-reach", **config):
        envs = [make_task(name, reward, **config) for _ in range(count)]
        vector = VectorEnv(envs, probe(envs[0], name))
        vector.reset(list(range(count)) if seeds is None else seeds)
        return vector

    return make


def point_vector(*envs):
    """Environments of two actions side by side, just reset."""
    vector = VectorEnv(list(envs), probe(envs[0], "point"))
    vector.reset(list(range(len(envs))))
    return vector


def actions(steps, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, count, 6)).astype(np.float32)


def row(obs, i):
    return {key: obs[key][i].copy() for key in KEYS}


def assert_same(left, right):
    for key in KEYS:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("reward", ["sparse-reach", "staged"])
def test_each_environment_is_what_it_would_be_alone(make_vector, make_task, scenes, name, reward):
    vector = make_vector(name=name, reward=reward, max_episode_steps=8)
    alone = [make_task(name, reward, max_episode_steps=8) for _ in range(3)]
    expected = [env.reset(seed=i)[0] for i, env in enumerate(alone)]
    if alone[1].has_cube:
        for env in (alone[1], vector.envs[1]):
            scenes.put_between_pads(env.sim)
            scenes.shut(env.sim)
    pinched = 0
    for t, action in enumerate(0.3 * actions(20, 3)):
        for i in range(3):
            if t or i != 1:
                assert_same(row(vector.obs, i), expected[i])
        step = vector.step(action)
        for i, env in enumerate(alone):
            obs, reward, terminated, truncated, info = env.step(action[i])
            assert_same(row(step.next_obs, i), obs)
            assert step.reward[i] == np.float32(reward)
            assert (step.terminated[i], step.truncated[i]) == (terminated, truncated)
            assert step.success[i] == info["is_success"]
            assert {"is_success", "metrics", "stages", *step.info} == info.keys()
            for key, value in step.info.items():
                np.testing.assert_array_equal(value[i], info[key], err_msg=key)
            assert {key: value[i] for key, value in step.metrics.items()} == info["metrics"]
            assert {key: value[i] for key, value in step.stages.items()} == info["stages"]
            expected[i] = env.reset()[0] if truncated else obs
            pinched += info["stages"].get("pinched", False)
    assert not step.diverged.any()
    assert pinched >= 5 or name != "pick-place"


def test_next_obs_is_where_the_step_led_and_obs_where_the_new_episode_starts(make_vector):
    vector = make_vector(max_episode_steps=2)
    vector.step(actions(1, 3)[0])
    goals = vector.obs["desired_goal"].copy()
    step = vector.step(actions(1, 3)[0])
    assert step.truncated.all()
    np.testing.assert_array_equal(step.next_obs["desired_goal"], goals)
    assert (vector.obs["desired_goal"] != goals).any(-1).all()


def test_a_step_is_a_snapshot_that_later_steps_do_not_change(make_vector):
    vector = make_vector()
    step = vector.step(actions(1, 3)[0])
    before = {key: value.copy() for key, value in step.next_obs.items()}
    for action in actions(3, 3):
        vector.step(action)
    assert_same(step.next_obs, before)


def test_stages_are_told_for_each_environment_in_the_tasks_order(make_vector, scenes):
    vector = make_vector(name="pick-place", reward="sparse")
    scenes.put_between_pads(vector.envs[1].sim)
    scenes.shut(vector.envs[1].sim)
    step = vector.step(np.zeros((3, 6), np.float32))
    assert tuple(step.stages) == vector.envs[0].stages
    assert all(value.dtype == bool and value.shape == (3,) for value in step.stages.values())
    assert step.stages["pinched"].tolist() == step.stages["lifted"].tolist() == [False, True, False]
    assert step.info["cube_hold"].tolist() == [1, 2, 1]


def test_stages_and_metrics_that_one_environment_alone_tells_are_none_of_the_others(point_env):
    class Telling(point_env.PointEnv):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, info | {"stages": {"moved": True}, "metrics": {"speed": 2.0}}

    step = point_vector(point_env.PointEnv(), Telling(), point_env.PointEnv()).step(np.zeros((3, 2)))
    assert step.stages["moved"].tolist() == [False, True, False]
    np.testing.assert_array_equal(step.metrics["speed"], [np.nan, 2.0, np.nan])


def test_environments_without_stages_make_steps_without(point_env):
    assert point_vector(point_env.PointEnv()).step(np.zeros((1, 2))).stages == {}


@pytest.mark.usefixtures("quiet_log")
@pytest.mark.parametrize(("name", "speed"), [("reach", 1e12), ("reach", np.nan), ("pick-place", np.nan)])
def test_a_diverged_environment_is_marked_and_reset_and_the_others_do_not_notice(make_vector, name, speed):
    vector, undisturbed = make_vector(name=name), make_vector(name=name)
    plan = actions(6, 3)
    for action in plan[:2]:
        vector.step(action)
        undisturbed.step(action)
    vector.envs[1].sim.data.qvel[0] = speed
    step, expected = vector.step(plan[2]), undisturbed.step(plan[2])
    assert step.diverged.tolist() == [False, True, False]
    assert not (step.terminated | step.truncated).any()
    assert step.begun.tolist() == step.diverged.tolist()
    assert vector.envs[1].steps == 0
    assert not step.success[1]
    assert not any(value[1] for value in step.stages.values())
    assert all(np.isfinite(value).all() for value in (*step.next_obs.values(), *step.info.values(), step.reward))
    assert all(np.isfinite(vector.obs[key]).all() for key in KEYS)
    for i in (0, 2):
        assert_same(row(step.next_obs, i), row(expected.next_obs, i))
    for action in plan[3:]:
        step, expected = vector.step(action), undisturbed.step(action)
        assert not step.diverged.any()
        for i in (0, 2):
            assert_same(row(step.next_obs, i), row(expected.next_obs, i))
            assert step.reward[i] == expected.reward[i]
            for key, value in step.info.items():
                np.testing.assert_array_equal(value[i], expected.info[key][i])
            assert {key: value[i] for key, value in step.stages.items()} == {
                key: value[i] for key, value in expected.stages.items()
            }
    assert vector.envs[1].steps == 3


@pytest.mark.parametrize("name", ["desired_goal", "reward", "cost"])
def test_a_number_that_is_not_finite_is_named_before_anybody_stores_it(point_env, name):
    class Poisoned(point_env.PointEnv):
        def step(self, action):
            obs, reward, *ends, info = super().step(action)
            obs, info = obs | {}, info | {"cost": np.zeros(1)}
            if self.steps == 3:
                told = {"desired_goal": obs, "reward": {}, "cost": info}[name]
                told[name] = np.full(1, np.nan)
                reward = np.nan if name == "reward" else reward
            return obs, reward, *ends, info

    vector = untried_vector(Poisoned(), Poisoned(), cost=(1,))
    for _ in range(2):
        vector.step(np.zeros((2, 2)))
    with pytest.raises(EnvError, match=f"^{name} of an environment's step is not finite; nothing of"):
        vector.step(np.zeros((2, 2)))


@pytest.fixture
def poisoned(point_env):
    """poisoned(*steps, reset=()): an environment whose observations at these steps, and at these resets, of all that
    it takes, are NaN."""

    class Poisoned(point_env.SavablePointEnv):
        def __init__(self, *steps, resets=()):
            super().__init__()
            self.at = {"step": steps, "reset": resets}
            self.taken = {"step": 0, "reset": 0}

        def count(self, what, answer):
            self.taken[what] += 1
            obs = answer[0] | ({"observation": np.full(2, np.nan)} if self.taken[what] in self.at[what] else {})
            return obs, *answer[1:]

        def reset(self, seed=None):
            return self.count("reset", super().reset(seed))

        def step(self, action):
            return self.count("step", super().step(action))

        def state_dict(self):
            return super().state_dict() | {"taken": dict(self.taken)}

        def load_state_dict(self, state):
            super().load_state_dict(state)
            self.taken = dict(state["taken"])

    return lambda *steps, resets=(): Guarded(Poisoned(*steps, resets=resets), "mine:Poisoned")


def untried_vector(*envs, **info_shapes):
    """Environments of two actions side by side, just reset, that would not pass the check."""
    spec = EnvSpec(2, 2, 2, 20, info_shapes, 1.0, None)
    vector = VectorEnv(list(envs), spec)
    vector.reset(list(range(len(envs))))
    return vector


def test_an_episode_that_runs_into_nan_is_dropped_and_the_run_goes_on_also_after_a_resume(poisoned):
    vector, resumed = (untried_vector(poisoned(7), poisoned()) for _ in range(2))
    still = np.zeros((2, 2), np.float32)
    for _ in range(5):
        vector.step(still)
    resumed.load_state_dict(vector.state_dict(), [0, 0])
    for envs in (vector, resumed):
        diverged = [envs.step(still).diverged.tolist() for _ in range(30)]
        assert diverged == [[i == 1, False] for i in range(30)]
        assert all(np.isfinite(value).all() for value in envs.obs.values())


def test_only_a_run_of_episodes_that_diverge_ends_the_run_and_a_resume_goes_on_counting(poisoned):
    steps = [1, *range(22, 40)]  # step 21 ends the one good episode
    vector = untried_vector(poisoned(), poisoned(*steps))
    still = np.zeros((2, 2), np.float32)
    for _ in range(28):
        vector.step(still)
    resumed = untried_vector(poisoned(), poisoned(*steps))
    resumed.load_state_dict(vector.state_dict(), [0, 0])
    for _ in range(2):
        assert resumed.step(still).diverged.tolist() == [False, True]
    with pytest.raises(
        EnvError, match=r"^environment 1: 10 episodes in a row were dropped.*step gave array.*nan"
    ) as caught:
        resumed.step(still)
    assert caught.value.status == 2


def test_a_start_that_is_nan_is_followed_by_another(poisoned):
    vector = untried_vector(poisoned(3, resets=(1, 3, 4)))
    assert np.isfinite(vector.obs["observation"]).all()
    diverged = [vector.step(np.zeros((1, 2))).diverged[0] for _ in range(4)]
    assert diverged == [False, False, True, False]
    assert np.isfinite(vector.obs["observation"]).all()
    with pytest.raises(EnvError, match=r"environment 0: 10 episodes in a row were dropped.*reset gave"):
        untried_vector(poisoned(resets=range(1, 20)))


def test_closing_asks_each_environment_and_survives_what_fails(point_env, capsys):
    closed = []

    class Closing(point_env.PointEnv):
        def close(self):
            closed.append(self)
            raise RuntimeError("it will not")

    envs = [Closing(), point_env.PointEnv(), Closing()]
    point_vector(*envs).close()
    assert closed == [envs[0], envs[2]]
    assert capsys.readouterr().err.count("close() of an environment failed: RuntimeError: it will not\n") == 2


@pytest.mark.parametrize("arrays", [{}, {"cost": np.zeros(2)}, {"other": np.zeros(1)}])
def test_info_arrays_that_come_and_go_are_named(point_env, arrays):
    class Changing(point_env.PointEnv):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, info | ({"cost": np.zeros(1)} if self.steps < 3 else arrays)

    vector = untried_vector(Changing(), Changing(), cost=(1,))
    for _ in range(2):
        vector.step(np.zeros((2, 2)))
    with pytest.raises(EnvError, match="info of environment 0 must hold the same NumPy arrays at every step"):
        vector.step(np.zeros((2, 2)))


def test_an_environment_that_scales_its_action_in_place_does_not_change_ours(point_env):
    class InPlace(point_env.PointEnv):
        def step(self, action):
            action *= 0.05
            return super().step(action)

    ours = np.full((2, 2), 0.5, np.float32)
    point_vector(InPlace(), InPlace()).step(ours)
    np.testing.assert_array_equal(ours, 0.5)


@pytest.mark.parametrize("steps", [0, 3, 7])
def test_restored_in_mid_episode_it_goes_on_bit_by_bit(make_vector, steps):
    original, restored = make_vector(max_episode_steps=5), make_vector(seeds=[7, 8, 9], max_episode_steps=5)
    for action in actions(steps, 3):
        original.step(action)
    assert restored.load_state_dict(original.state_dict(), fresh_seeds=[0, 0, 0]) == []
    assert_same(original.obs, restored.obs)
    for action in actions(12, 3, seed=1):  # over the episode's end, into what the generators draw next
        one, other = original.step(action), restored.step(action)
        assert_same(one.next_obs, other.next_obs)
        np.testing.assert_array_equal(one.reward, other.reward)
        np.testing.assert_array_equal(one.truncated, other.truncated)
        assert_same(original.obs, restored.obs)


def test_environments_that_cannot_tell_their_state_start_afresh_and_are_named(point_env):
    def make():
        return point_vector(point_env.PointEnv(), point_env.SavablePointEnv(), point_env.PointEnv())

    original, restored = make(), make()
    for action in actions(4, 3)[..., :2]:
        original.step(action)
    assert restored.load_state_dict(original.state_dict(), fresh_seeds=[10, 11, 12]) == [0, 2]
    assert_same(row(restored.obs, 1), row(original.obs, 1))
    for i in (0, 2):
        assert_same(row(restored.obs, i), point_env.PointEnv().reset(seed=10 + i)[0])
        assert restored.envs[i].steps == 0
    assert restored.envs[1].steps == 4
