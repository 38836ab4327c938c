"""Curves without a seam: what both of TensorBoard's loaders show of runs that were killed, from the files themselves.

"Live" is a loader that has been reading since before the crash, "fresh" is one that starts after it.
"""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.context import RequestContext
from tensorboard.data import server_ingester
from tensorboard.util import grpc_util
from torch.utils.tensorboard import SummaryWriter

from training.curves.events import EventFile

ROOT = Path(__file__).parents[3]


class Ours(EventFile):
    def add_scalar(self, tag, value, step):
        self.add(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)


def read(accumulator):
    """What TensorBoard shows with --load_fast=false, and what notebooks see."""
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


class DataServer:
    """What TensorBoard shows with --load_fast=true: its Rust program, which reads `logdir` again every second."""

    def __init__(self, logdir):
        self.logdir = logdir
        self.sentinels = 0
        self.ingester = server_ingester.SubprocessServerDataIngester(
            server_ingester.get_server_binary(),
            str(logdir),
            reload_interval=1,
            channel_creds_type=grpc_util.ChannelCredsType.LOCAL,
            samples_per_plugin={"scalars": 0},
        )
        self.ingester.start()

    def read(self, run):
        series = self.ingester.data_provider.read_scalars(
            RequestContext(), experiment_id="", plugin_name="scalars", downsample=100_000
        )
        tags = series.get(str(run.relative_to(self.logdir)), {})
        return {tag: [(point.step, point.value) for point in points] for tag, points in tags.items()}

    def __call__(self, run):
        """What is there when everything written by now has been read."""
        # A reading that shows the second was begun after the one that shows the first, and so after this call.
        for _ in range(2):
            self.sentinels += 1
            sentinel = self.logdir / f"sentinel{self.sentinels}"
            sentinel.mkdir()
            Ours(sentinel, 0).add_scalar("there", 1, 1)
            deadline = time.monotonic() + 60
            while not self.read(sentinel):
                assert time.monotonic() < deadline, "the data server does not read"
                time.sleep(0.05)
        return self.read(run)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        return DataServer(tmp_path_factory.mktemp("logdir"))
    except server_ingester.NoDataServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def run(server, request):
    """A run's directory that the data server watches."""
    path = server.logdir / request.node.name
    path.mkdir()
    return path


def files(run):
    return sorted(run.glob("events.out.tfevents.*"))


KILLED_AGAIN_AND_AGAIN = """
import os, random, signal, sys, time
from pathlib import Path
from tensorboard.compat.proto.summary_pb2 import Summary
from training.curves.events import EventFile

run, checkpoint, rng = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(1)

def process(number, last):
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    file = EventFile(run, step + 1 if step else 0)
    while step < last:
        step += 1
        tags = ["often"] + ["rarely"] * (step % 3 == 0)
        file.add(Summary(value=[Summary.Value(tag=tag, simple_value=step + number / 128) for tag in tags]), step)
        if step % 7 == 0 and number > 3:
            checkpoint.with_suffix(".tmp").write_text(str(step))
            os.replace(checkpoint.with_suffix(".tmp"), checkpoint)

def tear():
    newest, size = max(run.glob("events*")), rng.randrange(1, 60)
    with open(newest, "ab") as file:  # part of a record, or after a power cut anything at all
        file.write(rng.choice([newest.read_bytes()[:size], rng.randbytes(size), bytes(size)]))

for number in range(40):
    before, child = len(list(run.glob("events*"))), os.fork()
    if not child:
        process(number, 10**9)
    while number % 8 == 4 and len(list(run.glob("events*"))) == before:
        time.sleep(0.001)  # now and then one must come to write, however busy the machine is
    time.sleep(rng.uniform(0.003, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if number > 3 and rng.random() < 0.7:
        tear()
    print("killed", flush=True)
last = int(checkpoint.read_text()) + 500
process(99, last)
print(last)
"""


def test_a_run_killed_again_and_again_has_one_point_for_each_tag_and_step(run, server):
    """Real SIGKILLs, of forks that remember now and then how far they are, and are set back to that; torn records."""
    checkpoint = run.parent.with_name(f"{run.name}.txt")
    command = [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, run, checkpoint]
    live = EventAccumulator(str(run), {"scalars": 0})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for _ in range(40):
            assert process.stdout.readline() == "killed\n"
            read(live)
        last = int(process.stdout.read())
    assert len(files(run)) > 5
    copy = shutil.copytree(run, run.with_name("copy"))  # a run that the data server has not met
    views = {"live": read(live), "fresh": read(EventAccumulator(str(run), {"scalars": 0}))}
    views |= {"live, data server": server(run), "fresh, data server": server(copy)}
    for view in views.values():
        assert [step for step, _ in view["often"]] == list(range(1, last + 1))
        assert [step for step, _ in view["rarely"]] == list(range(3, last + 1, 3))
        processes = [128 * (value - step) for step, value in view["often"][-3000:]]
        assert processes == sorted(processes)


