"""Checkpoints written by somebody who means harm: refused by name, within a second, in little memory.

All are read in one process of their own, each in a fork of it that may take 512 MiB more than it begins with, and a
few seconds: whatever reads a device to its end, waits for a pipe or builds an absurd array is killed, and fails.
"""

import hashlib
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as tensors

from checkpoints import About, CheckpointError, FormatError, load, newest_valid, read_manifest, save, verify
from checkpoints.manifest import FORMAT, LIMIT

resource = pytest.importorskip("resource")

SECONDS = 5
MEMORY = 512 * 2**20
BIG = 50 * 10**9


class Log:
    """Two rows of one column."""

    first, last = 0, 2

    def read(self, first, last):
        return {"x": np.arange(first, last, dtype=np.float32)}


class Malice:
    """What unpickling would run."""

    def __reduce__(self):
        return os.system, ("touch /tmp/unpickled-by-a-checkpoint",)


STATE = {"agent": {"weights": np.arange(6, dtype=np.float32)}, "buffer": {"rows": Log(), "position": 2}}


# How to forge


def spell(content: dict, digest_of: str | None = None, more: str = "") -> bytes:
    """A manifest in the spelling of the true ones, its own hash right. digest_of: the text to hash instead; more: text
    that is put in front of its items."""
    digest = hashlib.sha256((digest_of or json.dumps(content)).encode()).hexdigest()
    return ("{" + more + json.dumps(content | {"sha256": digest}, separators=(",\n", ": "))[1:]).encode()


def content_of(path: Path) -> dict:
    content = json.loads((path / "manifest.json").read_bytes())
    del content["sha256"]
    return content


def raw(data: bytes | str) -> Callable[[Path], str]:
    """A manifest of these bytes."""

    def forge(path: Path) -> str:
        (path / "manifest.json").write_bytes(data.encode() if isinstance(data, str) else data)
        return "manifest.json"

    return forge


def changed(change: Callable[[dict], object]) -> Callable[[Path], str]:
    """A manifest whose content has been changed, and its own hash with it."""

    def forge(path: Path) -> str:
        content = content_of(path)
        change(content)
        (path / "manifest.json").write_bytes(spell(content))
        return "manifest.json"

    return forge


def with_(**items: object) -> Callable[[Path], str]:
    return changed(lambda content: content.update(items))


def without(name: str) -> Callable[[Path], str]:
    return changed(lambda content: content.pop(name))


def number(text: str) -> Callable[[Path], str]:
    """A manifest with a number in its values that is spelt so."""

    def forge(path: Path) -> str:
        content = content_of(path)
        content["values"]["agent"]["n"] = "NUMBER"
        try:
            hashed = json.dumps(json.loads(json.dumps(content).replace('"NUMBER"', text)))
        except ValueError:
            hashed = "cannot be"
        (path / "manifest.json").write_bytes(spell(content, hashed).replace(b'"NUMBER"', text.encode()))
        return "manifest.json"

    return forge


def part_named(name: str) -> Callable[[Path], str]:
    def change(content: dict) -> None:
        content["values"][name] = {}
        content["files"][name] = content["files"]["agent"]

    return changed(change)


def file_entry(**items: object) -> Callable[[Path], str]:
    return changed(lambda content: content["files"]["agent"].update(items))


def log_named(name: str) -> Callable[[Path], str]:
    return changed(lambda content: content["logs"].update({name: content["logs"]["buffer|rows"]}))


def segments(*spans: tuple, first: object = 0, **items: object) -> Callable[[Path], str]:
    """A log that begins at row `first`, whose segments have these rows."""

    def change(content: dict) -> None:
        log = content["logs"]["buffer|rows"]
        (segment,) = log["segments"]
        log["segments"] = [segment | {"first": a, "last": b} | items for a, b in spans]
        log["first"] = first

    return changed(change)


def duplicate(text: str) -> Callable[[Path], str]:
    """A key that stands twice; the second counts for the parser, and the hash is that of the second."""

    def forge(path: Path) -> str:
        (path / "manifest.json").write_bytes(spell(content_of(path), more=text))
        return "manifest.json"

    return forge


