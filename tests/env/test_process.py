"""Environments in a process of their own: the bits of those in this one, its errors, and an end that leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from env import EnvError, TaskConfig, VectorEnvProcess, make_envs, make_vector, probe

ROOT = Path(__file__).parents[2]
TROUBLE = """
import numpy as np

class Env:
    obs_dim, goal_dim, action_dim, max_episode_steps = 2, 1, 1, 5

    def _obs(self):
        return {"observation": np.zeros(2, np.float32), "achieved_goal": np.zeros(1, np.float32),
                "desired_goal": np.ones(1, np.float32)}

    def reset(self, seed=None):
        print("an environment that talks")
        return self._obs(), {}

    def step(self, action):
        if action[0] > 0.9:
            raise ZeroDivisionError("too far")
        if action[0] < -0.9:
            class Odd(Exception):
                pass
            raise Odd("nobody else knows this class")
        if action[0] == 0.5:
            raise OSError("unplugged")
        reward = 0.0 * float(action[0])
        return self._obs(), reward, False, False, {"is_success": False}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return np.zeros(len(achieved_goal))
"""


def arguments(name="pick-place", count=3, **task):
    config, reward = TaskConfig(**task), None if ":" in name else "sparse-reach"
    return name, count, config, reward, probe(make_envs(name, 1, config, reward)[0], name)


@pytest.fixture
def start():
    """VectorEnvProcess, closed at the end."""
    started = []

    def make(*given):
        started.append(VectorEnvProcess(*given))
        return started[-1]

    yield make
    for envs in started:
        envs.close()


@pytest.fixture
def trouble(tmp_path, monkeypatch, start):
    (tmp_path / "trouble.py").write_text(TROUBLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trouble", raising=False)
    envs = start(*arguments("trouble:Env", count=2))
    envs.reset([0, 1])
    return envs


def actions(steps, count=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, count, 6)).astype(np.float32)


def assert_same_steps(left, right, sequence):
    for action in sequence:
        left.begin(action)
        np.testing.assert_equal(left.finish()._asdict(), right.step(action)._asdict())
        np.testing.assert_equal(left.obs, right.obs)


def test_the_steps_are_those_of_environments_in_this_process(start):
    given = arguments(max_episode_steps=15, scripted_starts=0.5)
    apart, here = start(*given), make_vector(*given)
    for envs in (apart, here):
        envs.reset([1, 2, 3])
    assert len(apart) == len(here) == 3
    np.testing.assert_equal(apart.obs, here.obs)
    assert_same_steps(apart, here, actions(40))


@pytest.mark.usefixtures("quiet_log")
def test_a_diverged_environment_begins_anew_on_both_sides(start):
    given = arguments("reach")
    apart, here = start(*given), make_vector(*given)
    for envs in (apart, here):
        envs.reset([1, 2, 3])
    state = here.state_dict()
    state["envs"]["1"]["simulation"][1] = 1e12  # the time apart, the first number is a joint's angle
    for envs in (apart, here):
        envs.load_state_dict(state, [0, 0, 0])
    apart.begin(actions(1)[0])
    step = apart.finish()
    assert step.diverged.tolist() == [False, True, False]
    np.testing.assert_equal(step._asdict(), here.step(actions(1)[0])._asdict())
    np.testing.assert_equal(apart.obs, here.obs)


def test_a_state_goes_over_and_back_and_goes_on_in_its_bits(start):
    given = arguments(max_episode_steps=15)
    apart, here, other = start(*given), make_vector(*given), start(*given)
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


def test_an_error_of_an_environment_is_raised_here_with_its_own_traceback(trouble):
    with pytest.raises(ZeroDivisionError, match="too far") as caught:
        trouble.step(np.ones((2, 1), np.float32))
    assert "in step" in caught.value.__notes__[0]
    assert trouble.step(np.zeros((2, 1), np.float32)).reward.tolist() == [0, 0]  # and it still answers


def test_an_error_that_cannot_be_sent_is_told_in_a_sentence(trouble):
    with pytest.raises(EnvError, match=r"^an environment failed: Odd: nobody else knows this class$") as caught:
        trouble.step(-np.ones((2, 1), np.float32))
    assert caught.value.status == 1


@pytest.mark.parametrize(("action", "status"), [(0.5, 1), (np.nan, 2)])
def test_a_sentence_for_the_user_keeps_its_status_on_its_way(trouble, action, status):
    with pytest.raises(EnvError, match=r"^--env trouble:Env: step ") as caught:
        trouble.step(np.full((2, 1), action, np.float32))
    assert caught.value.status == status
    assert not hasattr(caught.value, "__notes__")


def test_a_state_that_does_not_fit_is_a_value_error_as_it_is_here(start):
    envs = start(*arguments())
    envs.reset([1, 2, 3])
    state = envs.state_dict()
    state["envs"]["0"]["simulation"] = state["envs"]["0"]["simulation"][:-1]
    with pytest.raises(ValueError, match="does not fit this model"):
        envs.load_state_dict(state, [0, 0, 0])


def test_a_process_that_died_is_told_in_a_sentence(start):
    envs = start(*arguments("reach"))
    envs.reset([1, 2, 3])
    envs._process.kill()
    envs._process.wait()
    with pytest.raises(EnvError, match=r"^the process that the environments step in ended \(signal 9") as caught:
        envs.step(np.zeros((3, 6), np.float32))
    assert caught.value.status == 1


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
@pytest.mark.parametrize("end", ["close", "exit", "SIGKILL"])
def test_it_ends_with_the_process_that_trains(end, tmp_path):
    how = {
        "close": "envs.close(); print(flush=True); time.sleep(60)",
        "exit": "sys.exit()",
        "SIGKILL": "time.sleep(60)",
    }
    code = (
        "import sys, time; from tests_env import arguments; from env import VectorEnvProcess\n"
        "envs = VectorEnvProcess(*arguments('reach')); envs.reset([1, 2, 3])\n"
        f"print(envs._process.pid, flush=True); {how[end]}\n"
    )
    (tmp_path / "tests_env.py").write_text(Path(__file__).read_text())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(parent.stdout.readline())
    if end == "SIGKILL":
        assert alive(pid)
        parent.kill()
        parent.wait()
    elif end == "close":
        parent.stdout.readline()
    else:
        parent.wait()
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(pid)
    parent.kill()
    parent.communicate()


def test_ctrl_c_and_sigterm_are_left_to_the_process_that_trains(start):
    envs = start(*arguments("reach"))
    envs.reset([1, 2, 3])
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(envs._process.pid, number)
        envs.step(np.zeros((3, 6), np.float32))
