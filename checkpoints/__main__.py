"""python -m checkpoints list|verify|export: look after the checkpoints of a run."""

import argparse
import os
import sys
import time
from pathlib import Path

from checkpoints.export import export_policy
from checkpoints.manifest import MANIFEST, CheckpointError, Manifest, read_manifest
from checkpoints.store import list_checkpoints, verify


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checkpoints", description="Look after the checkpoints of a run.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in (
        ("list", "list a run's checkpoints: steps, success, size, age, verdict"),
        ("verify", "read every byte of one checkpoint, or of all of a run's"),
    ):
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument("path", type=Path, help="a run directory, or one checkpoint")
    export = commands.add_parser("export", help="write the policy of a checkpoint alone, to ship it")
    export.add_argument("path", type=Path, help="a checkpoint")
    export.add_argument("target", type=Path, help="the directory to write, e.g. checkpoints/pretrained/reach")
    export.add_argument("--made-by", required=True, help="the command that trained it; stored with it")
    arguments = parser.parse_args()
    if sys.stdout is None:  # closed
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the end
    sys.stdout.reconfigure(errors="replace")  # a terminal of ASCII shows ? for –
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
    """One line for each checkpoint; every byte is read, what several share once."""
    print(f"{'checkpoint':<16}{'env steps':>12}{'success':>9}{'own':>11}{'buffer':>11}{'age':>10}  verdict")
    verified: set[str] = set()
    bad = 0
    for path in paths:
        try:
            manifest = read_manifest(path)
        except CheckpointError as error:
            if _was_removed(path):
                continue
            bad += 1
            print(f"{path.name:<16}{'':>53}  BAD: {error}")
            continue
        verdict = "good"
        try:
            status = (path / MANIFEST).stat()
            verify(path, verified=verified)
        except (CheckpointError, FileNotFoundError) as error:
            if _was_removed(path):
                continue
            bad += 1
            verdict = f"BAD: {error}"
        success = "–" if manifest.success is None else f"{manifest.success:.0%}"
        own, shared = _sizes(status.st_size, manifest)
        age = _age(time.time() - status.st_mtime)
        print(f"{path.name:<16}{manifest.step:>12,}{success:>9}{_mib(own)}{_mib(shared)}{age:>10}  {verdict}")
    return 1 if bad else 0


def _was_removed(path: Path) -> bool:
    """Whether the run that is going on has pruned a checkpoint while it was read: no damage, then."""
    try:
        os.lstat(path / MANIFEST)
    except FileNotFoundError:
        return True
    except OSError:  # it may be there, for somebody with other rights
        pass
    return False


def _sizes(manifest_size: int, manifest: Manifest) -> tuple[int, int]:
    """Bytes of the checkpoint's own files, and of the segments that it names and may share with others."""
    own = manifest_size + sum(file.size for file in manifest.files.values())
    return own, sum(segment.size for log in manifest.logs.values() for segment in log.segments)


def _mib(size: int) -> str:
    return f"{size / 2**20:>7.1f} MiB"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _verify(paths: list[Path]) -> int:
    bad = 0
    verified: set[str] = set()
    for path in paths:
        try:
            verify(path, verified=verified)
            print(f"good  {path}")
        except CheckpointError as error:
            if _was_removed(path):
                continue
            bad += 1
            print(f"BAD   {error}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