def part_file(data: bytes) -> Callable[[Path], str]:
    """A part's file with these bytes, stated truly by the manifest."""

    def forge(path: Path) -> str:
        (path / "agent.safetensors").write_bytes(data)
        file_entry(size=len(data), sha256=hashlib.sha256(data).hexdigest())(path)
        return "agent.safetensors"

    return forge


def segment_file(data: bytes) -> Callable[[Path], str]:
    def forge(path: Path) -> str:
        digest = hashlib.sha256(data).hexdigest()
        segments((0, 2), size=len(data), sha256=digest)(path)
        name = read_manifest(path).logs["buffer|rows"].segments[0].name("buffer|rows")
        (path.parent / "segments" / name).write_bytes(data)
        return name

    return forge


def tensor_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(shape: list, dtype: str = "F32", size: int = 0) -> bytes:
    """A file of one tensor of that shape, and `size` bytes."""
    return tensor_file({"weights": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, bytes(size))


def two(first: tuple, second: tuple) -> bytes:
    offsets = {"a": first, "b": second}
    return tensor_file({k: {"dtype": "F32", "shape": [2], "data_offsets": v} for k, v in offsets.items()}, bytes(16))


def huge_header() -> bytes:
    """90 MB that would take half a minute and 3 GB to parse."""
    return tensor_file(
        b"{" + b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 1_700_000 + b'"__metadata__":{}}'
    )


def instead(kind: str, what: str) -> Callable[[Path], str]:
    """Something that is no file, in a file's place."""

    def forge(path: Path) -> str:
        segment = read_manifest(path).logs["buffer|rows"].segments[0].name("buffer|rows")
        file = {
            "manifest": path / "manifest.json",
            "part": path / "agent.safetensors",
            "segment": path.parent / "segments" / segment,
        }[kind]
        file.unlink()
        match what:
            case "pipe":
                os.mkfifo(file)
            case "directory":
                file.mkdir()
            case _:
                file.symlink_to(what)
        return file.name

    return forge


def sparse_part(path: Path) -> str:
    with open(path / "agent.safetensors", "r+b") as file:
        file.truncate(BIG)
    file_entry(size=BIG)(path)
    return "agent.safetensors"


def sparse_segment(path: Path) -> str:
    segments((0, 10**11), size=BIG)(path)
    name = read_manifest(path).logs["buffer|rows"].segments[0].name("buffer|rows")
    with open(path.parent / "segments" / name, "wb") as file:
        file.truncate(BIG)
    return name


def filled(item: object) -> Callable[[Path], str]:
    """A manifest as large as one may be, of as many things as JSON can hold, with a bad name at its very end."""

    def change(content: dict) -> None:
        count = (LIMIT - 10_000) // (len(json.dumps(item)) + 2)
        content["values"] |= {"agent": {"x": [item] * count}, "../../x": {}}

    return changed(change)


def accepted(path: Path) -> str:
    """No harm at all: shows that the others are refused for what they are, and not for how they were made."""
    changed(lambda content: content.update(step=21))(path)
    return "nothing"


SHA256 = "0" * 64
NESTED = "[" * 100_000

MANIFESTS = {
    "pickle": raw(pickle.dumps(Malice())),
    "nothing": raw(b""),
    "zeros": raw(bytes(10_000)),
    "no JSON": raw("#!/bin/sh\nrm -rf ~\n"),
    "list": raw("[]"),
    "number": raw("7"),
    "null": raw("null"),
    "string": raw('"format"'),
    "not UTF-8": raw(b'{"format": 2, "\xff\xfe": 1}'),
    "UTF-16": lambda path: raw(spell(content_of(path)).decode().encode("utf-16"))(path),
    "100,000 brackets": raw(NESTED),
    "100,000 brackets in a value": raw('{"format": 2, "values": ' + NESTED + "}" * 100_000),
    "100,000 braces": raw('{"a":' * 100_000),
    "17 MiB": with_(config={"x": "x" * 17 * 2**20}),
    "17 MiB of spaces": lambda path: raw(spell(content_of(path)) + b" " * 17 * 2**20)(path),
    "NaN": number("NaN"),
    "Infinity": number("Infinity"),
    "-Infinity": number("-Infinity"),
    "1e999": number("1e999"),
    "an integer of 10,000 digits": number("1" + "0" * 9_999),
    "an integer of 3 million digits": number("1" * 3_000_000),
    "a number in another spelling": number("1.50"),
    "step twice": duplicate('"step": 10,\n'),
    "values twice": duplicate('"values": {"../../x": {}},\n'),
    "no hash": raw(json.dumps({"format": FORMAT, "step": 1})),
    "wrong hash": lambda path: raw(spell(content_of(path), "other"))(path),
    "hash a list": raw('{"format": 2, "sha256": []}'),
    "format missing": without("format"),
    "format a list": with_(format=[2] * 1000),
    "format a string": with_(format="2"),
    "format a fraction": with_(format=2.0),
    "format true": with_(format=True),
    "format null": with_(format=None),
    "format negative": with_(format=-1),
    "format 10**6": with_(format=10**6),
    "format 1": with_(format=1),
    "step missing": without("step"),
    "step true": with_(step=True),
    "step negative": with_(step=-1),
    "step a fraction": with_(step=20.0),
    "step a string": with_(step="20"),
    "step 10**30": with_(step=10**30),
    "success 2": with_(success=2),
    "success a string": with_(success="1"),
    "success true": with_(success=True),
    "fingerprint a number": with_(fingerprint=3),
    "versions of numbers": with_(versions={"torch": 2}),
    "versions a list": with_(versions=[]),
    "config a list": with_(config=[]),
    "config null": with_(config=None),
    "values a list": with_(values=[]),
    "values of a part a list": with_(values={"agent": [], "buffer": {}}),
    "values of a part null": with_(values={"agent": None, "buffer": {}}),
    "values missing": without("values"),
    "unknown item": with_(command="rm -rf ~"),
    "no place for the log": with_(values={"agent": {}}),
    "no place for the arrays": with_(values={"buffer": {}}),
    "files a list": with_(files=["agent"]),
    "files of a string": with_(files={"agent": "agent.safetensors"}),
    "files of a list": with_(files={"agent": [24, SHA256]}),
    "file with a path": file_entry(path="/etc/passwd"),
    "file without a size": changed(lambda content: content["files"]["agent"].pop("size")),
    "part ../../x": part_named("../../x"),
    "part ..": part_named(".."),
    "part absolute": part_named("/etc/passwd"),
    "part a/b": part_named("a/b"),
    "part a\\b": part_named("a\\b"),
    "part with a NUL": part_named("agent\0"),
    "part with a line's end": part_named("agent\n"),
    "part empty": part_named(""),
    "part of 300 characters": part_named("x" * 300),
    "part of other letters": part_named("аgent"),
    "size negative": file_entry(size=-1),
    "size 1e18": file_entry(size=1e18),
    "size 10**18": lambda path: file_entry(size=10**18)(path) and "agent.safetensors",
    "size 10**30": file_entry(size=10**30),
    "size a fraction": file_entry(size=100.0),
    "size true": file_entry(size=True),
    "size a string": file_entry(size="100"),
    "size null": file_entry(size=None),
    "hash of a file a number": file_entry(sha256=0),
    "hash of a file null": file_entry(sha256=None),
    "hash of a file short": file_entry(sha256="0" * 63),
    "hash of a file a path": file_entry(sha256="../" * 21 + "a"),
    "hash of a file in capitals": file_entry(sha256="A" * 64),
    "log ..": log_named("buffer|.."),
    "log ../../x": log_named("buffer|../../x"),
    "log /etc/passwd": log_named("/etc/passwd"),
    "log without a name": log_named("buffer|"),
    "log of no part": log_named("other|rows"),
    "logs a list": with_(logs=[]),
    "log a list": with_(logs={"buffer|rows": []}),
    "log without its first row": with_(logs={"buffer|rows": {"segments": []}}),
    "log of strings": with_(logs={"buffer|rows": {"first": 0, "segments": ["../x"]}}),
    "segments overlap": segments((0, 2), (1, 3)),
    "segments leave a gap": segments((0, 2), (3, 4)),
    "segments backwards": segments((2, 4), (0, 2), first=2),
    "segment of negative rows": segments((-2, 2)),
    "segment of no rows": segments((2, 2), first=2),
    "segment that ends before it begins": segments((5, 2), first=5),
    "segment up to 10**30": segments((0, 10**30)),
    "segment from a fraction": segments((0.0, 2)),
    "segment from false": segments((False, 2)),
    "segment from a string": segments(("0", 2)),
    "segment's size negative": segments((0, 2), size=-1),
    "segment's size 1e18": segments((0, 2), size=1e18),
    "segment's size true": segments((0, 2), size=True),
    "segment's hash a path": segments((0, 2), sha256="../../../../../../etc/passwd"),
    "segment's hash a number": segments((0, 2), sha256=7),
    "segment with a name": segments((0, 2), name="/etc/passwd"),
    "log begins before its segments": segments((2, 4), first=0),
    "log begins after its first segment": segments((0, 2), (2, 4), first=3),
    "log begins at a negative row": segments((0, 2), first=-1),
    "log begins at true": segments((0, 2), first=True),
    "pipe as manifest": instead("manifest", "pipe"),
    "directory as manifest": instead("manifest", "directory"),
    "/dev/zero as manifest": instead("manifest", "/dev/zero"),
}
LARGE = {
    "full of lists": filled([]),
    "full of tables": filled({}),
    "full of numbers": filled(1),
    "full of fractions": filled(0.1),
}
FILES = {
    "pipe as a part": instead("part", "pipe"),
    "directory as a part": instead("part", "directory"),
    "/dev/zero as a part": instead("part", "/dev/zero"),
    "part that links to itself": instead("part", "agent.safetensors"),
    "part that links to nothing": instead("part", "/nowhere"),
    "pipe as a segment": instead("segment", "pipe"),
    "directory as a segment": instead("segment", "directory"),
    "/dev/zero as a segment": instead("segment", "/dev/zero"),
}
TENSORS = {
    "pickle": pickle.dumps(Malice()),
    "nothing": b"",
    "7 bytes": b"1234567",
    "header of 2**63 bytes": tensor_file({}, length=2**63),
    "header of 2**64 - 1 bytes": tensor_file({}, length=2**64 - 1),
    "header longer than the file": tensor_file({}, length=1000),
    "header of brackets": tensor_file(NESTED.encode()),
    "header of braces": tensor_file(b'{"a":' * 100_000),
    "header a list": tensor_file([]),
    "header not UTF-8": tensor_file(b'{"\xff": 1}'),
    "2**40 × 2**40": one([2**40, 2**40]),
    "2**32 × 2**32, which wraps round": one([2**32, 2**32]),
    "0 × 2**62 × 2**62": one([0, 2**62, 2**62]),
    "2**63 × 0": one([2**63, 0]),
    "negative": one([-1], size=4),
    "a shape of 100 dimensions": one([1] * 100, size=4),
    "more than its data": one([4], size=8),
    "less than its data": one([1], size=8),
    "beyond the data": tensor_file({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(4)),
    "backwards": tensor_file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
    "overlapping": two((0, 8), (4, 12)),
    "with a hole": two((0, 8), (12, 20)),
    "objects": one([1], "O", 8),
    "Python's objects": one([1], "PyObject", 8),
    "bfloat16, which NumPy has not": one([1], "BF16", 2),
    "4 bits": one([2], "F4", 1),
}
ROWS = {
    "more rows than stated": tensors({"x": np.zeros(3, np.float32)}),
    "no rows at all": tensors({"x": np.zeros((), np.float32)}),
    "columns of different length": tensors({"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32)}),
}


READ = ("load", "load as expected")
CASES = (
    {name: (forge, ("verify", *READ)) for name, forge in (MANIFESTS | FILES).items()}
    | {name: (forge, ("verify",)) for name, forge in LARGE.items()}
    | {f"a part: {name}": (part_file(data), READ) for name, data in TENSORS.items()}
    | {"a part: header of 90 MB": (lambda path: part_file(huge_header())(path), READ)}
    | {f"a segment: {name}": (segment_file(data), READ) for name, data in (TENSORS | ROWS).items()}
    | {
        # To be verified, they have to be read: that takes time, but no memory.
        "a part of 50 GB": (sparse_part, ("load as expected",)),
        "a segment of 50 GB": (sparse_segment, ("load as expected",)),
    }
)
"""How each is forged, and by whom it must be refused: a right hash is all that verify asks of an array file."""
OTHER_FORMATS = ("format 10**6", "format 1")


# The process that reads them


def read(reader: str, path: Path) -> None:
    if reader == "verify":
        verify(path)
        return
    state, _ = load(path, expected=STATE if reader == "load as expected" else None)
    log = state["buffer"]["rows"]
    log.read(log.first, log.last)


def attempt(path: Path, readers: tuple[str, ...]) -> dict:
    """What each reader said, and the longest that one took."""
    said, slowest = {}, 0.0
    for reader in readers:
        begin = time.perf_counter()
        try:
            read(reader, path)
            said[reader] = "accepted"
        except CheckpointError as error:
            said[reader] = f"refused: {error}"
        except BaseException as error:
            said[reader] = f"{type(error).__name__}: {error}"
        slowest = max(slowest, time.perf_counter() - begin)
    if "verify" in readers:
        try:
            found, problems = newest_valid(path.parent)
            said["newest_valid"] = f"{found.name}: {'; '.join(problems)}"
        except FormatError as error:
            said["newest_valid"] = f"refused: {error}"
    return {"said": said, "seconds": slowest}


def in_a_fork(path: Path, readers: tuple[str, ...]) -> dict:
    """attempt in a process of its own with little time and memory."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = attempt(path, readers)
        result["MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        os.write(sink, json.dumps(result).encode())
        os._exit(0)
    os.close(sink)
    with open(source, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if said else {"killed": os.waitstatus_to_exitcode(status)}


def read_them_all(root: Path) -> dict:
    results = {}
    cases = CASES | {"nothing wrong": (accepted, ("verify", *READ))}
    for number, (name, (forge, readers)) in enumerate(cases.items()):
        directory = root / str(number)
        save(directory, 10, STATE, About(), None)
        path = save(directory, 20, STATE, About(), None)
        # The older one has its rows elsewhere: damage in a file of both is the subject of another test.
        older = json.loads((directory / "step_000000010" / "manifest.json").read_bytes())
        older["logs"] = {}
        del older["sha256"]
        (directory / "step_000000010" / "manifest.json").write_bytes(spell(older))
        file = forge(path)
        results[name] = in_a_fork(path, readers) | {"file": file}
    return results


if __name__ == "__main__":
    os.fsync = lambda descriptor: None
    sys.stdout.write(json.dumps(read_them_all(Path(sys.argv[1]))))
    sys.exit()


# The tests


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    if not Path("/proc/self/statm").exists():
        pytest.skip("the memory in use is read from /proc")
    line = [sys.executable, __file__, str(tmp_path_factory.mktemp("hostile"))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_by_name_and_the_older_checkpoint_found(results, name):
    result = results[name]
    assert "killed" not in result, f"took more than {SECONDS} s, or crashed: {result}"
    said = result["said"]
    for reader in CASES[name][1]:
        assert said[reader].startswith("refused: "), f"{reader} {said[reader]}"
        assert result["file"] in said[reader], f"{reader} {said[reader]}"
        assert len(said[reader]) < 1000
    if name in OTHER_FORMATS:
        assert "use the code that wrote it" in said["newest_valid"]
    elif "verify" in CASES[name][1]:
        assert said["newest_valid"].startswith("step_000000010: ")
        assert result["file"] in said["newest_valid"]


def test_there_are_enough_of_them_and_none_has_run_code(results):
    assert len(results) > 100
    assert not Path("/tmp/unpickled-by-a-checkpoint").exists()


def test_what_has_nothing_wrong_about_it_is_accepted(results):
    said = results["nothing wrong"]["said"]
    assert said.pop("newest_valid") == "step_000000020: "
    assert set(said.values()) == {"accepted"}


def test_all_this_takes_little_time_and_memory(results):
    slowest = max(results, key=lambda name: results[name]["seconds"])
    largest = max(results, key=lambda name: results[name]["MiB"])
    seconds, mebibytes = results[slowest]["seconds"], results[largest]["MiB"]
    print(f"slowest: {slowest}, {seconds:.2f} s; largest: {largest}, {mebibytes:.0f} MiB")
    assert mebibytes * 2**20 < MEMORY
