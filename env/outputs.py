"""What a program that writes files and prints tables owes its user when it cannot."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn


class OutputError(ValueError):
    """A file that was asked for and cannot be written."""


def check_writable(option: str, path: Path) -> None:
    """Makes the directory of the file `path`, and tries to write there. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        open(path, "ab").close()  # what os.access allows, the disk may still refuse
        if not existed:
            path.unlink()
    except OSError as error:
        raise OutputError(
            f"{option} {path}: cannot be written ({error.filename}: {error.strerror}); name another file"
        ) from error


def write_json(option: str, path: Path, content: Any) -> None:
    """Into the file `path`, whole or not at all (a power cut aside). What cannot be put in place of an old file, such
    as a link, /dev/stdout or a file in a directory that takes no new ones, is written to as it is.

    Raises OutputError, BrokenPipeError.
    """
    text = json.dumps(content, indent=2) + "\n"
    replaceable = not path.is_symlink() and (path.is_file() or not path.exists()) and os.access(path.parent, os.W_OK)
    written = path.with_name(f".{os.getpid()}.partial") if replaceable else path
    try:
        written.write_text(text)
        if replaceable:
            written.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        if replaceable:
            with suppress(OSError):
                written.unlink(missing_ok=True)
        raise OutputError(f"{option} {path}: could not be written ({error.strerror})") from error


def os_error_sentence(error: OSError) -> str:
    """One line: the file and what is wrong with it, as far as the error knows (ffmpeg's are pages of text)."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error).partition("\n")[0]


def open_output() -> None:
    """Makes standard output take anything: a terminal of ASCII shows ? for what it has not, a closed one nothing."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the end
    sys.stdout.reconfigure(errors="replace")


def leave_quietly() -> NoReturn:
    """Whoever read the output has left (| head): no reason to complain, not at the interpreter's last flush either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)  # what a program gets that SIGPIPE ends
