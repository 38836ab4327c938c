"""Brings runs to their end: train.py as often as it takes, then evaluate.py, each a process of its own.

What is imported here is little: on a cluster each job does, beside the run itself.
"""

import fcntl
import json
import os
import shlex
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

import checkpoints
from errors import UserError

ROOT = Path(__file__).parents[3]
RECORDS = ".sweep"
"""Directory beside the runs that holds what is known of them: tries, the jobs of a cluster, the study of a search."""
TRIES = 3
"""Tries in a row that end with no checkpoint more, after which a run is given up."""
PAUSE = 10.0
"""Seconds before the second try that got no further, twice as many before the third."""
LEFT = tuple(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))
"""Statuses of a run that somebody's signal had save and leave: to be continued, but not against their will."""


@dataclass(frozen=True)
class Job:
    """Names one run and what brings it to its end.

    run: its directory. steps: all that it is to take. train: options of train.py. evaluations: for each file that is to
    hold a result of evaluate.py, the options. threads: that each process may compute with; other numbers of them add up
    in another order, so it stays the same wherever the run goes on. cwd: where the commands are typed.
    """

    run: Path
    steps: int
    train: tuple[str, ...]
    evaluations: tuple[tuple[Path, tuple[str, ...]], ...] = ()
    threads: int = 1
    cwd: Path = ROOT

    @property
    def log(self) -> Path:
        """Names the file that takes what the programs say."""
        return Path(f"{self.run}.log")

    def command(self) -> list[str]:
        return [sys.executable, str(ROOT / "train.py"), *self.train, "--run", str(self.run)]


@dataclass
class Record:
    """Holds what is known of a run: how many tries it took, the last one's exit status and last line, and minutes.

    began: when the try under way did, in seconds of the clock, or None. train: the options that it was started with.
    """

    tries: int = 0
    status: int | None = None
    sentence: str = ""
    minutes: float = 0.0
    began: float | None = None
    train: tuple[str, ...] = ()


class Stop:
    """Counts the signals that ask a sweep to save and leave."""

    def __init__(self):
        self.count = 0
        self.signal: int | None = None

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        self.count += 1
        self.signal = number

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hears SIGINT, SIGTERM and SIGHUP instead of what does now. A signal that is ignored stays so."""
        heeded = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        heeded = [number for number in heeded if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self.ask) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_all(jobs: Sequence[Job], parallel: int, stop: Stop, gpus: Sequence[int] = ()) -> dict[Job, int]:
    """Brings `jobs` to their end, `parallel` at a time, and tells of each that ends. Returns their exit statuses.

    gpus: that they take turns on, none: whatever is there. Jobs that have not begun when a signal comes have no status.
    """
    free: SimpleQueue = SimpleQueue()
    for _, gpu in zip(range(parallel), cycle(gpus or [None])):
        free.put(gpu)

    def do(job: Job) -> int | None:
        if stop.count:
            return None
        gpu = free.get()
        try:
            return bring_to_end(job, stop, gpu)
        finally:
            free.put(gpu)

    statuses = {}
    with ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(do, job): job for job in jobs}
        for future in as_completed(futures):
            job, status = futures[future], future.result()
            if status is not None:
                statuses[job] = status
                say(f"{job.run}: {told(status)}")
                if status:
                    say(f"    {read_record(job.run).sentence} ({job.log})")
    return statuses


def say(text: str) -> None:
    """Prints a line at once: a sweep's output often goes to a file that somebody follows."""
    print(text, flush=True)


def told(status: int) -> str:
    """Says how a run has ended, by its exit status."""
    if status in LEFT:
        return "saved and left; the same command goes on"
    ways = {0: "complete", 2: "failed for good"}
    return ways.get(status, f"failed with status {status}; the same command tries again")


def bring_to_end(job: Job, stop: Stop, gpu: int | None = None, watch: Callable[[], bool] = lambda: False) -> int:
    """Runs or continues `job`, and tries again what another try may cure. Returns its exit status.

    watch: is asked again and again whether the training has gone on for long enough, and is then to save and leave.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(job.threads)}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = str(gpu)  # ROCm's runtime reads it, too
    job.run.parent.mkdir(parents=True, exist_ok=True)
    fruitless = 0
    while True:
        wait_until_free(job, stop)
        if stop.count:
            return 128 + stop.signal
        before = steps_saved(job.run)
        status = _try(job, environment, stop, watch)
        if status in (0, 2, *LEFT) or stop.count:
            return status
        fruitless = 0 if steps_saved(job.run) > before else fruitless + 1
        if fruitless == TRIES:
            return status
        _sleep(PAUSE * max(fruitless - 1, 0), stop)


def wait_until_free(job: Job, stop: Stop) -> None:
    """Returns once nobody trains in the run's directory, as what an earlier sweep that was killed has left does."""
    while is_held(job.run / ".lock") and not stop.count:
        _sleep(1.0, stop)


