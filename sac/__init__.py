"""Holds Soft Actor-Critic: networks, losses, the agent, what goes on inside it, its device, exploration before it."""

from sac.agent import SAC, CompilerUnavailable, SACConfig
from sac.device import DeviceName, choose_products, describe_device, select_device
from sac.exploration import HeldRandomActions
from sac.inspection import Inspection, inspect
from sac.update import Batch

__all__ = [
    "SAC",
    "Batch",
    "CompilerUnavailable",
    "DeviceName",
    "HeldRandomActions",
    "Inspection",
    "SACConfig",
    "choose_products",
    "describe_device",
    "inspect",
    "select_device",
]
