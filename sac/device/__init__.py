"""Chooses where the networks live. ROCm builds of PyTorch show AMD GPUs under the name `cuda`."""

import platform
from typing import Literal

import torch

from errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]
FLOAT32_PRODUCT_ERROR = 1e-5
"""Relative error of a 256 × 256 product: float32 stays near 1e-6, bfloat16 and TF32 lie beyond 1e-4."""


def select_device(name: DeviceName) -> torch.device:
    """Returns the device for `name`. "auto" is the GPU where PyTorch sees one, else the CPU. Raises UserError.

    (train.py tries both instead: training/device_choice.py.)
    """
    if name == "cuda" and not torch.cuda.is_available():
        build = "ROCm" if torch.version.hip else "CUDA" if torch.version.cuda else "CPU-only"
        raise UserError(
            f"--device cuda: PyTorch {torch.__version__} (a {build} build) sees no GPU; install a ROCm or CUDA build "
            "that matches the driver (docs/rocm.md), or use --device cpu",
            status=2 if build == "CPU-only" else 1,
        )
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return torch.device("cuda")
    return torch.device("cpu")


def choose_products(device: torch.device, reduced_precision: bool) -> None:
    """Sets how float32 matrix products are computed from now on, in the whole process.

    In reduced precision where that is asked for (bfloat16 on a CPU, TF32 on a GPU), else exactly, and the fastest way
    there is.
    """
    if reduced_precision:
        torch.set_float32_matmul_precision("medium")
    elif device.type == "cpu":
        use_fastest_exact_products()
    else:
        torch.set_float32_matmul_precision("highest")


def use_fastest_exact_products() -> str:
    """Lets float32 matrix products take the CPU's fastest path that is still float32. Returns the precision chosen.

    On some CPUs (AMD's with AVX-512, say) PyTorch's "medium" sends them down another library's path at twice the speed
    and the same accuracy; on others it means bfloat16. So it is tried on one product, and kept where the error is
    float32's. The setting is PyTorch's own and holds for the process.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 256, 256, generator=generator)
    exact = left.double() @ right.double()
    torch.set_float32_matmul_precision("medium")
    error = ((left @ right).double() - exact).abs().max() / exact.abs().max()
    if error > FLOAT32_PRODUCT_ERROR:
        torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()


def describe_device(device: torch.device) -> str:
    """Describes in one line the device, its name and architecture, and the versions that decide the numbers."""
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return (
            f"cpu · {platform.machine()}, {threads} thread{'s' * (threads > 1)}, "
            f"{torch.backends.cpu.get_cpu_capability()} · torch {torch.__version__}"
        )
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        architecture, platform_version = properties.gcnArchName, f"HIP {torch.version.hip}"
    else:
        architecture, platform_version = f"sm_{properties.major}{properties.minor}", f"CUDA {torch.version.cuda}"
    return f"cuda · {properties.name}, {architecture} · torch {torch.__version__}, {platform_version}"
