"""Every command fails here, in one sentence and with one exit status, and writes what was asked for."""

import json
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

LINGER = 3.0
"""Seconds that threads and exit handlers of an environment's have after a program has done its work."""


class UserError(Exception):
    """A failure that is told in one sentence: what is wrong, where, and what to do.

    Args:
        sentence: for the user, without a traceback.
        status: the program's exit status. 2: no restart can cure it. 1: another try may do better.
    """

    def __init__(self, sentence: str, status: int = 2):
        super().__init__(sentence)
        self.status = status


class Signalled(BaseException):
    """Ends a command because a signal has come, through whatever it is doing."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def reporting(program: str) -> Iterator[None]:
    """Turns what ends the command `program` into its exit status, and a UserError or OSError into one line on stderr.

    Standard output takes anything meanwhile: a terminal of ASCII shows ? for what it lacks, a closed one nothing.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the end
    if hasattr(sys.stdout, "reconfigure"):  # not where somebody has put an object of their own in its place
        sys.stdout.reconfigure(errors="replace")
    output = sys.stdout
    sys.stdout = named = _Named(output)  # an environment may put something else there, or close it
    try:
        yield
        named.flush()
    except UserError as error:
        _leave(program, str(error), error.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except Signalled as leaving:
        sys.exit(128 + leaving.number)
    except BrokenPipeError:
        _let_go(output)  # whoever read it has left (| head): no reason to complain
        sys.exit(141)  # what a program gets that SIGPIPE ends
    except (OSError, RuntimeError) as error:
        if not (what := _reason(error)):
            raise
        _let_go(output)
        _leave(program, f"{what}; what was saved before is intact", 1)
    finally:
        sys.stdout = output


def ending_for_sure(main: Callable[[], None]) -> NoReturn:
    """Calls `main`, and ends the process with its status whatever an environment has left behind in it.

    Threads of its own, and what it does at the interpreter's exit, have LINGER seconds.
    """
    status: Any = 1  # what a traceback ends with
    try:
        main()
        status = 0
    except SystemExit as leaving:
        status = leaving.code
        raise
    finally:
        end = threading.Timer(LINGER, os._exit, [status if isinstance(status, int) else 1])
        end.daemon = True
        end.start()
    sys.exit(0)


class _Named:
    """Wraps standard output, and names it in its errors: an OSError alone does not tell which file it is of."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        with self._naming():
            self._stream.write(text)

    def flush(self) -> None:
        with self._naming():
            self._stream.flush()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = "standard output"
            raise
        except ValueError:  # an environment has closed it
            if not self._stream.closed:
                raise


def _let_go(output: Any) -> None:
    """Flushes standard output, or gives up what it has not taken: Python would fail at that again as it exits."""
    try:
        output.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def _reason(error: OSError | RuntimeError) -> str:
    """Returns what an error of the system's is about, or nothing for a RuntimeError that is none."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if str(error) == "can't start new thread" or isinstance(error, BlockingIOError):
        most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        limit = "unlimited" if most == resource.RLIM_INFINITY else most
        return f"no further thread or process can be started (ulimit -u is {limit}; a container may have a pids limit)"
    return str(error).partition("\n")[0] if isinstance(error, OSError) else ""


def _leave(program: str, sentence: str, status: int) -> NoReturn:
    with suppress(OSError, ValueError):
        print(f"{program}: {sentence}", file=sys.stderr or sys.__stderr__)
    sys.exit(status)


def check_writable(option: str, path: Path) -> None:
    """Makes the directory of the file `path`, and tries to write there. Raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        open(path, "ab").close()  # what os.access allows, the disk may still refuse
        if not existed:
            path.unlink()
    except OSError as error:
        raise UserError(
            f"{option} {path}: cannot be written ({error.filename}: {error.strerror}); name another file"
        ) from error


def write_json(option: str, path: Path, content: Any) -> None:
    """Writes `content` to the file `path`. Raises UserError, BrokenPipeError."""
    try:
        path.write_text(json.dumps(content, indent=2) + "\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{option} {path}: could not be written ({error.strerror})", status=1) from error
