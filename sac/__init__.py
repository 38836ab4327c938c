"""Holds Soft Actor-Critic: networks, losses, the agent, its policy alone, a look inside, its device, exploration."""

from sac.agent import SAC, CompilerUnavailable, SACConfig
from sac.device import DeviceName, choose_products, describe_device, select_device
from sac.exploration import HeldRandomActions
from sac.inspection import Inspection, inspect
from sac.policy import Policy
from sac.update import Batch

__all__ = [
    "SAC",
    "Batch",
    "CompilerUnavailable",
    "DeviceName",
    "HeldRandomActions",
    "Inspection",
    "Policy",
    "SACConfig",
    "choose_products",
    "describe_device",
    "inspect",
    "select_device",
]
