"""Steps environments in a process of their own while the caller computes, and comes to the same bits.

It is a process and not a thread: half of a step is Python, and Python's threads take turns (docs/performance.md).
"""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from env.make import make_envs
from env.protocol import EnvError, EnvSpec
from env.tasks.base import Reward, TaskConfig
from env.vector import VectorEnv, VectorStep
from errors import UserError

_ROOT = Path(__file__).parents[1]
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def make_vector(name: str, count: int, task: TaskConfig, reward: Reward | None, spec: EnvSpec) -> VectorEnv:
    """Puts what make_envs makes side by side. Raises EnvError."""
    return VectorEnv(make_envs(name, count, task, reward), spec)


class VectorEnvProcess:
    """Has the methods of a VectorEnv that lives in another process. `obs` is a copy of its own.

    `begin` returns at once, `finish` waits for the step. What is raised there is raised here. The other process ends
    with this one, however that ends. Its arguments are make_vector's. Raises EnvError, with status 1 where the other
    process is gone.
    """

    def __init__(self, *arguments: Any):
        spec: EnvSpec = arguments[-1]
        self.spec = spec
        self.obs: dict[str, np.ndarray] = {}
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from env.process import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )
        self._count = arguments[1]
        self._send(arguments)
        self._receive()

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
        """Ends the process. A second time it does nothing."""
        self._process.kill()
        self._process.communicate()

    def _call(self, method: str, *arguments: Any) -> Any:
        self._send((method, *arguments))
        return self._receive()

    def _send(self, message: Any) -> None:
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def _receive(self) -> tuple[Any, dict[str, np.ndarray]]:
        """Returns what the method returned there, and those observations of `obs` that the result does not hold."""
        try:
            result, obs, error = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):  # before an answer, or in the middle of one
            raise self._gone() from None
        if error is not None:
            raise error
        return result, obs

    def _gone(self) -> EnvError:
        status = self._process.wait()
        how = f"signal {-status}, {signal.strsignal(-status)}" if status < 0 else f"status {status}"
        return EnvError(f"the process that the environments step in ended ({how})", status=1)


def serve() -> None:
    """Builds environments from the first message, and answers the calls of VectorEnvProcess: the other process."""
    # Ctrl-C and a supervisor's SIGTERM are for the process that trains: it asks for one more step, and saves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere it ends with the pipe, unless an environment hangs
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    messages, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an environment prints must not get into the answers
    envs: VectorEnv | None = None
    while True:
        try:
            message = pickle.load(messages)
        except EOFError:
            return
        result, obs, error = None, {}, None
        try:
            if envs is None:
                envs = make_vector(*message)
            else:
                method, *arguments = message
                result = getattr(envs, method)(*arguments)
                obs = _not_in(result, envs.obs)
        except Exception as raised:  # other people's code fails in its own ways; it is raised where it was called from
            error = _picklable(raised)
        try:
            pickle.dump((result, obs, error), answers)
            answers.flush()
        except BrokenPipeError:
            return


def _not_in(result: Any, obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what of `obs` {key: (N, …)} must be sent beside a method's result: every observation crosses once."""
    if isinstance(result, VectorStep):
        return {key: value[result.begun] for key, value in obs.items()}
    return {} if isinstance(result, dict) else obs  # a state_dict changes none


def _picklable(error: Exception) -> Exception:
    if isinstance(error, UserError):  # a sentence for the user, who needs no traceback
        return error
    error.add_note("In the environments' process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    # An exception of somebody's own class can fail in any way on its way through pickle, and must not end the answers.
    except Exception:
        return EnvError(f"an environment failed: {type(error).__name__}: {error}", status=1)
    return error
