"""A command fails in one sentence with its status, and its result is written whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from errors import UserError, check_writable, reporting, write_json


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (UserError("the option is wrong"), 2, "mine: the option is wrong\n"),
        (UserError("it was not plugged in", status=1), 1, "mine: it was not plugged in\n"),
        (OSError(28, "No space left", "runs/a"), 1, "mine: runs/a: No space left; what was saved before is intact\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(143), 143, ""),
    ],
)
def test_every_end_has_its_status_and_its_sentence(capsys, error, status, sentence):
    with pytest.raises(SystemExit) as leaving, reporting("mine"):
        raise error
    assert leaving.value.code == status
    assert capsys.readouterr().err == sentence


def test_a_mistake_in_our_code_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), reporting("mine"):
        raise ZeroDivisionError


def test_a_file_that_cannot_be_written_is_named_before_anything_is_done(tmp_path):
    check_writable("--json", tmp_path / "new" / "a.json")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(UserError, match=f"^--json {tmp_path}: cannot be written"):
        check_writable("--json", tmp_path)


def test_a_result_is_written_where_it_was_asked_for(tmp_path):
    write_json("--json", tmp_path / "a.json", {"rate": 0.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"rate": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_last_result_and_names_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("the last one")
    (tmp_path / f".{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"--json .*a\.json: could not be written \(No space left on device\)"):
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
    with pytest.raises(UserError, match="--json /dev/full: could not be written"):
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
