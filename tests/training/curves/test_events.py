"""Curves without a seam: what both of TensorBoard's loaders show of runs that were killed, from the files themselves.

"Live" is a TensorBoard that has been reading since before the crash; "fresh" one that starts after it.
"""

import errno
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as TensorBoardAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.context import RequestContext
from tensorboard.data import server_ingester
from tensorboard.util import grpc_util, tensor_util
from torch.utils.tensorboard import SummaryWriter

from training.curves import events
from training.curves.events import EventFile, truncate

ROOT = Path(__file__).parents[3]
EVERYTHING = {"scalars": 0, "tensors": 0}


def log(file, step, process):
    """Two curves, one of them at every third step alone; the value tells which process wrote it."""
    value = step + process / 128  # which is exact in single precision
    points = {"often": value} | ({"rarely": value} if step % 3 == 0 else {})
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in points.items()]
    file.add(Summary(value=values), step)


def expected(writers):
    """The curves as both loaders must show them: {tag: [(step, value)]}, where writers[step] is its last process."""
    points = [(step, step + process / 128) for step, process in sorted(writers.items())]
    rare = [(step, value) for step, value in points if step % 3 == 0]
    return {"often": points} | ({"rarely": rare} if rare else {})


def simple(accumulator):
    """What benchmarks and notebooks see."""
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def slow(accumulator):
    """What TensorBoard shows with --load_fast=false."""
    accumulator.Reload()
    return {
        tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto).item()) for e in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


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
            samples_per_plugin=EVERYTHING,
        )
        self.ingester.start()
        file = EventFile(logdir, 0)
        log(file, 1, 0)
        (self.point,) = [path.read_bytes() for path in own_files(logdir)]

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
            (sentinel / "tfevents").write_bytes(self.point)
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


class Watchers:
    """Loaders of both kinds that read all along. Each call: what they show now, and what fresh ones show."""

    def __init__(self, run, server):
        self.run = run
        self.server = server
        self.simple = EventAccumulator(str(run), EVERYTHING)
        self.slow = TensorBoardAccumulator(str(run), EVERYTHING)

    def slow_ones(self):
        return {
            "live simple": simple(self.simple),
            "live slow": slow(self.slow),
            "fresh simple": simple(EventAccumulator(str(self.run), EVERYTHING)),
            "fresh slow": slow(TensorBoardAccumulator(str(self.run), EVERYTHING)),
        }

    def __call__(self):
        # A copy is a run that the data server has not met.
        copy = Path(tempfile.mkdtemp(prefix="copy", dir=self.server.logdir))
        shutil.copytree(self.run, copy, dirs_exist_ok=True)
        fast = {"live fast": self.server(self.run), "fresh fast": self.server.read(copy)}
        return self.slow_ones() | fast


def own_files(run):
    return sorted(run.glob("events.out.tfevents.*.sac-her"))


def tear(run, rng):
    """What a kill in the middle of a write leaves: part of a record, or after a power cut anything at all."""
    newest = own_files(run)[-1]
    rest = rng.choice([newest.read_bytes()[: rng.randrange(1, 60)], rng.randbytes(rng.randrange(1, 60))])
    with open(newest, "ab") as file:
        file.write(rest)


def resume(run, position, step):
    assert truncate(run, position) == []
    return EventFile(run, step + 1)


def test_a_run_killed_again_and_again_has_one_point_for_each_tag_and_step(run, server):
    rng = random.Random(0)
    watchers = Watchers(run, server)
    step, position, writers = 0, {}, {}
    for process in range(25):
        file = resume(run, position, step) if step else (truncate(run, {}), EventFile(run, 0))[1]
        reached = step
        for _ in range(rng.randrange(12)):
            reached += 1
            log(file, reached, process)
            writers[reached] = process
            if rng.random() < 0.2:
                step, position = reached, file.position()
        if file.position() and rng.random() < 0.7:
            tear(run, rng)
        if rng.random() < 0.5:
            simple(watchers.simple)
            slow(watchers.slow)
        if process in (8, 16):
            server(run)
        writers = {s: p for s, p in writers.items() if s <= step}
    file = resume(run, position, step)
    for last in range(step + 1, step + 40):
        log(file, last, 99)
        writers[last] = 99
    file.close()
    assert step > 10
    assert len(set(writers.values())) > 5
    views = watchers()
    assert views == dict.fromkeys(views, expected(writers))


