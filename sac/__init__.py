"""Soft Actor-Critic: networks, losses, the agent, its device, and the exploration before it."""

from sac.agent import SAC, CompilerUnavailable, SACConfig
from sac.device import DeviceError, DeviceName, choose_products, describe_device, select_device
from sac.exploration import HeldRandomActions
from sac.update import Batch

__all__ = [
    "SAC",
    "Batch",
    "CompilerUnavailable",
    "DeviceError",
    "DeviceName",
    "HeldRandomActions",
    "SACConfig",
    "choose_products",
    "describe_device",
    "select_device",
]
