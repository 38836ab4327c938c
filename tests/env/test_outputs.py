"""A result is written whole or not at all, and what hinders it is named with its file."""

import json
import os
from pathlib import Path

import pytest

from env.outputs import OutputError, write_json


def test_a_result_is_written_where_it_was_asked_for(tmp_path):
    write_json("--json", tmp_path / "a.json", {"rate": 0.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"rate": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_last_result_and_names_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("the last one")
    (tmp_path / f".{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"--json .*a\.json: could not be written \(No space left on device\)"):
        write_json("--json", path, {"rate": 0.5})
    assert path.read_text() == "the last one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_is_no_plain_file_is_written_to_as_it_is(tmp_path):
    for name in ("result", "/dev/null"):  # as /dev/stdout leads to a file, or to a terminal
        link, target = tmp_path / "stdout", tmp_path / name
        link.symlink_to(target)
        write_json("--json", link, {"rate": 0.5})
        assert link.is_symlink()
        link.unlink()
    assert json.loads((tmp_path / "result").read_text()) == {"rate": 0.5}
    with pytest.raises(OutputError, match="--json /dev/full: could not be written"):
        write_json("--json", Path("/dev/full"), {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_in_a_directory_that_takes_no_new_ones_is_written_to(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("the last one")
    tmp_path.chmod(0o500)
    write_json("--json", path, {"rate": 0.5})
    assert json.loads(path.read_text()) == {"rate": 0.5}


def test_a_name_of_any_length_that_can_be_written_is(tmp_path):
    write_json("--json", tmp_path / ("n" * 250 + ".json"), {})


def test_a_reader_that_has_left_is_no_mishap(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        write_json("--json", Path(f"/dev/fd/{writing}"), {})
    os.close(writing)
