"""The agent moves what each loss is meant to move, repeats itself bit by bit, and learns."""

import random

import numpy as np
import pytest
import torch

import checkpoints
from sac import SAC, Batch, SACConfig
from sac.agent import AVERAGED

OBS, ACTION = 5, 3
CPU = torch.device("cpu")


def agent(seed: int = 0, **options) -> SAC:
    return SAC(OBS, ACTION, SACConfig(hidden=(16, 16), **options), CPU, seed)


def leaves(tree, path=""):
    if isinstance(tree, dict):
        return {name: leaf for key, value in tree.items() for name, leaf in leaves(value, f"{path}/{key}").items()}
    return {path: tree}


def assert_same(left: SAC, right: SAC) -> None:
    left, right = leaves(left.state_dict()), leaves(right.state_dict())
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


@pytest.fixture
def updated(random_batch):
    """Provides updated(learner, seeds): the learner, after an update with the random batch of each seed."""

    def updated(learner: SAC, seeds) -> SAC:
        for seed in seeds:
            learner.update(random_batch(seed))
        return learner

    return updated


# What moves what


def test_the_entropy_to_steer_to_is_that_of_each_action_dimension():
    assert agent().target_entropy == -0.5 * ACTION
    assert agent(target_entropy=-1.0).target_entropy == -1.0 * ACTION


def test_targets_are_clipped_to_the_returns_range_unless_entropy_adds_to_it_or_asked_not_to():
    assert agent().clips_target
    assert not agent(backup_entropy=True).clips_target
    assert not agent(clip_target=False).clips_target


def test_targets_follow_the_critics_by_tau(random_batch):
    learner = agent(tau=0.1)
    before = weights(learner.critic_target)
    learner.update(random_batch())
    torch.testing.assert_close(weights(learner.critic_target), 0.9 * before + 0.1 * weights(learner.critic))


def test_the_average_is_the_actor_itself_after_one_update_and_lags_behind_it_then(random_batch):
    learner = agent(lr=1e-2)
    learner.update(random_batch())
    torch.testing.assert_close(weights(learner.actor_average), weights(learner.actor), rtol=0, atol=0)
    before = weights(learner.actor_average)
    learner.update(random_batch(1))
    share = learner.average_share(1)
    assert share == 1 / (1 + AVERAGED)
    torch.testing.assert_close(weights(learner.actor_average), (1 - share) * before + share * weights(learner.actor))


@pytest.mark.parametrize("updates", [1_000, 100_000])
def test_the_average_looks_back_over_its_share_of_the_updates_however_many_there_were(updates):
    learner = agent()
    shares = np.array([learner.average_share(k) for k in range(updates)])
    weight = shares * np.append(np.cumprod((1 - shares)[:0:-1])[::-1], 1.0)
    assert weight.sum() == pytest.approx(1)
    age = (weight * np.arange(updates)[::-1]).sum()
    assert age / updates == pytest.approx(AVERAGED / (1 + AVERAGED), rel=0.02)


def test_adam_steps_by_the_learning_rate(random_batch):
    # Adam's first step is as long as the learning rate, whatever the gradient.
    learner = agent(lr=0.01)
    before = learner.log_alpha.item()
    learner.update(random_batch())
    assert abs(learner.log_alpha.item() - before) == pytest.approx(0.01, rel=1e-3)


def test_targets_and_average_start_as_what_they_follow():
    learner = agent()
    assert torch.equal(weights(learner.critic), weights(learner.critic_target))
    assert torch.equal(weights(learner.actor), weights(learner.actor_average))


def test_metrics_are_scalars_without_a_graph(random_batch):
    learner = agent()
    for name, value in learner.update(random_batch()).items():
        assert value.shape == (), name
        assert not value.requires_grad, name
    assert not learner.alpha.requires_grad


def test_several_batches_at_once_are_one_update_each_in_their_order(random_batch):
    # Their number of normal draws, a multiple of 16, comes from the generator alike in one piece and in several.
    one_by_one, at_once = agent(), agent()
    history = [one_by_one.update(random_batch(seed)) for seed in range(3)]
    means = at_once.update(Batch(*(torch.stack(arrays) for arrays in zip(*map(random_batch, range(3)), strict=True))))
    assert_same(one_by_one, at_once)
    for name, value in means.items():
        assert value.item() == pytest.approx(np.mean([metrics[name].item() for metrics in history]), rel=1e-5), name


# The same bits again


def test_same_seed_gives_the_same_bits(updated):
    assert_same(updated(agent(seed=3), range(5)), updated(agent(seed=3), range(5)))


def test_another_seed_gives_other_weights_and_other_noise():
    first, second = agent(seed=3), agent(seed=4)
    assert not torch.equal(weights(first.actor), weights(second.actor))
    second.actor.load_state_dict(first.actor.state_dict())
    obs = np.ones((4, OBS), np.float32)
    assert (first.act(obs) != second.act(obs)).all()


def through_memory(state, tmp_path):
    return state


def through_disk(state, tmp_path):
    return checkpoints.load(checkpoints.save(tmp_path, 1, {"agent": state}, checkpoints.About()))[0]["agent"]


@pytest.mark.parametrize("way", [through_memory, through_disk])
@pytest.mark.parametrize("updates", [0, 3])
@pytest.mark.filterwarnings("error")
def test_restored_agent_goes_on_bit_by_bit(updated, way, updates, tmp_path):
    original = updated(agent(seed=1), range(updates))
    original.act(np.zeros((2, OBS), np.float32))  # moves the noise along
    original.see(np.random.default_rng(0).normal(3, 2, (9, OBS)))
    restored = agent(seed=2)
    restored.load_state_dict(way(original.state_dict(), tmp_path))
    assert_same(original, restored)
    for learner in (original, restored):
        updated(learner, range(10, 14))
    assert_same(original, restored)
    obs = np.ones((3, OBS), np.float32)
    np.testing.assert_array_equal(original.act(obs), restored.act(obs))
    assert restored.updates == updates + 4


