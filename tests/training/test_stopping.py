"""A signal is a wish, granted where the run can be left; a second one is not, and whatever hangs is ended."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from training import stopping
from training.stopping import StopRequest, Watchdog

ROOT = Path(stopping.__file__).parents[1]
LIMIT = 1


def run(code: str) -> subprocess.CompletedProcess:
    """Executes `code` in a Python process that must end by itself within a minute."""
    script = "import os, signal, time\nfrom training.stopping import StopRequest, Watchdog\n" + textwrap.dedent(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


# Signals


def test_the_first_signal_counts_and_one_right_after_it_changes_nothing(capfd):
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM
    told = "\nSIGTERM has come: leaving as soon as this step is done and saved; once more leaves at once\n"
    assert capfd.readouterr().err == told


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_what_a_cluster_sends_before_the_time_is_up_counts_as_well(number, capfd):
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal == number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_after_more_than_a_second_ends_the_process_at_once(number):
    ended = run(
        f"""
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep({stopping.AGAIN + 0.1})
            try:
                os.kill(os.getpid(), {int(number)})
                time.sleep(30)
            finally:
                print("it was not at once")
        """
    )
    assert (ended.returncode, ended.stdout) == (128 + number, "")
    assert f"{signal.Signals(number).name} has come again: leaving at once" in ended.stderr


FOR_EVER = "import ctypes; call = ctypes.CDLL(None).pthread_mutex_lock; lock = ctypes.create_string_buffer(64)"


def test_a_second_signal_ends_a_process_whose_main_thread_never_comes_back_from_c_code():
    """As one that waits for a GPU that hangs: there Python runs no handler."""
    ended = run(
        f"""
        import threading
        {FOR_EVER}
        def impatient():
            for wait in (0.2, {stopping.AGAIN + 0.1}):
                time.sleep(wait)
                os.kill(os.getpid(), signal.SIGTERM)
        with StopRequest():
            threading.Thread(target=impatient, daemon=True).start()
            call(lock)
            call(lock)
        """
    )
    assert ended.returncode == 128 + signal.SIGTERM
    assert "SIGTERM has come again: leaving at once" in ended.stderr


def test_a_process_that_an_environment_has_forked_dies_of_its_own_signals_and_of_no_other():
    ended = run(
        f"""
        with StopRequest() as stop:
            for _ in range(2):
                reading, writing = os.pipe()
                if not (child := os.fork()):
                    os.write(writing, b"x")
                    time.sleep(30)
                    os._exit(0)
                os.read(reading, 1)
                os.kill(child, signal.SIGTERM)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
                time.sleep({stopping.AGAIN + 0.1})
            print(stop.signal)
        """
    )
    assert (ended.returncode, ended.stdout) == (0, "None\n"), ended.stderr


def test_a_terminal_that_has_hung_up_keeps_no_run_from_saving(monkeypatch):
    def hung_up(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", hung_up)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


def test_where_stderr_was_closed_no_other_file_gets_the_word(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stderr", None)
    with StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == ""


def test_afterwards_signals_do_what_they_did_before_and_what_was_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        usual = [signal.getsignal(number) for number in StopRequest.SIGNALS]
        with StopRequest() as stop:
            assert signal.getsignal(signal.SIGTERM) != usual[StopRequest.SIGNALS.index(signal.SIGTERM)]
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal is None
        assert [signal.getsignal(number) for number in StopRequest.SIGNALS] == usual
    finally:
        signal.signal(signal.SIGHUP, before)


# The watchdog

HANGS = {
    "in Python": ("", "while True: pass"),
    "in C code that holds Python's lock": ("import ctypes; pause = ctypes.PyDLL(None).pause", "pause()"),
    "in C code that does not": ("import ctypes; pause = ctypes.CDLL(None).pause", "pause()"),
    "in PyTorch": ("import torch; torch.set_num_threads(4); ones = torch.ones(500, 500)", "while True: ones @ ones"),
    "at a lock": ("import threading; lock = threading.Lock(); lock.acquire()", "lock.acquire()"),
    "while the policy acts": ("import numpy as np", "while True: act(np.zeros(3)); time.sleep(60)"),
}


@pytest.mark.parametrize(("before", "line"), HANGS.values(), ids=HANGS)
def test_a_process_that_hangs_shows_where_and_ends_with_status_1(before, line):
    started = time.monotonic()
    ended = run(
        f"""
        {before}
        def stuck():
            {line}
        with StopRequest() as stop, Watchdog({LIMIT}) as watchdog:
            act = watchdog.watching(lambda inputs: inputs)
            stuck()
        """
    )
    assert ended.returncode == 1, ended.stderr
    assert f"Timeout (0:00:0{LIMIT})!" in ended.stderr
    assert "in stuck" in ended.stderr
    assert time.monotonic() - started < 30


def test_signs_of_life_keep_it_quiet_and_so_does_the_end_of_the_block():
    ended = run(
        f"""
        import numpy as np
        with Watchdog({LIMIT}) as watchdog:
            act = watchdog.watching(lambda inputs: inputs + 1)
            for _ in range(6):
                time.sleep({LIMIT / 4})
                watchdog.pat()
                time.sleep({LIMIT / 4})
                assert act(np.zeros(1)) == 1
        time.sleep({2 * LIMIT})
        print("done")
        """
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_without_a_limit_nothing_is_watched(monkeypatch):
    monkeypatch.setattr(stopping.faulthandler, "dump_traceback_later", lambda *_, **__: pytest.fail("it is watched"))
    with Watchdog(0) as watchdog:
        watchdog.pat()
        np.testing.assert_array_equal(watchdog.watching(lambda inputs: inputs + 1)(np.zeros(3)), np.ones(3))


def test_where_there_is_nothing_to_save_the_first_signal_leaves_at_once():
    ended = run(
        """
        with StopRequest() as stop:
            stop.at_once = True
            try:
                os.kill(os.getpid(), signal.SIGHUP)
                time.sleep(30)
            finally:
                print("it was not at once")
        """
    )
    assert (ended.returncode, ended.stdout) == (128 + signal.SIGHUP, "")
    assert ended.stderr == "\nSIGHUP has come: leaving at once, as there is nothing to save\n"


def test_handlers_that_somebody_else_has_set_are_taken_back(capfd):
    with StopRequest() as stop:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        stop.keep_listening()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert signal.set_wakeup_fd(-1) == stop._writer.fileno()
    assert capfd.readouterr().err.startswith("\nSIGTERM has come: leaving as soon as")


@pytest.mark.parametrize(
    ("inside", "status"),
    [
        ("pass", 0),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(1)", 143),
        ("raise UserError('x', 2)", 2),
        ("1 / 0", 1),
    ],
)
def test_a_close_that_hangs_does_not_keep_a_run_from_its_end(inside, status):
    ended = run(
        f"""
        from errors import UserError
        from training import stopping
        stopping.CLOSING = 0.2
        with StopRequest() as stop:
            try:
                with stop.ending_in_time():
                    {inside}
            finally:
                time.sleep(30)
        """
    )
    assert ended.returncode == status
    assert "close() of an environment has not returned in 0 s: left without it" in ended.stderr


def test_an_end_in_time_is_none_too_soon():
    with StopRequest() as stop, stop.ending_in_time():
        pass
    assert stop._end.finished.is_set()  # called off
