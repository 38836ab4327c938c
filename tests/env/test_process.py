"""Environments in processes of their own: the bits of those in this one, their errors, an end that leaves nothing."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from env import EnvError, TaskConfig, VectorEnvWorkers, make_envs, make_vector, probe

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "cases"
ON_LINUX = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")


def arguments(name="pick-place", count=3, **task):
    config, reward = TaskConfig(**task), None if ":" in name else "sparse-reach"
    return name, count, config, reward, probe(make_envs(name, 1, config, reward)[0], name)


@pytest.fixture(autouse=True)
def _in_time():
    """Fails a test that waits for ever, as most of these would."""

    def fail(*_):
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def start():
    """VectorEnvWorkers, closed at the end."""
    started = []

    def make(*given, workers=1):
        started.append(VectorEnvWorkers(*given, workers=workers))
        return started[-1]

    yield make
    for envs in started:
        envs.close()


@pytest.fixture
def troubled(monkeypatch, tmp_path, start):
    """troubled(name, reset=True, workers=1): two environments of tests/env/cases/troubled.py in so many processes."""
    monkeypatch.chdir(tmp_path)
    for place in (CASES, CASES.parents[1]):
        monkeypatch.syspath_prepend(str(place))
    spec = probe(make_envs("troubled:PointEnv", 1, TaskConfig(), None)[0], "troubled:PointEnv")

    def make(name, reset=True, workers=1):
        envs = start(f"troubled:{name}", 2, TaskConfig(), None, spec, workers=workers)
        if reset:
            envs.reset([0, 1])
        return envs

    return make


def point_actions(value=0.0):
    return np.full((2, 2), value, np.float32)


def actions(steps, count=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, count, 6)).astype(np.float32)


def assert_same_steps(left, right, sequence):
    for action in sequence:
        left.begin(action)
        np.testing.assert_equal(left.finish()._asdict(), right.step(action)._asdict())
        np.testing.assert_equal(left.obs, right.obs)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_the_steps_are_those_of_environments_in_this_process(start, workers):
    """Also where the scripted starts become fewer, by the steps of all environments."""
    given = arguments(max_episode_steps=15, scripted_starts=0.9, scripted_until=90)
    apart, here = start(*given, workers=workers), make_vector(*given)
    for envs in (apart, here):
        envs.reset([1, 2, 3])
    assert len(apart) == len(here) == 3
    np.testing.assert_equal(apart.obs, here.obs)
    assert_same_steps(apart, here, actions(40))
    assert len(members_of(apart)) == min(workers, 3)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("quiet_log")
def test_a_diverged_environment_begins_anew_on_both_sides(start, workers):
    given = arguments("reach")
    apart, here = start(*given, workers=workers), make_vector(*given)
    for envs in (apart, here):
        envs.reset([1, 2, 3])
    state = here.state_dict()
    state["envs"]["1"]["arrays"]["simulation"][1] = 1e12  # the time apart, the first number is a joint's angle
    for envs in (apart, here):
        envs.load_state_dict(state, [0, 0, 0])
    apart.begin(actions(1)[0])
    step = apart.finish()
    assert step.diverged.tolist() == [False, True, False]
    np.testing.assert_equal(step._asdict(), here.step(actions(1)[0])._asdict())
    np.testing.assert_equal(apart.obs, here.obs)


def test_a_state_goes_over_and_back_and_goes_on_in_its_bits(start):
    given = arguments(max_episode_steps=15)
    apart, here, other = start(*given, workers=2), make_vector(*given), start(*given, workers=3)
    for envs in (apart, here, other):
        envs.reset([1, 2, 3])
    for action in actions(7):
        apart.step(action)
    np.testing.assert_equal(here.load_state_dict(apart.state_dict(), [0, 0, 0]), [])
    np.testing.assert_equal(other.load_state_dict(here.state_dict(), [0, 0, 0]), [])
    np.testing.assert_equal(apart.obs, other.obs)
    for envs in (apart, other):
        assert_same_steps(envs, make_loaded(given, here.state_dict()), actions(20, seed=1))


def make_loaded(given, state):
    envs = make_vector(*given)
    envs.load_state_dict(state, [0, 0, 0])
    return envs


def test_what_cannot_be_built_is_refused_as_it_is_here(start):
    name, count, _, reward, spec = arguments("reach")
    with pytest.raises(EnvError, match=r"^--task.scripted-starts 0.5: reach has no cube to be grasped$"):
        start(name, count, TaskConfig(scripted_starts=0.5), reward, spec)


def test_a_run_of_diverged_episodes_names_the_environment_by_its_number_in_the_run(troubled):
    envs = troubled("Nowhere", workers=2)
    action = np.array([[0, 0], [1, 0]], np.float32)
    for _ in range(9):
        assert envs.step(action).diverged.tolist() == [False, True]
    with pytest.raises(EnvError, match=r"^environment 1: 10 episodes in a row were dropped"):
        envs.step(action)


def test_metrics_and_stages_of_some_environments_alone_are_not_those_of_others(troubled):
    step = troubled("Tells", workers=2).step(np.array([[0.25, 0], [0.75, 0]], np.float32))
    np.testing.assert_array_equal(step.metrics["little"], [0.25, np.nan])
    np.testing.assert_array_equal(step.metrics["much"], [np.nan, 0.75])
    np.testing.assert_array_equal(step.stages["moved"], [False, True])


@pytest.mark.parametrize("action", [[[1, 1], [1, 1]], [[0, 0], [1, 1]]])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_an_environment_is_raised_here_with_its_own_traceback(troubled, workers, action):
    envs = troubled("Raises", workers=workers)
    with pytest.raises(ZeroDivisionError, match="too far") as caught:
        envs.step(np.array(action, np.float32))
    assert "in step" in caught.value.__notes__[0]
    assert envs.step(point_actions()).reward.tolist() == [-1, -1]  # and it still answers


def test_an_error_that_cannot_be_sent_is_told_in_a_sentence(troubled):
    with pytest.raises(EnvError, match=r"^an environment failed: Odd: nobody else knows this class$") as caught:
        troubled("Raises").step(point_actions(-1.0))
    assert caught.value.status == 1


@pytest.mark.parametrize(
    ("action", "sentence", "status"),
    [
        ([0.5, 0], "step failed: OSError: unplugged", 1),
        ([0.25, 0], "step failed: SystemExit: 0", 1),
        ([0.125, 0], "step failed: KeyboardInterrupt: ", 1),
        ([0, 0.5], "step gave 'none' for reward", 2),
    ],
)
def test_a_sentence_for_the_user_keeps_its_status_on_its_way(troubled, action, sentence, status):
    with pytest.raises(EnvError, match=f"^--env troubled:Raises: {sentence}") as caught:
        troubled("Raises").step(np.array([action, action], np.float32))
    assert caught.value.status == status
    assert not hasattr(caught.value, "__notes__")


def test_a_state_that_does_not_fit_is_a_value_error_as_it_is_here(start):
    envs = start(*arguments())
    envs.reset([1, 2, 3])
    state = envs.state_dict()
    arrays = state["envs"]["0"]["arrays"]
    arrays["simulation"] = arrays["simulation"][:-1]
    with pytest.raises(ValueError, match="does not fit this model"):
        envs.load_state_dict(state, [0, 0, 0])


# Its end


def processes() -> dict[int, tuple[int, int]]:
    """{process: (its parent, its group)} of those that have not ended."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, parent, group = path.read_text().rpartition(")")[2].split()[:3]
            if state not in "ZX":
                found[int(path.parent.name)] = int(parent), int(group)
    return found


