"""What a run saves of itself, that nothing broken is ever saved, and that a save which fails ends nothing."""

import errno
import threading
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import checkpoints
import train
from env import TaskConfig
from errors import UserError
from her import HERConfig
from sac import SACConfig
from training.config import TrainConfig
from training.curves.tensorboard import Curves
from training.recipes import recipe
from training.resume.run_directory import RunDirectory
from training.resume.saving import Saver, restore
from training.state import TrainingState

SMALL = replace(
    recipe("reach"),
    num_envs=4,
    warmup=100,
    steps=1000,
    batch_size=16,
    overlap=False,
    task=TaskConfig(max_episode_steps=10),
    sac=SACConfig(hidden=(16, 16)),
)


class Desk(NamedTuple):
    """A run after its first updates, and what saves it."""

    config: TrainConfig
    state: TrainingState
    saver: Saver
    root: Path

    def advance(self, steps: int, state: TrainingState | None = None) -> None:
        state = state or self.state
        while state.env_steps < steps:
            train.collect_and_learn(state, self.config)

    def save(self) -> Path:
        self.saver.save(None)
        self.saver.finish()
        return self.newest()

    def newest(self) -> Path:
        return checkpoints.list_checkpoints(self.root)[-1]

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def restored(self, **changes) -> tuple[TrainingState, list[str]]:
        """A new state of the same options but for `changes`, with the newest checkpoint in it, and what was said."""
        config = replace(self.config, **changes)
        state = TrainingState.new(config, torch.device("cpu"))
        return state, restore(state, self.newest(), config)


@pytest.fixture
def desk(tmp_path):
    config = replace(SMALL, run=str(tmp_path / "r"))
    state, run = TrainingState.new(config, torch.device("cpu")), RunDirectory(tmp_path / "r")
    with run.lock():
        curves = Curves(run.path, config, 0)
        saver = Saver(run, config, state, curves, None)
        desk = Desk(config, state, saver, run.checkpoints)
        desk.advance(160)
        yield desk
        saver.close()
        curves.close()


def test_a_restored_state_is_the_saved_one_and_goes_on_alike(desk):
    desk.save()
    fresh = TrainingState.new(desk.config, torch.device("cpu"))
    assert checkpoints.digest(fresh.state_dict()) != checkpoints.digest(desk.state.state_dict())
    other, notes = desk.restored()
    assert notes == []
    for steps in (160, 320):
        desk.advance(steps)
        desk.advance(steps, other)
        assert checkpoints.digest(other.state_dict()) == checkpoints.digest(desk.state.state_dict())


def test_a_saved_state_is_that_of_the_call_however_training_goes_on(desk, monkeypatch):
    before, has_gone_on = checkpoints.digest(desk.state.state_dict()), threading.Event()
    monkeypatch.setattr(Curves, "sync", lambda self: has_gone_on.wait(10))
    desk.saver.save(None)
    desk.advance(320)
    has_gone_on.set()
    desk.saver.last_good()
    assert checkpoints.digest(desk.restored()[0].state_dict()) == before


def test_finish_saves_what_is_not_saved_and_nothing_twice(desk):
    desk.saver.finish()
    written = (desk.newest() / "manifest.json").stat().st_mtime_ns
    desk.saver.finish()
    assert (desk.newest() / "manifest.json").stat().st_mtime_ns == written
    desk.advance(200)
    desk.saver.finish()
    assert checkpoints.step_of(desk.newest()) == 200


# Nothing that is not finite is ever saved


