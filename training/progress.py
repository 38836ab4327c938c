"""Prints a run's progress bar and lines. No run ends because nobody can read them."""

import atexit
import contextlib
import os
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

_GONE = (OSError, ValueError)
"""A full disk, a broken pipe, a closed terminal; ValueError is what a closed file object raises."""


class Unfailing:
    """Wraps a text stream, or None, to show what it can and never raise.

    tqdm keeps a lock over the process for ever where its stream raises: the next line from any thread would hang.
    """

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unfailing) and self._stream is other._stream

    def __hash__(self) -> int:
        return id(self._stream)

    def write(self, text: str) -> None:
        if self._stream is None:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with contextlib.suppress(*_GONE):
            self._stream.write(text.encode(encoding, "replace").decode(encoding))

    def flush(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(*_GONE):
                self._stream.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(*_GONE):
            return self._stream is not None and self._stream.isatty()
        return False


def say(text: str) -> None:
    """Prints a line at once, above the progress bar where there is one. From any thread; never raises."""
    out = Unfailing(sys.stdout)
    with tqdm.external_write_mode(file=Unfailing(sys.stderr)):
        out.write(f"{text}\n")
        out.flush()


class Progress:
    """Shows a bar over the steps of the whole run, where somebody watches, and a line for each evaluation."""

    def __init__(self, steps: int, env_steps: int):
        # disable=None: no bar where nobody watches, in a log file or a pipe.
        self._bar = tqdm(
            total=steps,
            initial=env_steps,
            unit="step",
            disable=None,
            dynamic_ncols=True,
            file=Unfailing(sys.stderr),
        )
        self._started, self._steps = time.perf_counter(), 0

    def advance(self, steps: int) -> None:
        self._bar.update(steps)
        self._steps += steps

    def steps_per_second(self) -> float:
        """Returns the environment steps a second of this process, evaluations included."""
        return self._steps / (time.perf_counter() - self._started)

    def report(self, result: dict[str, Any], goal_moved: float | None, env_steps: int) -> None:
        """Prints an evaluation's summary, and in which share of the recent training episodes the goal moved, if any."""
        words = [f"step {env_steps:>9,}"]
        if result["success"]:
            success, once = result["success"]["rate"], result["success_once"]["rate"]
            self._bar.set_postfix_str(f"success {success:.0%}")
            words += [f"success {success:>4.0%}", f"once {once:>4.0%}"]
        words.append(f"return {result['return']['mean']:>7.2f}")
        if goal_moved is not None:
            words.append(f"goal moved in {goal_moved:>4.0%} of recent episodes")
        say(" · ".join(words))

    def close(self) -> None:
        self._bar.close()


@atexit.register
def _let_go_of_broken_streams() -> None:
    """Python flushes both streams as it exits; one that cannot be written would make that exit code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except _GONE:
            with contextlib.suppress(*_GONE), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
