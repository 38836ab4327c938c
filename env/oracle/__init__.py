"""Proves with a scripted policy what the arm can do through the agent's own actions, before anything is learnt.

`plan` turns an episode's first state into waypoints, whose poses `InverseKinematics` finds, and `Script` follows them.
env/oracle/rollout.py plays and judges whole episodes. env/oracle/starts.py begins training episodes with a part of one.
"""

from env.oracle.kinematics import InverseKinematics
from env.oracle.planning import Unreachable, plan
from env.oracle.script import Script, Waypoint

__all__ = ["InverseKinematics", "Script", "Unreachable", "Waypoint", "plan"]
