"""A command fails in one sentence with its status, and writes its result where it was asked for."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import errors
from errors import UserError, check_writable, reporting, write_json

ROOT = Path(errors.__file__).parent


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (UserError("the option is wrong"), 2, "mine: the option is wrong\n"),
        (UserError("it was not plugged in", status=1), 1, "mine: it was not plugged in\n"),
        (OSError(28, "No space left", "runs/a"), 1, "mine: runs/a: No space left; what was saved before is intact\n"),
        (OSError("the cable is out"), 1, "mine: the cable is out; what was saved before is intact\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(143), 143, ""),
    ],
)
def test_every_end_has_its_status_and_its_sentence(capsys, error, status, sentence):
    with pytest.raises(SystemExit) as leaving, reporting("mine"):
        raise error
    assert leaving.value.code == status
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize("mistake", [ZeroDivisionError, RuntimeError])
def test_a_mistake_in_our_code_keeps_its_traceback(mistake):
    with pytest.raises(mistake), reporting("mine"):
        raise mistake("a mistake")


@pytest.mark.parametrize("much", [1, 10**6])  # in the buffer at the end, and past it
def test_an_output_that_takes_nothing_is_blamed_itself(much):
    code = f"from errors import reporting\nwith reporting('mine'): print('x' * {much})"
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "mine: standard output: No space left on device; what was saved before is intact\n"


def test_where_no_thread_can_be_started_the_limit_is_named(capsys):
    before = threading.stack_size(2**46)  # more than any machine has
    try:
        with pytest.raises(SystemExit) as leaving, reporting("mine"):
            threading.Thread(target=int).start()
    finally:
        threading.stack_size(before)
    assert leaving.value.code == 1
    assert "mine: no further thread or process can be started (ulimit -u is " in capsys.readouterr().err


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


LEFT = {
    "a thread": "import threading; threading.Thread(target=time.sleep, args=(60,)).start()",
    "an atexit": "import atexit; atexit.register(time.sleep, 60)",
    "nothing": "pass",
}


@pytest.mark.parametrize(
    ("leave", "status"), [("pass", 0), ("sys.exit(143)", 143), ("raise UserError('x')", 2), ("1/0", 1)]
)
@pytest.mark.parametrize("left", LEFT)
def test_a_program_ends_with_its_status_whatever_was_left_in_it(left, leave, status):
    code = f"""
import sys, time
import errors
from errors import UserError, ending_for_sure, reporting
errors.LINGER = 0.3
def main():
    with reporting("mine"):
        {LEFT[left]}
        print("done")
        {leave}
ending_for_sure(main)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (status, "done\n")


@pytest.mark.parametrize(
    "done", ["sys.stdout = sys.stderr = None", "sys.stdout.close()", "sys.stdout = open(os.devnull)"]
)
def test_what_an_environment_does_to_the_output_is_no_failure_of_the_run(done):
    code = f"import os, sys\nfrom errors import reporting\nwith reporting('mine'):\n print('x')\n {done}"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
