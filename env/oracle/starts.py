"""Begins training episodes in the middle of a scripted grasp, and fewer and fewer of them."""

from itertools import pairwise

from env.oracle.kinematics import InverseKinematics
from env.oracle.planning import OPEN, Unreachable, plan
from env.tasks.base import ArmTask

OPENING = 0.9
"""Widest that the gripper opens for the cube, rad."""
SPARE_STEPS = 10
"""Control steps that a policy gets beyond what the script would still need."""
ASTRAY_STEPS, ASTRAY_HOLD = 12, 4
"""Control steps by which an episode leaves the script at most, and for how many a random action is held on average."""


class ScriptedStarts:
    """Plays a random part of a scripted grasp before an episode, and leaves the rest of it to the policy.

    So some episodes begin with the cube nearly at its goal, some in the grip, some before it is pinched, and what is
    learnt of the last steps tells what the steps before them are good for. Each phase of the script is as likely as any
    other, however long it takes: most of a grasp is decided in the few steps around the cube. The gripper comes in as
    open as chance has it: a policy finds approaches of its own, and is to know what follows. The script's actions are
    never shown: they are no transitions, and only the state that they lead to begins the episode. An episode that
    begins midway is shorter: the policy gets as many steps as the script still needs, and SPARE_STEPS more.

    Some of them stray from the script before the policy takes over, by a few random actions: the gripper has missed the
    cube, knocked it away, or dropped it. From there the policy gets the time of a whole script. The script never fails,
    so without them a second try is learnt from nothing but the policy's own failures.

    Sources: Andrychowicz et al. 2017 (arXiv:1707.01495), section 4.1: half of the training episodes start in a grasp;
    Salimans & Chen 2018, "Learning Montezuma's Revenge from a single demonstration" (arXiv:1812.03381): episodes that
    start anywhere in a demonstration.

    `share` of the training episodes begin midway until half of `until` is over, control steps of one environment and
    all its episodes together, by which that share has fallen to 0. `astray` of those stray from the script.
    """

    def __init__(self, ik: InverseKinematics, share: float, until: float, astray: float):
        self._ik = ik
        self._share = share
        self._until = until
        self._astray = astray

    def share(self, steps_so_far: int) -> float:
        """Returns the probability that an episode begins midway, after that many control steps of its environment."""
        return self._share * min(1.0, max(0.0, 2 - 2 * steps_so_far / self._until))

    def __call__(self, task: ArmTask) -> int:
        """Moves `task`, which stands in its start state, into the script, or leaves it there.

        Returns how many of the episode's steps that costs it; 0 where it stays. Raises SimulationDiverged.
        """
        if task.rng.random() >= self.share(task.steps_so_far):
            return 0
        try:
            steps = plan(task, self._ik, task.rng.uniform(OPEN, OPENING)).rehearse(task.sim.servo_target)
        except Unreachable:
            return 0
        first_of_phase = [i for i, (phase, _) in enumerate(steps) if i == 0 or phase != steps[i - 1][0]]
        begin, end = task.rng.choice(list(pairwise([*first_of_phase, len(steps)])))
        played = int(task.rng.integers(begin, end)) + 1
        for _, action in steps[:played]:
            task.sim.step(action)
        left = len(steps) - played
        if task.rng.random() < self._astray:
            _stray(task)
            left = len(steps)
        return max(1, task.max_episode_steps - left - SPARE_STEPS)


def _stray(task: ArmTask) -> None:
    """Takes a few random actions, each held for a while: drawn afresh at each step they would cancel out."""
    action = task.rng.uniform(-1, 1, 6)
    for _ in range(task.rng.integers(1, ASTRAY_STEPS + 1)):
        task.sim.step(action)
        if task.rng.random() < 1 / ASTRAY_HOLD:
            action = task.rng.uniform(-1, 1, 6)
