"""Asking for a device gets that device, or a sentence that tells what is missing."""

import pytest
import torch

from errors import UserError
from sac import describe_device, select_device
from sac.device import use_fastest_exact_products
from sac.device.__main__ import report


@pytest.fixture
def matmul_precision():
    """Puts PyTorch's process-wide setting back afterwards."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_cpu_is_always_there():
    assert select_device("cpu") == torch.device("cpu")


def test_auto_takes_the_gpu_exactly_where_there_is_one():
    assert select_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_named_with_a_way_out():
    with pytest.raises(UserError, match=r"sees no GPU.*--device cpu") as refused:
        select_device("cuda")
    assert refused.value.status == (1 if torch.version.cuda or torch.version.hip else 2)  # no restart mends a build


def test_description_names_device_and_version():
    description = describe_device(torch.device("cpu"))
    assert description.startswith("cpu · ")
    assert f"torch {torch.__version__}" in description
    assert (", 1 thread, " in description) == (torch.get_num_threads() == 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_description_of_a_gpu_names_it():
    assert torch.cuda.get_device_name() in describe_device(select_device("cuda"))


@pytest.mark.usefixtures("matmul_precision")
def test_products_stay_float32_whatever_path_is_chosen():
    chosen = use_fastest_exact_products()
    assert chosen in ("medium", "highest")
    assert torch.get_float32_matmul_precision() == chosen
    # Sizes of a training step: a batch of 256 through a hidden layer.
    left, right = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(1))
    exact = left.double() @ right.double()
    assert ((left @ right - exact).abs().max() / exact.abs().max()).item() < 1e-5


@pytest.mark.usefixtures("matmul_precision")
def test_choosing_a_path_draws_from_no_global_generator():
    before = torch.get_rng_state()
    use_fastest_exact_products()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_report_names_cards_displays_driver_and_settings(tmp_path, monkeypatch):
    for name, text in {
        "sys/class/drm/card1/device/vendor": "0x1002",
        "sys/class/drm/card1/device/device": "0x744c",
        "sys/class/drm/card1-DP-1/status": "connected",
        "sys/class/drm/card1-DP-2/status": "disconnected",
        "sys/class/drm/card0/device/vendor": "0x10de",
        "sys/module/amdgpu/version": "6.12.12",
        "opt/rocm/.info/version": "7.2.3-123",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", "11.0.0")
    said = report(tmp_path).splitlines()
    for line in (
        "ROCm        7.2.3-123",
        "amdgpu      6.12.12",
        "card0       NVIDIA , no display on it",
        "card1       AMD 0x744c, displays on it: DP-1",
        "set         HSA_OVERRIDE_GFX_VERSION=11.0.0",
    ):
        assert line in said
    assert any(line.startswith(f"PyTorch     {torch.__version__}, ") for line in said)
    assert any("--graph never" in line for line in said)


def test_a_machine_without_anything_is_told_as_that(tmp_path):
    said = report(tmp_path).splitlines()
    assert "ROCm        not in /opt/rocm" in said
    assert "amdgpu      not loaded" in said