def test_a_state_is_a_snapshot_that_no_update_changes(updated):
    original = updated(agent(), range(2))
    state = original.state_dict()
    before = {name: np.array(value) for name, value in leaves(state).items()}
    restored = agent(seed=9)
    restored.load_state_dict(state)
    updated(original, range(2, 4))
    updated(restored, range(2, 4))
    for name, value in leaves(state).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_learning_rate_is_the_configurations_not_the_states(updated, random_batch):
    slow = agent(lr=1e-6)
    slow.load_state_dict(updated(agent(lr=1e-2), range(2)).state_dict())
    before = weights(slow.actor)
    slow.update(random_batch())
    assert (weights(slow.actor) - before).abs().max() < 1e-5


def test_the_policy_alone_acts_as_the_whole_agent(updated):
    learner, policy = updated(agent(lr=1e-2), range(3)), agent(seed=5)
    learner.see(np.random.default_rng(0).normal(3, 2, (9, OBS)))
    policy.load_networks(learner.state_dict(), only=checkpoints.POLICY)
    obs = np.ones((3, OBS), np.float32)
    np.testing.assert_array_equal(policy.act_deterministic(obs), learner.act_deterministic(obs))


def test_networks_of_another_size_are_refused():
    with pytest.raises(RuntimeError, match="must match the size"):
        agent().load_state_dict(SAC(OBS + 1, ACTION, SACConfig(hidden=(16, 16)), CPU, 0).state_dict())


def test_no_global_generator_is_touched(updated):
    def global_states():
        return (torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate())  # noqa: NPY002

    before = global_states()
    learner = updated(agent(), range(2))
    learner.act(np.zeros((2, OBS), np.float32))
    learner.load_state_dict(learner.state_dict())
    assert global_states() == before


# Acting


def test_deterministic_actions_repeat_and_leave_the_noise_alone():
    learner = agent()
    obs = np.random.default_rng(0).normal(size=(4, OBS)).astype(np.float32)
    noise = learner.generator.get_state()
    np.testing.assert_array_equal(learner.act_deterministic(obs), learner.act_deterministic(obs))
    assert torch.equal(learner.generator.get_state(), noise)
    assert (learner.act(obs) != learner.act(obs)).all()


def test_deterministic_action_is_the_tanh_of_the_average_actors_mean(updated):
    learner = updated(agent(lr=1e-2), range(3))
    obs = torch.ones(1, OBS)
    expected = torch.tanh(learner.actor_average(obs)[0]).numpy()
    assert (expected != torch.tanh(learner.actor(obs)[0]).detach().numpy()).all()
    np.testing.assert_array_equal(learner.act_deterministic(obs.numpy()), expected)


@pytest.mark.parametrize("way", ["act", "act_deterministic"])
def test_what_is_done_depends_on_observations_by_how_they_compare_to_what_was_seen(way):
    seen = np.random.default_rng(0).normal(size=(50, OBS)).astype(np.float32)
    told = []
    for unit, origin in ((1, 0), (1000, 5000)):
        learner = agent()
        learner.see(origin + unit * seen)
        told.append(getattr(learner, way)(origin + unit * seen[:4]))
    np.testing.assert_allclose(*told, atol=1e-4)


def test_updates_see_normalised_observations(random_batch):
    plain, scaled, batch = agent(), agent(), random_batch()
    for learner, unit in ((plain, 1), (scaled, 1024)):
        learner.see(unit * np.concatenate([batch.obs, batch.next_obs]))
        learner.update(batch._replace(obs=unit * batch.obs, next_obs=unit * batch.next_obs))
    for name in ("actor", "critic"):
        torch.testing.assert_close(weights(getattr(plain, name)), weights(getattr(scaled, name)))


@pytest.mark.parametrize("way", ["act", "act_deterministic"])
def test_actions_are_float32_and_within_bounds_whatever_the_observation(way):
    obs = 1e4 * np.random.default_rng(0).normal(size=(100, OBS)).astype(np.float32)
    action = getattr(agent(), way)(obs)
    assert action.shape == (100, ACTION)
    assert action.dtype == np.float32
    assert np.abs(action).max() <= 1


# Learning


def test_learns_the_best_action_of_a_one_step_bandit():
    rng = np.random.default_rng(0)
    # The reward's peak lies elsewhere for each observation: at obs / 2.
    learner = SAC(1, 1, SACConfig(hidden=(64, 64), lr=3e-3, target_entropy=-1.0), CPU, 0)
    for _ in range(600):
        obs = rng.uniform(-1, 1, (128, 1)).astype(np.float32)
        action = rng.uniform(-1, 1, (128, 1)).astype(np.float32)
        reward = -np.square(action - obs / 2).ravel()
        unknown = np.repeat(np.float32([[-np.inf], [np.inf]]), 128, axis=1)
        ended = np.ones((2, 128), np.float32)
        columns = [torch.from_numpy(column) for column in (obs, action, reward, obs, *ended, *unknown)]
        metrics = learner.update(Batch(*columns))
    obs = np.linspace(-1, 1, 21, dtype=np.float32)[:, None]
    np.testing.assert_allclose(learner.act_deterministic(obs), obs / 2, atol=0.1)
    # The temperature has steered the entropy, 0.7 nats at first, to its target.
    assert metrics["policy/entropy"].item() == pytest.approx(-1.0, abs=0.2)
