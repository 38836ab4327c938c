"""A command fails in one sentence with its status, and writes its result where it was asked for."""

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


def test_a_file_that_takes_nothing_is_named():
    with pytest.raises(UserError, match=r"--json /dev/full: could not be written \(No space left on device\)"):
        write_json("--json", Path("/dev/full"), {})


def test_a_reader_that_has_left_is_no_mishap(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        write_json("--json", Path(f"/dev/fd/{writing}"), {})
    os.close(writing)
