"""Draws a policy at work: a few frames at evaluations, and a video at a run's end.

Other people's render() fails in its own ways, and no picture is worth a run: what goes wrong is said, not raised.
"""

import time
from itertools import islice
from pathlib import Path

from env import GoalEnv
from env.video import check_frame, write_video
from errors import UserError
from training.curves.pictures import as_gif
from training.evaluation.rollout import Policy, record_episodes
from training.progress import say

EVERY = 10
"""Control steps between two frames of a Film."""
MILLISECONDS = 200
"""For which each of them is shown: the built-in tasks' real time."""
SHARE = 0.02
"""Share of the time since the start that a Film may take: without a GPU a frame takes long to draw, and then only some
evaluations get their frames."""
VIDEO_EPISODES, VIDEO_FRAMES = 3, 600
"""What a video shows, at most. Drawing is slow without a GPU, and other people's episodes may be long."""


class Film:
    """Draws the episode of `seed`, the same each time, until it turns out that nothing can be drawn.

    Nothing is drawn where it is not `enabled`.
    """

    def __init__(self, env: GoalEnv, seed: int, enabled: bool):
        self._env = env if enabled and hasattr(env, "render") else None
        self._seed = seed
        self._since = time.perf_counter()
        self._spent = 0.0

    def take(self, policy: Policy, last: bool = False) -> bytes | None:
        """Returns an animated gif of the episode, or None where there is no time or no way to draw it.

        There is time for the last one: what one sees in the end is the policy that a run ends with.
        """
        began = time.perf_counter()
        if self._env is None or (not last and self._spent > SHARE * (began - self._since)):
            return None
        frames = record_episodes(self._env, policy, episodes=1, seed=self._seed, every=EVERY)
        try:
            return as_gif([check_frame(frame) for frame in islice(frames, 100)], MILLISECONDS)
        except Exception as error:  # other people's render() fails in its own ways
            say(f"no pictures of evaluations: {_reason(error)}")
            self._env = None
            return None
        finally:
            self._spent += time.perf_counter() - began


def record_video(path: Path, env: GoalEnv, policy: Policy, seed: int) -> None:
    """Writes a few episodes, the first of them drawn from `seed`, to the mp4 `path` where that is not there yet.

    Where the environment cannot be drawn nothing is written, and nothing said: the run's start did.
    """
    if path.exists() or not hasattr(env, "render"):
        return
    try:
        write_video(path, islice(record_episodes(env, policy, VIDEO_EPISODES, seed), VIDEO_FRAMES))
        say(f"video: {path}")
    except Exception as error:
        say(f"no video: {_reason(error)}")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