def test_a_process_killed_by_the_kernel_at_any_instant_leaves_no_seam(run, server):
    """Real SIGKILLs, of forks that write as fast as they can and remember their position every now and then."""
    code = """
import json, os, random, signal, sys, time
from pathlib import Path
from tensorboard.compat.proto.summary_pb2 import Summary
from training.curves.events import EventFile, truncate

run, checkpoint, rng = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(1)

def process(number, last):
    step, position = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, {})
    assert truncate(run, position) == []
    file = EventFile(run, step + 1)
    while step < last:
        step += 1
        value = step + number / 128
        tags = ["often"] + ["rarely"] * (step % 3 == 0)
        file.add(Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag in tags]), step)
        if step % 7 == 0:
            checkpoint.with_suffix(".tmp").write_text(json.dumps([step, file.position()]))
            os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
    file.close()

for number in range(40):
    child = os.fork()
    if not child:
        process(number, 10**9)
    time.sleep(rng.uniform(0.003, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
step = json.loads(checkpoint.read_text())[0] if checkpoint.exists() else 0
process(99, step + 50)
print(step + 50)
"""
    checkpoint = run.parent.with_name(f"{run.name}.json")
    command = [sys.executable, "-c", code, run, checkpoint]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr
    last = int(ended.stdout)
    assert last > 500
    assert len(own_files(run)) > 5
    views = {"simple": simple(EventAccumulator(str(run), EVERYTHING))}
    views |= {"slow": slow(TensorBoardAccumulator(str(run), EVERYTHING)), "fast": server(run)}
    for view in views.values():
        assert [step for step, _ in view["often"]] == list(range(1, last + 1))
        assert [step for step, _ in view["rarely"]] == list(range(3, last + 1, 3))
        processes = [128 * (value - step) for step, value in view["often"][-3000:]]
        assert processes == sorted(processes)


def test_a_run_that_begins_again_before_its_first_checkpoint_shows_nothing_of_the_time_before(run, server):
    watchers = Watchers(run, server)
    file = EventFile(run, 0)
    for step in range(9):
        log(file, step, 1)
    tear(run, random.Random(2))
    views = watchers()
    assert views == dict.fromkeys(views, expected(dict.fromkeys(range(9), 1)))
    assert truncate(run, {}) == []
    watchers.slow_ones()  # before the new file is there
    file = EventFile(run, 0)
    for step in range(4):
        log(file, step, 2)
    views = watchers()
    assert views == dict.fromkeys(views, expected(dict.fromkeys(range(4), 2)))