def _sleep(seconds: float, stop: Stop) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop.count:
        time.sleep(0.1)


def _try(job: Job, environment: dict[str, str], stop: Stop, watch: Callable[[], bool]) -> int:
    """Makes one try at `job`, and writes down how it ended. Returns the first exit status above 0."""
    record = read_record(job.run)
    record.tries, record.began, record.train = record.tries + 1, time.time(), job.train
    record.status = None
    write_record(job.run, record)
    status = _program(job, job.command(), environment, stop, watch)
    for path, options in job.evaluations:
        if status or (path.exists() and path.stat().st_mtime > (job.run / "checkpoints").stat().st_mtime):
            continue
        evaluate = [sys.executable, str(ROOT / "evaluate.py"), str(job.run), "--device", "cpu", *options]
        status = _program(job, [*evaluate, "--json", str(path)], environment, stop, lambda: False)
    record.minutes += (time.time() - record.began) / 60
    record.status, record.began, record.sentence = status, None, last_line(job.log)
    write_record(job.run, record)
    return status


def _program(job: Job, command: list[str], environment: dict[str, str], stop: Stop, watch: Callable[[], bool]) -> int:
    """Runs one program, and hands each signal on to it. Returns its exit status as a shell tells it."""
    with open(job.log, "a") as log:
        print(f"$ OMP_NUM_THREADS={job.threads} {shlex.join(command)}", file=log, flush=True)
        process = subprocess.Popen(
            command, cwd=job.cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        handed_on, enough = 0, False
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    status = process.wait(0.2)
                    return 128 - status if status < 0 else status
                if not enough and watch():
                    enough = True
                    process.send_signal(signal.SIGTERM)
                if handed_on < stop.count:
                    handed_on = stop.count
                    process.send_signal(signal.SIGTERM)
        finally:
            process.kill()
            process.wait()


def steps_saved(run: Path) -> int:
    """Returns the step of the run's newest checkpoint, 0 where there is none."""
    with suppress(OSError, UserError):
        if saved := checkpoints.list_checkpoints(run / "checkpoints"):
            return checkpoints.step_of(saved[-1]) or 0
    return 0


def last_line(log: Path) -> str:
    """Returns the last sentence that a run's programs said, but how to measure it."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = (line.strip() for line in reversed(lines) if not line.startswith(("measure it: ", "$ ")))
    return next((line for line in said if line), "")


def record_file(run: Path) -> Path:
    return run.parent / RECORDS / f"{run.name}.json"


def read_record(run: Path) -> Record:
    """Returns what is known of a run, and that it has never begun where nothing is."""
    try:
        content = json.loads(record_file(run).read_bytes())
        return Record(**content | {"train": tuple(content["train"])})
    except (OSError, ValueError, TypeError, KeyError):
        return Record()


def write_record(run: Path, record: Record) -> None:
    write_whole(record_file(run), asdict(record))


def write_whole(path: Path, content: object) -> None:
    """Writes JSON, whole or not at all: others read it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    beside.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(beside, path)


FLOCK = "hhqqi" if sys.platform == "linux" else "qqihh"
"""Layout of struct flock (fcntl(2)): l_type, l_whence, l_start, l_len, l_pid on Linux; l_type next to last on a Mac."""


def is_held(lock: Path) -> bool:
    """Tells whether another process holds the file `lock`, without taking it."""
    asked = [fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0] if sys.platform == "linux" else [0, 0, 0, fcntl.F_WRLCK, 0]
    try:
        with open(lock, "rb+") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(FLOCK, *asked))
    except OSError:  # there is none, or this file system knows no locks
        return False
    return struct.unpack(FLOCK, answer[: struct.calcsize(FLOCK)])[asked.index(fcntl.F_WRLCK)] != fcntl.F_UNLCK


@contextmanager
def exclusively(directory: Path) -> Iterator[None]:
    """Keeps every other sweep out of `directory`. Raises UserError where there is one."""
    (directory / RECORDS).mkdir(parents=True, exist_ok=True)
    with open(directory / RECORDS / "lock", "a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            sentence = f"{directory} is being swept already by another process; wait for it, or stop it"
            raise UserError(sentence, status=1) from error
        except OSError:  # no locks there: train.py tells of it, run by run
            pass
        yield
