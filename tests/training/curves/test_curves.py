"""What a run shows of itself: its curves over a resume, and lines that nobody may be there to read."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as TensorBoardAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from training.curves.pictures import as_gif
from training.curves.tensorboard import Curves
from training.progress import Progress, say
from training.recipes import REACH

ROOT = Path(__file__).parents[3]
CONFIG = replace(REACH, seed=3)
RESULT = {
    "success": {"rate": 0.25},
    "success_once": {"rate": 0.5},
    "return": {"mean": -12.5},
    "length": {"mean": 50.0},
    "funnel": {"reached": 1.0, "held": 0.25},
}


def scalars(path):
    accumulator = EventAccumulator(str(path), {"scalars": 0}).Reload()
    tags = accumulator.Tags()["scalars"]
    points = {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}
    return {tag: of_tag for tag, of_tag in points.items() if of_tag}


def texts(path, tag):
    # Not the other one: of what a later file voids, that keeps texts.
    accumulator = TensorBoardAccumulator(str(path), {"tensors": 0}).Reload()
    return [
        (event.step, event.tensor_proto.string_val[0].decode()) for event in accumulator.Tensors(f"{tag}/text_summary")
    ]


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path):
    curves = Curves(tmp_path, CONFIG, 0)
    curves.log({"a": 1.0, "b": 2.0}, 100)
    curves.log({"a": 9.0, "gone": 9.0}, 200)  # and killed
    curves = Curves(tmp_path, CONFIG, 100)
    curves.log({"a": 3.0, "b": 4.0}, 200)
    curves.close()
    assert scalars(tmp_path) == {"a": [(100, 1.0), (200, 3.0)], "b": [(100, 2.0), (200, 4.0)]}
    ((step, config),) = texts(tmp_path, "config")
    assert step == 0
    assert '"seed": 3' in config


def test_an_evaluation_feeds_its_curves(tmp_path):
    curves = Curves(tmp_path, CONFIG, 0)
    curves.report(RESULT, 2000)
    assert scalars(tmp_path) == {
        "eval/success_rate": [(2000, 0.25)],
        "eval/success_once_rate": [(2000, 0.5)],
        "eval/mean_reward": [(2000, -12.5)],
        "eval/mean_ep_length": [(2000, 50.0)],
        "eval_funnel/1_reached": [(2000, 1.0)],
        "eval_funnel/2_held": [(2000, 0.25)],
    }


def test_a_run_that_begins_again_keeps_nothing(tmp_path):
    for value in (1.0, 2.0):
        Curves(tmp_path, CONFIG, 0).log({"a": value}, 100)
    assert scalars(tmp_path) == {"a": [(100, 2.0)]}
    assert len(texts(tmp_path, "config")) == 1


def test_a_branch_is_described_once_and_begins_where_it_branched_off(tmp_path):
    Curves(tmp_path, CONFIG, 200).log({"a": 1.0}, 300)  # and killed before its first checkpoint
    Curves(tmp_path, CONFIG, 200).log({"a": 2.0}, 300)
    assert scalars(tmp_path) == {"a": [(300, 2.0)]}
    assert [step for step, _ in texts(tmp_path, "config")] == [200]


def test_values_beyond_single_precision_are_points_all_the_same(tmp_path):
    Curves(tmp_path, CONFIG, 0).log({"a": 1e300, "b": float("-inf")}, 1)
    assert scalars(tmp_path) == {"a": [(1, float("inf"))], "b": [(1, float("-inf"))]}


def test_histograms_pictures_and_remarks_lie_beside_the_curves(tmp_path):
    curves = Curves(tmp_path, CONFIG, 0)
    curves.histograms({"q/values": np.array([-1.0, 0.0, 0.0, 3.0])}, 100)
    frames = [np.full((8, 12, 3), shade, np.uint8) for shade in (0, 200)]
    curves.picture("eval/episode", as_gif(frames, 200), 200)
    curves.remark("the actor is dead", 300)
    read = EventAccumulator(str(tmp_path), {"tensors": 0, "images": 0, "histograms": 0}).Reload()
    (spread,) = read.Histograms("q/values")
    assert (spread.step, spread.histogram_value.num, spread.histogram_value.max) == (100, 4, 3)
    assert sum(spread.histogram_value.bucket) == 4
    (picture,) = read.Images("eval/episode")
    assert (picture.step, picture.width, picture.height) == (200, 6, 4)
    assert picture.encoded_image_string.startswith(b"GIF89a")
    assert texts(tmp_path, "diagnosis") == [(300, "the actor is dead")]


def test_a_layout_opens_twelve_charts_of_curves_and_the_options_can_be_compared(tmp_path):
    Curves(tmp_path, CONFIG, 0).close()
    read = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    (event,) = read.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = [chart for category in layout.category for chart in category.chart]
    assert len(charts) == 12
    start = HParamsPluginData.FromString(read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    experiment = HParamsPluginData.FromString(read.SummaryMetadata("_hparams_/experiment").plugin_data.content)
    names = [info.name for info in experiment.experiment.hparam_infos]
    assert names[:5] == ["env", "seed", "batch-size", "gamma", "sac.lr"]  # what one compares runs by
    options = {name: value.WhichOneof("kind") for name, value in start.session_start_info.hparams.items()}
    assert options["sac.lr"] == options["seed"] == "number_value"
    assert options["her.skip-met-at-start"] == "number_value"  # as PyTorch writes a bool
    assert options["sac.hidden"] == options["env"] == "string_value"


def test_an_evaluation_is_a_line(capsys):
    progress = Progress(4000, 0)
    progress.advance(10)
    progress.report(RESULT, 0.4, 2000)
    progress.close()
    line = "step     2,000 · success  25% · once  50% · return  -12.50 · goal moved in  40% of recent episodes\n"
    assert capsys.readouterr() == (line, "")


TALKATIVE = """
import sys, threading
from pathlib import Path
from training.progress import Progress, say
from training.recipes import REACH