@pytest.mark.parametrize(
    "part", ["actor", "actor_average", "critic", "critic_target", "critic_moments", "log_alpha", "staging", "return"]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_never_saved(part, value, desk):
    desk.save()
    before, agent = desk.files(), desk.state.agent
    with torch.no_grad():
        match part:
            case "log_alpha":
                agent.log_alpha.fill_(value)
            case "critic_moments":
                agent.learnt.critic_moments.exp_avg_sq[0] = value
            case "staging":
                desk.state.buffer.staging["observation"][0, 0] = value
            case "return":
                desk.state.rollouts.returns[0] = value
            case _:
                next(getattr(agent, part).parameters()).view(-1)[0] = value
    desk.state.env_steps += 4
    with pytest.raises(UserError, match=f"training diverged by step 164: .*{part}.* not finite") as caught:
        desk.saver.save(None)
    assert caught.value.status == 2
    assert desk.files() == before


def spoil(where, state, monkeypatch):
    """Lets the next step find a NaN at `where`."""
    match where:
        case "action":
            with torch.no_grad():
                next(state.agent.actor.parameters()).fill_(np.nan)
        case "observation" | "achieved_goal" | "reward":
            stepped = state.envs._step_together

            def spoilt(actions):
                step, errors = stepped(actions)
                (step.reward if where == "reward" else step.next_obs[where])[1] = np.nan
                return step, errors

            monkeypatch.setattr(state.envs, "_step_together", spoilt)
        case "hindsight reward":
            rewards = lambda achieved, desired, info: np.full(len(achieved), np.nan)  # noqa: E731
            monkeypatch.setattr(state.relabel_env, "compute_reward", rewards)
        case "gradient":
            next(state.agent.critic.parameters()).data[0, 0] = np.nan


@pytest.mark.parametrize("where", ["action", "observation", "achieved_goal", "reward", "hindsight reward", "gradient"])
def test_a_nan_stops_the_run_within_a_step_and_costs_no_checkpoint(where, desk, monkeypatch):
    good, stored = desk.save(), desk.state.buffer.position
    spoil(where, desk.state, monkeypatch)
    with pytest.raises(UserError, match="not finite") as caught:
        desk.advance(desk.state.env_steps + 3 * desk.config.num_envs)
    assert "\n" not in str(caught.value)
    assert all(np.isfinite(column).all() for column in desk.state.buffer.rows.values())
    if where != "gradient":
        assert desk.state.buffer.position == stored
    assert checkpoints.list_checkpoints(desk.root) == [good]
    checkpoints.verify(good)


# Failing disks


def test_a_full_disk_is_told_training_goes_on_and_the_next_save_is_good(desk, monkeypatch, capsys):
    first, write = desk.save(), checkpoints.store.write_file

    def refuse(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("checkpoints.store.write_file", refuse)
    desk.advance(200)
    desk.saver.save(None)
    assert desk.saver.last_good() == "the last good checkpoint is of step 160"
    assert "checkpoint of step 200 NOT saved" in (said := capsys.readouterr().out)
    assert "No space left on device; training goes on" in said
    assert checkpoints.list_checkpoints(desk.root) == [first]
    with pytest.raises(UserError, match="step 200 could not be saved; mend what the message above names") as caught:
        desk.saver.finish()  # the last state is no silent loss
    assert caught.value.status == 1
    monkeypatch.setattr("checkpoints.store.write_file", write)
    desk.advance(240)
    checkpoints.verify(desk.save())
    assert [checkpoints.step_of(path) for path in checkpoints.list_checkpoints(desk.root)] == [160, 240]


# What is generous


def test_a_generous_limit_of_an_episodes_length_costs_a_checkpoint_nothing(desk, tmp_path):
    config = replace(desk.config, steps=10**6, task=TaskConfig(max_episode_steps=20_000))
    state = TrainingState.new(config, torch.device("cpu"))
    desk.advance(160, state)
    about = checkpoints.About(config.to_dict(), {}, state.envs.spec.fingerprint)
    path = checkpoints.save(tmp_path / "generous", 160, state.state_dict(), about)
    assert (path / "buffer.safetensors").stat().st_size < 200_000
    old = state.state_dict()
    old["buffer"] = old["buffer"] | {"staging": state.buffer.staging}
    del old["buffer"]["staging_rows"]
    for stored in (path, checkpoints.save(tmp_path / "older", 160, old, about)):
        other = TrainingState.new(config, torch.device("cpu"))
        restore(other, stored, config)
        assert checkpoints.digest(other.state_dict()) == checkpoints.digest(state.state_dict())


# What does not fit


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sac": SACConfig(hidden=(16, 24))}, "agent.safetensors does not fit this run: "),
        ({"num_envs": 5}, "does not fit this run: "),
    ],
)
def test_a_checkpoint_of_other_sizes_is_refused_in_one_sentence(changes, told, desk):
    desk.save()
    with pytest.raises(checkpoints.CheckpointError, match=told) as caught:
        desk.restored(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("progress|env_steps", None, "does not fit reach as it is now: it holds no 'env_steps'"),
        ("agent|updates", None, "does not fit reach as it is now: it holds no 'updates'"),
        ("agent|log_alpha", np.zeros(3, np.float32), r"log_alpha is float32 \(3,\) there, and float32 \(\) here"),
        ("agent|critic_moments|exp_avg_sq", None, "exp_avg_sq.* is missing there, and float32 "),
        ("envs|envs", None, "does not fit reach as it is now: it holds no 'envs'"),
    ],
)
def test_a_state_that_other_code_wrote_is_refused_in_one_sentence(place, value, told, desk):
    content = desk.state.state_dict()
    *parents, key = place.split("|")
    node = content
    for parent in parents:
        node[parent] = dict(node[parent])
        node = node[parent]
    node.pop(key) if value is None else node.update({key: value})
    checkpoints.save(desk.root, 160, content, checkpoints.About(desk.config.to_dict()))
    with pytest.raises(checkpoints.CheckpointError, match=told) as caught:
        desk.restored()
    assert "\n" not in str(caught.value)


def test_long_episodes_of_many_large_observations_are_loaded_again(tmp_path):
    env = tmp_path / "large.py"
    env.write_text(
        "import numpy as np\n"
        "class Env:\n"
        "    obs_dim, goal_dim, action_dim, max_episode_steps = 6_000, 1, 1, 5_000\n"
        "    def reset(self, seed=None):\n        return self.obs(), {}\n"
        "    def step(self, action):\n        return self.obs(), -1.0, False, False, {'is_success': False}\n"
        "    def compute_reward(self, achieved, desired, info):\n        return np.full(len(achieved), -1.0)\n"
        "    def obs(self):\n        goal = np.zeros(1)\n"
        "        return {'observation': np.zeros(6_000), 'achieved_goal': goal, 'desired_goal': goal}\n"
    )
    config = replace(
        TrainConfig("large:Env"), overlap=False, her=HERConfig(capacity=100_000), sac=SACConfig(hidden=(8,))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        state, other = (TrainingState.new(config, torch.device("cpu")) for _ in range(2))
    state.buffer.staged[:] = 800  # of 16 environments
    about = checkpoints.About(config.to_dict(), {}, None)
    path = checkpoints.save(tmp_path / "checkpoints", 0, state.state_dict(), about)
    assert (path / "buffer.safetensors").stat().st_size > 2**28
    assert restore(other, path, config) == []  # that it has no state_dict is said at every start
    other.envs.spec.lacks.clear()  # as where somebody adds one after the checkpoint
    assert "16 environments begin a fresh episode: their state was not saved" in restore(other, path, config)[-1]
