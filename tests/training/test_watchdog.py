"""Whatever a process hangs in, the watchdog ends it, and shows where it stood."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress

import pytest

if not hasattr(signal, "SIGALRM"):
    pytest.skip("no SIGALRM here", allow_module_level=True)

from training.watchdog import GRACE, Watchdog, WatchdogError

LIMIT = 1
SENTENCE = f"training hung: no step for {LIMIT} s"

# Each: what happens before it is watched, and the line it hangs in.
BUSY = ("", "while True: pass")
HOLDS_THE_GIL = ("import ctypes; pause = ctypes.PyDLL(None).pause", "pause()")
RELEASES_THE_GIL = ("import ctypes; pause = ctypes.CDLL(None).pause", "pause()")
LOCKED = (
    """
    import threading
    lock = threading.Lock()
    lock.acquire()
    # Threads that come and go while their stacks are read.
    def spawn():
        while True:
            thread = threading.Thread(target=sum, args=(range(100),))
            thread.start()
            thread.join()
    for _ in range(4):
        threading.Thread(target=spawn, daemon=True).start()
    """,
    "lock.acquire()",
)
IN_TORCH = (
    """
    import torch
    torch.set_num_threads(4)
    ones = torch.ones(500, 500)
    """,
    "while True: ones @ ones",
)
LOCKED_BESIDE_TORCH = (
    f"""{IN_TORCH[0]}
    import threading
    def multiply():
        {IN_TORCH[1]}
    threading.Thread(target=multiply, daemon=True).start()
    lock = threading.Lock()
    lock.acquire()
    """,
    "lock.acquire()",
)


def run(code, **options):
    """A Python process that executes `code`; it must end by itself within a minute."""
    script = f"import time\nfrom training.watchdog import Watchdog\n{textwrap.dedent(code)}"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60, **options)


def hang(case, **options):
    """A watched process that hangs in the function `stuck`."""
    before, line = case
    return run(
        f"{textwrap.dedent(before)}\ndef stuck():\n    {line}\nwith Watchdog({LIMIT}):\n    stuck()\n", **options
    )


@pytest.mark.parametrize(
    "case",
    [BUSY, RELEASES_THE_GIL, LOCKED, IN_TORCH, LOCKED_BESIDE_TORCH],
    ids=["busy", "released", "locked", "torch", "beside torch"],
)
def test_a_process_that_hangs_says_so_shows_its_stacks_and_ends(case):
    result = hang(case, stderr=subprocess.PIPE)
    assert result.returncode == -signal.SIGALRM, result.stderr
    sentence, stacks = result.stderr.split("Where each thread stood:")
    assert SENTENCE in sentence
    assert "in stuck" in stacks


def test_a_process_ends_in_a_call_that_never_gives_python_s_lock_back():
    result = hang(HOLDS_THE_GIL, stderr=subprocess.PIPE)
    assert result.returncode == -signal.SIGALRM, result.stderr
    assert "in stuck" in result.stderr


@pytest.mark.parametrize("case", [HOLDS_THE_GIL, RELEASES_THE_GIL], ids=["held", "released"])
def test_a_process_ends_though_nobody_reads_its_stderr(case):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    try:
        assert hang(case, stderr=writer).returncode == -signal.SIGALRM
    finally:
        os.close(reader)
        os.close(writer)


def test_a_process_that_shows_signs_of_life_goes_on():
    result = run(
        f"""
        with Watchdog({LIMIT}) as watchdog:
            for _ in range(12):
                time.sleep({(LIMIT + GRACE) / 6})
                watchdog.pat()
        print("done")
        """,
        stderr=subprocess.PIPE,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_a_child_of_a_watched_process_is_not_watched():
    result = run(
        f"""
        import os, subprocess
        with Watchdog({LIMIT}) as watchdog:
            child = subprocess.Popen(["sleep", "{2 * (LIMIT + GRACE)}"])
            forked = os.fork()
            if not forked:
                time.sleep({2 * (LIMIT + GRACE)})
                os._exit(0)
            while child.poll() is None:
                time.sleep(0.1)
                watchdog.pat()
        print(child.returncode, os.waitpid(forked, 0)[1])
        """,
        stderr=subprocess.PIPE,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "0 0\n", "")


def test_nothing_fires_after_the_block_nor_from_a_late_pat():
    result = run(
        f"""
        with Watchdog({LIMIT}) as watchdog:
            pass
        watchdog.pat()
        time.sleep({LIMIT + 2 * GRACE})
        print("done")
        """,
        stderr=subprocess.PIPE,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_the_handler_and_the_timer_from_before_are_back_after_the_block():
    fired = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: fired.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with Watchdog(60):
            pass
        time.sleep(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert fired == [signal.SIGALRM]


def test_without_a_limit_nothing_is_watched():
    before = signal.getsignal(signal.SIGALRM)
    with Watchdog(None) as watchdog:
        watchdog.pat()
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_no_time_to_wait_is_refused(seconds):
    with pytest.raises(WatchdogError, match="must be a positive number of seconds"):
        Watchdog(seconds)


def test_a_system_without_sigalrm_is_named(monkeypatch):
    monkeypatch.delattr(signal, "SIGALRM")
    with pytest.raises(WatchdogError, match="--watchdog needs a system with SIGALRM"):
        Watchdog(60)
    with Watchdog(None) as watchdog:
        watchdog.pat()


def test_the_first_process_of_a_container_is_refused_as_no_signal_ends_it(monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(WatchdogError, match="docker run --init"):
        Watchdog(60)
