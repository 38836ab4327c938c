"""Captured updates are the eager ones, with a recorder that needs no GPU: a function does what a graph would."""

import numpy as np
import pytest
import torch

from sac import SAC, Batch, SACConfig
from sac.capture import Captured


class Recorder:
    """Records without running, as a GPU does, and each replay computes from and into the same memory."""

    def __init__(self):
        self.recorded = 0

    def __call__(self, function):
        self.recorded += 1
        memory: dict[str, torch.Tensor] = {}

        def replay():
            for name, value in function().items():
                memory.setdefault(name, torch.empty_like(value)).copy_(value)

        return memory, replay


def captured(recorder: Recorder) -> SAC:
    learner = agent()
    learner._take_steps = Captured(learner._steps, learner._snapshot, recorder)
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_graph_computes_what_eager_code_does(random_batch):
    config, gpu = SACConfig(hidden=(32, 32)), torch.device("cuda")
    learner, plain = (SAC(5, 3, config, gpu, 0) for _ in range(2))
    plain._take_steps = plain._steps
    for seed in range(5):
        on_gpu = Batch(*(array.to(gpu) for array in random_batch(seed, 3, 32)))
        ours, theirs = learner.update(on_gpu), plain.update(on_gpu)
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)
