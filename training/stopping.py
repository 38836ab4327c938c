"""Leaving a run in good order: when a signal asks for it, or when the run hangs."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import numpy as np

from training.watchdog import Watchdog


class Stopped(Exception):
    """A signal has asked the run to leave, in the middle of something that can be left and done again."""


class StopRequest:
    """Turns SIGINT, SIGTERM or SIGHUP into a wish that the loop grants at its next step.

    As a context manager it listens, and says on stderr that it has heard; a second signal changes nothing. A signal
    that the process was started to ignore, as SIGHUP under nohup, stays ignored.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self):
        self.signal: int | None = None

    def __enter__(self) -> "StopRequest":
        heeded = [number for number in self.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in heeded}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            # Past Python's own buffers, which the signal may have found half-way through a line. A terminal that has
            # hung up takes no word, and where stderr was closed its number may be another file's by now.
            if sys.stderr is not None:
                with suppress(OSError):
                    os.write(2, f"\n{signal.Signals(number).name} has come: leaving as soon as it can be\n".encode())


def interruptible(
    policy: Callable[[np.ndarray], np.ndarray], stop: StopRequest, watchdog: Watchdog
) -> Callable[[np.ndarray], np.ndarray]:
    """`policy`, raising Stopped once a signal has come; each action is a sign of life."""

    def act(inputs: np.ndarray) -> np.ndarray:
        if stop.signal is not None:
            raise Stopped
        watchdog.pat()
        return policy(inputs)

    return act
