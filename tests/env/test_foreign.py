"""An environment of somebody else's is taken as it is, or refused with a sentence that says what is wrong with it."""

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from env import TASKS, EnvError, SimulationDiverged, TaskConfig, is_custom, make_envs, probe
from env.foreign import Guarded, in_a_line, load_factory
from env.video import check_frame
from training.evaluation.rollout import record_episodes, run_episodes

ROOT = Path(__file__).parents[2]
STILL = np.zeros(2, np.float32)
NAN = np.array([0.0, np.nan], np.float32)


@pytest.fixture
def odd(point_env):
    """odd(**attributes): a PointEnv with those of its own."""
    return lambda **attributes: type("Odd", (point_env.PointEnv,), attributes)()


@pytest.fixture
def changing(point_env):
    """changing(method, change, after=0): a PointEnv that answers what `change` makes of a PointEnv's answer, from step
    `after` of an episode on."""

    def make(method, change, after=0):
        class Changing(point_env.PointEnv):
            pass

        def answer(self, *args, **kwargs):
            result = getattr(point_env.PointEnv, method)(self, *args, **kwargs)
            return change(result) if self.steps >= after else result

        setattr(Changing, method, answer)
        return Changing()

    return make


# What is right


@pytest.mark.parametrize("reward", ["sparse", "sparse-reach", "staged", "staged-reference"])
@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_follow_the_protocol(make_task, name, reward):
    task = make_task(name, reward)
    spec = probe(task, name)
    assert (spec.obs_dim, spec.goal_dim, spec.action_dim) == (task.obs_dim, 3, 6)
    assert spec.max_episode_steps == task.max_episode_steps


@pytest.mark.parametrize("kind", ["PointEnv", "SavablePointEnv"])
def test_an_environment_of_forty_lines_follows_it_too(point_env, kind):
    spec = probe(getattr(point_env, kind)(), "point")
    assert (spec.obs_dim, spec.goal_dim, spec.action_dim, spec.max_episode_steps) == (2, 2, 2, 20)
    assert spec.info_shapes == {}
    assert spec.fingerprint is None


def test_info_arrays_are_stored_and_numbers_are_not(changing):
    extra = {"force": np.zeros(3), "mass": np.array(1.0), "n": 7}
    env = changing("step", lambda r: (*r[:4], r[4] | extra))
    assert probe(env, "point").info_shapes == {"force": (3,), "mass": ()}


def test_lists_are_as_good_as_arrays_and_come_out_as_float32(changing, point_env):
    lists = changing("step", lambda r: ({key: value.tolist() for key, value in r[0].items()}, *r[1:]))
    assert probe(lists, "point") == probe(point_env.PointEnv(), "point")
    ours, theirs = Guarded(lists, "mine:Lists"), point_env.PointEnv()
    ours.reset(seed=3)
    theirs.reset(seed=3)
    np.testing.assert_equal(ours.step(STILL), theirs.step(STILL))
    assert all(value.dtype == np.float32 for value in ours.step(STILL)[0].values())


def test_all_else_is_the_environments(odd):
    env = Guarded(odd(mass=7.0, is_success=None), "mine:Odd")
    assert (env.obs_dim, env.mass) == (2, 7.0)
    assert not hasattr(env, "state_dict")
    assert not hasattr(env, "compute_terminated")
    assert env.is_success is None
    assert copy.copy(env).mass == 7.0


# Found at once, by trying it


