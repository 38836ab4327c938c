"""Prints what a report of a GPU's failure needs: python -m sac.device."""

import os
import platform
from pathlib import Path

import torch

from sac.device import describe_device

VENDORS = {"0x1002": "AMD", "0x10de": "NVIDIA", "0x8086": "Intel"}
SETTINGS = ("HSA_", "HIP_", "ROCR_", "GPU_", "AMD_", "ROCBLAS_", "CUDA_", "PYTORCH_", "TORCH_", "OMP_")
"""Beginnings of the environment variables that change what a GPU does, or PyTorch."""
ADVICE = """\
what is known to help (docs/rocm.md says who reported it):
  --graph never        updates without GPU graphs, the first thing to try where numbers are wrong
  no display on it     connect the monitor to another card, or run without a desktop
  --watchdog 300       ends a run whose GPU hangs; a supervisor starts it again (docs/unattended.md)
  --device cpu         trains without it"""


def report(system: Path = Path("/")) -> str:
    """Describes the machine, PyTorch, each card that /sys knows, and settings in the environment, a line each."""
    build = f"ROCm (HIP {torch.version.hip})" if torch.version.hip else f"CUDA {torch.version.cuda}"
    build = build if torch.version.hip or torch.version.cuda else "CPU only"
    lines = [
        f"kernel      {platform.platform()}",
        f"PyTorch     {torch.__version__}, {build}",
        f"ROCm        {_read(system / 'opt/rocm/.info/version') or 'not in /opt/rocm'}",
        f"amdgpu      {_read(system / 'sys/module/amdgpu/version') or _loaded(system / 'sys/module/amdgpu')}",
    ]
    visible = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    lines += [f"PyTorch has {describe_device(torch.device('cuda', index))}" for index in visible]
    if not visible:
        lines.append("PyTorch has no GPU")
    lines += [_card(card) for card in sorted((system / "sys/class/drm").glob("card*")) if card.name[4:].isdigit()]
    lines += [f"set         {name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)]
    return "\n".join([*lines, "", ADVICE])


def _card(card: Path) -> str:
    vendor, device = _read(card / "device/vendor"), _read(card / "device/device")
    displays = [
        output.name.partition("-")[2]
        for output in sorted(card.parent.glob(f"{card.name}-*"))
        if _read(output / "status") == "connected"
    ]
    shown = f"displays on it: {', '.join(displays)}" if displays else "no display on it"
    return f"{card.name:<11} {VENDORS.get(vendor, vendor)} {device}, {shown}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _loaded(module: Path) -> str:
    return "the kernel's own" if module.is_dir() else "not loaded"


if __name__ == "__main__":
    print(report())
