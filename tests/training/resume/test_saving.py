"""What a run saves of itself, that nothing broken is ever saved, and that a save which fails ends nothing."""

import errno
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import checkpoints
import her
import train
from env import EnvError, TaskConfig
from sac import SACConfig
from training.config import TrainConfig
from training.curves.tensorboard import Curves
from training.resume.run_directory import RunDirectory
from training.resume.saving import SaveFailed, Saver, TrainingDiverged, restore
from training.state import TrainingState

SMALL = TrainConfig(
    env="reach",
    num_envs=4,
    warmup=100,
    steps=1000,
    overlap=False,
    task=TaskConfig(max_episode_steps=10),
    sac=SACConfig(hidden=(16, 16), batch_size=16),
)


@pytest.fixture
def desk(tmp_path):
    """A run's state after its first updates, and what saves it."""
    config = replace(SMALL, run=str(tmp_path / "r")).resolved()
    state, run = TrainingState.new(config, torch.device("cpu")), RunDirectory(tmp_path / "r")
    with run.lock():
        curves = Curves(run.path, config, 0, {})
        saver = Saver(run, config, state, curves, None)
        advance(config, state, 160)
        yield config, state, saver
        saver.close()
        curves.close()


def advance(config: TrainConfig, state: TrainingState, steps: int) -> None:
    while state.env_steps < steps:
        train.collect_and_learn(state, config)


def newest(saver: Saver) -> Path:
    return checkpoints.list_checkpoints(saver.run.checkpoints)[-1]


def test_a_restored_state_is_the_saved_one_and_goes_on_alike(desk):
    config, state, saver = desk
    saver.save(None)
    saver.finish()
    other = TrainingState.new(config, torch.device("cpu"))
    assert checkpoints.digest(other.state_dict()) != checkpoints.digest(state.state_dict())
    _, notes = restore(other, newest(saver), config)
    assert notes == []
    for steps in (160, 320):
        advance(config, state, steps)
        advance(config, other, steps)
        assert checkpoints.digest(other.state_dict()) == checkpoints.digest(state.state_dict())


def test_a_saved_state_is_that_of_the_call_however_training_goes_on(desk, monkeypatch):
    config, state, saver = desk
    before, has_gone_on = checkpoints.digest(state.state_dict()), threading.Event()
    monkeypatch.setattr(Curves, "sync", lambda self: has_gone_on.wait(10))
    saver.save(None)
    advance(config, state, 320)
    has_gone_on.set()
    saver.last_good()
    other = TrainingState.new(config, torch.device("cpu"))
    restore(other, newest(saver), config)
    assert checkpoints.digest(other.state_dict()) == before


def test_finish_saves_what_is_not_saved_and_nothing_twice(desk):
    config, state, saver = desk
    saver.finish()
    written = (newest(saver) / "manifest.json").stat().st_mtime_ns
    saver.finish()
    assert (newest(saver) / "manifest.json").stat().st_mtime_ns == written
    advance(config, state, 200)
    saver.finish()
    assert checkpoints.step_of(newest(saver)) == 200


# Nothing that is not finite is ever saved


