"""python -m checkpoints list|verify|export|prune|rm looks after the checkpoints of a run."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from checkpoints.disk import CheckpointError
from checkpoints.export import export_policy, find_policy
from checkpoints.manifest import MANIFEST, Manifest, has_manifest, read_manifest
from checkpoints.retention import prune, remove
from checkpoints.store import list_checkpoints, step_of, verify
from errors import reporting

File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")]


def main() -> None:
    commands: dict[str, Callable[..., Any]] = {
        "list": _list,
        "verify": _verify,
        "export": _export,
        "prune": _prune,
        "rm": _remove,
    }
    with reporting("checkpoints"):
        description = "Looks after the checkpoints of a run."
        if not tyro.extras.subcommand_cli_from_dict(commands, prog="python -m checkpoints", description=description):
            sys.exit(1)


def _list(path: Positional[Path], /) -> bool:
    """Lists checkpoints: steps, success, size, age, verdict. Reads every byte.

    Args:
        path: a run directory, or one checkpoint.
    """
    paths, all_good = _checkpoints(path), True
    print(f"{'checkpoint':<16}{'env steps':>12}{'success':>9}{'own':>11}{'buffer':>11}{'age':>10}  verdict")
    for checkpoint, manifest, status, problem in _read(paths):
        all_good &= not problem
        columns = f"{'':>53}"
        if manifest and status:
            success = "–" if manifest.success is None else f"{manifest.success:.0%}"
            if manifest.success is not None and not 0 <= manifest.success <= 1:  # a return
                success = f"{manifest.success:,.1f}"
            own = status.st_size + sum(file.size for file in manifest.files.values())
            shared = sum(segment.size for log in manifest.logs.values() for segment in log.segments)
            saved = datetime.fromisoformat(manifest.saved).timestamp() if manifest.saved else status.st_mtime
            age = _age(time.time() - saved)
            columns = f"{manifest.step:>12,}{success:>9}{_mib(own)}{_mib(shared)}{age:>10}"
        print(f"{checkpoint.name:<16}{columns}  {f'BAD: {problem}' if problem else 'good'}")
    return all_good


def _verify(path: Positional[Path], /) -> bool:
    """Reads every byte of checkpoints, and names each bad file.

    Args:
        path: a run directory, or one checkpoint.
    """
    all_good = True
    for checkpoint, _, _, problem in _read(_checkpoints(path)):
        print(f"BAD   {problem}" if problem else f"good  {checkpoint}")
        all_good &= not problem
    return all_good


def _export(
    path: Positional[str],
    /,
    onnx: File = None,
    torchscript: File = None,
    npz: File = None,
    directory: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: none)")] = None,
    made_by: str = "",
) -> bool:
    """Writes the policy of a run for other programs, with a card that says what goes in and comes out.

    Args:
        path: a run directory, a checkpoint, or the name of a policy that came with the code.
        onnx: write it as ONNX.
        torchscript: write it as TorchScript.
        npz: write it as NumPy arrays.
        directory: write its networks as a checkpoint of their own, as checkpoints/pretrained holds them.
        made_by: the command that trained them, which --directory keeps.
    """
    asked = {"onnx": onnx, "torchscript": torchscript, "npz": npz}
    files = {form: file for form, file in asked.items() if file is not None}
    if not files and directory is None:
        raise CheckpointError("export to what? give --onnx FILE, --torchscript FILE, --npz FILE or --directory DIR")
    if files:
        from training.analysis.export import export  # knows the network, which files are compared with

        worst = export(path, files)
        print(f"wrote {', '.join(map(str, files.values()))}: actions differ from the network's by {worst:.0e} at most")
    if directory is not None:
        export_policy(find_policy(path)[0], directory, made_by)
        print(f"wrote {directory}")
    return True


def _prune(path: Positional[Path], /, keep: int = 1) -> bool:
    """Removes a run's checkpoints but the newest, the best by success, and the first after each 100,000 steps.

    Args:
        path: a run directory.
        keep: how many of the newest stay.
    """
    if keep < 1:
        raise CheckpointError(f"--keep {keep}: must be at least 1")
    with _held(path) as root:
        before = list_checkpoints(root)
        prune(root, keep, newest=step_of(before[-1]) or 0)
        print(f"removed {len(before) - len(list_checkpoints(root))} of {len(before)} checkpoints of {path}")
    return True


def _remove(path: Positional[Path], step: Positional[int], /) -> bool:
    """Removes one checkpoint of a run.

    Args:
        path: a run directory.
        step: whose checkpoint to remove.
    """
    with _held(path) as root:
        remove(root, step)
        print(f"removed the checkpoint of step {step:,} of {path}")
    return True


@contextmanager
def _held(path: Path) -> Iterator[Path]:
    """Keeps a run from being trained meanwhile. Yields the directory of its checkpoints, which holds one or more."""
    from training.resume.run_directory import RunDirectory  # knows the lock

    root = path / "checkpoints"
    if not path.is_dir() or not list_checkpoints(root):
        raise CheckpointError(f"{path} is no run directory that holds a checkpoint")
    with RunDirectory(path).lock():
        yield root


def _checkpoints(path: Path) -> list[Path]:
    paths = [path] if has_manifest(path) else list_checkpoints(path / "checkpoints") if path.is_dir() else []
    if not paths:
        raise CheckpointError(f"{path} is neither a checkpoint nor a run directory that holds one")
    return paths


def _read(paths: list[Path]) -> Iterator[tuple[Path, Manifest | None, os.stat_result | None, str | None]]:
    """Reads every byte of the checkpoints, what several share once.

    Yields each with its manifest, the status of the manifest's file, and what is wrong.
    """
    verified: set[str] = set()
    for checkpoint in paths:
        manifest = status = problem = None
        try:
            status = (checkpoint / MANIFEST).stat()
            manifest = read_manifest(checkpoint)
            verify(checkpoint, verified=verified)
        except (CheckpointError, OSError) as error:
            if not has_manifest(checkpoint):
                continue  # no damage: a run that is going on has pruned it meanwhile
            problem = str(error)
        yield checkpoint, manifest, status, problem


def _mib(size: int) -> str:
    return f"{size / 2**20:>7.1f} MiB"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


if __name__ == "__main__":
    main()
