"""A run on the disk: where it is, whether it may be continued, and from what."""

import errno
import fcntl
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import checkpoints
from errors import UserError
from training.config import TrainConfig, defining_options, evaluated_options, option_words
from training.progress import say
from training.recipes import from_stored, newer_options

STARTS = 50
"""How many of the first starts config.json tells of. The last it tells of besides."""
FIXED = {
    *("env", "env-args", "init", "reward", "num-envs", "sac.hidden", "sac.layer-norm", "her.capacity"),
    *("task.max-episode-steps", "task.potential", "task.reach-per-finger"),
}
"""Options, by name, that a branch may not change either: its task, what it pays, and the sizes of what is stored."""


class RunDirectory:
    """Names the parts of runs/NAME: config.json, TensorBoard's event files, checkpoints/ and videos/."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.lock_file = path / ".lock"
        self.checkpoints = path / "checkpoints"
        self.videos = path / "videos"
        self._held: int | None = None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps every other process from training in this directory, which it makes.

        The lock dies with its owner, however that ends. The file stays. Raises UserError where another process trains
        here already, or where the directory is no run's.
        """
        try:
            names = os.listdir(self.path) if self.path.exists() else []
            checkpoints.make_directory(self.path)
        except OSError as error:
            raise UserError(f"--run {self.path}: {error.strerror}; give another --run") from error
        # What begins a directory of its own name is no run's checkpoints: this code has a room called so.
        known = {self.lock_file.name, self.config_file.name} & set(names) or self._has_saved()
        if names and not known:
            raise UserError(f"--run {self.path}: is there already and is no run of this program; give another --run")
        descriptor = self._open_lock()
        try:
            if not _locked(descriptor, self.path):
                raise UserError(
                    f"{self.path} is being trained already by another process; wait for it or give another --run",
                    status=1,
                )
            self._held = descriptor
            yield
        finally:
            self._held = None
            os.close(descriptor)

    def _has_saved(self) -> bool:
        return bool(checkpoints.list_checkpoints(self.checkpoints) or checkpoints.list_unfinished(self.checkpoints))

    def _open_lock(self) -> int:
        try:
            return os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EROFS):
                raise
            why = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be opened ({error.strerror})"
            raise UserError(f"{self.lock_file} {why}; remove it, or give another --run") from error

    def check_still_held(self) -> None:
        """Raises UserError where the directory of this name is not, or no longer, the one that was locked."""
        try:
            there = os.path.samestat(os.stat(self.lock_file), os.fstat(self._held))
        except (FileNotFoundError, NotADirectoryError):
            there = False
        if not there:
            raise UserError(
                f"{self.path} was moved or removed, or its {self.lock_file.name} was, while the run went on, and "
                "nothing is written there any more; put it back and type the same command line again",
                status=1,
            )

    def write_config(self, config: TrainConfig, started: dict[str, Any] | None = None) -> None:
        """Writes config.json, whole or not at all, where it says something else.

        `started` tells how the run was started just now, and joins what it says of earlier times: all of the first
        STARTS of them, and the last. A branch remembers the checkpoint that it began from, until it has one of its own.
        """
        content = config.to_dict()
        with suppress(UserError):  # there is none yet, or it is damaged
            content["starts"] = self.read_config().get("starts", [])
        if started is not None:
            content["starts"] = [*content.get("starts", [])[:STARTS], started]
        if config.resume == "auto" and (source := self.branched_from()):
            content["resume"] = source
        encoded = (json.dumps(content, indent=2) + "\n").encode()
        with suppress(OSError):  # then it cannot be read, and is written again
            if self.config_file.read_bytes() == encoded:
                return
        self.check_still_held()
        try:
            checkpoints.write_file(self.config_file, encoded)
        except IsADirectoryError as error:
            raise UserError(f"{self.config_file} is a directory; remove it, or give another --run") from error
        checkpoints.sync_directory(self.path)

    def branched_from(self) -> str | None:
        """Returns the --resume PATH that the run in this directory began with, or None."""
        try:
            source = self.read_config().get("resume")
        except UserError:  # it matters only before the first checkpoint, and _recorded has refused it then
            return None
        return source if isinstance(source, str) and source not in ("auto", "never") else None

    def read_config(self) -> dict[str, Any]:
        """Returns what config.json holds. Raises UserError."""
        try:
            content = json.loads(self.config_file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{self.config_file} cannot be read ({error}); move the directory away, or give another --run"
            ) from error
        if not content or not isinstance(content, dict):
            raise UserError(
                f"{self.config_file} holds no configuration; move the directory away, or give another --run"
            )
        return content

    def own_checkpoints(self) -> list[Path]:
        """Lists the run's checkpoints, oldest first. Raises CheckpointError."""
        return checkpoints.list_checkpoints(self.checkpoints)


