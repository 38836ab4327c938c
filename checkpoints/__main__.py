"""python -m checkpoints list|verify|export: look after the checkpoints of a run."""

import argparse
import os
import sys
import time
from pathlib import Path

from checkpoints.store import MANIFEST, CheckpointError, export_policy, list_checkpoints, read_manifest, verify


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checkpoints", description="Look after the checkpoints of a run.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in (
        ("list", "list a run's checkpoints: steps, success, size, age"),
        ("verify", "read every byte of one checkpoint, or of all of a run's"),
    ):
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument("path", type=Path, help="a run directory, or one checkpoint")
    export = commands.add_parser("export", help="write the policy of a checkpoint alone, to ship it")
    export.add_argument("path", type=Path, help="a checkpoint")
    export.add_argument("target", type=Path, help="the directory to write, e.g. checkpoints/pretrained/reach")
    export.add_argument("--made-by", required=True, help="the command that trained it; stored with it")
    arguments = parser.parse_args()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output has left (| head): no reason to complain, not at the interpreter's last flush either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a program gets that SIGPIPE ends
    except KeyboardInterrupt:
        return 130
    except CheckpointError as error:
        print(f"checkpoints: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"checkpoints: {error.filename or arguments.path}: {error.strerror or error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "export":
        export_policy(arguments.path, arguments.target, arguments.made_by)
        print(f"wrote {arguments.target}")
        return 0
    paths = _checkpoints(arguments.path)
    return _list(paths) if arguments.command == "list" else _verify(paths)


def _checkpoints(path: Path) -> list[Path]:
    if (path / MANIFEST).is_file():
        return [path]
    paths = list_checkpoints(path / "checkpoints") if path.is_dir() else []
    if not paths:
        raise CheckpointError(f"{path} is neither a checkpoint nor a run directory that holds one")
    return paths


def _list(paths: list[Path]) -> int:
    print(f"{'checkpoint':<18}{'env steps':>12}{'success':>10}{'size':>12}{'age':>10}")
    for path in paths:
        try:
            manifest = read_manifest(path)
        except CheckpointError as error:
            print(f"{path.name:<18}{error}")
            continue
        size = sum(file.stat().st_size for file in path.iterdir()) / 2**20
        age = (time.time() - (path / MANIFEST).stat().st_mtime) / 60
        success = "–" if manifest.success is None else f"{manifest.success:.0%}"
        print(f"{path.name:<18}{manifest.step:>12,}{success:>10}{size:>8.1f} MiB{age:>6.0f} min")
    return 0


def _verify(paths: list[Path]) -> int:
    bad = 0
    for path in paths:
        try:
            verify(path)
            print(f"good  {path}")
        except CheckpointError as error:
            bad += 1
            print(f"BAD   {error}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
