"""From stored episodes to the agent's batches."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from env import EnvError, make_envs, probe
from her import HERConfig
from training.batches import DeviceRows, Replay, reward_scale
from training.config import TrainConfig
from training.recipes import recipe
from training.setup import discount, make_buffer

CPU = torch.device("cpu")
CONFIG = TrainConfig(env="point_env:PointEnv", num_envs=1, her=HERConfig(k=3.0, capacity=500))
LENGTH = 20


def play(env, buffer, episodes: int, moving_goals: bool = False) -> None:
    """Stores episodes of random actions, whose goals move a little at each step where `moving_goals` says so."""
    rng = np.random.default_rng(1)
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        ended = False
        while not ended:
            action = rng.uniform(-1, 1, env.action_dim)
            next_obs, reward, terminated, truncated, info = env.step(action)
            if moving_goals:
                next_obs = next_obs | {"desired_goal": next_obs["desired_goal"] + rng.normal(size=2)}
            ended = terminated or truncated
            step = SimpleNamespace(
                next_obs=next_obs,
                reward=reward,
                info={key: value for key, value in info.items() if isinstance(value, np.ndarray)},
                diverged=np.array([False]),
                terminated=np.array([terminated]),
                truncated=np.array([truncated]),
            )
            buffer.add(obs, action, step)
            obs = next_obs


@pytest.fixture
def stored(point_env):
    """stored(**fields of Replay): ten episodes of a PointEnv with goals that move; row r has seen the number r."""

    def make(**fields) -> Replay:
        env = point_env.PointEnv()
        buffer = make_buffer(CONFIG, probe(env, CONFIG.env), np.random.default_rng(0))
        play(env, buffer, 10, moving_goals=True)
        buffer.rows["observation"][:] = np.arange(500)[:, None]
        usual = {"her": CONFIG.her, "gamma": 0.9, "n_step": 2, "reward_values": (-1.0, 0.0)}
        return Replay(buffer, env, **(usual | fields))

    return make


def test_batches_are_dealt_so_that_each_has_its_share_of_hindsight_and_rows_stay_whole(stored):
    replay = stored(reward_scale=4.0)
    buffer = replay.buffer
    count, size = 3, 12
    rows, goals, relabelled = drawn = replay.draw(count * size)
    assert relabelled.sum() == count * size * 3 // 4
    dealt = replay.to_batches(drawn, count, CPU)
    assert dealt.obs.shape == (count, size, 8)
    for k in range(count):
        for i in range(size):
            j = i * count + k  # each third row goes to the same batch
            row, goal = int(rows[j]), goals[j]
            steps = min(replay.n_step, int(buffer.steps_after[row]))
            achieved = buffer.rows["achieved_goal"][row : row + steps + 1]
            assert dealt.obs[k, i, 0] == row
            assert dealt.next_obs[k, i, 0] == row + steps
            # A hindsight goal stays; one of the environment's own is what it was by then.
            next_goal = goal if relabelled[j] else buffer.rows["desired_goal"][row + steps]
            for inputs, reached, desired in (
                (dealt.obs, achieved[0], goal),
                (dealt.next_obs, achieved[-1], next_goal),
            ):
                np.testing.assert_allclose(inputs[k, i, 2:], [*reached, *desired, *(desired - reached)], rtol=1e-5)
            np.testing.assert_array_equal(dealt.action[k, i], buffer.rows["action"][row])
            paid = buffer.rows["reward"][row : row + steps]
            if relabelled[j]:
                paid = [replay.judge.compute_reward(achieved[n + 1], goal, {}) for n in range(steps)]
            assert dealt.reward[k, i].item() == pytest.approx(sum(0.9**n * r for n, r in enumerate(paid)) / 4, abs=1e-5)
            assert dealt.discount[k, i].item() == pytest.approx(0.9**steps)
            assert dealt.terminated[k, i] == 0
    assert relabelled.reshape(size, count).sum(0).tolist() == [9, 9, 9]


def test_rows_on_the_device_come_to_the_same_bits_as_those_in_the_buffer_as_it_grows_and_wraps(stored):
    """The CPU stands for the device here."""
    replay = stored()
    buffer = replay.buffer
    copied = replace(replay, on_device=DeviceRows(buffer, CPU))
    for episodes in (1, 0, 12, 30):  # some of a ring of 500, none, past its end, more than it holds
        play(replay.judge, buffer, episodes, moving_goals=True)
        drawn = replay.draw(36)
        for ours, theirs in zip(copied.to_batches(drawn, 3, CPU), replay.to_batches(drawn, 3, CPU), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.dtype == torch.float32
            assert ours.is_contiguous()
            assert theirs.is_contiguous()


def test_rows_on_the_device_are_those_of_a_buffer_that_was_loaded(stored):
    replay, other = stored(), stored()
    rows = DeviceRows(replay.buffer, CPU)
    rows.columns()
    other.buffer.rows["action"][:] += 1
    replay.buffer.load_state_dict(other.buffer.state_dict())
    rows.forget()
    used = replay.buffer.used
    assert torch.equal(rows.columns()["action"][:used], torch.from_numpy(other.buffer.rows["action"][:used]))


def test_without_a_gpu_no_rows_are_copied(stored):
    assert DeviceRows.where_they_fit(stored().buffer, CPU) is None


def test_a_hindsight_reward_that_is_not_finite_is_blamed_on_the_environment(stored, monkeypatch):
    replay = stored()
    drawn = replay.draw(16)
    monkeypatch.setattr(replay.judge, "compute_reward", lambda achieved, desired, info: np.full(len(achieved), np.nan))
    with pytest.raises(EnvError, match="returned a number that is not finite"):
        replay.to_batches(drawn, 1, CPU)


# What a return can be


@pytest.mark.parametrize(
    ("values", "scale", "expected"),
    [
        ((-1.0, 0.0), 1.0, (-10.0, 0.0)),
        ((0.0, -1.0), 1.0, (-10.0, 0.0)),
        ((0.0, 1.0), 1.0, (0.0, 10.0)),
        ((-1000.0, 0.0), 1000.0, (-10.0, 0.0)),
        ((5.0, 10.0), 10.0, (0.5, 10.0)),  # a termination leaves what one step pays
        ((-10.0, -5.0), 10.0, (-10.0, -0.5)),
        ((-1.0, 10.0), 10.0, (-1.0, 10.0)),
        (None, 3.0, None),
    ],
)
def test_returns_of_two_valued_rewards_lie_between_those_of_the_one_and_the_other_for_ever(
    stored, values, scale, expected
):
    replay = stored(reward_values=values, reward_scale=scale)
    assert replay.value_range == (expected and pytest.approx(expected))
    batch = replay.to_batches(replay.draw(8), 1, CPU)
    low, high = expected or (-np.inf, np.inf)
    np.testing.assert_allclose(batch.low, np.full((1, 8), low), rtol=1e-6)
    np.testing.assert_allclose(batch.high, np.full((1, 8), high), rtol=1e-6)


@pytest.mark.parametrize("name", ["reach", "push", "pick-place"])
def test_what_an_episode_of_the_arm_earns_from_each_state_on_lies_within_that_states_bounds(name):
    """For the real goals and for hindsight's, that is. A return is bounded by what the later states could add to it."""
    config = replace(recipe(name), num_envs=1)
    (env,) = make_envs(name, 1, config.task, "sparse-reach")
    spec = probe(env, name)
    buffer = make_buffer(config, spec, np.random.default_rng(0))
    play(env, buffer, 3)
    rows = buffer.sample_rows(200)
    for goals in (buffer.rows["desired_goal"][rows], buffer.rows["achieved_goal"][rows + buffer.steps_after[rows]]):
        info = {key[5:]: column for key, column in buffer.rows.items() if key.startswith("info/")}
        low, high = env.return_bounds(0.9, goals, {key: column[rows] for key, column in info.items()})
        assert low.shape == high.shape == (200,)
        assert high.std() > 0.01  # each state's own
        for row, goal, lowest, highest in zip(rows, goals, low, high, strict=True):
            steps = np.arange(row, row + buffer.steps_after[row])
            rewards = env.compute_reward(
                buffer.rows["achieved_goal"][steps + 1],
                np.tile(goal, (len(steps), 1)),
                {key: column[steps] for key, column in info.items()},
            )
            earned = rewards @ 0.9 ** np.arange(len(steps))
            assert lowest - 1e-3 <= earned <= highest + 1e-3