def members(group: int) -> list[int]:
    return [process for process, (_, its) in processes().items() if its == group]


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def members_of(envs: VectorEnvWorkers) -> list[int]:
    """The processes that its environments step in."""
    return [each.process.pid for each in envs._workers]


def assert_ends(group: int) -> None:
    wait_until(lambda: not members(group))


@ON_LINUX
@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("name", ["PointEnv", "Forks", "Leaves"])
def test_a_process_that_died_is_told_in_a_sentence(troubled, name, killed):
    envs = troubled(name, workers=2)
    os.kill(members_of(envs)[killed], signal.SIGKILL)
    with pytest.raises(EnvError, match=r"^the process that the environments step in ended \(signal 9") as caught:
        envs.step(point_actions())
    assert caught.value.status == 1
    envs.close()
    for group in members_of(envs):
        assert_ends(group)


@ON_LINUX
def test_the_memory_of_a_step_has_no_name_that_could_be_left_behind(troubled):
    envs = troubled("PointEnv", workers=2)
    for process in (os.getpid(), *members_of(envs)):
        mapped = [
            line for line in Path(f"/proc/{process}/maps").read_text().splitlines() if "memfd:environments" in line
        ]
        assert all(line.endswith("(deleted)") for line in mapped)
        assert mapped


def test_an_environment_that_ends_its_process_is_told_from_one_that_was_killed(troubled):
    with pytest.raises(EnvError, match=r"ended \(status 0\)$"):
        troubled("Raises").step(point_actions(0.75))


def test_a_process_that_dies_while_a_state_is_on_its_way_is_no_reason_to_wait(troubled):
    envs = troubled("Saves")
    state = envs.state_dict()
    with pytest.raises(EnvError, match=r"ended \(signal 9"):
        envs.load_state_dict(state, [0, 0])


