"""What is done to the disk: whole files or none, and only regular ones are read."""

import errno
import hashlib
import os
import socket
import sys
from pathlib import Path

import pytest

from checkpoints import disk
from checkpoints.disk import CheckpointError, make_directory, read_file, read_verified, verify_file, write_file

DATA = bytes(range(256)) * 20
SHA256 = hashlib.sha256(DATA).hexdigest()


def test_a_written_file_holds_its_data_and_nothing_lies_beside_it(tmp_path):
    write_file(tmp_path / "file", DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_all_of_them(tmp_path, monkeypatch):
    class Slow:
        def __init__(self, *arguments, **options):
            self.file = open(*arguments, **options)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def fileno(self):
            return self.file.fileno()

        def write(self, data):
            return self.file.write(data[:700])

    monkeypatch.setattr(disk, "open", Slow, raising=False)
    write_file(tmp_path / "file", DATA)
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EEXIST])
def test_a_rename_that_was_done_and_is_denied_counts(code, tmp_path, monkeypatch):
    """As NFS may have it: done, the answer lost, asked again."""
    replace = os.replace

    def done_and_denied(source, target):
        replace(source, target)
        raise OSError(code, os.strerror(code), str(source))

    monkeypatch.setattr(os, "replace", done_and_denied)
    write_file(tmp_path / "file", DATA)
    assert (tmp_path / "file").read_bytes() == DATA
    monkeypatch.setattr(os, "replace", lambda source, target: (Path(source).unlink(), done_and_denied("", "")))
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "other", DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch, call):
    write_file(tmp_path / "file", b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"os.{call}", fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "file", DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_directories_are_made_with_those_above_them(tmp_path):
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_only_the_bytes_of_the_right_hash_are_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    assert read_verified(path, len(DATA), SHA256) == read_file(path, len(DATA)) == DATA
    verify_file(path, len(DATA), SHA256)
    for reader in (read_verified, verify_file):
        with pytest.raises(CheckpointError, match="SHA-256"):
            reader(path, len(DATA), SHA256.replace(SHA256[0], "0" if SHA256[0] != "0" else "1"))
        for size in (len(DATA) - 1, len(DATA) + 1):
            with pytest.raises(CheckpointError, match=f"{len(DATA)} bytes instead of {size}"):
                reader(path, size, SHA256)


def test_a_file_of_50_gigabytes_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.truncate(50 * 10**9)
    with pytest.raises(CheckpointError, match="file has 50000000000 bytes, and 1000 is the most"):
        read_file(path, 1000)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "socket"])
def test_what_is_no_regular_file_is_refused_at_once_and_left_closed(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path("file")
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
    free = os.dup(0)
    os.close(free)
    for _ in range(3):
        with pytest.raises(CheckpointError):
            read_file(path, 1000)
    after = os.dup(0)
    os.close(after)
    assert after == free


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * 2**20))
    chunks = disk._chunks(path, 3 * 2**20)
    next(chunks)
    os.truncate(path, 2**20)
    with pytest.raises(CheckpointError, match="became shorter"):
        list(chunks)
