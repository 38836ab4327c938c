"""Holds everything that the next step of a run depends on."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from checkpoints import Manifest
from env import TASKS, EnvError, EnvSpec, GoalEnv, SimulationDiverged, VectorEnv, VectorEnvWorkers, close_envs, packed
from errors import UserError
from her import ReplayBuffer
from sac import SAC, HeldRandomActions
from training.batches import DeviceRows, Replay
from training.config import EVALUATED, TrainConfig
from training.curves.diagnosis import Advice, Doctor
from training.curves.meters import RolloutMeter, UpdateMeter
from training.goals import GoalChooser
from training.setup import (
    discount,
    evaluation_environments,
    expected_sizes,
    make_agent,
    make_buffer,
    training_environments,
)

PARTS = ("envs", "agent", "buffer", "explorer", "goals", "rollouts", "update_metrics", "doctor")
"""What has a state_dict of its own."""
LARGE = 2**30
"""Bytes of a buffer beyond which a run says what it takes."""
PROGRESS = ("env_steps", "learning_since", "reward_scale", "best_success", "last_success")


@dataclass
class TrainingState:
    """A checkpoint is this, part by part: what is not here is not part of the run."""

    envs: VectorEnv | VectorEnvWorkers
    relabel_env: GoalEnv
    """Never steps. Its compute_reward and the like judge hindsight goals while the others step."""
    agent: SAC
    buffer: ReplayBuffer
    explorer: HeldRandomActions
    goals: GoalChooser
    rollouts: RolloutMeter
    update_metrics: UpdateMeter
    doctor: Doctor
    env_seeds: list[int]
    gamma: float
    """Discount."""
    env_steps: int = 0
    learning_since: int | None = None
    """The step from which updates are counted: the warm-up's end, or the first episode's where that comes later."""
    reward_scale: float = 1.0
    """What rewards are divided by, from the first update on."""
    best_success: float = -1.0
    """Of the evaluations so far: the mean return where the task tells no success."""
    last_success: float | None = None
    device_rows: DeviceRows | None = None
    """The buffer's rows on the GPU, where they fit."""

    @classmethod
    def new(cls, config: TrainConfig, device: torch.device) -> "TrainingState":
        """Makes the state before the first step. Every generator grows from config.seed. Raises UserError."""
        agent_seed, buffer_seed, explorer_seed, env_seed, goal_seed = np.random.SeedSequence(config.seed).spawn(5)
        n = config.num_envs
        with ExitStack() as failed:
            (relabel_env,), spec = evaluation_environments(config, 1, "own")
            failed.callback(close_envs, [relabel_env])
            _refuse_useless(config, spec)
            _refuse_unsavable(relabel_env, config.env)
            envs = training_environments(config, spec)
            failed.callback(envs.close)
            env_seeds = [int(seed) for seed in env_seed.generate_state(n)]
            envs.reset(env_seeds)
            agent = make_agent(config, spec, device, int(agent_seed.generate_state(1)[0]))
            # What meets a goal must be told by the reward, or the run could not judge its own.
            chooses = config.her.strategy != "none" and spec.reward_values is not None
            share = config.her.proposed_goals if chooses else 0.0
            state = cls(
                envs=envs,
                relabel_env=relabel_env,
                agent=agent,
                buffer=make_buffer(config, spec, np.random.default_rng(buffer_seed)),
                explorer=HeldRandomActions(
                    n, spec.action_dim, config.warmup_hold, np.random.default_rng(explorer_seed)
                ),
                goals=GoalChooser(n, spec.goal_dim, share, np.random.default_rng(goal_seed)),
                rollouts=RolloutMeter(n),
                update_metrics=UpdateMeter(),
                doctor=new_doctor(config, spec, agent.target_entropy),
                env_seeds=env_seeds,
                gamma=discount(config, spec),
            )
            state.device_rows = DeviceRows.where_they_fit(state.buffer, device)
            failed.pop_all()
        return state

    def replay(self, config: TrainConfig) -> Replay:
        """Returns what draws batches."""
        return Replay(
            self.buffer,
            self.relabel_env,
            config.her,
            self.gamma,
            config.n_step,
            self.envs.spec.reward_values,
            self.reward_scale,
            self.device_rows,
        )

    def begin_branch(self, config: TrainConfig, changed: Collection[str]) -> None:
        """Makes of a run that was restored a branch of it, which has other options, those `changed`, from here on."""
        if "seed" in changed:
            agent_seed, buffer_seed, explorer_seed, env_seed, goal_seed = np.random.SeedSequence(config.seed).spawn(5)
            self.agent.generator.manual_seed(int(agent_seed.generate_state(1)[0]))
            self.buffer.rng, self.explorer.rng, self.goals.rng = map(
                np.random.default_rng, (buffer_seed, explorer_seed, goal_seed)
            )
            self.env_seeds = [int(seed) for seed in env_seed.generate_state(config.num_envs)]
        if self.learning_since is not None and {"updates-per-step", "warmup"} & set(changed):
            # As if it had always been so: what the other ratio made or left out is neither made up for nor waited for.
            self.learning_since = self.env_steps - int(self.agent.updates / config.updates_per_step)
        if not set(EVALUATED).isdisjoint(changed):
            self.best_success, self.last_success = -1.0, None

    def close(self) -> None:
        """Ends the environments, and what they started."""
        self.envs.close()
        close_envs([self.relabel_env])

    def state_dict(self) -> dict[str, Any]:
        """Returns {part: nested dict of arrays, numbers, and the buffer's rows as a log}.

        Arrays may be views: copy or write them before the next step.
        """
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        return parts | {"progress": {name: getattr(self, name) for name in PROGRESS}}

    def sizes(self, manifest: Manifest) -> dict[str, Any]:
        """Returns a tree whose arrays and logs have the shapes of those in the checkpoint of `manifest`, if it fits."""
        parts = expected_sizes(self.agent, self.buffer, manifest)
        return parts | {"explorer": self.explorer.state_dict(), "envs": {"obs": self.envs.obs}}

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """Restores what state_dict returned. Returns how many environments could not be, and began a fresh episode."""
        for name in PROGRESS:
            setattr(self, name, state["progress"][name])
        for name in PARTS[1:]:
            getattr(self, name).load_state_dict(state[name])
        if self.device_rows:
            self.device_rows.forget()
        fresh = self.envs.load_state_dict(state["envs"], [(seed + self.env_steps) % 2**31 for seed in self.env_seeds])
        self.rollouts.forget(fresh)
        self.goals.forget(fresh)
        for env in fresh:
            self.buffer.discard_staged(env)
        return len(fresh)


