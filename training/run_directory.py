"""A run on the disk: where it is, whether it may be continued, and from what."""

import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import checkpoints
from training.config import ConfigError, TrainConfig, differences

VERSIONS = {name: importlib.metadata.version(name) for name in ("torch", "mujoco", "numpy")}


class RunDirectory:
    """runs/NAME with config.json, TensorBoard's event files, checkpoints/ and videos/."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.checkpoints = path / "checkpoints"
        self.videos = path / "videos"

    def write_config(self, config: TrainConfig) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.config_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
        os.replace(temporary, self.config_file)

    def save(self, config: TrainConfig, step: int, state: Mapping[str, Any], success: float | None) -> None:
        checkpoints.save(self.checkpoints, step, state, config.to_dict(), VERSIONS, success)
        checkpoints.prune(self.checkpoints, config.checkpoint.keep)


def checkpoint_to_resume(config: TrainConfig) -> tuple[Path | None, list[str]]:
    """Where the run goes on (None: it begins), and what to tell the user about it.

    Raises ConfigError where the directory holds another run, CheckpointError where it holds a run that is lost.
    """
    run = RunDirectory(Path(config.run))
    if config.resume == "never":
        if run.config_file.exists():
            raise ConfigError(f"{run.path} already holds a run; give another --run, or --resume auto to continue it")
        _refuse_foreign_directory(run)
        return None, []
    if config.resume == "auto":
        if not run.config_file.exists():
            _refuse_foreign_directory(run)
            return None, []
        _refuse_other_run(_read_json(run.config_file), config, run.config_file)
        path, problems = checkpoints.newest_valid(run.checkpoints)
        if path is None and problems:
            raise checkpoints.CheckpointError(f"no checkpoint of {run.path} can be used: {'; '.join(problems)}")
        notes = [f"passed over: {problem}" for problem in problems]
        if path is None:
            notes.append(f"{run.path} stopped before its first checkpoint; starting it again")
        return path, notes

    source = Path(config.resume)
    if (source / "checkpoints").is_dir():
        path, problems = checkpoints.newest_valid(source / "checkpoints")
        if path is None:
            raise checkpoints.CheckpointError(f"--resume {source}: {'; '.join(problems) or 'it holds no checkpoint'}")
        notes = [f"passed over: {problem}" for problem in problems]
    elif source.exists():
        path, notes = source, []
    else:
        raise checkpoints.CheckpointError(f"--resume {source}: there is no such checkpoint or run directory")
    manifest = checkpoints.verify(path)
    _refuse_other_run(manifest.config, config, path)
    newer = [other for other in checkpoints.list_checkpoints(run.checkpoints) if int(other.name[5:]) > manifest.step]
    if newer:
        raise ConfigError(
            f"{run.path} already holds {newer[-1].name}, which is newer than {path.name}; give another --run to branch "
            "off from it"
        )
    return path, notes


def _refuse_foreign_directory(run: RunDirectory) -> None:
    if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
        raise ConfigError(f"--run {run.path}: is there already and is no run of this program; give another --run")


def _refuse_other_run(old: dict[str, Any], config: TrainConfig, source: Path) -> None:
    changed = differences(old, config.to_dict())
    if changed:
        raise ConfigError(
            f"{source} was started with other options ({'; '.join(changed)}); give the same ones to continue it, or "
            "another --run to start anew"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); move the directory away, or give another --run") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration; move the directory away, or give another --run")
    return content