@pytest.mark.parametrize(
    ("method", "change", "sentence"),
    [
        ("reset", lambda r: r[0], r"reset must return \(obs, info\)"),
        ("reset", lambda r: ({}, {}), "reset must give an observation with observation, achieved_goal, desired_goal"),
        (
            "reset",
            lambda r: (r[0] | {"desired_goal": np.zeros((1, 2))}, {}),
            r"reset gave desired_goal of shape \(1, 2\); it must be numbers of shape \(2,\)",
        ),
        (
            "reset",
            lambda r: (r[0] | {"achieved_goal": NAN}, {}),
            "10 episodes of random actions were dropped; the last: reset gave array.*nan.* for achieved_goal",
        ),
        ("step", lambda r: (*r[:4], {}), 'step must give an info with "is_success"'),
        ("step", lambda r: (r[0], -0.5, *r[2:]), r"compute_reward gives -1 where step paid -0.5, at \d+ of 60 random"),
        ("step", lambda r: (*r[:4], r[4] | {"a|b": np.zeros(1)}), r"info's 'a\|b': names are strings without \|"),
        ("step", lambda r: (*r[:4], r[4] | {"metrics": {"a|b": 1.0}}), r"info's 'a\|b': names are"),
        ("step", lambda r: (*r[:4], r[4] | {"stages": {3: True}}), "info's 3: names are strings"),
        (
            "step",
            lambda r: (*r[:4], r[4] | {"a": np.array(["x"])}),
            r"step gave array.* for info's array a; it must be numbers of",
        ),
        (
            "step",
            lambda r: (*r[:4], r[4] | {"metrics": {"phase": "reach"}}),
            "step gave 'reach' for metric phase; it must be",
        ),
        (
            "step",
            lambda r: (*r[:4], r[4] | {"metrics": {"force": np.zeros(3)}}),
            r"step gave metric force of shape \(3,\); it must be one",
        ),
        (
            "step",
            lambda r: (*r[:4], r[4] | {"metrics": 0.5}),
            r"info\['metrics'\] must be a dict of numbers, and is 0.5",
        ),
        ("step", lambda r: (*r[:4], r[4] | {"stages": ["lifted"]}), r"info\['stages'\] must be a dict of numbers"),
        (
            "step",
            lambda r: (*r[:4], r[4] | {"stages": {"lifted": "no"}}),
            "step gave 'no' for stage lifted; it must be",
        ),
    ],
)
def test_a_wrong_answer_is_named(changing, method, change, sentence):
    with pytest.raises(EnvError, match=f"^--env point: {sentence}") as caught:
        probe(changing(method, change), "point")
    assert caught.value.status == 2


@pytest.mark.parametrize("attribute", ["obs_dim", "goal_dim", "action_dim", "max_episode_steps"])
@pytest.mark.parametrize("value", [None, -1, 2.0])
def test_a_wrong_size_is_named(odd, attribute, value):
    with pytest.raises(EnvError, match=f"{attribute} must be a positive whole number, and is {value}"):
        probe(odd(**{attribute: value}), "point")


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"fingerprint": 7}, "fingerprint must be a string"),
        ({"reset": lambda self: ({}, {})}, "trying it failed: TypeError"),
        ({"action_space": SimpleNamespace(low=np.zeros(2), high=np.ones(2))}, r"action_space.low is \[0.\]; rescale"),
        ({"action_space": SimpleNamespace(low=-1, high=2)}, r"action_space.high is \[2\]; rescale"),
    ],
)
def test_parts_that_make_no_sense_are_named(odd, attributes, sentence):
    with pytest.raises(EnvError, match=f"^--env mine:Env: .*{sentence}"):
        probe(odd(**attributes), "mine:Env")


@pytest.mark.parametrize("function", ["compute_reward", "compute_terminated", "is_success"])
def test_a_function_that_is_not_vectorised_is_named(odd, function):
    with pytest.raises(EnvError, match=rf"{function} of 60 transitions must return shape \(60,\), and returned \(\)"):
        probe(odd(**{function: lambda *goals_and_info: -1.0}), "point")


@pytest.mark.parametrize("function", ["compute_terminated", "is_success"])
def test_a_function_that_does_not_take_the_info_is_named_with_what_it_must_take(odd, function):
    with pytest.raises(
        EnvError, match=rf"--env point: {function}\(achieved_goal, desired_goal, info\) of 60 .*were given"
    ):
        probe(odd(**{function: lambda self, achieved, desired: np.zeros(len(achieved), bool)}), "point")


def test_goal_functions_are_tried_with_the_numbers_that_the_buffer_keeps(point_env):
    class ByKind(point_env.PointEnv):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, info | {"kind": np.array(1)}

        def is_success(self, achieved_goal, desired_goal, info):
            return np.array([False, True])[info["kind"]]

    with pytest.raises(EnvError, match=r"^--env mine:Env: is_success\(.*info's arrays as float32, failed: IndexError"):
        probe(ByKind(), "mine:Env")


# Found whenever it comes: in training, in an evaluation, in pictures


