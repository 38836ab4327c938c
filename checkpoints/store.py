"""Checkpoints on disk: nested dicts of arrays and numbers, written so that a half-written one never counts.

A checkpoint is a directory `step_000010000/`: one safetensors file for each entry of the state that holds arrays, and
`manifest.json`, which carries everything that is not an array, and the size and SHA-256 of each file, its own included.
The manifest is renamed into place last: a directory without one is no checkpoint. Nothing in it can run code.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

FORMAT = 1
MANIFEST = "manifest.json"
_SEPARATOR = "|"
_NAME = re.compile(r"step_([0-9]{9,})")  # nine digits or more: what :09d writes

State = Mapping[str, Mapping[str, Any]]


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another format; the message names the file and what to do."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    step: environment steps of the run so far; success: the evaluation's success rate at this very step, or None;
    config, versions: of the run that wrote it;
    values: the state's numbers and strings; files: {name: {"size": bytes, "sha256": hex}}.
    """

    step: int
    success: float | None
    config: dict[str, Any]
    versions: dict[str, str]
    values: dict[str, Any]
    files: dict[str, dict[str, Any]]
    format: int = FORMAT


def save(
    root: Path,
    step: int,
    state: State,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
    success: float | None = None,
) -> Path:
    """Writes `state` as root/step_… and returns that path. Raises OSError with nothing half-written counted."""
    # All of it as bytes before the disk is touched: a state that cannot be written must not cost an older checkpoint.
    contents, files, values = {}, {}, {}
    for name, tree in state.items():
        arrays, values[name] = _split(tree)
        if arrays:
            data = contents[f"{name}.safetensors"] = save_tensors(arrays)
            files[f"{name}.safetensors"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = {
        "format": FORMAT,
        "step": step,
        "success": success,
        "config": config,
        "versions": versions,
        "files": files,
        "values": values,
    }
    manifest = json.dumps(manifest | {"sha256": _digest(manifest)}, indent=1, allow_nan=False).encode()

    path = root / f"step_{step:09d}"
    if path.exists():
        # Left by a crash, or the same step saved again: either way the new one replaces it, manifest first out.
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
    path.mkdir(parents=True)
    for name, data in contents.items():
        _write(path / name, data)
    _write(path / MANIFEST, manifest)
    _sync_directory(root)
    return path


def read_manifest(path: Path) -> Manifest:
    """The manifest of the checkpoint directory `path`. Raises CheckpointError."""
    file = path / MANIFEST
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{file} has format {content['format']}, and this code reads format {FORMAT}; "
                "use the code that wrote it"
            )
        if content.pop("sha256") != _digest(content):
            raise ValueError("its SHA-256 is not the one it states")
        return Manifest(**content)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path} is no checkpoint: it has no {MANIFEST}") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}); use an older checkpoint") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); use an older checkpoint") from error


def load(path: Path, only: Iterable[str] | None = None) -> tuple[dict[str, Any], Manifest]:
    """The state (all of it, or the entries named in `only`) and the manifest. Raises CheckpointError.

    Every byte that is returned has been checked against the manifest.
    """
    manifest = read_manifest(path)
    wanted = set(manifest.values) if only is None else set(only)
    if missing := wanted - set(manifest.values):
        raise CheckpointError(f"{path} holds no {', '.join(sorted(missing))}; it may be a policy without its training")
    state = {}
    for name in sorted(wanted):
        file = f"{name}.safetensors"
        arrays = {}
        if file in manifest.files:
            try:
                arrays = load_tensors(_read_verified(path / file, manifest.files[file]))
            except SafetensorError as error:
                raise CheckpointError(f"{path / file} is damaged ({error}); use an older checkpoint") from error
        state[name] = _join(arrays, manifest.values[name])
    return state, manifest


def verify(path: Path) -> Manifest:
    """Reads every byte of a checkpoint. Raises CheckpointError with the first file that is not what was written."""
    manifest = read_manifest(path)
    for file, entry in manifest.files.items():
        _read_verified(path / file, entry)
    return manifest


def list_checkpoints(root: Path) -> list[Path]:
    """The checkpoint directories in `root`, oldest first; those that were never finished are left out.

    Empty where there is no `root`. Raises CheckpointError where it cannot be read: that is not the same as empty.
    """
    return [path for path in _directories(root) if _is_finished(path)]


def list_unfinished(root: Path) -> list[Path]:
    """What was begun as a checkpoint in `root` and never finished, oldest first. Raises CheckpointError."""
    return [path for path in _directories(root) if not _is_finished(path)]


