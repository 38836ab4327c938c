"""An episode whose simulation fails is dropped: nothing of it is learnt from, and nobody else notices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from env import TaskConfig
from env.so101.simulation import Simulation
from training.recipes import recipe
from training.state import TrainingState

ENVS, LENGTH, POISONED = 3, 10, 1


@pytest.fixture(autouse=True)
def quiet_log(monkeypatch, tmp_path):
    """MuJoCo writes its warnings to MUJOCO_LOG.TXT in the working directory."""
    monkeypatch.chdir(tmp_path)


def collected(tmp_path, rounds, poison_at=None):
    """The training state after so many steps of each environment, all of them random ones; in step poison_at, the
    simulation of one environment finds a NaN among its velocities."""
    task = TaskConfig(max_episode_steps=LENGTH)  # all of one length, without scripted starts
    config = replace(recipe("pick-place"), num_envs=ENVS, steps=1000, warmup=500, task=task, overlap=False)
    state = TrainingState.new(config, torch.device("cpu"))
    for step in range(rounds):
        if step == poison_at:
            state.envs.envs[POISONED].sim.data.qvel[0] = np.nan
        train.collect_and_learn(state, config)
    return state


def stored_episodes(buffer):
    """{start of the episode (its first observation): every column of its rows}."""
    episodes = {}
    for start in np.flatnonzero((buffer.steps_before == 0) & (buffer.steps_after > 0)):
        rows = slice(start, start + buffer.steps_after[start] + 1)
        columns = {key: column[rows].copy() for key, column in buffer.rows.items()}
        episodes[columns["observation"][0].tobytes()] = columns
    return episodes


@pytest.mark.parametrize("poison_at", [0, 4, LENGTH - 1])
def test_nothing_of_a_diverged_episode_is_stored_and_the_others_keep_their_bits(tmp_path, poison_at):
    clean, poisoned = collected(tmp_path, LENGTH), collected(tmp_path, LENGTH, poison_at)
    assert len(clean.buffer) == ENVS * LENGTH
    assert len(poisoned.buffer) == (ENVS - 1) * LENGTH
    expected, left = stored_episodes(clean.buffer), stored_episodes(poisoned.buffer)
    assert len(left) == ENVS - 1
    for first, columns in left.items():
        for key, column in columns.items():
            np.testing.assert_array_equal(column, expected[first][key], err_msg=key)
    (dropped,) = expected.keys() - left.keys()
    for observation in expected[dropped]["observation"]:
        assert not (poisoned.buffer.rows["observation"] == observation).all(1).any()


def test_a_diverged_episode_is_counted_and_enters_no_curve(tmp_path):
    clean, poisoned = collected(tmp_path, LENGTH), collected(tmp_path, LENGTH, poison_at=4)
    values = poisoned.rollouts.values()
    assert values["env/diverged_episodes"] == 1
    assert clean.rollouts.values()["env/diverged_episodes"] == 0
    assert values["rollout/episodes"] == ENVS - 1
    assert values.keys() == clean.rollouts.values().keys()
    assert all(np.isfinite(value) for value in values.values())


def test_the_environment_begins_a_new_episode_which_is_stored_whole(tmp_path):
    poison_at = 4
    state = collected(tmp_path, poison_at + 1, poison_at)
    first = {key: value[POISONED].copy() for key, value in state.envs.obs.items()}
    assert state.envs.envs[POISONED].steps == 0
    assert np.isfinite(first["observation"]).all()
    state = collected(tmp_path, poison_at + 1 + LENGTH, poison_at)
    episode = stored_episodes(state.buffer)[first["observation"].tobytes()]
    assert len(episode["reward"]) == LENGTH + 1
    np.testing.assert_array_equal(episode["desired_goal"], np.tile(first["desired_goal"], (LENGTH + 1, 1)))
    for column in state.buffer.rows.values():
        assert np.isfinite(column).all()


def test_a_run_goes_on_over_a_divergence_and_says_how_many_there_were(tmp_path, monkeypatch):
    calls, advance = [], Simulation.advance
    before = 2 * (60 + 20)  # steps of the two checks, the evaluator's and the state's

    def poisoned(sim, servo_target):
        calls.append(sim)
        if len(calls) - before in (50, 333):
            sim.data.qvel[-1] = np.nan
        advance(sim, servo_target)

    monkeypatch.setattr(Simulation, "advance", poisoned)
    options = ["--no-video", "--no-compile", "--no-overlap", "--env", "pick-place", "--num-envs", "4",
               "--sac.hidden", "32", "32", "--warmup", "200", "--eval.episodes", "1", "--log.every", "100",
               "--steps", "400", "--task.max-episode-steps", "20", "--task.scripted-starts", "0",
               "--run", str(tmp_path / "r")]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["train.py", *options])
    train.main()
    events = EventAccumulator(str(tmp_path / "r"))
    events.Reload()
    counted = [event.value for event in events.Scalars("env/diverged_episodes")]
    assert counted == [1, 1, 1, 2]
    for tag in events.Tags()["scalars"]:
        assert all(np.isfinite(event.value) for event in events.Scalars(tag)), tag
