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
from training.config import ConfigError, TrainConfig
from training.options import differences

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)
"""What a file system says that knows no locks, or (the last) none of directories: no reason not to train there."""


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
        with open(self.lock_file, "a+") as file, _opened(self.path) as directory:
            # The directory as well: a second process may find that somebody has tidied the file away.
            for descriptor in (file.fileno(), directory):
                if not _try_lock(descriptor):
                    raise RunInUse(
                        f"{self.path} is being trained already by process {self._owner()}; wait for it or give "
                        "another --run"
                    )
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
        """Writes config.json, whole or not at all, where it says something else.

        A branch remembers the checkpoint that it began from, until it has one of its own.
        """
        content = config.to_dict()
        if config.resume == "auto" and (source := self.branched_from()):
            content["resume"] = source
        encoded = (json.dumps(content, indent=2) + "\n").encode()
        if not self.config_file.exists() or self.config_file.read_bytes() != encoded:
            checkpoints.write_file(self.config_file, encoded)
            checkpoints.sync_directory(self.path)

    def branched_from(self) -> str | None:
        """The --resume PATH that the run in this directory began with, or None."""
        try:
            source = json.loads(self.config_file.read_bytes())["resume"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        return source if isinstance(source, str) and source not in ("auto", "never") else None

    def own_checkpoints(self) -> list[Path]:
        """Raises CheckpointError."""
        return checkpoints.list_checkpoints(self.checkpoints)


@contextmanager
def _opened(directory: Path) -> Iterator[int | None]:
    """A descriptor of the directory; None where directories cannot be opened."""
    if os.name == "nt":
        yield None
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int | None) -> bool:
    """Whether this process now holds the lock of an open file or directory, or there are no locks to be had for it."""
    if fcntl is None or descriptor is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


@dataclass(frozen=True)
class Start:
    """Where a run begins: at a checkpoint, or at its first step where that is None.

    own: it is one of the run's own, and not another's that it branches off from. notes: what to tell the user.
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
    except OSError as error:
        raise ConfigError(f"--run {run.path}: {error.strerror}; give another --run") from error
    begun = _refuse_what_was_begun(run, config)
    if names and not begun and run.lock_file.name not in names:
        raise _foreign(run)
    if not begun and config.resume not in ("auto", "never"):
        _choose(run, config, fingerprint)


def choose_start(config: TrainConfig, fingerprint: str | None) -> Start:
    """Where the run goes on. To be called with the run's lock held.

    fingerprint: of the model as it is now. Raises ConfigError where the directory holds another run, CheckpointError
    where it holds a run that is lost, or was made with other code or another model.
    """
    run = RunDirectory(Path(config.run))
    if _refuse_what_was_begun(run, config):
        return _choose(run, config, fingerprint)
    _refuse_foreign_directory(run)
    return Start() if config.resume in ("auto", "never") else _choose(run, config, fingerprint)


def _choose(run: RunDirectory, config: TrainConfig, fingerprint: str | None) -> Start:
    source = run.branched_from() if config.resume == "auto" else config.resume
    # A branch that has come to a checkpoint of its own goes on from that, however it is started again.
    branching = source is not None and not (source == run.branched_from() and run.own_checkpoints())
    start = _named_checkpoint(Path(source), run) if branching else _newest_checkpoint(run)
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
    unfinished = checkpoints.list_unfinished(run.checkpoints)
    if run.checkpoints.exists() and any(run.checkpoints.iterdir()) and not unfinished:
        raise checkpoints.CheckpointError(
            f"{run.checkpoints} has lost its checkpoints; put them back, or give another --run to start anew"
        )
    return Start(notes=(f"{run.path} stopped before its first checkpoint; starting it again",))


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
    own = run.own_checkpoints()
    if own and checkpoints.step_of(own[-1]) > manifest.step:
        raise ConfigError(
            f"{run.path} already holds {own[-1].name}, which is newer than {path.name}; to continue it, leave --resume "
            "out, or give another --run to branch off"
        )
    is_own = path.resolve().parent == run.checkpoints.resolve()
    return Start(path, own=is_own, notes=tuple(f"passed over: {problem}" for problem in problems))


def _refuse_what_was_begun(run: RunDirectory, config: TrainConfig) -> bool:
    """Whether the directory holds a run already. Raises ConfigError where that is not the one of `config`."""
    # Each checkpoint knows the options, and is protected by hashes: config.json matters only before the first.
    for path in reversed(run.own_checkpoints()):
        try:
            recorded, source = checkpoints.read_manifest(path).config, path
        except checkpoints.FormatError:
            raise
        except checkpoints.CheckpointError:
            continue
        break
    else:
        if not run.config_file.exists():
            return False
        recorded, source = _read_json(run.config_file), run.config_file
    if config.resume == "never":
        raise ConfigError(f"{run.path} already holds a run; give another --run, or --resume auto to continue it")
    _refuse_other_run(recorded, config, source)
    return True


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
        anew = "another --run" if config.resume in ("auto", "never") else "--run without --resume"
        raise ConfigError(
            f"{source} was started with other options ({'; '.join(changed)}); give the same ones to continue it, or "
            f"{anew} to start anew"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); move the directory away, or give another --run") from error
    if not content or not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration; move the directory away, or give another --run")
    return content
