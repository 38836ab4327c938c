"""Leaving a run in good order: when a signal asks for it, or when the run hangs."""

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import numpy as np

AGAIN = 1.0
"""Seconds from which on a signal is somebody's impatience: a terminal that closes may send its own twice."""


class StopRequest:
    """Turns SIGINT, SIGTERM or SIGHUP into a wish that the loop grants at its next step.

    As a context manager it listens, and says on stderr that it has heard. A further signal, at least AGAIN seconds
    later, ends the program at once: what the last checkpoint holds is kept. A signal that the process was started to
    ignore, as SIGHUP under nohup, stays ignored.
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
        name = signal.Signals(number).name
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
            _write(f"\n{name} has come: leaving as soon as this step is done and saved; once more leaves at once\n")
        elif time.monotonic() - self._since >= AGAIN:
            _write(f"\n{name} has come again: leaving at once, with what the last checkpoint holds\n")
            os._exit(128 + number)


def _write(text: str) -> None:
    """Writes past Python's own buffers, which the signal may have found half-way through a line."""
    # A terminal that has hung up takes no word, and where stderr was closed its number may be another file's by now.
    if sys.stderr is not None:
        with suppress(OSError):
            os.write(2, text.encode())


class Watchdog:
    """Ends a process that hangs, so that whatever started it can start it again (status 1).

    As a context manager: where `pat` is not called for `seconds`, every thread's stack goes to stderr and the process
    ends. faulthandler's thread is C code, so that a driver call that never returns and holds Python's lock is ended,
    too. 0 switches it off.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds

    def __enter__(self) -> "Watchdog":
        self.pat()
        return self

    def __exit__(self, *_) -> None:
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()

    def pat(self) -> None:
        """Gives a sign of life: the wait begins anew."""
        if self._seconds:
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=sys.__stderr__ or 2)

    def watching(self, policy: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """Returns `policy`, each of whose actions is a sign of life."""

        def act(inputs: np.ndarray) -> np.ndarray:
            self.pat()
            return policy(inputs)

        return act
