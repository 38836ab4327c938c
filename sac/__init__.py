"""Soft Actor-Critic: networks, losses, the agent, its device, and the exploration before it."""

from sac.agent import SAC, Batch, SACConfig
from sac.device import DeviceError, DeviceName, describe_device, select_device, use_fastest_exact_products
from sac.exploration import HeldRandomActions

__all__ = [
    "SAC",
    "Batch",
    "DeviceError",
    "DeviceName",
    "HeldRandomActions",
    "SACConfig",
    "describe_device",
    "select_device",
    "use_fastest_exact_products",
]