def new_doctor(config: TrainConfig, spec: EnvSpec, target_entropy: float) -> Doctor:
    """Makes the run's doctor, who may name options that its task has and that the run does not use."""
    with_cube = config.env in TASKS and TASKS[config.env].has_cube
    first_end = config.num_envs * spec.max_episode_steps
    return Doctor(
        target_entropy,
        first_update_by=max(config.warmup, first_end) + first_end + int(1 / config.updates_per_step),
        hindsight=config.her.strategy != "none",
        advice=Advice(
            shaping="--reward sparse-reach" if config.reward == "sparse" else None,
            starts="--task.scripted-starts 0.8" if with_cube and not config.task.scripted_starts else None,
        ),
        scripted_until=config.task.scripted_until if config.task.scripted_starts else None,
    )


def _refuse_unsavable(env: GoalEnv, name: str) -> None:
    """Finds out now what no checkpoint could hold, and not after the first ten thousand steps. Raises EnvError.

    `env` is in the middle of an episode. It begins another here.
    """
    for _ in range(2):
        try:
            packed(env.state_dict() if hasattr(env, "state_dict") else {})
        except Exception as error:  # other people's code fails in its own ways
            raise EnvError(
                f"--env {name}: what its state_dict() returns cannot be saved ({type(error).__name__}: {error}); it "
                "may hold NumPy arrays, and whatever JSON does, in dicts whose keys are strings"
            ) from error
        with suppress(SimulationDiverged):
            env.reset()


def first_notes(config: TrainConfig, state: TrainingState) -> Iterator[str]:
    """Yields what is to be known of somebody's own environment before the first step."""
    n, spec, longest = config.num_envs, state.envs.spec, state.envs.spec.max_episode_steps
    if spec.lacks:
        yield f"{config.env} has no {', no '.join(f'{name} ({without})' for name, without in spec.lacks.items())}"
    if not len(state.buffer) and _updates(config, n * longest) < 1:
        yield (
            f"episodes of up to {longest:,} steps in {n} environments: the first may end after {n * longest:,} steps "
            f"only, and this run has {config.steps:,}; where none ends before, nothing is learnt: give more --steps, "
            "or fewer --num-envs"
        )
    memory = sum(column.nbytes for column in state.buffer.rows.values())
    if memory > LARGE:
        used = memory * min(1.0, config.steps / config.her.capacity)
        yield (
            f"the buffer takes {memory / 2**30:.1f} GiB of memory, and its checkpoints up to {used / 2**30:.1f} GiB of "
            "the disk; a smaller --her.capacity takes less"
        )
    evaluated = config.eval.episodes * longest
    if evaluated > 4 * config.eval.every:
        yield (
            f"an evaluation is {config.eval.episodes} episodes of up to {longest:,} steps, {evaluated:,} in all, after "
            f"every {config.eval.every:,} steps of training; where it takes too long, give fewer --eval.episodes, or a "
            "larger --eval.every"
        )


def _updates(config: TrainConfig, first_end: int) -> float:
    """Returns how many updates a run makes whose first episodes have ended after `first_end` steps."""
    last = (config.steps - 1) // config.num_envs * config.num_envs  # what is learnt at a step has been stored before it
    return (last - max(config.warmup, first_end - config.num_envs)) * config.updates_per_step


def _refuse_useless(config: TrainConfig, spec: EnvSpec) -> None:
    """Raises UserError for a run that would learn nothing, not from all of its environments, or with no goals.

    How soon episodes of somebody's own environment end is not known. Of those it refuses what is certain.
    """
    if not spec.goal_dim and config.her.strategy != "none":
        raise UserError(f"--env {config.env}: has no goals that hindsight could relabel; add --her.strategy none")
    n = config.num_envs
    longest = spec.max_episode_steps if config.env in TASKS else 1
    if config.her.capacity < (least := (n + 1) * (longest + 1)):
        # Episodes that end together are stored one after another; what is left over at the ring's end is one more.
        raise UserError(
            f"--her.capacity {config.her.capacity}: the episodes of {n} environments, {longest + 1} rows each, end "
            f"together and would overwrite each other; give {least} or more"
        )
    first_end = n * longest
    if _updates(config, first_end) < 1:
        raise UserError(
            f"--steps {config.steps}: ends before the first update; they begin after {config.warmup} random steps and "
            f"the first episodes of {n} environments, which take {first_end}, with {config.updates_per_step} a step; "
            "give more --steps"
        )