FULL_DISK = """
import resource, sys
from pathlib import Path
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from training.curves.events import EventFile

class Ours(EventFile):
    def add_scalar(self, tag, value, step):
        self.add(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

file = {"ours": Ours, "SummaryWriter": SummaryWriter}[sys.argv[2]](Path(sys.argv[1]), purge_step=0)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for step in range(1, 301):
    if step == 100:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30, unlimited[1]))
    if step == 200:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    file.add_scalar("often", step, step)
file.close()
"""


@pytest.mark.parametrize(
    "writer",
    [
        "ours",
        pytest.param("SummaryWriter", marks=pytest.mark.xfail(strict=True, reason="its thread dies")),
    ],
)
def test_a_disk_that_takes_no_more_ends_no_run_and_is_told_once(writer, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path, writer], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    (line,) = ended.stdout.splitlines()
    assert line.endswith("File too large; the curves have a gap until they can be written again")
    steps = [step for step, _ in read(EventAccumulator(str(tmp_path)))["often"]]
    assert steps == [*range(1, 100), *range(200, 301)]
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    "writer",
    [Ours, pytest.param(SummaryWriter, marks=pytest.mark.xfail(strict=True, reason="named by the clock"))],
)
def test_a_later_file_follows_all_others_where_the_clock_was_set_back(writer, tmp_path, monkeypatch):
    for process, now in enumerate((2e9, 1e9, 1e9)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        file = writer(tmp_path, purge_step=process)
        file.add_scalar("often", process, process)
        file.close()
    assert read(EventAccumulator(str(tmp_path)))["often"] == [(process, process) for process in range(3)]


def test_where_the_files_are_deleted_a_new_one_is_begun_and_no_later_point_is_lost(run, server, capsys):
    """But for a loader of TensorBoard's Python one that read the deleted file: it looks for that for ever."""
    earlier = Ours(run, 0)
    earlier.add_scalar("often", 1, 1)
    earlier.close()
    file = Ours(run, 2)
    for step in (2, 3):
        file.add_scalar("often", step, step)
    server(run)
    newest = files(run)[-1]
    for path in files(run):
        path.unlink()
    file.sync()  # a save that comes now has nothing to say of them
    for step in (4, 5):
        file.add_scalar("often", step, step)
    assert capsys.readouterr().out == f"{newest} has been deleted; the curves go on in a new file\n"
    assert [path > newest for path in files(run)] == [True]
    for view in (read(EventAccumulator(str(run), {"scalars": 0})), server(run)):
        assert view["often"][-2:] == [(4, 4.0), (5, 5.0)]


def test_where_the_directory_is_moved_the_curves_go_with_it(tmp_path, capsys):
    run, there = tmp_path / "run", tmp_path / "there"
    run.mkdir()
    file = Ours(run, 0)
    file.add_scalar("often", 1, 1)
    run.rename(there)
    run.mkdir()  # somebody else's
    for step in (2, 3):
        file.add_scalar("often", step, step)
        files(there)[0].unlink()
    assert len(capsys.readouterr().out.splitlines()) == 1
    file.add_scalar("often", 4, 4)
    file.sync()
    assert read(EventAccumulator(str(there)))["often"] == [(4, 4.0)]
    assert list(run.iterdir()) == []


def test_a_directory_that_vanishes_ends_no_run_and_is_told_once(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    file = Ours(run, 0)
    file.add_scalar("often", 1, 1)
    shutil.rmtree(run)
    for step in (2, 3):
        file.add_scalar("often", step, step)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("has been deleted; the curves go on in a new file")
    assert second == f"{run}: No such file or directory; the curves have a gap until they can be written again"
    run.mkdir()  # somebody else's
    file.add_scalar("often", 4, 4)
    file.sync()
    file.close()
    assert list(run.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_sync_flushes_the_file_and_its_directory_and_raises_nothing(tmp_path, monkeypatch, capsys):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    file = Ours(tmp_path, 0)
    file.sync()
    assert synced == []  # nothing was written yet
    file.add_scalar("often", 1, 1)
    file.sync()
    assert synced == [files(tmp_path)[0].stat().st_ino, tmp_path.stat().st_ino]
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    file.sync()
    file.sync()
    sentence = "Input/output error; after a power cut the curves may have a gap"
    assert capsys.readouterr().out == f"{files(tmp_path)[0]}: {sentence}\n"
