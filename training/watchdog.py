"""Ends a process that hangs, so that whatever started it can start it again."""

import faulthandler
import os
import signal
import threading
import time

GRACE = 1.0
"""Seconds after the limit at which the timer fires, if the thread could not say before that training hung; and again,
if writing the stacks hung too."""
_STDERR = 2


class WatchdogError(ValueError):
    """A limit that is no time to wait, or a process that SIGALRM cannot end."""


class Watchdog:
    """A context manager: where `pat` is not called for `seconds`, every thread's stack goes to stderr and SIGALRM
    ends the process (142 in a shell). None switches it off.

    A hung driver call may hold Python's lock for ever, so the dump and the end are a C signal handler's and a kernel
    timer's, which need no Python. The sentence before the dump is a thread's, and is missing in that case.
    Time counts while the process is stopped (Ctrl-Z, a debugger), but not while the machine sleeps.

    For the main thread. Raises WatchdogError.
    """

    def __init__(self, seconds: float | None):
        if seconds is not None:
            _check(seconds)
        self._seconds = seconds
        self._armed = False

    def __enter__(self) -> "Watchdog":
        if self._seconds is None:
            return self
        self._handler_before = signal.signal(signal.SIGALRM, signal.SIG_DFL)  # what chain=True calls after the dump
        faulthandler.register(signal.SIGALRM, file=_STDERR, all_threads=True, chain=True)
        self._timer_before = signal.getitimer(signal.ITIMER_REAL)
        self._armed = True
        self.pat()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._wait_for_a_hang, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if not self._armed:
            return
        self._armed = False
        self._left.set()
        self._thread.join()
        faulthandler.unregister(signal.SIGALRM)
        signal.signal(signal.SIGALRM, self._handler_before)
        signal.setitimer(signal.ITIMER_REAL, *self._timer_before)

    def pat(self) -> None:
        """A sign of life: the wait begins anew."""
        if self._armed:
            self._deadline = time.monotonic() + self._seconds
            signal.setitimer(signal.ITIMER_REAL, self._seconds + GRACE, GRACE)

    def _wait_for_a_hang(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._left.wait(left):
                return
        sentence = (
            f"\ntraining hung: no step for {self._seconds:g} s; the checkpoints are intact, and the same command line "
            "continues the run. Where each thread stood:\n\n"
        )
        self._armed = False  # said is said: a pat from here on is too late
        os.write(_STDERR, sentence.encode())
        # In this thread, which holds Python's lock: no other moves on while its stack is read.
        signal.pthread_kill(threading.get_ident(), signal.SIGALRM)


def _check(seconds: float) -> None:
    if not hasattr(signal, "SIGALRM"):
        raise WatchdogError("--watchdog needs a system with SIGALRM, which this one is not; leave it out")
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise WatchdogError(f"--watchdog {seconds:g}: must be a positive number of seconds")
    # The kernel spares a container's first process every signal that has no handler.
    if os.getpid() == 1:
        raise WatchdogError("--watchdog cannot end process 1 of a container; give it an init (docker run --init)")
