"""Takes a policy out of a run, for a notebook, a robot or another program.

from training.analysis.policy import load_policy

policy = load_policy("pick-place")       # or a run directory, or one checkpoint
action = policy.act(obs)
"""

from pathlib import Path

import checkpoints
from sac import Policy


def load_policy(path: str | Path) -> Policy:
    """Returns the policy of a run's newest checkpoint, of one checkpoint, or the shipped one of that name.

    It runs with NumPy alone, and on whatever asks it. Raises CheckpointError.
    """
    found, _ = checkpoints.find_policy(str(path))
    state, _ = checkpoints.load(found, only=["agent"])
    if missing := set(checkpoints.POLICY) - state["agent"].keys():
        raise checkpoints.CheckpointError(f"{found} holds no {' and no '.join(sorted(missing))}: older code wrote it")
    return Policy.of(state["agent"])
