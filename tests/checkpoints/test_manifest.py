"""The manifest: what is written can be read, and no other spelling of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints import CheckpointError, FormatError, read_manifest
from checkpoints.manifest import LIMIT, File, LogEntry, Manifest, Segment, part_file

SHA256 = "0123456789abcdef" * 4
WHOLE = Manifest(
    step=30_000,
    success=0.5,
    fingerprint="f1e2",
    config={"run": "runs/größer\x1b", "lr": 1e-05, "hidden": (256, 256)},
    versions={"torch": "2.9"},
    files={"agent": File(10, SHA256)},
    logs={"buffer|rows": LogEntry(3, [Segment(0, 8, 100, SHA256), Segment(8, 11, 50, SHA256)])},
    values={"agent": {"rate": 0.1 + 0.2, "updates": 3 * 10**30}, "buffer": {}},
)


def put(directory: Path, data: bytes) -> Path:
    (directory / "manifest.json").write_bytes(data)
    return directory


def test_a_manifest_comes_back_as_it_was(tmp_path):
    read = read_manifest(put(tmp_path, WHOLE.encode()))
    assert read == replace(WHOLE, config=WHOLE.config | {"hidden": [256, 256]})


def test_a_manifest_is_text_with_a_line_for_each_item(tmp_path):
    assert b'\n"step": 30000,\n' in b"\n" + WHOLE.encode()[1:]
    assert json.loads(WHOLE.encode())["sha256"]


@pytest.mark.parametrize(
    "change",
    [
        {"success": float("nan")},
        {"values": {"agent": {"loss": float("inf")}, "buffer": {}}},
        {"values": {"agent": {"path": Path("x")}, "buffer": {}}},
        {"values": {"agent": {1: "one", "1": "another"}, "buffer": {}}},
        {"values": {"agent": {}, "buffer": {}, "../x": {}}},
        {"values": {"agent": {"long": "x" * LIMIT}, "buffer": {}}},
        {"values": {"agent": {"digits": 10**5000}, "buffer": {}}},
        {"logs": {"buffer|Rows": LogEntry(0, [Segment(0, 8, 100, SHA256)])}},
    ],
)
def test_what_could_not_be_read_again_is_not_written(change):
    with pytest.raises((ValueError, TypeError)):
        replace(WHOLE, **change).encode()


@pytest.mark.parametrize("part", ["", "..", "a/b", "A", "a-b", "ä", "x" * 65, "con.txt"])
def test_a_part_must_be_a_plain_name(part):
    with pytest.raises(ValueError, match="cannot be called"):
        part_file(part)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"', "{}", "", "{", '{"format": 2}', '{"sha256": "00"}'])
def test_a_manifest_that_is_none_is_named(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged") as caught:
        read_manifest(put(tmp_path, content.encode()))
    assert not isinstance(caught.value, FormatError)


def test_a_manifest_edited_by_hand_is_found(tmp_path):
    edited = WHOLE.encode().replace(b'"step": 30000', b'"step": 40000')
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged \(its SHA-256 is not the one it states"):
        read_manifest(put(tmp_path, edited))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0.30000000000000004", b"0.30000000000000005"),  # the same number
        (b"1e-05", b"1E-05"),
        (b"\\u001b", b"\\u001B"),
        (b'"step": 30000', b'"step":  30000'),
        (b'{"step": 30000', b'{"step": 7,\n"step": 30000'),
        (b"}", b"}\n"),
    ],
)
def test_the_same_content_spelt_otherwise_is_damage_too(tmp_path, old, new):
    data = WHOLE.encode()
    assert old in data
    spelt = new.join(data.rsplit(old, 1))
    assert json.loads(spelt) == json.loads(data)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        read_manifest(put(tmp_path, spelt))


@pytest.mark.parametrize("number", [1, 4, 10**6])
def test_another_format_is_no_damage(samples, tmp_path, number):
    data = samples.foreign_manifest({"format": number, "contents": "unknown to this code"})
    with pytest.raises(FormatError, match=f"has format {number}, and this code reads up to 3; use the code that wrote"):
        read_manifest(put(tmp_path, data))


def test_what_a_newer_code_says_besides_is_no_damage(samples, tmp_path):
    content = json.loads(WHOLE.encode()) | {"colour": "red"}
    del content["sha256"]
    with pytest.raises(FormatError, match=r"says what this code does not know \(colour\); use a newer one"):
        read_manifest(put(tmp_path, samples.foreign_manifest(content)))
    del content["format"], content["colour"]
    with pytest.raises(FormatError, match="has format None, and this code reads up to 3"):
        read_manifest(put(tmp_path, samples.foreign_manifest(content)))


def test_a_checkpoint_that_was_renamed_to_another_step_is_none(samples, tmp_path):
    path = samples.store(tmp_path, 10)
    path.rename(tmp_path / "step_000000500")
    with pytest.raises(CheckpointError, match="step_000000500 holds step 10: it was renamed; give it back the name"):
        read_manifest(tmp_path / "step_000000500")
    (tmp_path / "step_000000500").rename(tmp_path / "policy")
    assert read_manifest(tmp_path / "policy").step == 10


def test_a_flipped_bit_in_the_format_is_damage_and_no_other_format(tmp_path):
    data = WHOLE.encode()
    assert data.count(b'"format": 3') == 1
    for digit in (b"2", b"1", b"7"):
        with pytest.raises(CheckpointError, match="SHA-256") as caught:
            read_manifest(put(tmp_path, data.replace(b'"format": 3', b'"format": ' + digit)))
        assert not isinstance(caught.value, FormatError)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: None])
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path, make):
    path = tmp_path / "step_000000001"
    make(path)
    with pytest.raises(CheckpointError, match=r"step_000000001 is no checkpoint: it has no manifest\.json"):
        read_manifest(path)
