"""A few frames of the policy at evaluations, where pictures can be drawn."""

import time
from itertools import islice

from env import GoalEnv, RenderingUnavailable
from env.video import VideoError, check_frame
from training.curves.pictures import as_gif
from training.evaluation.rollout import Policy, record_episodes
from training.progress import say
from training.stopping import Stopped

EVERY = 10
"""Control steps between two frames: drawing is to cost little beside the evaluation."""
MILLISECONDS = 200
"""For which each is shown: the built-in tasks' real time."""
SHARE = 0.02
"""Of the time since the start that may be spent here: without a GPU a frame takes long to draw, and not every
evaluation gets its film."""


class Film:
    """Draws the first evaluation episode, the same each time, until it turns out that nothing can be drawn.

    Args:
        env: an evaluation environment.
        seed: of that episode.
        wanted: whether to draw at all.
    """

    def __init__(self, env: GoalEnv, seed: int, wanted: bool):
        self._env = env if wanted and hasattr(env, "render") else None
        self._seed = seed
        self._since = time.perf_counter()
        self._spent = 0.0

    def take(self, policy: Policy, goal_scale: float) -> bytes | None:
        """An animated gif of the episode, or None. Raises Stopped."""
        began = time.perf_counter()
        if self._env is None or self._spent > SHARE * (began - self._since):
            return None
        try:
            return self._draw(policy, goal_scale)
        finally:
            self._spent += time.perf_counter() - began

    def _draw(self, policy: Policy, goal_scale: float) -> bytes | None:
        frames = record_episodes(self._env, policy, goal_scale, episodes=1, seed=self._seed, every=EVERY)
        try:
            return as_gif([check_frame(frame) for frame in islice(frames, 100)], MILLISECONDS)
        except Stopped:
            raise
        # Other people's render() fails in its own ways, and no picture is worth a run.
        except Exception as error:
            known = isinstance(error, (RenderingUnavailable, VideoError))
            say(f"no pictures of evaluations: {error if known else f'{type(error).__name__}: {error}'}")
            self._env = None
            return None
