"""A signal is a wish, granted where the run can be left."""

import errno
import os
import signal
import sys

import numpy as np
import pytest
from training.watchdog import Watchdog

from training.stopping import Stopped, StopRequest, interruptible


def test_the_first_signal_counts_and_a_second_changes_nothing(capfd):
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM
    assert capfd.readouterr().err == "\nSIGTERM has come: leaving as soon as it can be\n"


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


def test_afterwards_signals_do_what_they_did_before():
    before = [signal.getsignal(number) for number in StopRequest.SIGNALS]
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before[StopRequest.SIGNALS.index(signal.SIGTERM)]
    assert [signal.getsignal(number) for number in StopRequest.SIGNALS] == before


def test_what_the_process_was_started_to_ignore_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_policy_acts_until_a_signal_has_come():
    with StopRequest() as stop, Watchdog(None) as watchdog:
        policy = interruptible(lambda inputs: inputs + 1, stop, watchdog)
        np.testing.assert_array_equal(policy(np.zeros(3)), np.ones(3))
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped):
            policy(np.zeros(3))
