"""How every command fails, and how it writes what was asked for: one sentence, one exit status, one place."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn


class UserError(Exception):
    """A failure that is told in one sentence: what is wrong, where, and what to do.

    Args:
        sentence: for the user, without a traceback.
        status: the program's exit status. 2: no restart can cure it. 1: another try may do better.
    """

    def __init__(self, sentence: str, status: int = 2):
        super().__init__(sentence)
        self.status = status


@contextmanager
def reporting(program: str) -> Iterator[None]:
    """Turns what ends the command `program` into its exit status, and a UserError or OSError into one line on stderr.

    Standard output takes anything meanwhile: a terminal of ASCII shows ? for what it lacks, a closed one nothing.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the end
    if hasattr(sys.stdout, "reconfigure"):  # not where somebody has put an object of their own in its place
        sys.stdout.reconfigure(errors="replace")
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        _leave(program, str(error), error.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has left (| head): no reason to complain, not at the interpreter's last flush either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # what a program gets that SIGPIPE ends
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error).partition("\n")[0]
        _leave(program, f"{what}; what was saved before is intact", 1)


def _leave(program: str, sentence: str, status: int) -> NoReturn:
    with suppress(OSError):
        print(f"{program}: {sentence}", file=sys.stderr)
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
