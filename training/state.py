"""Everything that the next step of a run depends on, in one place."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from checkpoints import check_like, check_savable
from env import TASKS, EnvError, EnvSpec, GoalEnv, VectorEnv, VectorEnvProcess
from env.probe import return_range
from her import ReplayBuffer
from sac import SAC, HeldRandomActions
from training.config import ConfigError, TrainConfig
from training.curves.diagnosis import Advice, Doctor
from training.curves.meters import RolloutMeter, UpdateMeter
from training.setup import evaluation_environments, make_agent, training_environments


def new_buffer(config: TrainConfig, spec: EnvSpec, rng: np.random.Generator) -> ReplayBuffer:
    """An empty buffer that fits the environments. Raises ConfigError where not even one episode would fit in."""
    dims = {"observation": spec.obs_dim, "goal": spec.goal_dim, "action": spec.action_dim}
    try:
        return ReplayBuffer(config.her.capacity, config.num_envs, spec.max_episode_steps, dims, spec.info_shapes, rng)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except MemoryError as error:
        raise ConfigError(f"--her.capacity {config.her.capacity}: {error}; give a smaller one") from error


def advice_for(config: TrainConfig) -> Advice:
    """What diagnoses may name: options that the run's task has, and that the run does not use."""
    with_cube = config.env in TASKS and TASKS[config.env].has_cube
    return Advice(
        shaping="--reward sparse-reach" if config.reward == "sparse" else None,
        starts="--task.scripted-starts 0.8" if with_cube and not config.task.scripted_starts else None,
    )


def _check_env_state(env: GoalEnv, name: str) -> None:
    """What no checkpoint could hold is found out now, and not after the first ten thousand steps. Raises EnvError."""
    try:
        check_savable(env.state_dict() if hasattr(env, "state_dict") else {})
    except Exception as error:  # other people's code fails in its own ways
        raise EnvError(
            f"--env {name}: what its state_dict() returns cannot be saved ({type(error).__name__}: {error}); it may "
            "hold NumPy arrays, and whatever JSON does, in dicts whose keys are strings"
        ) from error


def _check_run(config: TrainConfig, spec: EnvSpec) -> None:
    """Raises ConfigError for a run that would learn nothing, or not from all of its environments. How soon episodes of
    somebody's own environment end is not known: of those it refuses what is certain."""
    n = config.num_envs
    longest = spec.max_episode_steps if config.env in TASKS else 1
    if config.her.capacity < (least := (n + 1) * (longest + 1)):
        # Episodes that end together are stored one after another; what is left over at the ring's end is one more.
        raise ConfigError(
            f"--her.capacity {config.her.capacity}: the episodes of {n} environments, {longest + 1} rows each, end "
            f"together and would overwrite each other; give {least} or more"
        )
    first_end = n * longest
    last = (config.steps - 1) // n * n  # what is learnt at a step has been stored before it
    if (last - max(config.warmup, first_end - n)) * config.updates_per_step < 1:
        raise ConfigError(
            f"--steps {config.steps}: ends before the first update; they begin after {config.warmup} random steps and "
            f"the first episodes of {n} environments, which take {first_end}, with {config.updates_per_step} a step; "
            "give more --steps"
        )


def _check_progress(progress: dict[str, Any]) -> None:
    """Raises ValueError, KeyError where a run cannot have come so far."""
    steps, since = progress["env_steps"], progress["learning_since"]
    if type(steps) is not int or steps < 0 or not (since is None or (type(since) is int and 0 <= since <= steps)):
        raise ValueError(f"it stands at step {steps!r:.40}, and learns since {since!r:.40}")
    if type(progress["evaluation_due"]) is not bool:
        raise ValueError(f"evaluation_due is {progress['evaluation_due']!r:.40}")
    best, last = progress["best_success"], progress["last_success"]
    if type(best) is not float or not (last is None or type(last) is float):
        raise ValueError(f"its best success is {best!r:.40}, its last one {last!r:.40}")


