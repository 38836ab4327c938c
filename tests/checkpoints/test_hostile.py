"""Checkpoints that mean harm are refused by name, at once, in little memory, and without running code.

Each is read in a process of its own, which may take 512 MiB more than it begins with and a few seconds: whatever reads
a device to its end, waits for a pipe or builds an absurd array is killed, and fails.
"""

import hashlib
import json
import os
import pickle
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import CheckpointError, load, newest_valid, read_manifest, verify

resource = pytest.importorskip("resource")
SECONDS, MEMORY, BIG = 5, 512 * 2**20, 50 * 10**9


class Malice:
    """What unpickling would run."""

    def __reduce__(self):
        return os.system, ("touch unpickled",)


def forged(path: Path, change: Callable[[dict], object]) -> str:
    """Changes a manifest's content, and its own hash with it."""
    content = json.loads((path / "manifest.json").read_bytes())
    del content["sha256"]
    change(content)
    content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(content, separators=(",\n", ": ")))
    return "manifest.json"


def named(table: str, name: str) -> Callable[[Path], str]:
    """A manifest that has something of `table` under another name."""
    return lambda path: forged(path, lambda content: content[table].update({name: min(content[table].items())[1]}))


def segment(**items: object) -> Callable[[Path], str]:
    return lambda path: forged(path, lambda content: content["logs"]["buffer|rows"]["segments"][0].update(items))


def part(data: bytes, size: int | None = None) -> Callable[[Path], str]:
    """A part's file that begins with `data` and has `size` bytes, stated truly by the manifest."""

    def forge(path: Path) -> str:
        with open(path / "agent.safetensors", "wb") as file:
            file.write(data)
            file.truncate(len(data) if size is None else size)
        entry = {"size": size or len(data), "sha256": hashlib.sha256(data).hexdigest()}
        forged(path, lambda content: content["files"]["agent"].update(entry))
        return "agent.safetensors"

    return forge


def large_segment(path: Path) -> str:
    segment(size=BIG)(path)
    name = read_manifest(path).logs["buffer|rows"].segments[0].name("buffer|rows")
    with open(path.parent / "segments" / name, "wb") as file:
        file.truncate(BIG)
    return name


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], str]:
    """Something else in a file's place."""

    def forge(path: Path) -> str:
        (path / name).unlink()
        make(path / name)
        return name

    return forge


def manifest(data: bytes) -> Callable[[Path], str]:
    return instead("manifest.json", lambda path: path.write_bytes(data))


def tensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(shape: list, dtype: str = "F32", size: int = 0) -> bytes:
    return tensors({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, bytes(size))


HUGE_HEADER = b"{" + b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 1_700_000 + b'"__metadata__":{}}'
CASES = {
    "a pickle as manifest": manifest(pickle.dumps(Malice())),
    "100,000 brackets": manifest(b"[" * 100_000),
    "an integer of 3 million digits": manifest(b'{"format": 2, "sha256": ' + b"1" * 3_000_000 + b"}"),
    "17 MiB": lambda path: forged(path, lambda content: content["config"].update(x="x" * 17 * 2**20)),
    "a pipe as manifest": instead("manifest.json", os.mkfifo),
    "/dev/zero as manifest": instead("manifest.json", lambda path: path.symlink_to("/dev/zero")),
    "part ../../x": named("files", "../../x"),
    "part /etc/passwd": named("files", "/etc/passwd"),
    "log ../../x": named("logs", "buffer|../../x"),
    "segment's hash a path": segment(sha256="../../../../../../etc/passwd"),
    "a pickle as part": part(pickle.dumps(Malice())),
    "header of 2**64 - 1 bytes": part(tensors({}, length=2**64 - 1)),
    "header of 90 MB": part(tensors(HUGE_HEADER)),
    "2**32 × 2**32, which wraps round": part(one([2**32, 2**32])),
    "bfloat16, which NumPy has not": part(one([1], "BF16", 2)),
    "a part of 50 GB": part(b"", BIG),
    "a segment of 50 GB": large_segment,
    "a pipe as part": instead("agent.safetensors", os.mkfifo),
    "/dev/zero as part": instead("agent.safetensors", lambda path: path.symlink_to("/dev/zero")),
}


def attempt(path: Path, expected: dict) -> str:
    """Reads a checkpoint in a fork with little time and memory. Returns what is said of it."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
        try:
            load(path, expected=expected)
            said = "accepted"
        except CheckpointError as error:
            said = f"refused: {error}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(sink, said.encode())
        os._exit(0)
    os.close(sink)
    with open(source, encoding="utf-8") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return said or f"killed: {os.waitstatus_to_exitcode(status)}"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory in use is read from /proc")
@pytest.mark.parametrize("forge", CASES.values(), ids=CASES)
def test_it_is_refused_by_name(samples, tmp_path, monkeypatch, forge):
    monkeypatch.chdir(tmp_path)
    path = samples.store(tmp_path)
    assert attempt(path, samples.state()) == "accepted"
    file = forge(path)
    said = attempt(path, samples.state())
    assert said.startswith("refused: "), said
    assert file in said
    assert len(said) < 1000
    assert not Path("unpickled").exists()


def test_an_older_one_is_found_behind_it(samples, tmp_path):
    older, newest = samples.store(tmp_path, 10), samples.store(tmp_path, 20)
    named("files", "../../x")(newest)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        verify(newest)
    assert newest_valid(tmp_path)[0] == older
