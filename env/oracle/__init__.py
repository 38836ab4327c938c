"""The scripted policy: what the arm can do through the agent's own actions, known before anything is learnt.

`attempt` plays one episode: `plan` turns its first state into waypoints, whose poses `InverseKinematics` finds, and
`Script` follows them.
"""

from env.oracle.kinematics import InverseKinematics
from env.oracle.planning import Unreachable, plan
from env.oracle.script import Script, Waypoint

__all__ = [
    "InverseKinematics",
    "Script",
    "Unreachable",
    "Waypoint",
    "plan",
]