def evaluate(env):
    return list(run_episodes([env], lambda inputs: np.zeros((len(inputs), 2), np.float32), 2, 0))


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def changed(result, place, value):
    return (*result[:place], value, *result[place + 1 :])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: changed(r, 0, r[0] | {"achieved_goal": NAN[:1]}), r"gave achieved_goal of shape \(1,\); it must be"),
        (lambda r: changed(r, 0, r[0] | {"observation": "here"}), "gave 'here' for observation; it must be numbers of"),
        (lambda r: changed(r, 0, without(r[0], "desired_goal")), "must give an observation with .*desired_goal"),
        (lambda r: changed(r, 0, None), "must give an observation with"),
        (lambda r: changed(r, 1, 10**400), "gave 1000.* for reward; it must be one number"),
        (lambda r: changed(r, 1, STILL), r"gave reward of shape \(2,\)"),
        (lambda r: changed(r, 4, {}), "must give an info with"),
        (lambda r: changed(r, 4, None), "must give an info with"),
        (lambda r: changed(r, 4, r[4] | {"metrics": {"speed": "fast"}}), "gave 'fast' for metric speed"),
        (lambda r: r[:4], r"must return \(obs, reward, terminated, truncated, info\)"),
        (lambda r: changed(r, 3, False), "goes on after max_episode_steps"),
    ],
)
def test_an_evaluation_that_runs_into_nonsense_is_none(changing, change, sentence):
    with pytest.raises(EnvError, match=f"^--env mine:Odd: step {sentence}"):
        evaluate(Guarded(changing("step", change, after=3), "mine:Odd"))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: changed(r, 0, r[0] | {"observation": NAN}),
        lambda r: changed(r, 0, r[0] | {"desired_goal": [1e60, 0]}),
        lambda r: changed(r, 0, r[0] | {"achieved_goal": [None, 0]}),
        lambda r: changed(r, 1, np.nan),
        lambda r: changed(r, 1, None),
        lambda r: changed(r, 4, r[4] | {"force": NAN}),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_an_episode_that_runs_into_nan_has_failed_as_one_whose_simulation_diverged(changing, change):
    env = Guarded(changing("step", change, after=3), "mine:Odd")
    assert [(episode.length, episode.success) for episode in evaluate(env)] == [(3, False)] * 2


def test_a_start_that_is_nan_is_no_start(changing):
    env = Guarded(changing("reset", lambda r: (r[0] | {"observation": NAN}, {})), "mine:Odd")
    with pytest.raises(SimulationDiverged, match=r"reset gave array.*nan.* for observation; it must be finite"):
        env.reset(seed=0)


@pytest.mark.parametrize("group", ["metrics", "stages"])
def test_what_is_for_curves_comes_out_as_finite_numbers(changing, group):
    given = {"a": np.float32(0.5), "b": np.nan, "c": None, "d": np.inf, "e": True, "f": np.array(2)}
    env = Guarded(changing("step", lambda r: (*r[:4], r[4] | {group: given})), "mine:Odd")
    env.reset(seed=0)
    assert env.step(STILL)[-1][group] == {"a": 0.5, "e": 1.0, "f": 2.0}
    assert len(evaluate(env)) == 2
    none = Guarded(changing("step", lambda r: (*r[:4], r[4] | {group: None})), "mine:Odd")
    assert probe(none, "mine:Odd").info_shapes == {}
    assert [episode.length for episode in evaluate(none)] == [20, 20]


def test_a_frame_of_lists_is_a_picture(odd):
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    env = Guarded(odd(render=lambda self: frame.tolist()), "mine:Odd")
    np.testing.assert_array_equal(check_frame(env.render()), frame)
    with pytest.raises(
        EnvError, match=r"^--env mine:Odd: render: making an array of what it returned failed: Overflow"
    ):
        Guarded(odd(render=lambda self: [[[256, 0, 0]]]), "mine:Odd").render()


def test_every_episode_may_take_its_steps(odd):
    assert [episode.length for episode in evaluate(Guarded(odd(), "mine:Odd"))] == [20, 20]


@pytest.mark.parametrize("name", ["compute_reward", "compute_terminated", "is_success"])
def test_a_goal_function_answers_for_each_transition(odd, name):
    env = Guarded(odd(**{name: lambda self, achieved, desired, info: np.zeros(3)}), "mine:Odd")
    with pytest.raises(EnvError, match=rf"{name} of 5 transitions must return shape \(5,\), and returned \(3,\)"):
        getattr(env, name)(np.zeros((5, 2)), np.zeros((5, 2)), {})


@pytest.mark.parametrize("name", ["compute_reward", "is_success"])
def test_a_goal_function_answers_with_finite_numbers(odd, name):
    env = Guarded(odd(**{name: lambda self, achieved, desired, info: achieved[:, 0] / 0}), "mine:Odd")
    with pytest.raises(EnvError, match=f"{name} must return finite numbers"), np.errstate(all="ignore"):
        getattr(env, name)(np.zeros((5, 2)), np.zeros((5, 2)), {})


