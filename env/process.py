"""Steps environments in a process of their own while the caller computes, and comes to the same bits.

It is a process and not a thread: half of a step is Python, and Python's threads take turns (docs/performance.md).
"""

import json
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from env import worker
from env.make import make_envs
from env.protocol import EnvError, EnvSpec
from env.tasks.base import Reward, TaskConfig
from env.vector import VectorEnv, VectorStep


def make_vector(
    name: str, count: int, task: TaskConfig, reward: Reward | None, spec: EnvSpec, env_args: Sequence[str] = ()
) -> VectorEnv:
    """Puts what make_envs makes side by side. Raises EnvError."""
    return VectorEnv(make_envs(name, count, task, reward, env_args), spec)


class VectorEnvProcess:
    """Has the methods of a VectorEnv that lives in another process. `obs` is a copy of its own.

    `begin` returns at once, `finish` waits for the step. What is raised there is raised here. The other process ends
    with this one, however that ends, and so does what environments started there. Its arguments are make_vector's.
    Raises EnvError, with status 1 where the other process is gone.
    """

    def __init__(self, *arguments: Any):
        self.spec: EnvSpec = arguments[4]
        self.obs: dict[str, np.ndarray] = {}
        self._count = arguments[1]
        self._line, theirs = socket.socketpair()
        self._answers = self._line.makefile("rb")
        with theirs:
            self._process = _start(theirs)
        try:
            self._call(*arguments)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._count

    def reset(self, seeds: list[int]) -> None:
        _, self.obs = self._call("reset", seeds)

    def begin(self, actions: np.ndarray) -> None:
        """Has every environment begin a step with its row of actions (N, A)."""
        self._send(("step", actions))

    def finish(self) -> VectorStep:
        """Returns what that step led to."""
        step, first_obs = self._receive()
        self.obs = {key: value.copy() for key, value in step.next_obs.items()}
        for key, rows in first_obs.items():
            self.obs[key][step.begun] = rows
        return step

    def step(self, actions: np.ndarray) -> VectorStep:
        self.begin(actions)
        return self.finish()

    def state_dict(self) -> dict[str, Any]:
        return self._call("state_dict")[0]

    def load_state_dict(self, state: dict[str, Any], fresh_seeds: list[int]) -> list[int]:
        fresh, self.obs = self._call("load_state_dict", state, fresh_seeds)
        return fresh

    def close(self) -> None:
        """Has the environments close, and ends their process and what they started. A second time it does nothing."""
        with suppress(OSError):  # closed already, on either side
            self._line.shutdown(socket.SHUT_RDWR)
        self._end(worker.PATIENCE)
        self._answers.close()
        self._line.close()

    def _call(self, *message: Any) -> Any:
        self._send(message)
        return self._receive()

    def _send(self, message: tuple) -> None:
        try:
            self._line.sendall(pickle.dumps(message))
        except OSError:
            raise self._gone() from None

    def _receive(self) -> tuple[Any, dict[str, np.ndarray]]:
        """Returns what the method returned there, and those observations of `obs` that the result does not hold."""
        try:
            result, obs, error = pickle.load(self._answers)
        except (EOFError, OSError, pickle.UnpicklingError):  # before an answer, or in the middle of one
            raise self._gone() from None
        if error is not None:
            raise error
        return result, obs

    def _gone(self) -> EnvError:
        status = self._end(1.0)
        how = f"signal {-status}, {signal.strsignal(-status)}" if status < 0 else f"status {status}"
        return EnvError(f"the process that the environments step in ended ({how})", status=1)

    def _end(self, patience: float) -> int:
        """Waits so many seconds for the process to end, ends it, and returns its status."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        return self._process.wait()


def _start(theirs: socket.socket) -> subprocess.Popen:
    """Starts env/worker.py with the other end of the line, in a session of its own that no terminal ends.

    It imports from where this process does. The empty entry of sys.path, the working directory, is left out: a file
    there must not take the place of one of the project's or of Python's.
    """
    root = str(Path(__file__).parents[1])
    path = [entry for entry in map(os.fspath, sys.path) if entry]
    path = path if root in path else [root, *path]
    command = [sys.executable, "-P", worker.__file__, json.dumps(path)]
    if sys.platform == "win32":
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        with process.stdin as stdin:
            stdin.write(theirs.share(process.pid))
        return process
    environment = os.environ | {worker.MARK: secrets.token_hex(8)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    try:
        return subprocess.Popen(command, stdin=theirs, start_new_session=True, env=environment)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