progress = Progress(1000, 0)
result = {"success": {"rate": 1.0}, "success_once": {"rate": 1.0}, "return": {"mean": 1.0}}
for step in range(1000):
    progress.advance(1)
    if step % 10 == 0:
        say("· " * 500)
        progress.report(result, 0.5, step)
thread = threading.Thread(target=say, args=["from another thread"], daemon=True)
thread.start()
thread.join(20)
progress.close()
Path(sys.argv[1]).write_text("hung" if thread.is_alive() else "done")
"""


def talk(tmp_path, redirection, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment):
    """Exit code and what stderr got of a process that prints a lot, started by a shell with this redirection."""
    ended = tmp_path / "ended"
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = f'exec "$0" "$@" {redirection}'
    process = subprocess.run(
        ["sh", "-c", command, sys.executable, "-c", TALKATIVE, ended],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=ROOT,
        env=inherited | environment,
        timeout=300,
        check=False,
    )
    assert ended.read_text() == "done"
    return process.returncode, process.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("redirection", [">/dev/full", ">/dev/full 2>&1", "2>/dev/full"])
def test_a_full_disk_behind_the_output_ends_no_run(redirection, tmp_path):
    assert talk(tmp_path, redirection) == (0, b"")
    assert talk(tmp_path, redirection, PYTHONUNBUFFERED="1") == (0, b"")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_a_run_without_output_is_a_run(redirection, tmp_path):
    assert talk(tmp_path, redirection) == (0, b"")


def test_a_reader_that_leaves_ends_no_run(tmp_path):
    read, write = os.pipe()
    os.close(read)
    try:
        assert talk(tmp_path, "", stdout=write) == (0, b"")
        assert talk(tmp_path, "2>&1", stdout=write) == (0, b"")
    finally:
        os.close(write)


@pytest.fixture
def terminal():
    """The screen's end of a terminal, whose owner closes it, and the program's."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    screen, program = pty.openpty()
    termios.tcsetwinsize(program, (24, 80))
    yield screen, program
    os.close(program)


def test_a_terminal_that_is_closed_ends_no_run(terminal, tmp_path):
    screen, program = terminal
    os.close(screen)
    assert talk(tmp_path, "", stdout=program, stderr=program) == (0, None)


def test_a_terminal_that_is_closed_while_the_bar_is_drawn_ends_no_run(terminal, tmp_path):
    screen, program = terminal

    def read_a_little():
        os.read(screen, 2000)
        os.close(screen)

    reader = threading.Thread(target=read_a_little)
    reader.start()
    assert talk(tmp_path, "", stdout=program, stderr=program) == (0, None)
    reader.join()


def test_a_terminal_that_knows_only_ascii_shows_the_rest(tmp_path):
    with open(tmp_path / "out", "wb") as out:
        assert talk(tmp_path, "", stdout=out, PYTHONIOENCODING="ascii") == (0, b"")
    lines = (tmp_path / "out").read_text("ascii").splitlines()
    assert lines[0] == "? " * 500
    assert lines[1].startswith("step         0 ? success 100%")
    assert lines[-1] == "from another thread"


def test_a_line_stands_above_the_bar(terminal):
    screen, program = terminal
    code = "from training.progress import Progress, say; p = Progress(9, 3); say('line'); p.advance(6); p.close()"
    subprocess.run([sys.executable, "-c", code], stdout=program, stderr=program, cwd=ROOT, check=True)
    shown = os.read(screen, 10_000).decode()
    os.close(screen)
    assert "3/9" in shown
    assert "9/9" in shown
    assert "\r" in shown.split("line\r\n")[0][-2:]  # the bar was wiped out before the line came
    assert "3/9" in shown.split("line\r\n")[1]


def test_streams_closed_by_somebody_else_raise_nothing(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w") as closed:
        pass
    for stream in (closed, None):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            progress = Progress(10, 0)
            say("nobody hears")
            progress.close()
