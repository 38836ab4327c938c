"""Answers VectorEnvWorkers: the program of a process that environments step in.

Until the guard is forked it imports nothing but the standard library, so that the guard stays small.
"""

import json
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Signals that ask the process that trains to save and leave."""
PATIENCE = 3.0
"""Seconds that environments have for their close(), and the interpreter for its end."""

MARK = "SAC_HER_ENVIRONMENTS"
"""Environment variable with a value of this process's own, which all that environments start inherits."""


def main() -> None:
    """Serves until the process that trains hangs up. Its argument is that process's sys.path, as JSON."""
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    leave_to_trainer(heeded)
    line = take_line()
    if hasattr(os, "fork"):
        fork_guard(line)
        let_forked_processes_heed(heeded)
    sys.path[:] = json.loads(sys.argv[1])
    serve(line)


def leave_to_trainer(signals: list[int]) -> None:
    """Lets `signals` pass without effect. They were blocked since before this process began.

    They are handled and not ignored: a program that is started from here would go on ignoring them.
    """
    for number in signals:
        signal.signal(number, lambda *_: None)
        if hasattr(signal, "siginterrupt"):
            signal.siginterrupt(number, False)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def let_forked_processes_heed(signals: list[int]) -> None:
    """Gives `signals` their effect back in what environments fork: many end their own helpers by SIGTERM."""

    def restore() -> None:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signals),  # one that comes too soon waits
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals),
        after_in_child=restore,
    )


def take_line() -> socket.socket:
    """Returns the connection to the process that trains, and puts harmless files in place of the standard streams.

    Nobody answers here, so that standard input is empty. What is printed goes to standard error.
    """
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # where a stream was closed, its number is in use from now on
        os.set_inheritable(null, True)
    if sys.platform == "win32":
        line = socket.fromshare(sys.stdin.buffer.read())
    else:
        line = socket.socket(fileno=os.dup(0))
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return line


def fork_guard(line: socket.socket) -> None:
    """Forks a process that outlives this one, and ends what environments started and left behind.

    It notices the end of either process, even where environments hang in C code. Whoever waits at the connection is
    told by a shutdown, because a helper that an environment forked may hold it open.
    """
    worker, trainer = os.getpid(), os.getppid()
    if os.fork():
        return
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for stream in (1, 2):
            os.dup2(0, stream)
        watched = select.poll()
        watched.register(line, 0)  # poll tells of a hang-up unasked
        with suppress(AttributeError, OSError):  # neither every system nor every kernel has it
            watched.register(os.pidfd_open(trainer), select.POLLIN)
        while os.getppid() == worker and not watched.poll(200):
            pass
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + PATIENCE
        while os.getppid() == worker and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        with suppress(OSError):  # there is no /proc
            end_marked(f"{MARK}={os.environ[MARK]}".encode())
        os.killpg(0, signal.SIGKILL)


def end_marked(mark: bytes) -> None:
    """Ends the processes that have `mark` among their environment variables, in whatever session, but for this one."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has ended meanwhile, or is somebody else's
            with open(f"/proc/{process}/environ", "rb") as file:
                variables = file.read().split(b"\0")
            if mark in variables and int(process) != os.getpid():
                os.kill(int(process), signal.SIGKILL)


def serve(line: socket.socket) -> None:
    """Builds environments from the first message, answers calls of their methods, and closes them at the end."""
    from env.process import SharedVectorEnv

    envs, messages = None, line.makefile("rb")
    while True:
        try:
            message = pickle.load(messages)
        except (EOFError, OSError, pickle.UnpicklingError):  # before a message, or in the middle of one
            break
        result = error = None
        try:
            if envs is None:
                envs = SharedVectorEnv(*message)
            else:
                result = getattr(envs, message[0])(*message[1:])
        except BaseException as raised:  # other people's code fails in its own ways, and is told where it was called
            error = _picklable(raised)
        try:
            line.sendall(pickle.dumps((result, error)))
        except OSError:
            break
    if envs is not None:
        envs.close()


def _picklable(error: BaseException) -> Exception:
    from env.foreign import in_a_line
    from env.protocol import EnvError
    from errors import UserError

    if isinstance(error, UserError):  # a sentence for the user, who needs no traceback
        return error
    try:
        error.add_note("In the environments' process:\n" + "".join(traceback.format_exception(error)))
        pickle.loads(pickle.dumps(error))
        fits = isinstance(error, Exception)  # a SystemExit must not end the process that trains
    # An exception of somebody's own class can fail in any way on its way through pickle, and must not end the answers.
    except Exception:
        fits = False
    return error if fits else EnvError(f"an environment failed: {in_a_line(error)}", status=1)


if __name__ == "__main__":
    main()