@pytest.mark.parametrize("method", ["reset", "step", "render", "compute_reward", "state_dict", "close"])
@pytest.mark.parametrize("quits", [SystemExit, KeyboardInterrupt])
def test_an_environment_that_quits_has_failed(odd, method, quits, monkeypatch):
    def quit_(self, *args, **kwargs):
        raise quits(0)

    monkeypatch.setattr(signal, "getsignal", lambda number: lambda *_: None)  # somebody listens for Ctrl-C
    env = Guarded(odd(**{method: quit_}), "mine:Odd")
    arguments = {"step": [STILL], "compute_reward": [np.zeros((1, 2)), np.zeros((1, 2)), {}]}.get(method, [])
    with pytest.raises(EnvError, match=f"^--env mine:Odd: {method} failed: {quits.__name__}: 0$") as caught:
        getattr(env, method)(*arguments)
    assert caught.value.status == 1


def test_ctrl_c_in_an_environment_is_the_users_where_nobody_listens(odd):
    def step(self, action):
        signal.raise_signal(signal.SIGINT)

    env = Guarded(odd(step=step), "mine:Odd")
    with pytest.raises(KeyboardInterrupt):
        evaluate(env)


@pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError, FileNotFoundError])
def test_its_broken_pipe_is_not_ours_and_another_try_may_do_better(odd, error):
    def fail(self, *args):
        raise error("the simulator is gone")

    env = Guarded(odd(step=fail, render=fail), "mine:Odd")
    for call, method in ((lambda: evaluate(env), "step"), (env.render, "render")):
        with pytest.raises(EnvError, match=f"^--env mine:Odd: {method} failed: {error.__name__}: the sim") as caught:
            call()
        assert caught.value.status == 1


@pytest.mark.parametrize("error", [RuntimeError, SimulationDiverged])
def test_other_errors_are_its_own(odd, error):
    def step(self, action):
        raise error("in my own code")

    env = Guarded(odd(step=step), "mine:Odd")
    env.reset(seed=0)
    with pytest.raises(error, match=r"^in my own code"):
        env.step(STILL)


def test_an_evaluation_counts_a_diverged_episode_as_failed(point_env):
    class Exploding(point_env.PointEnv):
        def step(self, action):
            if self.steps == 4:
                raise SimulationDiverged("boom")
            return super().step(action)

        def render(self):
            return np.zeros((2, 2, 3), np.uint8)

    def stay(inputs):
        return np.zeros((len(inputs), 2), np.float32)

    episodes = list(run_episodes([Exploding(), point_env.PointEnv()], stay, 2, seed=0))
    assert [episode.length for episode in episodes] == [5, 20]
    assert not episodes[0].success
    assert len(list(record_episodes(Exploding(), stay, 1, seed=0))) == 5


# Finding it


