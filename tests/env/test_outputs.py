"""A result is written whole or not at all, and what hinders it is named with its file."""

import json
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
    (tmp_path / "a.json.partial").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"--json .*a\.json: could not be written \(No space left on device\)"):
        write_json("--json", path, {"rate": 0.5})
    assert path.read_text() == "the last one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_is_no_file_is_written_to_as_it_is(tmp_path):
    pipe = tmp_path / "stdout"
    pipe.symlink_to("/dev/null")
    write_json("--json", pipe, {})
    assert pipe.is_symlink()
    with pytest.raises(OutputError, match="--json /dev/full: could not be written"):
        write_json("--json", Path("/dev/full"), {})
