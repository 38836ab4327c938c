"""Old checkpoints are removed here, and the segments that only they needed."""

from operator import itemgetter
from pathlib import Path

from checkpoints.disk import CheckpointError, remove_directory, sync_directory
from checkpoints.manifest import MANIFEST, SEGMENT_FILE, Manifest, read_manifest
from checkpoints.segments import SEGMENTS
from checkpoints.store import list_checkpoints, list_unfinished, step_of

ARCHIVE_EVERY = 100_000
"""Environment steps: the first checkpoint after each multiple stays for good."""


def kept(manifests: dict[Path, Manifest], keep: int) -> set[Path]:
    """Returns those of `manifests`, which are in the order of their steps, that stay.

    They are the newest `keep`, the best by success (the latest of equals), and the first after each multiple of
    ARCHIVE_EVERY steps.
    """
    paths = list(manifests)
    rated = best(manifests)
    archived: dict[int, Path] = {}
    for path, manifest in manifests.items():
        if manifest.step >= ARCHIVE_EVERY:
            archived.setdefault(manifest.step // ARCHIVE_EVERY, path)
    return {*paths[-keep:], *([rated] if rated else []), *archived.values()}


def best(manifests: dict[Path, Manifest]) -> Path | None:
    """Returns the best of `manifests` by success, the latest of equals; None where none was evaluated."""
    rated = [(m.success, path) for path, m in reversed(manifests.items()) if m.success is not None]
    return max(rated, key=itemgetter(0))[1] if rated else None


def prune(root: Path, keep: int, newest: int) -> None:
    """Removes what need not be kept, and the segments that no kept checkpoint names.

    What was never finished goes, too: only the one process that writes into `root` may call this.

    Args:
        newest: the step that has just been saved. Checkpoints of later steps, which a run that fell back to an older
            one has left behind, are none of the newest. They are left alone until the run has passed them.

    Raises OSError, CheckpointError.
    """
    manifests: dict[Path, Manifest] = {}
    later: dict[Path, Manifest] = {}
    unreadable = []
    for path in list_checkpoints(root):
        try:
            manifest = read_manifest(path)
        except CheckpointError:
            unreadable.append(path)
        else:
            (manifests if manifest.step <= newest else later)[path] = manifest
    stay = kept(manifests, keep)
    oldest = min((manifest.step for manifest in list(manifests.values())[-keep:]), default=0)
    gone = [path for path in manifests if path not in stay]
    gone += [path for path in unreadable if (step_of(path) or 0) < oldest]
    for path in gone:
        remove_directory(path, MANIFEST)
    if not set(unreadable) - set(gone):  # one that cannot be read just now may name any segment
        _remove_segments(root / SEGMENTS, [manifests[path] for path in stay] + list(later.values()))
    # Last: what was begun is how one tells a run whose first save failed from one that has lost its checkpoints.
    unfinished = list_unfinished(root)
    for path in unfinished:
        remove_directory(path, MANIFEST)
    if gone or unfinished:
        sync_directory(root)


def remove(root: Path, step: int) -> None:
    """Removes the checkpoint of `step` for good, and the segments that only it needed.

    Only the one process that writes into `root` may call this. Raises CheckpointError where it is not there, is the
    last one, or where another cannot be read, which may need any segment. Raises OSError.
    """
    manifests = {path: read_manifest(path) for path in list_checkpoints(root) if step_of(path) != step}
    gone = [path for path in list_checkpoints(root) if step_of(path) == step]
    if not gone:
        raise CheckpointError(f"{root} holds no checkpoint of step {step:,}")
    if not manifests:
        raise CheckpointError(f"{gone[0]} is the last one; remove the run's directory instead")
    remove_directory(gone[0], MANIFEST)
    _remove_segments(root / SEGMENTS, list(manifests.values()))
    sync_directory(root)


def _remove_segments(directory: Path, manifests: list[Manifest]) -> None:
    named = {s.name(log) for m in manifests for log, entry in m.logs.items() for s in entry.segments}
    paths = list(directory.iterdir()) if directory.is_dir() else []
    useless = [path for path in paths if path.name not in named and SEGMENT_FILE.fullmatch(path.name)]
    for path in useless:
        path.unlink()
    if paths == useless and directory.is_dir():
        directory.rmdir()
        sync_directory(directory.parent)
