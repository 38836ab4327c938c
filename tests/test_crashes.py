"""A run that is killed, at whatever instant, and started again is the run that was left alone.

Runs are real processes here, and so are their ends. So that none of hundreds has to import PyTorch anew, they are
forked by a process that has: this file, run as a script. It makes a run leave a few numbers behind that outlive it, and
can end it in the middle of any write to the disk. In what a run computes it changes nothing.
"""

import builtins
import gc
import io
import json
import mmap
import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

if not hasattr(os, "fork"):
    pytest.skip("no fork here", allow_module_level=True)

import fcntl

import checkpoints
import checkpoints.segments
import checkpoints.writer
import train

ROOT = Path(train.__file__).parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from verify_resume import compare  # noqa: E402

NUM_ENVS = 4
EVERY = 200
"""Steps between two checkpoints; episodes are in progress at each."""
# The warm-up goes on after the first two checkpoints, and random actions with it; the curves' means are under way at
# every one; the buffer forgets its oldest rows.
OPTIONS = ["--device", "cpu", "--no-compile", "--num-envs", str(NUM_ENVS),
           "--task.max-episode-steps", "20", "--warmup", "350",
           "--sac.hidden", "32", "32", "--batch-size", "32", "--her.capacity", "1000",
           "--checkpoint.every", str(EVERY), "--eval.every", "300", "--eval.episodes", "3",
           "--log.every", "130"]  # fmt: skip
SHORT = [*OPTIONS, "--no-video", "--steps", "1000"]
REACH = [*OPTIONS, "--no-video", "--steps", "1600"]
PICK_PLACE = [*REACH, "--env", "pick-place"]
SEGMENT_ROWS = 256
"""Instead of thousands: so small a run has several segments as well."""
PATIENCE = 120
"""Seconds after which a process counts as hung."""


# --- What every run leaves behind, whatever ends it -------------------------------------------------------------------