def test_a_clock_that_went_back_over_the_crash_changes_no_order(run, server, monkeypatch):
    watchers = Watchers(run, server)
    step, position = 0, {}
    for process, now in enumerate([2e9, 1.9e9, 1.9e9, 1.5e9, 2.1e9, 0.0]):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        file = resume(run, position, step)
        for _ in range(5):
            step += 1
            log(file, step, process)
        position = file.position()
        log(file, step + 1, 50 + process)
        views = watchers() if process == 3 else watchers.slow_ones()
        assert all([s for s, _ in view["often"]] == list(range(1, step + 2)) for view in views.values()), views
    file = resume(run, position, step)
    log(file, step + 1, 7)
    monkeypatch.undo()
    writers = {s: (s - 1) // 5 for s in range(1, step + 1)} | {step + 1: 7}
    views = watchers()
    assert views == dict.fromkeys(views, expected(writers))
    names = [path.name for path in own_files(run)]
    assert len(names) == 7
    assert len({name.split(".")[3] for name in names}) == 7


def test_a_tensorboard_at_an_empty_file_finds_the_next_one_even_if_the_clock_went_back(tmp_path, monkeypatch):
    live = EventAccumulator(str(tmp_path))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    log(EventFile(tmp_path, 0), 1, 0)
    simple(live)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    for _ in range(2):
        assert truncate(tmp_path, {}) == []  # and the process logs nothing before it is killed
        assert simple(live) == expected({1: 0})
    log(EventFile(tmp_path, 0), 1, 1)
    assert simple(live) == expected({1: 1})


def test_a_file_follows_those_that_others_wrote_into_the_directory(tmp_path):
    (tmp_path / "events.out.tfevents.2222222222.host.1.0").touch()
    file = EventFile(tmp_path, 0)
    log(file, 1, 0)
    assert own_files(tmp_path)[0].name.startswith("events.out.tfevents.2222222223.")


def test_files_of_others_are_never_touched(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    writer.add_scalar("theirs", 1.0, 7)
    writer.close()
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    directory = tmp_path / "events.out.tfevents.1000000000.host.1.sac-her"
    directory.mkdir()
    (tmp_path / "events.out.tfevents.1000000001.host.1.sac-her").symlink_to(outside)
    (tmp_path / "my.tfevents.notes.sac-her").write_text("kept")
    (tmp_path / "events.out.tfevents.1000000002.host.1.sac-her.bak").write_text("kept")
    file = EventFile(tmp_path, 0)
    log(file, 1, 0)
    file.close()
    before = {path: path.lstat() for path in tmp_path.iterdir()}
    own = own_files(tmp_path)[-1]
    assert truncate(tmp_path, {}) == []
    assert own.stat().st_size == 0
    after = {path: path.lstat() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert [path for path in before if after[path].st_mtime_ns != before[path].st_mtime_ns] == [own]
    assert outside.read_bytes() == b"kept"


def test_processes_that_log_nothing_leave_no_file_and_useless_files_go(tmp_path):
    file = EventFile(tmp_path, 0)
    log(file, 1, 0)
    position = file.position()
    for process in range(30):
        file = resume(tmp_path, position, 1)
        if process % 2:
            log(file, 2, process)
        file.position()
        if not process % 2:
            file.close()
    assert len(own_files(tmp_path)) <= 3
    assert simple(EventAccumulator(str(tmp_path)))["often"] == [(1, 1.0), (2, 2 + 29 / 128)]


@pytest.mark.parametrize(
    "name",
    [
        "../events.out.tfevents.1000000000.host.1.sac-her",
        "/etc/passwd",
        "events.out.tfevents.1000000000.host.1.0",
        "events.out.tfevents.1000000000.a/b.1.sac-her",
        "events.out.tfevents.1000000000.a\\b.1.sac-her",
        "events.out.tfevents.1000000000.host.1.sac-her\n",
        "events.out.tfevents.1000000000.h\0st.1.sac-her",
        "events.out.tfevents.１000000000.host.1.sac-her",
        "config.json",
        "",
        ".",
        7,
    ],
)
def test_a_name_that_is_none_of_ours_is_refused_before_anything_is_touched(name, tmp_path):
    file = EventFile(tmp_path, 0)
    log(file, 1, 0)
    position = file.position()
    log(file, 2, 0)
    before = own_files(tmp_path)[0].read_bytes()
    with pytest.raises(ValueError, match="is no name of an event file of this program"):
        truncate(tmp_path, position | {name: 0})
    assert own_files(tmp_path)[0].read_bytes() == before


@pytest.mark.parametrize("size", [-1, 1.5, "1", None, True])
def test_a_size_that_can_be_none_is_refused(size, tmp_path):
    with pytest.raises(ValueError, match="is no size of a file"):
        truncate(tmp_path, {"events.out.tfevents.1000000000.host.1.sac-her": size})


@pytest.mark.parametrize("state", [None, [], "events", 3])
def test_what_is_no_position_at_all_is_refused(state, tmp_path):
    with pytest.raises(ValueError, match="instead of event files and their sizes"):
        truncate(tmp_path, state)


@pytest.mark.parametrize("kind", ["symlink", "directory", "dangling"])
def test_a_name_that_leads_elsewhere_is_refused(kind, tmp_path):
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.write_bytes(b"kept")
    path = run / "events.out.tfevents.1000000000.host.1.sac-her"
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(outside if kind == "symlink" else tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is no regular file"):
        truncate(run, {path.name: 0})
    assert outside.read_bytes() == b"kept"


def test_what_is_missing_of_the_files_that_a_checkpoint_names_is_told(tmp_path):
    for process in range(3):
        file = EventFile(tmp_path, 0)
        log(file, process, process)
        position = file.position()
    first, second, third = own_files(tmp_path)
    first.unlink()
    os.truncate(second, 10)
    assert truncate(tmp_path, position) == [
        f"{first} is missing",
        f"{second} has 10 bytes instead of {position[second.name]}",
    ]
    assert EventFile(tmp_path, 0).position() == {second.name: 10, third.name: position[third.name]}


def test_all_values_of_a_step_are_one_record(tmp_path):
    file = EventFile(tmp_path, 5)
    log(file, 6, 0)
    version, start, points = list(LegacyEventFileLoader(str(own_files(tmp_path)[0])).Load())
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (start.session_log.START, 5)
    assert ([value.tag for value in points.summary.value], points.step) == (["often", "rarely"], 6)
    assert points.wall_time == pytest.approx(time.time(), abs=60)


class Disk:
    """Opens files in whose writes the `room` left runs out, as on a full disk: partly written, then refused."""

    def __init__(self, monkeypatch):
        self.room = None
        self.error = errno.ENOSPC
        disk = self

        class File(io.FileIO):
            def write(self, data):
                if disk.room is None:
                    return super().write(data)
                if not disk.room:
                    raise OSError(disk.error, os.strerror(disk.error))
                written = super().write(data[: disk.room])
                disk.room -= written
                return written

        monkeypatch.setattr(events.io, "FileIO", File)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_costs_no_point_and_is_told_once(error, tmp_path, monkeypatch, capsys):
    disk = Disk(monkeypatch)
    disk.error = error
    live = EventAccumulator(str(tmp_path))
    file = EventFile(tmp_path, 0)
    log(file, 1, 0)
    good = file.position()
    (path,) = own_files(tmp_path)
    for step, room in enumerate([30, 0, 5, 17], 2):  # each time the disk takes a part of a record, and no more
        disk.room = room
        log(file, step, 0)
        disk.room = 0
        assert file.position() == good == {path.name: path.stat().st_size}
        assert simple(live) == expected({1: 0})
    told = f"{path}: {os.strerror(error)}; the curves wait in memory, training goes on\n"
    assert capsys.readouterr().out == told
    disk.room = None
    log(file, 6, 0)
    assert capsys.readouterr().out == f"{path}: the curves are written again; nothing is lost\n"
    log(file, 7, 0)
    assert capsys.readouterr().out == ""
    assert simple(live) == simple(EventAccumulator(str(tmp_path))) == expected(dict.fromkeys(range(1, 8), 0))
    disk.room = 0
    log(file, 8, 0)
    assert capsys.readouterr().out == told  # another outage
    disk.room = None
    assert file.position() == {path.name: path.stat().st_size}  # which writes what it can
    assert simple(live) == expected(dict.fromkeys(range(1, 9), 0))


def test_a_tensorboard_that_read_half_a_record_of_a_full_disk_reads_on_when_it_is_whole(run, server, monkeypatch):
    disk = Disk(monkeypatch)
    watchers = Watchers(run, server)
    file = EventFile(run, 0)
    log(file, 1, 0)
    # Where not even cutting the file back succeeds, the half record stays for all to read.
    monkeypatch.setattr(events.io.FileIO, "truncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "EIO")))
    disk.room = 20
    log(file, 2, 0)
    disk.room = 0
    monkeypatch.setattr(events, "PENDING_BYTES", 300)
    for step in range(3, 40):
        log(file, step, 0)
    watchers()
    assert own_files(run)[0].stat().st_size == file.position()[own_files(run)[0].name] + 20
    disk.room = None
    log(file, 40, 0)
    views = watchers()
    steps = [step for step, _ in views["fresh slow"]["often"]]
    assert steps[:2] == [1, 2]
    assert steps[2:] == list(range(steps[2], 41))
    assert 3 < steps[2] < 40
    assert views == dict.fromkeys(views, expected(dict.fromkeys(steps, 0)))


def test_no_more_is_kept_in_memory_than_said_and_what_is_lost_is_counted(tmp_path, monkeypatch, capsys):
    disk = Disk(monkeypatch)
    disk.room = 0
    monkeypatch.setattr(events, "PENDING_BYTES", 2_000)
    file = EventFile(tmp_path, 0)
    for step in range(1, 1001):
        log(file, step, 0)
        assert sum(map(len, file._pending)) <= 2_000
    disk.room = None
    log(file, 1001, 0)
    steps = [step for step, _ in simple(EventAccumulator(str(tmp_path), EVERYTHING))["often"]]
    assert steps == list(range(steps[0], 1002))
    assert capsys.readouterr().out.endswith(f"the curves are written again; {1001 - len(steps)} records are lost\n")


def test_a_file_that_cannot_even_be_made_is_made_when_it_can(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    file = EventFile(run, 0)
    run.rmdir()
    log(file, 1, 0)
    log(file, 2, 0)
    file.sync()
    assert file.position() == {}
    run.mkdir()
    log(file, 3, 0)
    assert simple(EventAccumulator(str(run)))["often"] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert capsys.readouterr().out.splitlines() == [
        f"{run}: No such file or directory; the curves wait in memory, training goes on",
        f"{own_files(run)[0]}: the curves are written again; nothing is lost",
    ]


def test_what_a_closed_file_could_not_write_is_told(tmp_path, monkeypatch, capsys):
    disk = Disk(monkeypatch)
    file = EventFile(tmp_path, 0)
    log(file, 1, 0)
    disk.room = 0
    log(file, 2, 0)
    log(file, 3, 0)
    file.close()
    assert capsys.readouterr().out.endswith("the curves' last 2 records could not be written\n")


def test_a_limit_of_the_kernel_on_the_file_s_size_stops_nothing(tmp_path):
    code = """
import resource, sys
from pathlib import Path
from tensorboard.compat.proto.summary_pb2 import Summary
from training.curves.events import EventFile

file = EventFile(Path(sys.argv[1]), 0)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for step in range(1, 301):
    if step == 100:
        resource.setrlimit(resource.RLIMIT_FSIZE, (sum(file.position().values()) + 1234, unlimited[1]))
    if step == 200:
        assert sum(file.position().values()) < resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    file.add(Summary(value=[Summary.Value(tag="often", simple_value=step)]), step)
file.close()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split(": ", 1)[1] for line in ended.stdout.splitlines()] == [
        "File too large; the curves wait in memory, training goes on",
        "the curves are written again; nothing is lost",
    ]
    assert simple(EventAccumulator(str(tmp_path)))["often"] == [(step, step) for step in range(1, 301)]


def test_another_thread_syncs_the_file_and_its_directory_while_this_one_writes(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    file = EventFile(tmp_path, 0)
    file.sync()
    assert synced == []  # nothing was written yet
    log(file, 0, 0)
    stop = threading.Event()

    def sync():
        while not stop.is_set():
            file.sync()

    thread = threading.Thread(target=sync)
    thread.start()
    for step in range(1, 2000):
        log(file, step, 0)
    stop.set()
    thread.join()
    assert synced[:2] == [own_files(tmp_path)[0].stat().st_ino, tmp_path.stat().st_ino]
    assert len(simple(EventAccumulator(str(tmp_path), EVERYTHING))["often"]) == 2000


def test_a_sync_that_fails_is_told_once_and_raises_nothing(tmp_path, monkeypatch, capsys):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    file = EventFile(tmp_path, 0)
    log(file, 1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        file.sync()
        file.sync()
    sentence = "Input/output error; after a power cut the curves may have a gap; training goes on"
    assert capsys.readouterr().out == f"{own_files(tmp_path)[0]}: {sentence}\n"
    file.sync()
    assert capsys.readouterr().out == ""


def test_a_position_survives_json_and_holds_the_files_of_earlier_processes(tmp_path):
    sizes = {}
    for process in range(3):
        file = resume(tmp_path, json.loads(json.dumps(sizes)), process)
        log(file, process + 1, process)
        sizes = file.position()
        log(file, process + 2, 50)
    assert list(sizes) == [path.name for path in own_files(tmp_path)]
    assert [sizes[path.name] <= path.stat().st_size for path in own_files(tmp_path)] == [True] * 3
    assert truncate(tmp_path, sizes) == []
    assert {path.name: path.stat().st_size for path in own_files(tmp_path)} == sizes
