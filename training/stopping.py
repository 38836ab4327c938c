"""Leaving a run in good order: when a signal asks for it, or when the run hangs."""

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import numpy as np

from errors import UserError

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Signals that ask a run to save and leave. A cluster sends the last two before a job's time is up."""
AGAIN = 1.0
"""Seconds from which on a signal is somebody's impatience: a terminal that closes may send its own twice."""
CLOSING = 10.0
"""Seconds that environments have for their close()."""


class StopRequest:
    """Turns each of NAMES into a wish that the loop grants at its next step.

    As a context manager it listens, and says on stderr that it has heard. Where there is nothing to save it ends the
    program at once. A further signal, at least AGAIN seconds
    later, ends the program at once: what the last checkpoint holds is kept. A thread waits for that one, since Python
    runs no handler while its main thread is in C code, where a GPU that hangs keeps it for ever. A signal that the
    process was started to ignore, as SIGHUP under nohup, stays ignored.
    """

    SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))

    def __init__(self):
        self.signal: int | None = None
        self.at_once = False
        """Says whether the first signal ends the program: there is nothing to save yet, or it is saved."""
        self._end: threading.Timer | None = None

    def __enter__(self) -> "StopRequest":
        heeded = [number for number in self.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._watch, args=(frozenset(heeded),), name="signals", daemon=True)
        self._thread.start()
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._handle) for number in heeded}
        _listening.add(self)
        return self

    def keep_listening(self) -> None:
        """Takes the signals back where an environment has put handlers of its own in the place of these."""
        for number in self._before:
            if signal.getsignal(number) != self._handle:
                signal.signal(number, self._handle)
                signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    @contextmanager
    def ending_in_time(self) -> Iterator[None]:
        """Has the program come to its end, once what is inside of it is done or has failed, whatever is closed then."""
        status = 1
        try:
            yield
            status = 0 if self.signal is None else 128 + self.signal
        except UserError as error:
            status = error.status
            raise
        finally:
            self.end_soon(status)

    def end_soon(self, status: int) -> None:
        """Ends the program with `status` in CLOSING seconds, should it not have come to its end by itself.

        What a run has learnt is on the disk: only an environment's close() can keep it.
        """
        self.at_once = True

        def leave() -> None:
            _write(f"\nclose() of an environment has not returned in {CLOSING:.0f} s: left without it\n")
            os._exit(status)

        self._end = threading.Timer(CLOSING, leave)
        self._end.daemon = True
        self._end.start()

    def __exit__(self, *_) -> None:
        if self._end is not None:
            self._end.cancel()
        self._listen_no_more()
        self._writer.close()  # which ends the thread
        self._thread.join()
        self._reader.close()

    def _listen_no_more(self) -> None:
        _listening.discard(self)
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            name = signal.Signals(number).name
            if self.at_once:
                return
            _write(f"\n{name} has come: leaving as soon as this step is done and saved; once more leaves at once\n")

    def _watch(self, heeded: frozenset[int]) -> None:
        """Reads the number of each signal, which the interpreter's C code writes as it comes."""
        first = None
        while number := self._reader.recv(1):
            if number[0] not in heeded:
                continue
            if self.at_once:
                _write(f"\n{signal.Signals(number[0]).name} has come: leaving at once, as there is nothing to save\n")
                os._exit(128 + number[0])
            if first is None:
                first = time.monotonic()
            elif time.monotonic() - first >= AGAIN:
                name = signal.Signals(number[0]).name
                _write(f"\n{name} has come again: leaving at once, with what the last checkpoint holds\n")
                os._exit(128 + number[0])


_listening: set[StopRequest] = set()


def _leave_signals_to_the_parent() -> None:
    """Lets a child that an environment has forked die of its own signals, and the parent hear none of them."""
    for stop in list(_listening):
        stop._listen_no_more()


os.register_at_fork(after_in_child=_leave_signals_to_the_parent)


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