@pytest.fixture
def write_module(monkeypatch, tmp_path):
    """Puts a module into the working directory, which load_factory searches; sys.path is put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return lambda name, text: (tmp_path / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("their_env_nowhere:make", "there is no module 'their_env_nowhere' in "),
        ("their_env.nowhere:make", "there is no module 'their_env.nowhere' in "),
        ("their_env_broken:make", "importing their_env_broken failed: No module named 'their_missing_dependency'"),
        ("..a:make", r"importing ..a failed: the 'package' argument is required"),
        ("their_env_small:other", "'other' is no callable of .*their_env_small.py"),
        ("their_env_small:NUMBER", "'NUMBER' is no callable"),
        ("their_env_small:", "it takes a module and a callable of it"),
        (":make", "it takes a module and a callable of it"),
    ],
)
def test_what_cannot_be_found_is_named(write_module, name, sentence):
    write_module("their_env_broken", "import their_missing_dependency\n")
    write_module("their_env_small", "NUMBER = 1\n")
    with pytest.raises(EnvError, match=f"--env {name}: {sentence}"):
        load_factory(name)


def test_an_error_inside_their_module_is_shown_as_it_is(write_module):
    write_module("their_env_raising", "raise RuntimeError('their own trouble')\n")
    with pytest.raises(RuntimeError, match="their own trouble"):
        load_factory("their_env_raising:make")


def test_a_module_or_a_factory_that_quits_is_named(write_module):
    write_module("their_env_script", "import sys\nsys.exit(0)\n")
    write_module("their_env_quitting", "def make():\n    raise SystemExit\n")
    for name, what in (
        ("their_env_script:make", "importing their_env_script"),
        ("their_env_quitting:make", "calling it"),
    ):
        with pytest.raises(EnvError, match=f"^--env {name}: {what} failed: SystemExit") as caught:
            make_envs(name, 1, TaskConfig(), "sparse")
        assert caught.value.status == 1


def test_the_working_directory_is_searched_last(write_module, tmp_path):
    write_module("random", "raise RuntimeError('not the standard library')\n")
    with pytest.raises(EnvError, match=r"'Env' is no callable of .*random.py"):
        load_factory("random:Env")
    assert sys.path[-1] == str(tmp_path)


def test_each_environment_of_a_custom_factory_is_its_own(write_module):
    write_module("their_env_class", "class Env:\n    pass\nONE = Env()\ndef one():\n    return ONE\n")
    envs = make_envs("their_env_class:Env", 3, TaskConfig(), "sparse")
    assert len({id(env.unguarded) for env in envs}) == 3
    with pytest.raises(EnvError, match="returned the same object twice"):
        make_envs("their_env_class:one", 2, TaskConfig(), "sparse")


def test_a_simulator_that_can_be_made_once_is_refused_with_what_a_run_needs(write_module):
    write_module(
        "their_env_once",
        "class Env:\n    made = 0\n    def __init__(self):\n        Env.made += 1\n        assert Env.made < 3, 'no'\n",
    )
    with pytest.raises(EnvError, match=r"making instance 3 \(a run takes several: --num-envs .*\) failed: Ass.*: no$"):
        make_envs("their_env_once:Env", 4, TaskConfig(), "sparse")


def test_what_is_not_plugged_in_may_be_later(write_module):
    fails = "    def {}(self, seed=None):\n        raise OSError('the gripper is not plugged in')\n"
    write_module("their_env_unplugged", "class Env:\n" + fails.format("__init__"))
    with pytest.raises(EnvError, match="--env their_env_unplugged:Env: calling it failed: OSError: the gri") as caught:
        make_envs("their_env_unplugged:Env", 1, TaskConfig(), "sparse")
    assert caught.value.status == 1
    sizes = "    obs_dim = goal_dim = action_dim = max_episode_steps = compute_reward = 1\n"
    write_module("their_env_unplugged_later", "class Env:\n" + sizes + fails.format("reset"))
    (env,) = make_envs("their_env_unplugged_later:Env", 1, TaskConfig(), "sparse")
    with pytest.raises(EnvError, match=r"--env their_.*: reset failed: OSError: the gripper") as caught:
        probe(env, env.name)
    assert caught.value.status == 1


def test_an_unknown_task_is_named_with_those_that_exist():
    with pytest.raises(
        EnvError, match="--env stack: no such task; there are reach, push, pick-place, gym:ID, or MODULE"
    ):
        make_envs("stack", 1, TaskConfig(), "sparse")


def test_a_goal_kind_that_a_task_has_not_is_named_with_those_that_it_has():
    with pytest.raises(EnvError, match=r"^this task has no goals of kind air; there are: table"):
        make_envs("push", 1, TaskConfig(goal="air"), "sparse")


def test_a_colon_makes_a_name_custom():
    assert is_custom("module:Env")
    assert not is_custom("pick-place")


# What forks, and what changes


def test_a_process_that_an_environment_forks_and_that_comes_back_goes_no_further(tmp_path):
    code = """
import os, sys
from point_env import PointEnv
from env.foreign import Guarded

class Forks(PointEnv):
    def step(self, action):
        os.fork()
        return super().step(action)

env = Guarded(Forks(), "mine:Forks")
env.reset(seed=0)
env.step([0.0, 0.0])
os.write(1, b"went on\\n")
"""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "went on\n")


def test_sizes_stay_what_they_were(odd, point_env):
    env = Guarded(odd(), "mine:Odd")
    assert env.max_episode_steps == 20
    env.unguarded.max_episode_steps = 1000
    assert env.max_episode_steps == 20
    env.reset(seed=0)
    for _ in range(20):
        env.step(STILL)
    with pytest.raises(EnvError, match="step goes on after max_episode_steps; it must say truncated then"):
        env.step(STILL)


def test_complex_numbers_are_no_observation(changing):
    env = Guarded(changing("observe", lambda obs: obs | {"observation": STILL + 1j}), "mine:Odd")
    with pytest.raises(EnvError, match="for observation; it must be numbers of shape"):
        env.reset(seed=0)


class Silent(Exception):
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines,\ttabs"), "ValueError: two lines, tabs"),
        (ValueError("\x1b[2J\x00gone"), "ValueError: [2J gone"),
        (Silent(), "Silent: without a text"),
        (ValueError("x" * 10_000), f"ValueError: {'x' * 500}"),
    ],
)
def test_whatever_an_error_says_is_told_in_a_line(error, line):
    assert in_a_line(error) == line
