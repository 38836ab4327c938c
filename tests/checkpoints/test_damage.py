"""Every file of a checkpoint cut short and bit-flipped all over: always noticed and named, and an older one found."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from checkpoints import CheckpointError, load, newest_valid, read_manifest, verify

FILES = ("manifest", "agent", "buffer", "shared segment", "full segment", "last segment")


@pytest.fixture
def run(samples, tmp_path, short_segments) -> Path:
    """Two checkpoints that share the first of three segments."""
    samples.store(tmp_path, 10, last=12)
    samples.store(tmp_path, 20, last=19)
    return tmp_path


def find(run: Path, kind: str) -> Path:
    """One file of the newest checkpoint."""
    newest = run / "step_000000020"
    if kind in ("manifest", "agent", "buffer"):
        return newest / ("manifest.json" if kind == "manifest" else f"{kind}.safetensors")
    segments = read_manifest(newest).logs["buffer|rows"].segments
    return run / "segments" / segments[FILES.index(kind) - 3].name("buffer|rows")


def truncations(whole: bytes, count: int) -> Iterator[bytes]:
    for length in np.unique(np.linspace(0, len(whole) - 1, count).astype(int)):
        yield whole[:length]


def bit_flips(whole: bytes, count: int) -> Iterator[bytes]:
    bits = 8 * len(whole)
    for bit in np.random.default_rng(0).choice(bits, min(count, bits), replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def check(run: Path, file: Path, shared: bool) -> None:
    """That the damage in `file` is noticed by everyone who reads it, and by nobody else."""
    older, newest = (run / f"step_0000000{step}" for step in (10, 20))
    named = str(file)
    with pytest.raises(CheckpointError) as caught:
        verify(newest)
    assert named in str(caught.value)
    with pytest.raises(CheckpointError) as caught:
        load(newest)[0]["buffer"]["rows"].read(0, 19)
    assert named in str(caught.value)
    found, problems = newest_valid(run)
    assert found == (None if shared else older)
    assert len(problems) == 1 + shared
    assert all(named in problem for problem in problems)


def damage(run: Path, kind: str, cuts: int, flips: int) -> int:
    """Damages one file in all these ways, one after the other; returns how many there were."""
    file, count = find(run, kind), 0
    whole = file.read_bytes()
    for damaged in (*truncations(whole, cuts), *bit_flips(whole, flips), whole + b"\0"):
        assert damaged != whole
        file.write_bytes(damaged)
        check(run, file, shared=kind == "shared segment")
        count += 1
    file.write_bytes(whole)
    assert newest_valid(run) == (run / "step_000000020", [])
    return count


@pytest.mark.parametrize("kind", FILES)
def test_damage_in_any_file_is_found_and_named_and_an_older_checkpoint_taken(run, kind):
    assert damage(run, kind, cuts=10, flips=40) == 51


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_damage_in_many_places_of_any_file_is_found_and_named(run, kind, request):
    cuts, flips = request.config.getoption("--truncations"), request.config.getoption("--bit-flips")
    done = damage(run, kind, cuts, flips)
    size = find(run, kind).stat().st_size
    assert done == min(cuts, size) + min(flips, 8 * size) + 1


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("harm", ["missing", "empty", "zeros", "another's"])
def test_a_file_that_is_lost_or_another_is_found_and_named(run, kind, harm):
    file = find(run, kind)
    match harm:
        case "missing":
            file.unlink()
        case "empty":
            os.truncate(file, 0)
        case "zeros":
            file.write_bytes(bytes(file.stat().st_size))
        case "another's":
            other = find(run, "agent" if kind == "buffer" else "buffer")
            file.write_bytes(other.read_bytes())
    if kind == "manifest" and harm == "missing":
        assert newest_valid(run) == (run / "step_000000010", [])  # it was never finished, for all that one can see
        with pytest.raises(CheckpointError, match=r"step_000000020 is no checkpoint: it has no manifest\.json"):
            load(run / "step_000000020")
    else:
        check(run, file, shared=kind == "shared segment")


def test_two_checkpoints_damaged_in_different_files_are_both_told(samples, run):
    newest = samples.store(run, 30, last=19)
    (newest / "agent.safetensors").write_bytes(b"short")
    (run / "step_000000020" / "buffer.safetensors").unlink()
    found, problems = newest_valid(run)
    assert found == run / "step_000000010"
    assert [str(newest / "agent.safetensors") in problems[0], "step_000000020/buffer" in problems[1]] == [True, True]
