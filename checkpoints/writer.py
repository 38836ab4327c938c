"""A thread writes checkpoints beside training, one save at a time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from checkpoints.disk import CheckpointError
from checkpoints.manifest import LogEntry, Manifest
from checkpoints.retention import prune
from checkpoints.store import About, Snapshot, State, take_snapshot, write


class CheckpointWriter:
    """Saves a run's states in the background. A save that fails is told, costs no older checkpoint, and ends nothing.

    The checkpoints lie in `root`, where no other process may write. Of them the newest `keep` stay, and what else
    retention.kept names. `tell` gets a sentence for each failure, in the writing thread. `resumed` is the manifest of
    the checkpoint that the run goes on from: its segments need not be written again.
    """

    def __init__(self, root: Path, keep: int, tell: Callable[[str], None], resumed: Manifest | None = None):
        self.root = root
        self.keep = keep
        self.last_good: int | None = None if resumed is None else resumed.step
        """Step of the newest checkpoint that is safely on the disk."""
        self._tell = tell
        self._known: dict[str, LogEntry] = {} if resumed is None else resumed.logs
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._in_flight: Future[None] | None = None

    def save(
        self, step: int, state: State, about: About, success: float | None, before: Callable[[], None] | None = None
    ) -> None:
        """Waits for a save in flight, copies `state`, and returns while it is written in the background.

        A step that is on the disk already, and good, stays as it is. `before` is called in the writing thread ahead of
        everything, for what the state relies on. An OSError of it fails the save.

        Raises ValueError, TypeError where the state cannot be written at all.
        """
        self.wait()
        if step == self.last_good:
            return
        taken = take_snapshot(self.root, step, state, about, success, self._known)
        self._in_flight = self._thread.submit(self._write, taken, before)

    def wait(self) -> None:
        """Returns when nothing is in flight any more."""
        if self._in_flight is not None:
            self._in_flight.result()
            self._in_flight = None

    def close(self) -> None:
        self.wait()
        self._thread.shutdown()

    def _write(self, taken: Snapshot, before: Callable[[], None] | None) -> None:
        try:
            if before is not None:
                before()
            manifest = write(self.root, taken)
        # Whatever it is, a run of days must not die of it: the next save may succeed.
        except Exception as error:
            good = self.last_good
            newest = "there is no older one" if good is None else f"the newest good one is step {good:,}"
            self._tell(
                f"checkpoint of step {taken.step:,} NOT saved: {_reason(error)}; training goes on, and tries again at "
                f"the next checkpoint; {newest}"
            )
            self._prune(-1 if good is None else good)  # half a checkpoint only takes up room
            return
        self.last_good, self._known = taken.step, manifest.logs
        self._prune(taken.step)

    def _prune(self, newest: int) -> None:
        try:
            prune(self.root, self.keep, newest)
        except (OSError, CheckpointError) as error:
            self._tell(f"old checkpoints in {self.root} could not be removed: {_reason(error)}; training goes on")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'the disk'}: {error.strerror or error}"
    return f"{type(error).__name__}: {error}"