def _locked(descriptor: int, path: Path) -> bool:
    """Tries to lock a file in the directory `path`. Returns False where another process holds the lock.

    A record lock (fcntl(2)) belongs to its process alone. A flock would live on in every process that is forked.
    Closing any other descriptor of the file gives a record lock up, so nothing here opens it a second time.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        # Some network file systems know no locks. A night of training there is worth more than the refusal.
        say(f"this file system has no locks ({error.strerror}): see to it that no second process trains in {path}")
    return True


@dataclass(frozen=True)
class Start:
    """Says where a run begins: at a checkpoint, or at its first step where that is None.

    own: it is one of the run's own, and not another's that it branches off from. changed: the options, by name, in
    which such a branch differs from it, each as before and as now. notes: what to tell the user.
    """

    checkpoint: Path | None = None
    own: bool = True
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def options_of(path: Path) -> TrainConfig | None:
    """Returns the options of the run in the directory `path`, or of the checkpoint `path`. Raises UserError.

    None where there is neither.
    """
    if checkpoints.has_manifest(path):
        manifest = checkpoints.read_manifest(path)
        _refuse_policy(manifest, path)
        return from_stored(manifest.config, path)
    recorded = _recorded(RunDirectory(path)) if path.is_dir() else None
    return recorded and from_stored(*recorded)


def run_of(path: Path) -> Path:
    """Returns the run directory that the checkpoint `path` lies in, and `path` itself where that is one."""
    return path.parent.parent if checkpoints.has_manifest(path) and path.parent.name == "checkpoints" else path


def choose_start(run: RunDirectory, config: TrainConfig, fingerprint: str | None) -> Start:
    """Decides where the run goes on. To be called with the run's lock held.

    fingerprint: of the model as it is now. Raises UserError where the directory holds another run, CheckpointError
    where it holds a run that is lost, or was made with other code or another model.
    """
    begun = _recorded(run)
    if begun and config.resume == "never":
        raise UserError(f"{run.path} already holds a run; give another --run, or --resume auto to continue it")
    if begun:
        _refuse_other_run(*begun, config, run)
    branch = run.branched_from()
    source = {"auto": branch, "never": None}.get(config.resume, config.resume)
    if source is not None and Path(source).resolve() == run.path.resolve():
        source = None  # the run itself
    # A branch that has come to a checkpoint of its own goes on from that, however it is started again.
    if source is not None and not (source == branch and run.own_checkpoints()):
        if source == branch and not Path(source).exists():
            raise UserError(
                f"{run.path} was to branch off from {source}, which is gone, and has no checkpoint of its own; remove "
                "it, and branch off again"
            )
        start = _named_checkpoint(Path(source), run)
        if begun and not start.own and source != branch:
            raise UserError(
                f"{run.path} holds a run already, which did not begin from {source}; to continue it, --resume "
                f"{_shown(run.path)}; to branch off, another --run"
            )
    elif begun:
        start = _newest_checkpoint(run)
    else:
        return Start()
    if start.checkpoint is None:
        return start
    manifest = checkpoints.read_manifest(start.checkpoint)
    if start.own:
        _refuse_other_run(manifest.config, start.checkpoint, config, run)
    else:
        start = _as_branch(start, manifest, config)
    if manifest.fingerprint != fingerprint:
        raise checkpoints.CheckpointError(
            f"{start.checkpoint} was trained on another model (fingerprint {manifest.fingerprint!s:.12}, now "
            f"{fingerprint!s:.12}): the files of the simulated model have changed since; put the former ones back, or "
            "give another --run to start anew"
        )
    missing = ", ".join(f"--{name}" for name in newer_options(manifest.config, config))
    notes = (f"{start.checkpoint} is older than {missing}: as by default now",) if missing else ()
    return replace(start, notes=start.notes + notes)


def _as_branch(start: Start, manifest: checkpoints.Manifest, config: TrainConfig) -> Start:
    """Returns the start of a branch with what it changes. Raises UserError where a branch cannot change that."""
    changed = differences(from_stored(manifest.config, start.checkpoint).to_dict(), config.to_dict())
    if fixed := {name: values for name, values in changed.items() if name in FIXED}:
        raise UserError(
            f"{start.checkpoint} cannot be continued with another task or other sizes ({_told(fixed)}); leave that "
            f"out, or begin a new run with its networks: --init {shlex.quote(str(start.checkpoint))}"
        )
    told = f"; changed: {_told(changed)}" if changed else ""
    note = f"branched from {start.checkpoint}, step {manifest.step:,}{told}"
    return replace(start, changed=changed, notes=(*start.notes, note))


def _recorded(run: RunDirectory) -> tuple[dict[str, Any], Path] | None:
    """Returns the configuration of the run that the directory holds, and the file that says so. None: there is none."""
    # Each checkpoint knows the options, and is protected by hashes: config.json matters only before the first.
    for path in reversed(run.own_checkpoints()):
        try:
            return checkpoints.read_manifest(path).config, path
        except checkpoints.FormatError:
            raise
        except checkpoints.CheckpointError:
            continue
    return (run.read_config(), run.config_file) if run.config_file.exists() else None


def _newest_checkpoint(run: RunDirectory) -> Start:
    """Finds the newest of the run's own that is good."""
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
    """Finds the checkpoint of --resume PATH: that one, or the newest good one of that run directory."""
    path, problems = checkpoints.find(source)
    manifest = checkpoints.verify(path)
    _refuse_policy(manifest, source)
    newest, _ = checkpoints.newest_valid(run.checkpoints)
    if newest and checkpoints.step_of(newest) > manifest.step:
        raise UserError(
            f"{run.path} already holds {newest.name}, which is newer than {path.name}; to continue it, --resume "
            f"{_shown(run.path)}; to branch off, another --run"
        )
    is_own = path.resolve().parent == run.checkpoints.resolve()
    return Start(path, own=is_own, notes=tuple(f"passed over: {problem}" for problem in problems))


