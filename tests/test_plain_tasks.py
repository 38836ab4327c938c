"""A task without goals: it is learnt by plain SAC, and told by its return. And arguments for an environment."""

import json
import sys

import numpy as np
import pytest

import checkpoints
import evaluate
import train
from env import EnvError, TaskConfig, VectorEnvWorkers, keyword_arguments, make_envs, probe
from training.analysis.open_run import open_run
from training.curves.diagnosis import Advice, Doctor

SMALL = ["--no-video", "--no-compile", "--device", "cpu", "--sac.hidden", "16", "--batch-size", "32", "--num-envs", "4",
         "--warmup", "100", "--eval.episodes", "2", "--log.every", "100"]  # fmt: skip
PLAIN = ["--env", "their_walk:Walk", "--steps", "400", "--eval.every", "200", "--her.strategy", "none", "--run", "r"]
WALK = """
import numpy as np

class Walk:
    '''Stays upright for a reward of `pay` a step, falls when it is pushed too far.'''

    obs_dim, goal_dim, action_dim, max_episode_steps = 1, 0, 1, 20
    nothing = np.zeros(0)

    def __init__(self, pay=2.0, start=0.0):
        self.pay, self.start = pay, start

    def reset(self, seed=None):
        self.at, self.steps = self.start, 0
        return self.observe(), {}

    def step(self, action):
        self.at, self.steps = self.at + 0.3 * float(action[0]), self.steps + 1
        return self.observe(), self.pay, abs(self.at) > 1, self.steps == 20, {}

    def observe(self):
        return {"observation": [self.at], "achieved_goal": self.nothing, "desired_goal": self.nothing}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A working directory that holds the module their_walk."""
    path = tmp_path_factory.mktemp("plain")
    (path / "their_walk.py").write_text(WALK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(sys, "path", [*sys.path, str(path)])
        yield path


@pytest.fixture
def call(directory, monkeypatch, capfd):
    """call(program, options …, status=0): what a program says in this process."""

    def start(program, *options, status=0):
        monkeypatch.setattr(sys, "argv", [f"{program.__name__}.py", *map(str, options)])
        ended = 0
        capfd.readouterr()
        try:
            program.main()
        except SystemExit as leaving:
            ended = leaving.code
        said = capfd.readouterr()
        assert ended == status, said.err
        return said.out + said.err

    return start


def test_a_task_without_goals_asks_for_plain_sac(call):
    refused = call(train, *SMALL, "--env", "their_walk:Walk", "--steps", 400, "--run", "refused", status=2)
    assert refused.splitlines()[-1] == (
        "train.py: --env their_walk:Walk: has no goals that hindsight could relabel; add --her.strategy none"
    )


def test_a_task_without_goals_is_told_by_its_return(call, directory):
    said = call(train, *SMALL, *PLAIN)
    assert "return " in said
    assert not [line for line in said.splitlines() if "success" in line or "goal" in line or "hindsight" in line]
    rows = open_run("r").buffer.rows
    assert rows["terminated"].any()
    assert rows["achieved_goal"].shape[1] == rows["desired_goal"].shape[1] == 0

    last = directory / "r/checkpoints/step_000000400"
    assert checkpoints.read_manifest(last).success > 1  # the mean return, no rate
    assert "%" not in " ".join(call(evaluate, "r", "--episodes", 2, "--json", "r.json").split("95 % intervals"))
    summary = json.loads((directory / "r.json").read_text())
    assert (summary["success"], summary["success_once"]) == (None, None)
    assert summary["return"]["mean"] == pytest.approx(2 * summary["length"]["mean"])


def test_the_best_is_the_largest_return():
    """Also where every return is below zero."""
    outputs = type("Silent", (), {"__getattr__": lambda self, name: self, "__call__": lambda self, *given: self})()
    spec = type("Spec", (), {"goal_dim": 0})()
    state = type("State", (), {"last_success": None, "best_success": -1.0, "buffer": (), "env_steps": 0})()
    state.envs, state.doctor = type("Envs", (), {"spec": spec})(), outputs
    results = [{"success": None, "return": {"mean": mean}, "film": None} for mean in (-50.0, -70.0, -20.0)]
    assert [train.report(result, state, None, outputs) for result in results] == [
        (-50.0, True),
        (-70.0, False),
        (-20.0, True),
    ]


def test_without_success_the_doctor_says_nothing_of_it():
    doctor = Doctor(-1.0, 100, hindsight=False, advice=Advice(), scripted_until=None)
    for step in range(10):
        assert doctor.examine_evaluation({"success": None, "success_once": None}, step) == []


def test_values_are_literals_else_strings():
    given = ["a=1", "b=1e3", "c=True", "d=None", "e=[1, 'x']", "f=dense", "g=", "h=1=2", "i='7'", "j=(1"]
    assert keyword_arguments(given) == {
        **{"a": 1, "b": 1000.0, "c": True, "d": None, "e": [1, "x"]},
        **{"f": "dense", "g": "", "h": "1=2", "i": "7", "j": "(1"},
    }


def test_arguments_reach_every_environment_also_in_a_process_of_its_own(directory):
    given = "their_walk:Walk", 2, TaskConfig(), None
    envs = make_envs(*given, ["pay=7", "start=0.5"])
    assert [env.reset(seed=0)[0]["observation"].tolist() for env in envs] == [[0.5], [0.5]]
    apart = VectorEnvWorkers(*given, probe(envs[0], given[0]), ("pay=7",))
    try:
        apart.reset([0, 1])
        assert apart.step(np.zeros((2, 1), np.float32)).reward.tolist() == [7, 7]
    finally:
        apart.close()


def test_an_argument_that_is_not_taken_is_named(directory):
    with pytest.raises(EnvError, match=r"--env their_walk:Walk: calling it with size=3 failed: TypeError: .*'size'"):
        make_envs("their_walk:Walk", 1, TaskConfig(), None, ["size=3"])


def test_arguments_are_part_of_what_a_run_is(call, directory):
    run = [*SMALL, *PLAIN[:-1], "args"]
    call(train, *run, "--env-args", "pay=3", "start=0.1")
    assert json.loads((directory / "args" / "config.json").read_text())["env_args"] == ["pay=3", "start=0.1"]
    refused = call(train, *run, "--env-args", "pay=4", "start=0.1", status=2)
    assert "--env-args: ['pay=3', 'start=0.1'], now ['pay=4', 'start=0.1']" in refused
    assert "is complete" in call(train, *run, "--env-args", "start=0.1", "pay=3")  # the same in another order
    call(evaluate, "args", "--episodes", 2, "--json", "args.json")
    summary = json.loads((directory / "args.json").read_text())
    assert summary["return"]["mean"] == pytest.approx(3 * summary["length"]["mean"])


def test_without_gymnasium_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "env.gymnasium_env", raising=False)
    with pytest.raises(EnvError) as caught:
        make_envs("gym:FetchPush-v4", 1, TaskConfig(), None)
    assert str(caught.value) == "--env gym:FetchPush-v4: needs Gymnasium; pip install -e '.[gym]' brings it"