def test_bounds_of_the_arms_states_reach_the_batch_by_the_rewards_scale():
    config = replace(recipe("reach"), num_envs=1)
    (env,) = make_envs("reach", 1, config.task, "sparse-reach")
    buffer = make_buffer(config, probe(env, "reach"), np.random.default_rng(0))
    play(env, buffer, 3)
    one, half = (Replay(buffer, env, config.her, 0.9, 1, None, scale) for scale in (1.0, 2.0))
    drawn = one.draw(64)
    whole, halved = (replay.to_batches(drawn, 1, CPU) for replay in (one, half))
    rows, goals, _ = drawn
    low, high = env.return_bounds(0.9, goals, {"grasp_point_before": buffer.rows["info/grasp_point_before"][rows]})
    np.testing.assert_allclose(whole.low[0], low, rtol=1e-6)
    np.testing.assert_allclose(whole.high[0], high, rtol=1e-6)
    np.testing.assert_allclose(halved.high[0], high / 2, rtol=1e-6)


# What rewards and time are measured by


@pytest.mark.parametrize(
    ("values", "scale"), [((-1.0, 0.0), 1.0), ((0.0, 1e3), 1e3), ((-5.0, -10.0), 10.0), ((0.0, 0.0), 1.0)]
)
def test_the_scale_of_two_rewards_is_the_larger(stored, values, scale):
    assert reward_scale(stored().buffer, values) == scale


def test_the_scale_of_other_rewards_is_their_root_mean_square(stored):
    buffer = stored().buffer
    buffer.rows["reward"][:] = 1e9  # of rows that no transition leaves, too
    transitions = buffer.steps_after > 0
    buffer.rows["reward"][transitions] = rewards = np.random.default_rng(0).normal(300, 20, transitions.sum())
    assert reward_scale(buffer, None) == pytest.approx(np.sqrt(np.mean(rewards**2)), rel=1e-6)
    buffer.rows["reward"][transitions] = 0
    assert reward_scale(buffer, None) == 1.0


@pytest.mark.parametrize(
    ("steps", "gamma", "expected"),
    [
        (50, "auto", 0.96),
        (100, "auto", 0.98),
        (300, "auto", 0.99),
        (10**6, "auto", 0.99),
        (1, "auto", 0.5),
        (50, 0.9, 0.9),
    ],
)
def test_the_discount_looks_half_an_episode_ahead_and_100_steps_at_most(steps, gamma, expected):
    config = TrainConfig(env="reach", gamma=gamma)
    assert discount(config, SimpleNamespace(max_episode_steps=steps)) == pytest.approx(expected)
