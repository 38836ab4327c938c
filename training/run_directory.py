"""A run on the disk: where it is, whether it may be continued, and from what."""

import errno
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: a run there goes without its lock
    fcntl = None

import checkpoints
from training.config import ConfigError, TrainConfig, differences

VERSIONS = {name: importlib.metadata.version(name) for name in ("torch", "mujoco", "numpy")}
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What a file system says that knows no locks: no reason not to train there."""


class RunDirectory:
    """runs/NAME with config.json, TensorBoard's event files, checkpoints/ and videos/."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.temporary_config = path / "config.tmp"
        self.lock_file = path / ".lock"
        self.checkpoints = path / "checkpoints"
        self.videos = path / "videos"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps every other process from training in this directory, which it makes.

        Raises ConfigError where one does already. The lock dies with its owner, however that ends; the file stays.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.lock_file, "a+") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.seek(0)
                    raise ConfigError(
                        f"{self.path} is being trained already by process {file.read().strip() or '(unknown)'}; "
                        "wait for it or give another --run"
                    ) from None
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def write_config(self, config: TrainConfig) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.temporary_config.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
        os.replace(self.temporary_config, self.config_file)

    def save(self, config: TrainConfig, step: int, state: Mapping[str, Any], success: float | None) -> None:
        checkpoints.save(self.checkpoints, step, state, config.to_dict(), VERSIONS, success)
        checkpoints.prune(self.checkpoints, config.checkpoint.keep)


def checkpoint_to_resume(config: TrainConfig) -> tuple[Path | None, list[str]]:
    """Where the run goes on (None: it begins), and what to tell the user about it.

    Raises ConfigError where the directory holds another run, CheckpointError where it holds a run that is lost.
    """
    run = RunDirectory(Path(config.run))
    begun = run.config_file.exists()
    if begun and config.resume == "never":
        raise ConfigError(f"{run.path} already holds a run; give another --run, or --resume auto to continue it")
    if begun:
        _refuse_other_run(_read_json(run.config_file), config, run.config_file)
    else:
        _refuse_foreign_directory(run)
    if config.resume not in ("auto", "never"):
        return _named_checkpoint(Path(config.resume), run, config)
    return _newest_checkpoint(run) if begun else (None, [])


def version_notes(saved: Mapping[str, str]) -> list[str]:
    """A sentence for each package that is not the version a checkpoint was saved with: Manifest.versions."""
    return [
        f"saved with {name} {saved[name]}, running {running}: the continued run is not bit-exact"
        for name, running in VERSIONS.items()
        if name in saved and saved[name] != running
    ]


def _newest_checkpoint(run: RunDirectory) -> tuple[Path | None, list[str]]:
    """The newest of the run's own that is good, and notes."""
    path, problems = checkpoints.newest_valid(run.checkpoints)
    if path is not None:
        return path, [f"passed over: {problem}" for problem in problems]
    if problems:
        raise checkpoints.CheckpointError(f"no checkpoint of {run.path} can be used: {'; '.join(problems)}")
    # The directory comes with the first checkpoint: it holds at least the beginning of that one, or it was emptied.
    if run.checkpoints.exists() and not checkpoints.list_unfinished(run.checkpoints):
        raise checkpoints.CheckpointError(
            f"{run.checkpoints} has lost its checkpoints; put them back, or give another --run to start anew"
        )
    return None, [f"{run.path} stopped before its first checkpoint; starting it again"]


def _named_checkpoint(source: Path, run: RunDirectory, config: TrainConfig) -> tuple[Path, list[str]]:
    """--resume PATH: that checkpoint, or the newest good one of that run directory, and notes."""
    path, problems = source, []
    if (source / "checkpoints").is_dir():
        path, problems = checkpoints.newest_valid(source / "checkpoints")
        if path is None:
            raise checkpoints.CheckpointError(f"--resume {source}: {'; '.join(problems) or 'it holds no checkpoint'}")
    elif not source.exists():
        raise checkpoints.CheckpointError(f"--resume {source}: there is no such checkpoint or run directory")
    manifest = checkpoints.verify(path)
    if "command" in manifest.config:  # written by export_policy
        raise checkpoints.CheckpointError(
            f"--resume {source}: is a policy without its training; it can be evaluated, not continued"
        )
    _refuse_other_run(manifest.config, config, path)
    own = checkpoints.list_checkpoints(run.checkpoints)
    if own and int(own[-1].name.removeprefix("step_")) > manifest.step:
        raise ConfigError(
            f"{run.path} already holds {own[-1].name}, which is newer than {path.name}; to continue it, leave --resume "
            "out, or give another --run to branch off"
        )
    return path, [f"passed over: {problem}" for problem in problems]


def _refuse_foreign_directory(run: RunDirectory) -> None:
    # A run that a crash ended before config.json was in place leaves nothing but these.
    own = {run.lock_file, run.temporary_config}
    if run.path.exists() and (not run.path.is_dir() or not own.issuperset(run.path.iterdir())):
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
    if not content or not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration; move the directory away, or give another --run")
    return content