@pytest.fixture
def run_trainer(tmp_path):
    """run_trainer(name, steps=-1): cases/trainer.py in a session of its own, and its environments' two processes."""
    started = []

    def run(name, steps=-1):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, CASES, CASES.parents[1])))}
        command = [sys.executable, CASES / "trainer.py", f"troubled:{name}", str(steps)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        trainer = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True, **pipes)
        started.append(trainer.pid)
        workers = [int(word) for word in trainer.stdout.readline().split()]
        started.extend(workers)
        return trainer, workers

    yield run
    for group in started:  # environments that were tried in the trainer have helpers, too
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@ON_LINUX
@pytest.mark.parametrize("killed", [False, True])
def test_helpers_that_have_left_for_sessions_of_their_own_are_ended_with_it(troubled, tmp_path, killed):
    envs = troubled("Leaves")
    wait_until(lambda: len(list(tmp_path.glob("helper-*"))) == 4)
    helpers = {int(path.name.partition("-")[2]) for path in tmp_path.glob("helper-*")}
    assert helpers <= processes().keys()
    envs._workers[0].process.kill() if killed else envs.close()
    wait_until(lambda: not helpers & processes().keys())


@ON_LINUX
@pytest.mark.parametrize("number", [0, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
@pytest.mark.parametrize("name", ["PointEnv", "Forks"])
def test_nothing_is_left_of_a_run_that_ends_and_signals_are_for_the_trainer(run_trainer, name, number):
    trainer, workers = run_trainer(name, steps=-1 if number else 10)
    assert all(worker in members(worker) for worker in workers)
    if number:
        for worker in workers:
            os.kill(worker, number)
        time.sleep(0.1)
        os.killpg(trainer.pid, number)
    assert trainer.stdout.readline() == "saved\n"
    assert trainer.wait() == (128 + number if number else 0)
    for worker in workers:
        assert_ends(worker)


@ON_LINUX
@pytest.mark.parametrize("name", ["PointEnv", "Forks", "Hangs"])
def test_nothing_is_left_when_the_trainer_is_killed(run_trainer, name):
    trainer, workers = run_trainer(name)
    time.sleep(0.5)
    assert all(worker in members(worker) for worker in workers)
    trainer.kill()
    for worker in workers:
        assert_ends(worker)


@ON_LINUX
@pytest.mark.parametrize("name", ["PointEnv", "Forks"])
def test_a_run_ends_with_status_1_when_its_environments_are_killed(run_trainer, name):
    trainer, workers = run_trainer(name)
    os.kill(workers[1], signal.SIGKILL)
    assert trainer.wait() == 1
    assert "the process that the environments step in ended (signal 9" in trainer.stderr.readline()
    for worker in workers:
        assert_ends(worker)


@ON_LINUX
def test_a_signal_in_its_first_moment_is_left_to_the_trainer(troubled):
    ready, sent, before = threading.Event(), [], set(processes())

    def bombard():
        while not ready.is_set():
            for process, (parent, _) in processes().items():
                if parent == os.getpid() and process not in before:
                    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                        with suppress(ProcessLookupError):
                            os.kill(process, number)
                            sent.append(number)

    thread = threading.Thread(target=bombard)
    thread.start()
    try:
        envs = troubled("PointEnv")
    finally:
        ready.set()
        thread.join()
    assert len(sent) > 3
    envs.step(point_actions())


@pytest.mark.parametrize("hang", [False, True])
def test_environments_are_closed_and_have_three_seconds_for_it(troubled, tmp_path, hang):
    envs = troubled("Closes")
    if hang:
        (tmp_path / "HANG").touch()
    envs.close()
    envs.close()
    assert len(list(tmp_path.glob("closed-*"))) == (1 if hang else 2)


def test_an_environment_ends_its_own_programs_by_sigterm(troubled):
    troubled("Restarts").step(point_actions())


# What it begins with


def test_standard_input_is_empty(troubled):
    troubled("Reads").step(point_actions())
    with pytest.raises(EOFError):
        troubled("Asks").step(point_actions())


def test_the_projects_files_come_first_and_the_working_directory_last(tmp_path):
    root, work = tmp_path / "a:b", tmp_path / "work"
    work.mkdir()
    for name in ("env", "training"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ROOT / "errors.py", CASES / "trainer.py"):
        shutil.copy(path, root)
    for name in ("env", "random", "json", "errors"):
        (work / f"{name}.py").write_text("raise RuntimeError('a file of somebody else')\n")
    shutil.copy(CASES.parents[1] / "point_env.py", work / "mine.py")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, root / "trainer.py", "mine:PointEnv", "3"]
    done = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True)
    assert done.stdout.endswith("saved\n"), done.stderr
    assert done.returncode == 0


def test_the_working_directory_of_an_interactive_trainer_comes_last_too(troubled, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend("")
    (tmp_path / "mujoco.py").write_text("raise RuntimeError('a file of somebody else')\n")
    troubled("PointEnv").step(point_actions())
