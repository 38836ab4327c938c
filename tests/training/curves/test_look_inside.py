"""A look inside a run: it tells what there is, and the run goes on as if nobody had looked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from sac import Inspection
from training.config import LogConfig, TrainConfig
from training.curves import look_inside as inside
from training.recipes import REACH
from training.resume.run_directory import RunDirectory
from training.state import TrainingState

CONFIG = replace(
    REACH, num_envs=2, warmup=120, overlap=False, batch_size=32, sac=replace(REACH.sac, hidden=(16, 16)), steps=400
)


def state_after(steps: int, config: TrainConfig = CONFIG) -> TrainingState:
    state = TrainingState.new(config, torch.device("cpu"))
    while state.env_steps < steps:
        train.collect_and_learn(state, config)
    return state


def look_inside(state: TrainingState, config: TrainConfig = CONFIG) -> Inspection:
    return inside.look_inside(state.agent, state.replay(config), config, state.env_steps)


def leaves(tree, path=""):
    if isinstance(tree, dict):
        return {name: leaf for key, value in tree.items() for name, leaf in leaves(value, f"{path}/{key}").items()}
    return {path: tree}


def assert_equal(first: TrainingState, second: TrainingState) -> None:
    one, other = (leaves(state.state_dict()) for state in (first, second))
    assert one.keys() == other.keys()
    for name, value in one.items():
        if name != "/buffer/rows":
            np.testing.assert_equal(value, other[name], err_msg=name)


def test_a_run_goes_on_as_if_nobody_had_looked():
    looked_at, left_alone = state_after(200), state_after(200)
    look_inside(looked_at)
    inside.draw_goals(looked_at.buffer, CONFIG.seed, looked_at.env_steps)
    assert_equal(looked_at, left_alone)
    for state in (looked_at, left_alone):
        for _ in range(20):
            train.collect_and_learn(state, CONFIG)
    assert_equal(looked_at, left_alone)


def test_the_same_look_is_the_same_and_a_later_one_another():
    state = state_after(200)
    assert look_inside(state).curves == look_inside(state).curves
    first = look_inside(state).curves
    assert look_inside(state, replace(CONFIG, seed=1)).curves != first
    state.env_steps += 1
    assert look_inside(state).curves != first


def test_before_the_first_update_there_are_goals_and_no_agent():
    state = state_after(110)
    assert not state.agent.updates
    seen = look_inside(state)
    assert seen.curves["her/trivial_share"] < 1
    assert {name.split("/")[0] for name in seen.curves} == {"her"}
    assert seen.histograms == {}


def test_after_it_both():
    seen = look_inside(state_after(200))
    assert {name.split("/")[0] for name in seen.curves} == {"her", "q", "policy", "grad", "weight", "step"}
    assert all(np.isfinite(value) for value in seen.curves.values())


@pytest.mark.parametrize(
    ("options", "heard"), [({"clip_target": False}, 1), ({"clip_target": True}, 1), ({"backup_entropy": True}, 0)]
)
def test_q_is_held_against_the_returns_range_whether_targets_are_clipped_to_it_or_not(options, heard):
    config = replace(CONFIG, sac=replace(CONFIG.sac, **options))
    state = state_after(200, config)
    bounds = {name: value for name, value in look_inside(state, config).curves.items() if name.endswith("possible")}
    healthy = dict.fromkeys(("policy/spread_over_states", "policy/dead_units", "policy/saturated_share"), 0.5)
    point = healthy | bounds | {"train/n_updates": 9.0, "q/value_p05": -1e4, "q/value_p95": 0.0}
    sentences = state.doctor.examine(point, 100)
    assert [("Q lies outside" in sentence) for sentence in sentences] == [True] * heard


@pytest.mark.parametrize("every", [100, 300])
def test_how_often_a_run_logs_changes_nothing_but_its_curves(every, tmp_path, monkeypatch):
    config = replace(CONFIG, log=LogConfig(every), compile=False, video=False, run=str(tmp_path), steps=240)
    final = {}
    finish = train.summary
    monkeypatch.setattr(
        train, "summary", lambda config, state, *rest: (final.update(state=state), finish(config, state, *rest))
    )
    with train.StopRequest() as stop, train.Watchdog(0.0) as watchdog:
        train.train(config, RunDirectory(Path(config.run)), stop, watchdog)
    assert_equal_apart_from_logs(final["state"], state_after(240))


def assert_equal_apart_from_logs(first: TrainingState, second: TrainingState) -> None:
    one, other = (leaves(state.state_dict()["agent"]) for state in (first, second))
    for name, value in one.items():
        np.testing.assert_equal(value, other[name], err_msg=name)
