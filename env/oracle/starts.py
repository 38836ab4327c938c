"""Training episodes that begin in the middle of a scripted grasp, and fewer and fewer of them."""

from itertools import pairwise

from env.oracle.kinematics import InverseKinematics
from env.oracle.planning import OPEN, Unreachable, plan
from env.task import ArmTask

SPARE_STEPS = 10
"""Control steps that a policy gets beyond what the script would still need."""


class ScriptedStarts:
    """Plays a random part of a scripted grasp before an episode, and leaves the rest of it to the policy.

    So some episodes begin with the cube nearly at its goal, some in the grip, some before it is pinched, and what is
    learnt of the last steps tells what the steps before them are good for. Each phase of the script is as likely as any
    other, however long it takes: most of a grasp is decided in the few steps around the cube. The gripper comes in as
    open as chance has it: a policy finds approaches of its own, and is to know what follows. The script's actions are
    never shown: they are no transitions, and only the state that they lead to begins the episode. An episode that
    begins midway is shorter: the policy gets as many steps as the script still needs, and SPARE_STEPS more.

    Sources: Andrychowicz et al. 2017 (arXiv:1707.01495), section 4.1: half of the training episodes start in a grasp;
    Salimans & Chen 2018, "Learning Montezuma's Revenge from a single demonstration" (arXiv:1812.03381): episodes that
    start anywhere in a demonstration.

    Args:
        ik: finds the script's poses.
        share: of the training episodes, how many begin midway, until half of `until` is over.
        until: control steps of one environment, all its episodes together, by which that share has fallen to 0.
        opening: widest that the gripper opens for the cube, rad; each grasp draws its own, from the oracle's on.
    """

    def __init__(self, ik: InverseKinematics, share: float, until: float, opening: float):
        self._ik = ik
        self._share = share
        self._until = until
        self._opening = opening

    def share(self, steps_so_far: int) -> float:
        """The probability that an episode begins midway, after that many control steps of its environment."""
        return self._share * min(1.0, max(0.0, 2 - 2 * steps_so_far / self._until))

    def play(self, task: ArmTask) -> int:
        """Moves `task`, which stands in its start state, into the script, or leaves it there.

        Returns how many of the episode's steps that costs it; 0 where it stays. Raises SimulationDiverged.
        """
        if task.rng.random() >= self.share(task.steps_so_far):
            return 0
        try:
            steps = plan(task, self._ik, task.rng.uniform(OPEN, self._opening)).rehearse(task.sim.servo_target)
        except Unreachable:
            return 0
        first_of_phase = [i for i, (phase, _) in enumerate(steps) if i == 0 or phase != steps[i - 1][0]]
        begin, end = task.rng.choice(list(pairwise([*first_of_phase, len(steps)])))
        played = int(task.rng.integers(begin, end)) + 1
        for _, action in steps[:played]:
            task.sim.step(action)
        left = len(steps) - played + SPARE_STEPS
        return max(1, task.max_episode_steps - left)