@pytest.mark.parametrize(
    "part", ["actor", "actor_average", "critic", "critic_target", "critic_moments", "log_alpha", "staging", "return"]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_never_saved(part, value, desk):
    _, state, saver = desk
    saver.save(None)
    saver.finish()
    before = {path: path.read_bytes() for path in saver.run.checkpoints.rglob("*") if path.is_file()}
    agent = state.agent
    with torch.no_grad():
        match part:
            case "log_alpha":
                agent.log_alpha.fill_(value)
            case "critic_moments":
                next(iter(agent.critic_moments.exp_avg_sq.values())).view(-1)[0] = value
            case "staging":
                state.buffer.staging["observation"][0, 0] = value
            case "return":
                state.rollouts.running["return"][0] = value
            case _:
                next(getattr(agent, part).parameters()).view(-1)[0] = value
    state.env_steps += 4
    with pytest.raises(TrainingDiverged, match=f"training diverged by step 164: .*{part}.* not finite"):
        saver.save(None)
    assert {path: path.read_bytes() for path in saver.run.checkpoints.rglob("*") if path.is_file()} == before


def spoil(where, state, monkeypatch):
    """Lets the next step find a NaN at `where`."""
    env = state.envs.envs[1]
    match where:
        case "action":
            with torch.no_grad():
                next(state.agent.actor.parameters()).fill_(np.nan)
        case "observation" | "achieved_goal" | "reward":
            step = env.step

            def spoilt(action):
                obs, reward, *rest = step(action)
                if where == "reward":
                    return obs, np.nan, *rest
                return obs | {where: np.full_like(obs[where], np.nan)}, reward, *rest

            monkeypatch.setattr(env, "step", spoilt)
        case "hindsight reward":
            monkeypatch.setattr(
                state.judge, "compute_reward", lambda achieved, desired, info: np.full(len(achieved), np.nan)
            )
        case "gradient":
            next(state.agent.critic.parameters()).data[0, 0] = np.nan


@pytest.mark.parametrize("where", ["action", "observation", "achieved_goal", "reward", "hindsight reward", "gradient"])
def test_a_nan_stops_the_run_within_a_step_and_costs_no_checkpoint(where, desk, monkeypatch):
    config, state, saver = desk
    saver.save(None)
    saver.finish()
    good, stored = newest(saver), state.buffer.position
    spoil(where, state, monkeypatch)
    with pytest.raises((TrainingDiverged, EnvError), match="not finite") as caught:
        advance(config, state, state.env_steps + 3 * config.num_envs)
    assert "\n" not in str(caught.value)
    assert all(np.isfinite(column).all() for column in state.buffer.rows.values())
    if where != "gradient":
        assert state.buffer.position == stored
    assert checkpoints.list_checkpoints(saver.run.checkpoints) == [good]
    checkpoints.verify(good)


# Failing disks


@pytest.fixture
def full_disk(monkeypatch):
    """A switch: while it is on, no file can be written into a checkpoint."""
    write, switch = checkpoints.store.write_file, {"full": True}

    def refuse(path, data):
        if switch["full"]:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    monkeypatch.setattr("checkpoints.store.write_file", refuse)
    return switch


def test_a_full_disk_is_told_training_goes_on_and_the_next_save_is_good(desk, full_disk, capsys):
    config, state, saver = desk
    full_disk["full"] = False
    saver.save(None)
    saver.finish()
    first = newest(saver)
    full_disk["full"] = True
    advance(config, state, 200)
    saver.save(None)
    assert saver.last_good() == "the last good checkpoint is of step 160"
    assert "checkpoint of step 200 NOT saved" in (said := capsys.readouterr().out)
    assert "No space left on device; training goes on" in said
    assert checkpoints.list_checkpoints(saver.run.checkpoints) == [first]
    full_disk["full"] = False
    advance(config, state, 240)
    saver.save(None)
    saver.finish()
    assert [checkpoints.step_of(path) for path in checkpoints.list_checkpoints(saver.run.checkpoints)] == [160, 240]
    checkpoints.verify(newest(saver))


def test_a_last_state_that_cannot_be_saved_is_no_silent_loss(desk, full_disk):
    _, _, saver = desk
    with pytest.raises(SaveFailed, match="step 160 could not be saved; there is no checkpoint yet"):
        saver.finish()


# What does not fit


def test_a_checkpoint_of_other_sizes_is_refused_in_one_sentence(desk):
    config, _, saver = desk
    saver.finish()
    wider = replace(config, sac=replace(config.sac, hidden=(16, 24)))
    with pytest.raises(checkpoints.CheckpointError, match="does not fit reach as it is now") as caught:
        restore(TrainingState.new(wider, torch.device("cpu")), newest(saver), wider)
    assert "\n" not in str(caught.value)


GONE = object()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("progress|env_steps", GONE),
        ("progress|env_steps", "many"),
        ("progress|env_steps", 161),
        ("progress|learning_since", -(10**12)),
        ("progress|learning_since", 161),
        ("progress|evaluation_due", 1),
        ("progress|best_success", None),
        ("progress|last_success", "x"),
        ("agent|updates", -(10**12)),
        ("agent|updates", 1e300),
        ("agent|log_alpha", np.zeros(3, np.float32)),
        ("agent|actor_moments|exp_avg|net.0.weight", np.zeros(3, np.float32)),
        ("agent|critic_moments|exp_avg_sq", GONE),
        ("agent|more", np.zeros(3)),
        ("agent|generator|state", np.zeros(5, np.uint8)),
        ("explorer|action", np.zeros((1, 6), np.float32)),
        ("explorer|rng", {}),
        ("envs|obs|observation", np.zeros((4, 3), np.float32)),
        ("envs|obs", GONE),
        ("envs|envs|0|steps", "x"),
        ("envs|envs|0|steps", 11),
        ("envs|envs|0|goal", np.zeros(7)),
        ("envs|envs|0|simulation", np.zeros(7)),
        ("envs|envs|0|simulation", np.full(53, np.nan)),
        ("rollouts|episodes", -1),
        ("rollouts|running|return", [0.0] * 3),
        ("rollouts|running|return", ["x"] * 4),
        ("rollouts|windows|rollout/ep_rew_mean", [0.0] * 101),
        ("rollouts|windows", [1, 2]),
        ("update_metrics|count", 0.5),
        ("update_metrics|sums", {"q/q1": "x"}),
        ("curves|files", [1]),
        ("buffer|position", 3),
    ],
)
def test_a_value_that_cannot_be_this_runs_is_refused_in_one_sentence(place, value, desk):
    config, state, saver = desk
    content = state.state_dict() | {"curves": {"files": {}}}
    *parents, key = place.split("|")
    node = content
    for parent in parents:
        node[parent] = dict(node[parent])
        node = node[parent]
    node.pop(key, None)
    if value is not GONE:
        node[key] = value
    path = checkpoints.save(saver.run.checkpoints, 160, content, checkpoints.About(config.to_dict()))
    with pytest.raises(checkpoints.CheckpointError, match="does not fit reach as it is now: ") as caught:
        restore(TrainingState.new(config, torch.device("cpu")), path, config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "files", [{"../../thesis.tex": 0}, {"events.out.tfevents.1700000000.a.1.sac-her": -1}, ["x"], 3]
)
def test_curves_that_are_none_are_refused_in_one_sentence(files, desk):
    config, state, saver = desk
    content = state.state_dict() | {"curves": {"files": files}}
    path = checkpoints.save(saver.run.checkpoints, 160, content, checkpoints.About(config.to_dict()))
    with pytest.raises(checkpoints.CheckpointError, match="does not fit reach as it is now"):
        restore(TrainingState.new(config, torch.device("cpu")), path, config)


def test_the_buffers_configuration_is_part_of_what_must_fit(desk):
    config, _, saver = desk
    saver.finish()
    smaller = replace(config, her=her.HERConfig(capacity=100))
    with pytest.raises(checkpoints.CheckpointError, match="does not fit reach as it is now: the saved buffer"):
        restore(TrainingState.new(smaller, torch.device("cpu")), newest(saver), smaller)