class Marks:
    """Numbers in a file that a process and the test both have in memory: what the process wrote last outlives it.

    first, reached: the first and the last step that it took. begun, saved: steps of the save that began last and of the
    one that ended last. evaluations: begun so far. deadly: the step at which it dies, where not 0, as the test says.
    """

    NAMES = ("first", "reached", "begun", "saved", "evaluations", "deadly")

    def __init__(self, path: Path):
        with open(path, "r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 8 * len(self.NAMES))).cast("Q")

    @classmethod
    def fresh(cls, path: Path) -> "Marks":
        path.write_bytes(bytes(8 * len(cls.NAMES)))
        return cls(path)

    def __getitem__(self, name: str) -> int:
        return self._numbers[self.NAMES.index(name)]

    def __setitem__(self, name: str, number: int) -> None:
        self._numbers[self.NAMES.index(name)] = number


class Point(NamedTuple):
    """An instant of a run: the `occurrence`th operation of a kind on its files, and where in that: before or half way.

    A kind is the thread, the operation and the file, as in "writer fsync checkpoints/step/agent.safetensors.tmp".
    """

    kind: str
    occurrence: int
    where: str


class Disk:
    """Follows what this process does to the files of one run; kills it at `aim`.

    trace: the kinds of all operations so far, in order. seconds: what each fsync takes longer, as on a slow disk.
    """

    def __init__(self, run: Path, aim: Point | None, seconds: float):
        self.trace: list[str] = []
        self._run = run
        self._aim = aim
        self._seconds = seconds
        self._counts: Counter[str] = Counter()
        self._paths: dict[int, Path] = {}

    def follow(self) -> None:
        """Puts itself between this process and everything that writes."""
        self._file = _followed_file(self)
        self._plain_open, builtins.open, io.FileIO = builtins.open, self._open, self._file
        for name in ("fsync", "replace", "unlink", "rmdir", "mkdir"):
            setattr(os, name, self._followed(name, getattr(os, name)))
        fcntl.lockf = self._followed("lockf", fcntl.lockf)
        self._plain_os_open, os.open = os.open, self._os_open

    def do(self, operation: str, path: Path | None, act: Callable[[], Any], half: Callable[[], Any] | None = None):
        """Lets `act` happen, or ends the process as far into it as the aim says."""
        if path is None or not path.is_relative_to(self._run):
            return act()
        thread = "main" if threading.current_thread() is threading.main_thread() else "writer"
        kind = f"{thread} {operation} {self._name(path)}"
        self._counts[kind] += 1
        self.trace.append(kind)
        if self._aim is not None and (kind, self._counts[kind]) == self._aim[:2]:
            if self._aim.where == "half way":
                half()
            os.kill(os.getpid(), signal.SIGKILL)
        if operation == "fsync":
            time.sleep(self._seconds)
        return act()

    def path_of(self, file: Any, directory: int | None = None) -> Path | None:
        if hasattr(file, "fileno"):
            file = file.fileno()
        if isinstance(file, int):
            return self._paths.get(file)
        return (Path.cwd() if directory is None else self._paths[directory]) / file

    def remember(self, descriptor: int, path: Path | None) -> None:
        self._paths[descriptor] = path

    def _name(self, path: Path) -> str:
        """The path in the run's directory without what tells one of a kind from another."""
        name = re.sub(r"step_\d+", "step", str(path.relative_to(self._run)))
        name = re.sub(r"-\d{12}-\d{12}-[0-9a-f]{16}", "", name)
        return re.sub(r"events\.out\.tfevents\.[^/]*", "events", name)

    def _followed(self, name: str, function: Callable) -> Callable:
        def operation(file, *args, dir_fd=None, **options):
            options |= {} if dir_fd is None else {"dir_fd": dir_fd}
            return self.do(name, self.path_of(file, dir_fd), lambda: function(file, *args, **options))

        return operation

    def _os_open(self, path, flags, mode=0o777, *, dir_fd=None):
        descriptor = self._plain_os_open(path, flags, mode, dir_fd=dir_fd)
        self.remember(descriptor, self.path_of(path, dir_fd))
        return descriptor

    def _open(self, file, mode="r", buffering=-1, *more, **options):
        path = self.path_of(file)
        if not set(mode) & set("wax+") or path is None or not path.is_relative_to(self._run):
            return self._plain_open(file, mode, buffering, *more, **options)
        assert buffering == 0, f"{path}: what is written in pieces cannot be followed"
        return self._file(file, mode.replace("b", ""))


def _followed_file(disk: Disk) -> type[io.FileIO]:
    class FollowedFile(io.FileIO):
        def __init__(self, file, mode="r", *more, **options):
            path = disk.path_of(file)
            create = super().__init__
            if set(mode) & set("wax"):
                disk.do("create", path, lambda: create(file, mode, *more, **options))
            else:
                create(file, mode, *more, **options)
            disk.remember(self.fileno(), path)

        def write(self, data):
            write, data = super().write, memoryview(data).cast("B")
            return disk.do("write", disk.path_of(self), lambda: write(data), lambda: write(data[: len(data) // 2]))

    return FollowedFile


# --- The process that forks them --------------------------------------------------------------------------------------


def serve() -> None:
    """Answers each line of JSON with another, after a first one: "poll" gets the exit status of a process, as from
    Popen.poll; everything else forks one and gets its id."""
    import torch._dynamo  # noqa: F401  which the first optimiser of a process imports otherwise, for a second

    checkpoints.segments.SEGMENT_ROWS = SEGMENT_ROWS
    gc.collect()
    gc.freeze()  # what is collected in a child would be copied to it first
    print("null", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            # A thread that is not forked with the others would leave its locks locked.
            assert threading.active_count() == 1
            answer = os.fork()
            if not answer:
                # Taking down a thousand modules takes longer than training here does.
                os._exit(_run(**request))
        print(json.dumps(answer), flush=True)


def _run(options: list[str], run: str, marks: str, aim: list | None, fsync_seconds: float, trace: str | None) -> int:
    """train.py with `options`, as `python train.py` runs it; returns its exit status."""
    path = Path(run)
    log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    _leave_marks(Marks(Path(marks)))
    disk = Disk(path, None if aim is None else Point(*aim), fsync_seconds)
    disk.follow()
    sys.argv = ["train.py", *options, "--run", run]
    try:
        train.main()
        status = 0
    except SystemExit as leaving:
        status = leaving.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 70
    if trace is not None:
        Path(trace).write_text(json.dumps(disk.trace))
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _leave_marks(marks: Marks) -> None:
    collect, evaluate = train.collect_and_learn, train.Evaluator.__call__
    take_snapshot, write = checkpoints.writer.take_snapshot, checkpoints.writer.write

    def marked_collect(state, config):
        marks["first"] = marks["first"] or state.env_steps + NUM_ENVS
        collect(state, config)
        marks["reached"] = state.env_steps
        if 0 < marks["deadly"] <= state.env_steps:
            os.kill(os.getpid(), signal.SIGKILL)

    def marked_evaluate(*args):
        marks["evaluations"] += 1
        return evaluate(*args)

    def marked_take_snapshot(root, step, *args):
        marks["begun"] = step
        return take_snapshot(root, step, *args)

    def marked_write(root, taken, **more):
        manifest = write(root, taken, **more)
        marks["saved"] = taken.step
        return manifest

    train.collect_and_learn, train.Evaluator.__call__ = marked_collect, marked_evaluate
    checkpoints.writer.take_snapshot, checkpoints.writer.write = marked_take_snapshot, marked_write


# --- The test's side --------------------------------------------------------------------------------------------------


class Process:
    """One process of a run."""

    def __init__(self, ask: Callable[[dict], Any], pid: int, run: Path, marks: Marks):
        self.pid = pid
        self.run = run
        self.marks = marks
        self._ask = ask
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._ask({"poll": self.pid})
        return self._status

    def wait(self, until: Callable[[], bool] = lambda: False) -> int | None:
        """The exit status; None where `until` came true before the end."""
        deadline = time.monotonic() + PATIENCE
        while self.poll() is None and not until():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                pytest.fail(f"the run hangs:\n{self.log()}")
            time.sleep(0.005)
        return self._status

    def send(self, number: int) -> None:
        # A process that has ended keeps its number until it has been polled.
        if self.poll() is None:
            os.kill(self.pid, number)

    def log(self) -> str:
        """What all processes of the run have said."""
        return self.run.with_suffix(".log").read_text()


class Forks:
    """Starts processes of runs."""

    def __init__(self):
        command = [sys.executable, "-P", __file__]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._server = subprocess.Popen(command, env=environment, **pipes)
        self._answer()
        self._started = 0

    def start(
        self,
        options: Sequence[str],
        run: Path,
        aim: Point | None = None,
        deadly: int = 0,
        fsync_seconds: float = 0.0,
        trace: Path | None = None,
    ) -> Process:
        self._started += 1
        file = run.with_suffix(f".marks{self._started}")
        marks = Marks.fresh(file)
        marks["deadly"] = deadly
        request = {"options": options, "run": str(run), "marks": str(file), "aim": aim, "fsync_seconds": fsync_seconds}
        pid = self._ask(request | {"trace": None if trace is None else str(trace)})
        return Process(self._ask, pid, run, marks)

    def _ask(self, request: dict) -> Any:
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert select.select([self._server.stdout], [], [], PATIENCE)[0], "the server of processes hangs"
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait()


@dataclass(frozen=True)
class Whole:
    """A run that was left alone, how long it took, and what it did to its files."""

    options: list[str]
    run: Path
    seconds: float
    trace: list[str]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def left_alone(forks, tmp_path_factory) -> Callable[[list[str]], Whole]:
    """The run of these options that nobody disturbs; each is made once."""
    made: dict[tuple[str, ...], Whole] = {}

    def make(options: list[str]) -> Whole:
        if tuple(options) not in made:
            directory = tmp_path_factory.mktemp("whole")
            started = time.monotonic()
            process = forks.start(options, directory / "run", trace=directory / "trace.json")
            assert process.wait() == 0, process.log()
            seconds = time.monotonic() - started
            trace = json.loads((directory / "trace.json").read_text())
            made[tuple(options)] = Whole(options, directory / "run", seconds, trace)
        return made[tuple(options)]

    return make


class Victim:
    """A run directory in which one process after another is killed.

    losses: steps that each of them had taken and the next has to take again. newest: step of the newest checkpoint that
    the last one has left.
    """

    def __init__(self, forks: Forks, whole: Whole, run: Path):
        self.forks = forks
        self.whole = whole
        self.run = run
        self.losses: list[int] = []
        self.newest = 0

    def start(self, **options: Any) -> Process:
        return self.forks.start(self.whole.options, self.run, **options)

    def killed(self, process: Process) -> bool:
        """Waits for the end of a process that has been killed or has an aim, and checks what it leaves behind. False
        where it had come to its own end before."""
        status = process.wait()
        assert status in (0, -signal.SIGKILL), process.log()
        if status == 0:
            return False
        root, marks = self.run / "checkpoints", process.marks
        if marks["first"]:
            assert marks["first"] - NUM_ENVS == self.newest, "it did not go on from the newest checkpoint"
        newest, problems = checkpoints.newest_valid(root)
        assert problems == []
        for path in checkpoints.list_checkpoints(root):
            checkpoints.verify(path)
        step = 0 if newest is None else checkpoints.step_of(newest)
        assert step >= max(marks["saved"], self.newest), "a checkpoint is lost that was there"
        # A save begins at the first step past its interval, and the next one waits for it. So what is lost is what
        # came after the last save that had ended: one interval, and where one was in flight, the one that it was for.
        in_flight = marks["begun"] > marks["saved"]
        lost = max(0, marks["reached"] - step)
        assert lost <= (2 if in_flight else 1) * EVERY + NUM_ENVS
        self.losses.append(lost)
        self.newest = step
        return True

    def finish(self) -> None:
        """Lets the run come to its end, which must be the undisturbed one's."""
        process = self.start()
        assert process.wait() == 0, process.log()
        assert_same(self.whole.run, self.run)
        if self.losses:  # one that was asked to leave has saved at other steps, too
            kept, kept_here = (checkpoints.list_checkpoints(run / "checkpoints") for run in (self.whole.run, self.run))
            assert {path.name for path in kept} <= {path.name for path in kept_here}


def newest(run: Path) -> checkpoints.Manifest:
    path, problems = checkpoints.newest_valid(run / "checkpoints")
    assert problems == []
    return checkpoints.read_manifest(path)


def assert_same(whole: Path, other: Path) -> None:
    """Every bit of the last checkpoint, part by part and file by file, and every point of the curves."""
    assert [name for name, left, right, _ in compare(whole, other) if left != right] == []
    last, last_there = newest(whole), newest(other)
    assert (last.step, last.files, last.logs) == (last_there.step, last_there.files, last_there.logs)
    points = shown_points(other)
    assert max(Counter(points).values()) == 1, "TensorBoard shows two points of one step"
    begun_anew = {point for point in points if point[0] == "started/text_summary" and point[1] > 0}  # it is told
    assert [point for point in points if point not in begun_anew] == shown_points(whole)


def shown_points(run: Path) -> list[tuple[str, int]]:
    """Tag and step of all that TensorBoard shows but the films of evaluations, which are made when there is time."""
    every = dict.fromkeys(("scalars", "histograms", "images", "text", "hparams", "custom_scalars"), 0)
    events = EventAccumulator(str(run), tensor_size_guidance=every).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag != "eval/episode"]
    return sorted((tag, event.step) for tag in tags for event in events.Tensors(tag))


@contextmanager
def told(**what: Any) -> Iterator[random.Random]:
    """Prints what is tried, which pytest shows where it fails, and that it went well. Gives a generator that is another
    one in each run of the tests: in the long term, all instants are tried."""
    seed = random.SystemRandom().randrange(2**32)
    print(*(f"{name} {value}" for name, value in what.items()), f"seed {seed}", end=" … ", flush=True)
    yield random.Random(seed)
    print("good")


def runs_to_kill(option: str) -> pytest.MarkDecorator:
    """Options of runs, and how many of their processes are killed: five, or what `option` of the slow suite says."""
    cases = [pytest.param(SHORT, lambda _: 5, id="five")]
    for name, options, share in (("reach", REACH, 0.8), ("pick-place", PICK_PLACE, 0.2)):
        kills = lambda config, share=share: max(1, round(share * config.getoption(option)))  # noqa: E731
        cases.append(pytest.param(options, kills, id=name, marks=pytest.mark.slow))
    return pytest.mark.parametrize(("options", "kills"), cases)


# --- Killed -----------------------------------------------------------------------------------------------------------


@runs_to_kill("--kills")
def test_runs_killed_at_random_instants_end_with_the_same_bits(
    options, kills, forks, left_alone, tmp_path, pytestconfig
):
    """Each process at a uniformly random time since its start; one run after another until there were enough."""
    kills, whole, losses = kills(pytestconfig), left_alone(options), []
    with told(kills=kills) as rng:
        for number in range(2 * kills):
            victim = Victim(forks, whole, tmp_path / f"run{number}")
            # In every other run early in each process: it is killed over and over, in its restoring as well.
            span = whole.seconds * (0.3 if number % 2 == 0 else 1.0)
            while len(losses) + len(victim.losses) < kills and len(victim.losses) < 10:
                process = victim.start()
                time.sleep(seconds := rng.uniform(0, span))
                process.send(signal.SIGKILL)
                print(f"run {number}: {seconds:.3f} s", end=" ")
                if not victim.killed(process):
                    break
            victim.finish()
            losses += victim.losses
            if len(losses) == kills:
                break
    assert len(losses) == kills
    print(f"{kills} kills; steps lost: {max(losses)} at most, {sum(losses) / kills:.0f} on average")


def points(trace: list[str]) -> list[Point]:
    """Before each operation of a process, and half way through each write."""
    counts: Counter[str] = Counter()
    found = []
    for kind in trace:
        counts[kind] += 1
        found.append(Point(kind, counts[kind], "before"))
        if " write " in kind:
            found.append(Point(kind, counts[kind], "half way"))
    return found


def drawn(points: list[Point], count: int, rng: random.Random, covered: Sequence[Point] = ()) -> list[Point]:
    """Without replacement; one of each kind first, as far as they go, and of those not yet `covered` before others."""
    kinds = {(point.kind, point.where) for point in covered}
    one_of_each = {(point.kind, point.where): point for point in rng.sample(points, len(points))}
    firsts = sorted(one_of_each.values(), key=lambda point: (point.kind, point.where) in kinds)
    others = [point for point in rng.sample(points, len(points)) if point not in set(firsts)]
    return (firsts + others)[:count]


MANIFEST = "writer replace checkpoints/step/manifest.json.tmp"
# The kill after which a resuming process is traced.
BEFORE_RESUMING = Point(MANIFEST, 3, "before")


def resuming_trace(forks: Forks, whole: Whole, directory: Path) -> list[str]:
    """What a process does to the files that goes on after a kill in the middle of a save: to its third save's end."""
    victim = Victim(forks, whole, directory / "resumed")
    assert victim.killed(victim.start(aim=BEFORE_RESUMING))
    process = victim.start(trace=directory / "trace.json")
    assert process.wait() == 0, process.log()
    trace = json.loads((directory / "trace.json").read_text())
    saved = [i for i, kind in enumerate(trace) if kind == MANIFEST]
    return trace[: saved[2] + 1]


@runs_to_kill("--save-kills")
def test_runs_killed_into_saving_and_resuming_end_with_the_same_bits(
    options, kills, forks, left_alone, tmp_path, pytestconfig
):
    """At points of a first process, and of processes that go on."""
    kills, whole, losses = kills(pytestconfig), left_alone(options), []
    with told(kills=kills) as rng:
        # A process that goes on has less to do before it dies, and can do the same to the files but for the beginning.
        resuming = drawn(points(resuming_trace(forks, whole, tmp_path)), kills * 2 // 3, rng)
        fresh = drawn(points(whole.trace), kills - len(resuming), rng, covered=resuming)
        per_run = -(-len(resuming) // len(fresh))
        for number in range(2 * kills):
            victim = Victim(forks, whole, tmp_path / f"run{number}")
            aim = fresh.pop(0) if fresh else None
            print(f"run {number}: {aim}", end=" ")
            # What a resuming process tidies up is there after the kill of the trace, and not after any other.
            process = victim.start(aim=aim or BEFORE_RESUMING)
            assert victim.killed(process), f"{aim} never came"
            losses += victim.losses[:1] if aim else []
            for _ in range(min(per_run, len(resuming))):
                print(resuming[-1], end=" ")
                if not victim.killed(victim.start(aim=resuming[-1])):
                    break  # too little of the run was left for it: it is the next run's
                resuming.pop()
                losses.append(victim.losses[-1])
            victim.finish()
            if not fresh and not resuming:
                break
    assert len(losses) == kills, f"these points never come: {fresh + resuming}"
    print(f"{kills} kills; steps lost: {max(losses)} at most, {sum(losses) / kills:.0f} on average")


STARTING = [
    Point("main lockf .lock", 1, "before"),
    Point("main create config.json.tmp", 1, "before"),
    Point("main write config.json.tmp", 1, "half way"),
    Point("main replace config.json.tmp", 1, "before"),
    Point("main create events", 1, "before"),
    Point("main write events", 1, "half way"),
    Point("writer mkdir checkpoints", 1, "before"),
    Point("writer mkdir checkpoints/step", 1, "before"),
    Point("writer mkdir checkpoints/segments", 1, "before"),
    Point("writer write checkpoints/segments/buffer-rows.safetensors.tmp", 1, "half way"),
    Point(MANIFEST, 1, "before"),
    Point("writer unlink checkpoints/step/agent.safetensors", 1, "before"),  # the unfinished one is begun again
    Point(MANIFEST, 1, "before"),
]


def test_a_run_killed_over_and_over_before_its_first_checkpoint_is_started_again(forks, left_alone, tmp_path):
    victim = Victim(forks, left_alone(SHORT), tmp_path / "run")
    for aim in STARTING:
        process = victim.start(aim=aim)
        assert victim.killed(process), f"{aim} never came"
        assert victim.newest == 0
    assert "stopped before its first checkpoint; starting it again" in process.log()
    victim.finish()


@pytest.mark.slow
def test_one_run_killed_thirty_times_over_ends_with_the_same_bits(forks, left_alone, tmp_path, pytestconfig):
    kills = pytestconfig.getoption("--kills-of-one-run")
    most = 5 * EVERY // 4  # steps that a process gets: whatever comes first, its aim, its time or these
    whole = left_alone([*OPTIONS, "--no-video", "--steps", str((kills + 1) * most)])
    early = [point for point in points(whole.trace) if point.occurrence <= 2]
    victim = Victim(forks, whole, tmp_path / "run")
    with told(kills=kills) as rng:
        for number in range(kills):
            aim = rng.choice(early) if number % 2 else None
            process = victim.start(aim=aim, deadly=victim.newest + most)
            if aim is None:
                time.sleep(rng.uniform(0, whole.seconds / (kills + 1)))
                process.send(signal.SIGKILL)
            assert victim.killed(process)
        victim.finish()
    print(f"{kills} kills; steps lost: {max(victim.losses)} at most")


# --- Asked to leave ---------------------------------------------------------------------------------------------------

PROMISED = 5.0
NOISE = 4
"""How many times as long the machine may take while others use it."""
INSTANTS = {
    "before the first step": lambda run, marks: (run / "config.json.tmp").exists(),
    "in training": lambda run, marks: marks["reached"] >= 500,
    "in an evaluation": lambda run, marks: marks["evaluations"] == 1,
    "in a save": lambda run, marks: 0 < marks["saved"] < marks["begun"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("instant", "number"),
    [
        ("before the first step", signal.SIGTERM),
        *(("in training", number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)),
        ("in an evaluation", signal.SIGTERM),
        ("in a save", signal.SIGTERM),
    ],
)
def test_a_signal_saves_this_very_step_leaves_in_time_and_changes_nothing(instant, number, forks, left_alone, tmp_path):
    victim = Victim(forks, left_alone([*SHORT, "--eval.episodes", "40"]), tmp_path / "run")
    process = victim.start(fsync_seconds=0.1 if instant in ("before the first step", "in a save") else 0.0)
    assert process.wait(until=lambda: INSTANTS[instant](victim.run, process.marks)) is None
    started = time.monotonic()
    for _ in range(3):  # as a terminal that closes may
        process.send(number)
        time.sleep(0.005)
    assert process.wait() == 128 + number, process.log()
    print(f"left after {(seconds := time.monotonic() - started):.2f} s")
    assert seconds < PROMISED * NOISE
    assert newest(victim.run).step == process.marks["reached"] == process.marks["saved"]
    assert f"stopped and saved at step {process.marks['reached']:,}" in process.log()
    assert (process.marks["reached"] == 0) == (instant == "before the first step")
    victim.finish()


@pytest.mark.slow
def test_a_video_outlives_a_signal_and_is_made_by_the_same_line_after_a_kill(forks, left_alone, tmp_path):
    whole = left_alone(SHORT)
    victim = Victim(forks, replace(whole, options=[*SHORT, "--video"]), tmp_path / "run")
    videos = victim.run / "videos"
    for number, begun in ((signal.SIGKILL, "done: "), (signal.SIGTERM, " is complete: ")):
        process = victim.start()
        if process.wait(until=lambda log=process.log, begun=begun: videos.exists() and begun in log()) is not None:
            pytest.skip(process.log().splitlines()[-1])
        process.send(number)
        assert process.wait() == (0 if number == signal.SIGTERM else -number), process.log()
        assert (videos / "step_000001000.mp4").exists() == (number == signal.SIGTERM)
    victim.finish()
    assert [path.name for path in videos.iterdir()] == ["step_000001000.mp4"]


# --- At once ----------------------------------------------------------------------------------------------------------


def test_of_ten_processes_started_at_once_one_trains_and_nine_are_refused(forks, left_alone, tmp_path):
    """With status 1: a restart after its end is welcome."""
    run = tmp_path / "run"
    processes = [forks.start(SHORT, run) for _ in range(10)]
    deadline = time.monotonic() + PATIENCE
    while not (training := [process for process in processes if process.marks["reached"]]):
        assert time.monotonic() < deadline, processes[0].log()
        time.sleep(0.005)
    (winner,) = training
    # So small a run might be complete before the last of them has looked.
    os.kill(winner.pid, signal.SIGSTOP)
    try:
        assert [process.wait() for process in processes if process is not winner] == [1] * 9
    finally:
        os.kill(winner.pid, signal.SIGCONT)
    assert winner.wait() == 0
    sentence = f"train.py: {run} is being trained already by another process; wait for it or give another --run"
    assert [line for line in winner.log().splitlines() if line.startswith("train.py: ")] == [sentence] * 9
    assert_same(left_alone(SHORT).run, run)


if __name__ == "__main__":
    serve()
