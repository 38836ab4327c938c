"""Asking for a device gets that device, or a sentence that tells what is missing."""

import pytest
import torch

from errors import UserError
from sac import describe_device, select_device
from sac.device import use_fastest_exact_products


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
