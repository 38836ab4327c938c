"""Steps environments in processes of their own while the caller computes, and comes to the same bits.

They are processes and no threads: a third of a step is Python, and Python's threads take turns (docs/performance.md).
"""

import json
import mmap
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from env import worker
from env.make import make_envs
from env.protocol import GOAL_KEYS, EnvError, EnvSpec
from env.tasks.base import Reward, TaskConfig
from env.vector import VectorEnv, VectorStep

FLAGS = ("terminated", "truncated", "success", "diverged")
Table = tuple[tuple[str, ...], np.ndarray]
"""Names (M,), and a row of numbers for each, (M, N)."""


def make_vector(
    name: str,
    count: int,
    task: TaskConfig,
    reward: Reward | None,
    spec: EnvSpec,
    env_args: Sequence[str] = (),
    rows: range | None = None,
) -> VectorEnv:
    """Puts what make_envs makes side by side: `count` environments, or those of them in `rows`. Raises EnvError."""
    rows = range(count) if rows is None else rows
    return VectorEnv(make_envs(name, len(rows), task, reward, env_args, among=count), spec, rows.start)


class VectorEnvWorkers:
    """Has the methods of a VectorEnv whose environments live in other processes, `workers` of them, a slice in each.

    `begin` returns at once, `finish` waits for the step. A step's arrays and `obs` lie in memory that all share, and
    hold until the next `begin`. What is raised there is raised here. The other processes end with this one, however
    that ends, and so does what environments started there. The arguments are make_vector's. Raises EnvError, with
    status 1 where one of the processes is gone.
    """

    def __init__(self, *arguments: Any, workers: int = 1):
        self.spec: EnvSpec = arguments[4]
        self._count: int = arguments[1]
        layout = step_layout(self.spec, self._count)
        memory, handle = _anonymous_memory(layout.itemsize)
        self._arrays = _named(memory, layout)
        self.obs = _group(self._arrays, "obs")
        self._step = VectorStep(
            next_obs=_group(self._arrays, "next_obs"),
            **{name: self._arrays[name] for name in ("reward", "terminated", "truncated", "diverged")},
            success=self._arrays["success"] if self.spec.tells_success else None,
            info=_group(self._arrays, "info"),
            metrics={},
            stages={},
        )
        cuts = np.linspace(0, self._count, min(workers, self._count) + 1).astype(int).tolist()
        self._slices = [range(a, b) for a, b in pairwise(cuts)]
        self._workers: list[_Worker] = []
        try:
            try:
                for _ in self._slices:
                    self._workers.append(_Worker(handle))
            finally:
                if isinstance(handle, int):
                    os.close(handle)
            self._call((handle, rows, *arguments) for rows in self._slices)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._count

    def reset(self, seeds: list[int]) -> None:
        self._call(("reset", seeds[rows.start : rows.stop]) for rows in self._slices)

    def begin(self, actions: np.ndarray) -> None:
        """Has every environment begin a step with its row of actions (N, A)."""
        self._arrays["actions"][:] = actions
        self._send(("step",) for _ in self._slices)

    def finish(self) -> VectorStep:
        """Returns what that step led to."""
        metrics, stages = zip(*self._receive(), strict=True)
        return self._step._replace(
            metrics=self._side_by_side(metrics, np.nan), stages=self._side_by_side(stages, False)
        )

    def step(self, actions: np.ndarray) -> VectorStep:
        self.begin(actions)
        return self.finish()

    def state_dict(self) -> dict[str, Any]:
        parts = self._call(("state_dict",) for _ in self._slices)
        envs = {
            str(rows[int(i)]): state
            for rows, part in zip(self._slices, parts, strict=True)
            for i, state in part["envs"].items()
        }
        in_a_row = np.concatenate([part["diverged_in_a_row"] for part in parts])
        return {"obs": self.obs, "envs": envs, "diverged_in_a_row": in_a_row}

    def load_state_dict(self, state: dict[str, Any], fresh_seeds: list[int]) -> list[int]:
        fresh = self._call(
            ("load_state_dict", _rows_of(state, rows), fresh_seeds[rows.start : rows.stop]) for rows in self._slices
        )
        return [rows[i] for rows, those in zip(self._slices, fresh, strict=True) for i in those]

    def close(self) -> None:
        """Has the environments close, and ends their processes and what they started. Twice is as good as once."""
        for each in self._workers:
            each.hang_up()
        for each in self._workers:
            each.close()

    def _call(self, messages: Iterable[tuple]) -> list[Any]:
        self._send(messages)
        return self._receive()

    def _send(self, messages: Iterable[tuple]) -> None:
        for each, message in zip(self._workers, messages, strict=True):
            each.send(message)

    def _receive(self) -> list[Any]:
        """Returns what each worker's method returned. Raises what the first of them raised that raised something."""
        answers = [each.receive() for each in self._workers]
        for _, error in answers:
            if error is not None:
                raise error
        return [result for result, _ in answers]

    def _side_by_side(self, tables: Sequence[Table], missing: float | bool) -> dict[str, np.ndarray]:
        """Returns {name: (N,)} of the workers' tables."""
        places = {name: i for i, name in enumerate(dict.fromkeys(name for names, _ in tables for name in names))}
        joined = np.full((len(places), self._count), missing)
        for (names, values), rows in zip(tables, self._slices, strict=True):
            joined[[places[name] for name in names], rows.start : rows.stop] = values
        return dict(zip(places, joined, strict=True))


