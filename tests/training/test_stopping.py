"""A signal is a wish, granted where the run can be left."""

import os
import signal

import numpy as np
import pytest

from training.stopping import Stopped, StopRequest, interruptible
from training.watchdog import Watchdog


def test_the_first_signal_counts_and_a_second_changes_nothing(capfd):
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM
    assert capfd.readouterr().err == "\nSIGTERM: stopping at the next step, and saving\n"


def test_a_terminal_that_has_hung_up_keeps_no_run_from_saving():
    stderr = os.dup(2)
    try:
        with StopRequest() as stop:
            os.close(2)
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal == signal.SIGHUP
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


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
