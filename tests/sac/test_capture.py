"""Captured updates are the eager ones, with a recorder that needs no GPU: a function does what a graph would."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac import SAC, Batch, SACConfig, capture
from sac.capture import Captured, Limits


class Recorder:
    """Records without running, as a GPU does, and each replay computes from and into the same memory."""

    def __init__(self):
        self.recorded = 0
        self.calls: list[str] = []

    def __call__(self, function):
        self.recorded += 1
        memory: list[dict[str, torch.Tensor]] = []

        def replay():
            self.calls.append("replay")
            for i, results in enumerate(function()):
                if i == len(memory):
                    memory.append({})
                for name, value in results.items():
                    memory[i].setdefault(name, torch.empty_like(value)).copy_(value)

        return memory, replay


class Stale(Recorder):
    """Records graphs whose replays go on with the inputs that they had `when` that many were launched."""

    def __init__(self, when: int):
        super().__init__()
        self.left = when

    def __call__(self, function):
        memory, replay = super().__call__(function)

        def stale():
            self.left -= 1
            if self.left >= 0:
                replay()

        return memory, stale


def captured(recorder: Recorder, limits: Limits | None = None) -> SAC:
    learner = agent()
    learner._captured = Captured(learner._halves, tree_leaves(learner.learnt), recorder, limits or Limits())
    return learner


def agent() -> SAC:
    return SAC(5, 3, SACConfig(hidden=(16, 16), lr=0.01), torch.device("cpu"), 0)


def weights(learner: SAC) -> np.ndarray:
    modules = (learner.actor, learner.critic, learner.critic_target, learner.actor_average)
    return np.concatenate([p.detach().numpy().ravel() for module in modules for p in module.parameters()])


def test_captured_updates_are_the_eager_ones(random_batch):
    recorder, plain = Recorder(), agent()
    learner = captured(recorder)
    for seed, count in enumerate((2, 2, 3, 2)):
        ours, theirs = learner.update(random_batch(seed, count, 32)), plain.update(random_batch(seed, count, 32))
        assert {name: value.item() for name, value in ours.items()} == {n: v.item() for n, v in theirs.items()}
        np.testing.assert_array_equal(weights(learner), weights(plain))
    assert learner.updates == plain.updates == 9
    assert recorder.recorded == 2  # one graph for 2 updates in a launch, one for 3


def test_metrics_of_a_launch_stay_what_they_were(random_batch):
    learner = captured(Recorder())
    first = learner.update(random_batch(0, 1, 32))
    before = {name: value.item() for name, value in first.items()}
    learner.update(random_batch(1, 1, 32))
    assert {name: value.item() for name, value in first.items()} == before


def test_a_restored_agent_goes_on_with_the_graphs_that_it_has(random_batch):
    recorder = Recorder()
    learner, plain = captured(recorder), agent()
    learner.update(random_batch(0, 1, 32))
    other = agent()
    other.update(random_batch(1, 4, 32))
    for each in (learner, plain):
        each.load_state_dict(other.state_dict())
        each.update(random_batch(2, 1, 32))
    np.testing.assert_array_equal(weights(learner), weights(plain))
    assert recorder.recorded == 1


@pytest.mark.parametrize("compared", [2, 10**9])
def test_what_is_compared_now_and_then_goes_on_as_before(compared, random_batch, monkeypatch):
    monkeypatch.setattr(capture, "CHECKED_EVERY", compared)
    learner, plain = captured(Recorder()), agent()
    for seed in range(6):
        ours, theirs = learner.update(random_batch(seed, 2, 32)), plain.update(random_batch(seed, 2, 32))
        assert {name: value.item() for name, value in ours.items()} == {n: v.item() for n, v in theirs.items()}
    np.testing.assert_array_equal(weights(learner), weights(plain))
    assert learner._captured.trusted


@pytest.mark.parametrize(("right", "harmed"), [(0, False), (1, True), (4, False)])
def test_a_graph_that_computes_something_else_is_given_up_aloud(right, harmed, random_batch, monkeypatch):
    """The first launch and each fourth from there are compared; what was wrong in between is not undone."""
    monkeypatch.setattr(capture, "CHECKED_EVERY", 4)
    learner, plain = captured(Stale(right)), agent()
    batches = [random_batch(seed, 2, 32) for seed in range(9)]
    with pytest.warns(RuntimeWarning, match="something else than eager PyTorch: updates go on without graphs"):
        list(map(learner.update, batches))
    list(map(plain.update, batches))
    assert not learner._captured.trusted
    assert np.array_equal(weights(learner), weights(plain)) != harmed
    learner.load_state_dict(plain.state_dict())
    with warnings.catch_warnings(action="error"):
        learner.update(random_batch(9, 2, 32))
    plain.update(random_batch(9, 2, 32))
    np.testing.assert_array_equal(weights(learner), weights(plain))


def test_a_graph_whose_numbers_are_none_is_given_up(random_batch):
    def broken(function):
        results, replay = Recorder()(function)
        return results, lambda: [replay(), learner.learnt.critic.fill_(float("nan"))]

    learner = captured(broken)
    with pytest.warns(RuntimeWarning, match="something else"):
        learner.update(random_batch(0, 1, 32))
    assert np.isfinite(weights(learner)).all()


def test_where_graphs_must_be_small_each_half_of_an_update_is_one_and_inputs_are_waited_for(random_batch):
    recorder = Recorder()
    learner, plain = captured(recorder, Limits(160, lambda: recorder.calls.append("wait"))), agent()
    for seed in range(3):
        learner.update(random_batch(seed, 2, 32))
        plain.update(random_batch(seed, 2, 32))
    np.testing.assert_array_equal(weights(learner), weights(plain))
    assert recorder.recorded == 4
    assert recorder.calls == ["wait", *4 * ["replay"]] * 3


def test_no_graph_is_recorded_that_would_be_larger_than_its_limit(random_batch):
    recorder, plain = Recorder(), agent()
    learner = captured(recorder, Limits(100))
    with pytest.warns(RuntimeWarning, match=r"would hold 1\d\d operations, more than 100: updates go on without"):
        learner.update(random_batch(0, 2, 32))
    plain.update(random_batch(0, 2, 32))
    np.testing.assert_array_equal(weights(learner), weights(plain))
    assert recorder.recorded == 0


def test_a_half_of_the_default_networks_update_fits_into_a_small_graph(random_batch):
    learner = SAC(5, 3, SACConfig(), torch.device("cpu"), 0)
    learner._captured = Captured(
        learner._halves, tree_leaves(learner.learnt), Recorder(), Limits(capture.MOST_OPERATIONS)
    )
    learner.update(random_batch(0, 1, 32))
    assert learner._captured.trusted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_graph_computes_what_eager_code_does(random_batch):
    config, gpu = SACConfig(hidden=(32, 32)), torch.device("cuda")
    learner, plain = (SAC(5, 3, config, gpu, 0) for _ in range(2))
    plain._captured = None
    for seed in range(5):
        on_gpu = Batch(*(array.to(gpu) for array in random_batch(seed, 3, 32)))
        ours, theirs = learner.update(on_gpu), plain.update(on_gpu)
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)