class SharedVectorEnv:
    """Answers VectorEnvWorkers in one of its processes: a VectorEnv whose steps are written where all can see them.

    handle: of the memory. rows: which of all the environments these are. arguments: make_vector's.
    """

    def __init__(self, handle: int | str, rows: range, *arguments: Any):
        _, count, _, _, spec, *_ = arguments
        layout = step_layout(spec, count)
        arrays = _named(_open_memory(handle, layout.itemsize), layout)
        self._mine = {name: array[rows.start : rows.stop] for name, array in arrays.items()}
        self._envs = envs = make_vector(*arguments, rows=rows)
        self.reset, self.load_state_dict, self.close = envs.reset, envs.load_state_dict, envs.close
        envs.obs = _group(self._mine, "obs")

    def step(self) -> tuple[Table, Table]:
        """Takes a step with the actions that are written there. Returns what has no place: metrics and stages."""
        step = self._envs.step(self._mine["actions"])
        told = {flag: getattr(step, flag) for flag in FLAGS if getattr(step, flag) is not None}
        told |= {f"next_obs/{key}": rows for key, rows in step.next_obs.items()}
        told |= {f"info/{key}": rows for key, rows in step.info.items()}
        for name, rows in (told | {"reward": step.reward}).items():
            self._mine[name][:] = rows
        return tuple(
            (tuple(columns), np.reshape([*columns.values()], (len(columns), len(self._envs))))
            for columns in (step.metrics, step.stages)
        )

    def state_dict(self) -> dict[str, Any]:
        return self._envs.state_dict() | {"obs": {}}  # it lies there already


def step_layout(spec: EnvSpec, count: int) -> np.dtype:
    """Returns how the arrays of a step of `count` environments lie in shared memory, each under a name of its own."""
    sizes = dict(zip(GOAL_KEYS, (spec.obs_dim, spec.goal_dim, spec.goal_dim), strict=True))
    fields = [
        *((f"obs/{key}", np.float32, (count, size)) for key, size in sizes.items()),
        *((f"next_obs/{key}", np.float32, (count, size)) for key, size in sizes.items()),
        ("actions", np.float32, (count, spec.action_dim)),
        ("reward", np.float32, (count,)),
        *((f"info/{key}", np.float32, (count, *shape)) for key, shape in spec.info_shapes.items()),
        *((flag, np.bool_, (count,)) for flag in FLAGS),
    ]
    return np.dtype(fields, align=True)


def _named(memory: mmap.mmap, layout: np.dtype) -> dict[str, np.ndarray]:
    record = np.ndarray((), layout, memory)
    return {name: record[name] for name in layout.names}


def _group(arrays: dict[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    """Returns the arrays named "group/…"."""
    return {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(f"{group}/")}


def _rows_of(state: dict[str, Any], rows: range) -> dict[str, Any]:
    """Returns the part of a VectorEnv's state that belongs to the environments in `rows`, numbered from 0."""
    cut = slice(rows.start, rows.stop)
    part = {"obs": {key: value[cut] for key, value in state["obs"].items()}}
    part["envs"] = {str(k): state["envs"][str(i)] for k, i in enumerate(rows) if str(i) in state["envs"]}
    if "diverged_in_a_row" in state:  # older runs lack it
        part["diverged_in_a_row"] = state["diverged_in_a_row"][cut]
    return part


def _anonymous_memory(size: int) -> tuple[mmap.mmap, int | str]:
    """Returns so many zero bytes and a handle by which children open them: a file's number, on Windows a name.

    The file has no name, so that nothing is left of it however the processes end.
    """
    if sys.platform == "win32":
        name = f"environments-{secrets.token_hex(8)}"
        return mmap.mmap(-1, size, tagname=name), name
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("environments")
    else:
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
    os.ftruncate(file, size)
    return mmap.mmap(file, size), file


def _open_memory(handle: int | str, size: int) -> mmap.mmap:
    if isinstance(handle, str):
        return mmap.mmap(-1, size, tagname=handle)
    memory = mmap.mmap(handle, size)
    os.close(handle)
    return memory


class _Worker:
    """Is one of the processes, as seen from here: sends it calls, and receives its answers."""

    def __init__(self, handle: int | str):
        self._line, theirs = socket.socketpair()
        self._answers = self._line.makefile("rb")
        with theirs:
            self.process = _start(theirs, handle)

    def send(self, message: tuple) -> None:
        try:
            self._line.sendall(pickle.dumps(message))
        except OSError:
            raise self._gone() from None

    def receive(self) -> tuple[Any, Exception | None]:
        """Returns what the method returned there, and what it raised."""
        try:
            return pickle.load(self._answers)
        except (EOFError, OSError, pickle.UnpicklingError):  # before an answer, or in the middle of one
            raise self._gone() from None

    def hang_up(self) -> None:
        with suppress(OSError):  # closed already, on either side
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._end(worker.PATIENCE)
        self._answers.close()
        self._line.close()

    def _gone(self) -> EnvError:
        status = self._end(1.0)
        how = f"signal {-status}, {signal.strsignal(-status)}" if status < 0 else f"status {status}"
        return EnvError(f"the process that the environments step in ended ({how})", status=1)

    def _end(self, patience: float) -> int:
        """Waits so many seconds for the process to end, ends it, and returns its status."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        self.process.kill()
        return self.process.wait()


def _start(theirs: socket.socket, handle: int | str) -> subprocess.Popen:
    """Starts env/worker.py with the other end of the line and a handle, in a session of its own that no terminal ends.

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
        return subprocess.Popen(command, stdin=theirs, start_new_session=True, env=environment, pass_fds=[handle])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