def newest_valid(root: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies (None where there is none), and what was wrong with newer ones."""
    problems = []
    for path in reversed(list_checkpoints(root)):
        try:
            verify(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def prune(root: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints and the one with the highest success (the latest of equals).

    What was never finished goes, too: only the one process that writes into `root` may call this.
    """
    paths = list_checkpoints(root)
    rated = [(success, path) for path in reversed(paths) if (success := _success(path)) is not None]
    kept = {*paths[-keep:], *([max(rated, key=itemgetter(0))[1]] if rated else [])}
    for path in paths:
        if path not in kept:
            (path / MANIFEST).unlink()  # first: what is half removed must not look like a checkpoint
            shutil.rmtree(path)
    for path in list_unfinished(root):
        shutil.rmtree(path)


def export_policy(source: Path, target: Path, command: str) -> None:
    """Writes the policy alone of checkpoint `source` into the directory `target`, with its configuration, its
    success and the command that made it: what checkpoints/pretrained/ holds.

    Replaces an older export. Raises CheckpointError where `target` is anything else, and leaves it as it is.
    """
    if os.path.lexists(target) and not _is_export(target):
        raise CheckpointError(f"{target} is there already and is no exported policy; name another directory")
    state, manifest = load(source, only=["agent"])
    policy = {"agent": {"actor": state["agent"]["actor"]}}
    config = dict(manifest.config) | {"command": command}
    target.parent.mkdir(parents=True, exist_ok=True)
    # In a directory of its own: beside the target could lie the very checkpoint that it comes from.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        saved = save(Path(scratch), manifest.step, policy, config, manifest.versions, manifest.success)
        if target.exists():
            shutil.rmtree(target)
        saved.rename(target)


def _directories(root: Path) -> list[Path]:
    """The directories in `root` that are named as checkpoints are, finished or not, by step."""
    # Not Path.glob, which takes a directory that it may not read for an empty one.
    try:
        with os.scandir(root) as entries:
            steps = {root / entry.name: _step(entry.name) for entry in entries if entry.is_dir()}
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{root} cannot be read ({error.strerror}); make it readable and try again") from error
    return sorted((path for path, step in steps.items() if step is not None), key=steps.__getitem__)


def _step(name: str) -> int | None:
    """The step of a checkpoint's name; None for every other name, `step_000000300.bak` among them."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def _is_finished(path: Path) -> bool:
    """Whether there is a manifest. One that may not be looked at counts: reading it will say what is wrong."""
    try:
        os.stat(path / MANIFEST)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _is_export(path: Path) -> bool:
    """Whether `path` is what export_policy wrote: nobody's other directory, and no run's checkpoint."""
    try:
        return "command" in read_manifest(path).config
    except CheckpointError:
        return False


def _success(path: Path) -> float | None:
    """A checkpoint's success rate; None where it has none, or is damaged: that must not end a run that goes on."""
    try:
        return read_manifest(path).success
    except CheckpointError:
        return None


def _digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content, the digest itself left out: the same before writing and after reading."""
    return hashlib.sha256(json.dumps(manifest, allow_nan=False).encode()).hexdigest()


def _split(tree: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A nested dict as its arrays, by joined keys, and the same nesting with everything else."""
    arrays, values = {}, {}
    for key, value in tree.items():
        if _SEPARATOR in key:
            raise ValueError(f"the state's key {key!r} holds the separator {_SEPARATOR!r}")
        if isinstance(value, np.ndarray):
            arrays[prefix + key] = np.asarray(value, order="C")  # np.ascontiguousarray would make () into (1,)
        elif isinstance(value, Mapping):
            inner, values[key] = _split(value, f"{prefix}{key}{_SEPARATOR}")
            arrays |= inner
        else:
            values[key] = value.item() if isinstance(value, np.generic) else value
    return arrays, values


def _join(arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
    tree = json.loads(json.dumps(values))  # a deep copy
    for joined, array in arrays.items():
        *parents, key = joined.split(_SEPARATOR)
        node = tree
        for parent in parents:
            node = node[parent]
        node[key] = array
    return tree


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """A rename survives a power cut only once the directory itself is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); use an older checkpoint") from error
    if len(data) != entry["size"]:
        raise CheckpointError(
            f"{path} is cut short or too long: {len(data)} bytes instead of {entry['size']}; use an older checkpoint"
        )
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the manifest's; use an older checkpoint")
    return data
