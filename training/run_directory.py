"""A run on the disk: where it is, whether it may be continued, and from what."""

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: a run there goes without its lock
    fcntl = None

import checkpoints
from training.config import ConfigError, TrainConfig, differences

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What a file system says that knows no locks: no reason not to train there."""


class RunInUse(RuntimeError):
    """Another process trains in the directory now."""


class RunDirectory:
    """runs/NAME with config.json, TensorBoard's event files, checkpoints/ and videos/."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.lock_file = path / ".lock"
        self.checkpoints = path / "checkpoints"
        self.videos = path / "videos"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps every other process from training in this directory, which it makes.

        Raises RunInUse where one does already. The lock dies with its owner, however that ends; the file stays.
        """
        checkpoints.make_directory(self.path)
        with open(self.lock_file, "a+") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise RunInUse(
                        f"{self.path} is being trained already by process {self._owner()}; wait for it or give "
                        "another --run"
                    ) from None
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def _owner(self) -> str:
        """The process that holds the lock; it takes a moment to write its number."""
        for _ in range(10):
            if owner := self.lock_file.read_text().strip():
                return owner
            time.sleep(0.05)
        return "(unknown)"

    def write_config(self, config: TrainConfig) -> None:
        """Writes config.json, whole or not at all, where it is not there already."""
        content = (json.dumps(config.to_dict(), indent=2) + "\n").encode()
        if not self.config_file.exists() or self.config_file.read_bytes() != content:
            checkpoints.write_file(self.config_file, content)
            checkpoints.sync_directory(self.path)


@dataclass(frozen=True)
class Start:
    """Where a run begins: at a checkpoint, or at its first step where that is None.

    own: the checkpoint is one of the run's own, not a branch's source. notes: what to tell the user.
    """

    checkpoint: Path | None = None
    own: bool = True
    notes: tuple[str, ...] = ()


def refuse_impossible(config: TrainConfig, fingerprint: str | None) -> None:
    """Raises ConfigError, CheckpointError where `config` cannot run in its directory; changes nothing.

    What can be known before the run's lock is taken, which makes the directory. Another process may be at work in it:
    choose_start decides, under the lock.
    """
    run = RunDirectory(Path(config.run))
    try:
        names = set(os.listdir(run.path))
    except FileNotFoundError:
        names = set()
    except NotADirectoryError:
        raise ConfigError(f"--run {run.path}: is a file; give another --run") from None
    if names and not names & {run.lock_file.name, run.config_file.name}:
        raise _foreign(run)
    if run.config_file.exists():
        _refuse_what_was_begun(run, config)
    if config.resume not in ("auto", "never"):
        _refuse_other_checkpoint(_named_checkpoint(Path(config.resume), run).checkpoint, config, fingerprint)


def choose_start(config: TrainConfig, fingerprint: str | None) -> Start:
    """Where the run goes on. To be called with the run's lock held.

    fingerprint: of the model as it is now. Raises ConfigError where the directory holds another run, CheckpointError
    where it holds a run that is lost, or was made with other code or another model.
    """
    run = RunDirectory(Path(config.run))
    begun = run.config_file.exists()
    if begun:
        _refuse_what_was_begun(run, config)
    else:
        _refuse_foreign_directory(run)
    if config.resume not in ("auto", "never"):
        start = _named_checkpoint(Path(config.resume), run)
    else:
        start = _newest_checkpoint(run) if begun else Start()
    if start.checkpoint is not None:
        _refuse_other_checkpoint(start.checkpoint, config, fingerprint)
    return start


def _newest_checkpoint(run: RunDirectory) -> Start:
    """The newest of the run's own that is good."""
    path, problems = checkpoints.newest_valid(run.checkpoints)
    if path is not None:
        return Start(path, notes=tuple(f"passed over: {problem}" for problem in problems))
    if problems:
        raise checkpoints.CheckpointError(f"no checkpoint of {run.path} can be used: {'; '.join(problems)}")
    # The first thing that a first save makes is the checkpoint's own directory; segments without one were left behind.
    if run.checkpoints.exists() and any(run.checkpoints.iterdir()) and not _unfinished(run):
        raise checkpoints.CheckpointError(
            f"{run.checkpoints} has lost its checkpoints; put them back, or give another --run to start anew"
        )
    return Start(notes=(f"{run.path} stopped before its first checkpoint; starting it again",))


def _unfinished(run: RunDirectory) -> bool:
    return bool(checkpoints.list_unfinished(run.checkpoints))


def _named_checkpoint(source: Path, run: RunDirectory) -> Start:
    """--resume PATH: that checkpoint, or the newest good one of that run directory."""
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
    own = checkpoints.list_checkpoints(run.checkpoints)
    if own and checkpoints.step_of(own[-1]) > manifest.step:
        raise ConfigError(
            f"{run.path} already holds {own[-1].name}, which is newer than {path.name}; to continue it, leave --resume "
            "out, or give another --run to branch off"
        )
    is_own = path.resolve().parent == run.checkpoints.resolve()
    return Start(path, own=is_own, notes=tuple(f"passed over: {problem}" for problem in problems))


def _refuse_what_was_begun(run: RunDirectory, config: TrainConfig) -> None:
    if config.resume == "never":
        raise ConfigError(f"{run.path} already holds a run; give another --run, or --resume auto to continue it")
    _refuse_other_run(_read_json(run.config_file), config, run.config_file)


def _refuse_other_checkpoint(path: Path, config: TrainConfig, fingerprint: str | None) -> None:
    manifest = checkpoints.read_manifest(path)
    _refuse_other_run(manifest.config, config, path)
    if manifest.fingerprint != fingerprint:
        raise checkpoints.CheckpointError(
            f"{path} was trained on another model (fingerprint {manifest.fingerprint!s:.12}, now {fingerprint!s:.12}): "
            "the files of the simulated model have changed since; put the former ones back, or give another --run to "
            "start anew"
        )


def _refuse_foreign_directory(run: RunDirectory) -> None:
    # A run that a crash ended before config.json was in place leaves nothing but these.
    own = {run.lock_file.name, run.config_file.name + ".tmp"}
    if not own.issuperset(os.listdir(run.path)):
        raise _foreign(run)


def _foreign(run: RunDirectory) -> ConfigError:
    return ConfigError(f"--run {run.path}: is there already and is no run of this program; give another --run")


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