def _refuse_policy(manifest: checkpoints.Manifest, source: Path) -> None:
    if "command" in manifest.config:  # written by export_policy
        raise checkpoints.CheckpointError(
            f"--resume {source}: is a policy without its training, which cannot be continued; "
            f"--init {shlex.quote(str(source))} begins a new run with its networks"
        )


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the options, by name, in which a resumed run would be another run, each as it was and as it is now."""
    before, after = (defining_options(tree) | evaluated_options(tree) for tree in (old, new))
    names = sorted(before | after)
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _shown(path: Path) -> str:
    """Returns a path as it can be typed here: relative where it lies below the working directory."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def _told(changed: dict[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"--{name}: {before}, now {now}" for name, (before, now) in changed.items())


def _refuse_other_run(recorded: dict[str, Any], source: Path, config: TrainConfig, run: RunDirectory) -> None:
    before = from_stored(recorded, source)
    changed = differences(before.to_dict(), config.to_dict())
    if not changed:
        return
    command = f"python train.py --resume {_shown(run.path)}"
    ways = f"as it was it goes on with: {command}"
    if source != run.config_file and FIXED.isdisjoint(changed):
        longer = {"steps": config.steps} if config.steps != before.steps else {}
        now = {name: value for name, (_, value) in changed.items()} | longer
        options = " ".join(option_words(name, value) for name, value in now.items())
        ways += f"; as a branch with: {command} --run NEW {options}"
    raise UserError(f"{source} was started with other options ({_told(changed)}); {ways}; anew with another --run")
