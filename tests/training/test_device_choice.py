"""--device auto is the device on which an update of this very run takes less time, and says so."""

from dataclasses import replace

import pytest
import torch

from sac import SACConfig
from training import device_choice
from training.device_choice import choose_device, fastest, seconds_per_update
from training.recipes import recipe
from training.setup import evaluation_environments


@pytest.fixture
def config():
    return replace(recipe("reach"), compile=False, batch_size=16, sac=SACConfig(hidden=(16, 16)))


def test_the_faster_device_is_chosen_and_the_sentence_holds_both_figures():
    device, why = fastest({"cpu": 0.004, "cuda": 0.0005})
    assert device == torch.device("cuda")
    assert why == "an update takes 4.00 ms on cpu, 0.50 ms on cuda"
    assert fastest({"cpu": 0.004, "cuda": 0.005})[0] == torch.device("cpu")


def test_without_a_gpu_nothing_is_measured(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device_choice, "SECONDS", 10**6)
    assert choose_device(config) == (torch.device("cpu"), "PyTorch sees no GPU")


@pytest.mark.parametrize("gpu", [0.5, 2.0])
def test_with_a_gpu_both_are_tried(gpu, config, monkeypatch):
    tried = []

    def seconds(config, env, spec, device):
        tried.append(device.type)
        return {"cpu": 1.0, "cuda": gpu}[device.type]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device_choice, "seconds_per_update", seconds)
    device, why = choose_device(config)
    assert device.type == ("cuda" if gpu < 1 else "cpu")
    assert sorted(tried) == ["cpu", "cuda"]
    assert "1000.00 ms on cpu" in why


def test_larger_networks_take_longer_on_this_cpu(monkeypatch):
    monkeypatch.setattr(device_choice, "SECONDS", 0.1)
    times = []
    for hidden in ((8, 8), (512, 512)):
        config = replace(recipe("reach"), compile=False, sac=SACConfig(hidden=hidden))
        (env,), spec = evaluation_environments(config, 1, "own")
        threads = torch.get_num_threads()
        times.append(seconds_per_update(config, env, spec, torch.device("cpu")))
        assert torch.get_num_threads() == threads
    assert times[1] > 2 * times[0] > 0