@dataclass
class TrainingState:
    """A checkpoint is this, part by part: what is not here is not part of the run."""

    envs: VectorEnv | VectorEnvProcess
    judge: GoalEnv
    """Never steps: its compute_reward and the like judge hindsight goals while the others step."""
    agent: SAC
    buffer: ReplayBuffer
    explorer: HeldRandomActions
    rollouts: RolloutMeter
    update_metrics: UpdateMeter
    doctor: Doctor
    env_seeds: list[int]
    env_steps: int = 0
    learning_since: int | None = None
    """The step from which updates are counted: the warm-up's end, or the first episode's where that comes later."""
    evaluation_due: bool = False
    """This step's evaluation has still to be done: a stop came before its end."""
    best_success: float = -1.0
    last_success: float | None = None

    @classmethod
    def new(cls, config: TrainConfig, device: torch.device) -> "TrainingState":
        """The state before the first step. Every generator of the run grows from config.seed. Raises EnvError."""
        agent_seed, buffer_seed, explorer_seed, env_seed = np.random.SeedSequence(config.seed).spawn(4)
        n = config.num_envs
        (judge,), spec = evaluation_environments(config, 1, None)
        first_end = n * spec.max_episode_steps
        _check_run(config, spec)
        _check_env_state(judge, config.env)
        envs = training_environments(config, spec)
        env_seeds = [int(seed) for seed in env_seed.generate_state(n)]
        envs.reset(env_seeds)
        agent = make_agent(config, judge, spec, device, int(agent_seed.generate_state(1)[0]))
        return cls(
            envs=envs,
            judge=judge,
            agent=agent,
            buffer=new_buffer(config, spec, np.random.default_rng(buffer_seed)),
            explorer=HeldRandomActions(n, spec.action_dim, config.warmup_hold, np.random.default_rng(explorer_seed)),
            rollouts=RolloutMeter(n, spec.goal_scale),
            update_metrics=UpdateMeter(),
            doctor=Doctor(
                # Not target_bounds: where nothing clips targets, Q can leave it. An entropy bonus is no part of it.
                None if config.sac.backup_entropy else return_range(judge, config.sac.gamma),
                agent.target_entropy,
                first_update_by=max(config.warmup, first_end) + first_end + int(1 / config.updates_per_step),
                hindsight=config.her.strategy != "none",
                advice=advice_for(config),
                scripted_until=config.task.scripted_until if config.task.scripted_starts else None,
            ),
            env_seeds=env_seeds,
        )

    def state_dict(self) -> dict[str, Any]:
        """{part: nested dict of arrays, numbers, and the buffer's rows as a log}; arrays may be views: copy or write
        them before the next step."""
        return {
            "envs": self.envs.state_dict(),
            "agent": self.agent.state_dict(),
            "buffer": self.buffer.state_dict(),
            "explorer": self.explorer.state_dict(),
            "rollouts": self.rollouts.state_dict(),
            "update_metrics": self.update_metrics.state_dict(),
            "doctor": self.doctor.state_dict(),
            "progress": {
                "env_steps": self.env_steps,
                "learning_since": self.learning_since,
                "evaluation_due": self.evaluation_due,
                "best_success": self.best_success,
                "last_success": self.last_success,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """Restores what state_dict returned; returns how many environments could not be, and began a fresh episode."""
        own, progress = self.state_dict(), state["progress"]
        # Its generator apart, which is another on another device.
        check_like(state["agent"] | {"generator": None}, own["agent"] | {"generator": None}, "agent")
        check_like(state["explorer"], own["explorer"], "explorer")
        check_like(state["envs"]["obs"], own["envs"]["obs"], "obs")
        _check_progress(progress)
        for name in ("env_steps", "learning_since", "evaluation_due", "best_success", "last_success"):
            setattr(self, name, progress[name])
        for name in ("agent", "buffer", "explorer", "rollouts", "update_metrics", "doctor"):
            getattr(self, name).load_state_dict(state[name])
        fresh = self.envs.load_state_dict(state["envs"], [(seed + self.env_steps) % 2**31 for seed in self.env_seeds])
        self.rollouts.forget(fresh)
        for env in fresh:
            self.buffer.discard_staged(env)
        return len(fresh)
