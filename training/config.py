"""What a run can be told, and what it is when nothing is said."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cattrs
from cattrs.errors import ClassValidationError

from env import DEFAULT_REWARD, TASKS, GoalKind, Reward, TaskConfig, is_custom
from env.tasks.base import ArmTask
from her import HERConfig
from sac import DeviceName, SACConfig
from training.options import flatten

STEPS = {"reach": 20_000, "push": 200_000, "pick-place": 400_000}
"""Environment steps of a run where --steps is not given; 100,000 for environments of your own."""
UPDATES_PER_STEP = {"push": 0.4, "pick-place": 0.4}
"""Gradient updates per step where --updates-per-step is not given; 0.25 for the others."""
TARGET_ENTROPY = {"push": -6.0, "pick-place": -6.0}
"""Entropy of the policy where --sac.target-entropy is not given: what a grasp can bear (benchmarks/grasp_noise.py)."""
LR_DECAY_AFTER = {"reach": 2_000, "pick-place": 80_000}
"""Updates after which the learning rate falls where --sac.lr-decay-after is not given; 40,000 for the others."""
LATE_RATIO = {"push": 0.5, "pick-place": 0.5}
"""Share of a batch that hindsight relabels late in a run where --her.late-ratio is not given; others keep theirs."""
WARMUP = {"push": 3_000, "pick-place": 3_000}
"""Steps of random actions where --warmup is not given; 1,000 for the others."""
SCRIPTED_STARTS = {"push": 0.8, "pick-place": 0.8}
"""Share of episodes that begin midway where --task.scripted-starts is not given; 0 for the others."""
EVAL_EVERY = {"reach": 2_000, "pick-place": 10_000}
"""Steps between evaluations where --eval.every is not given; 5,000 for the others."""


class ConfigError(ValueError):
    """An option that cannot be, or that the run directory contradicts."""


@dataclass(frozen=True)
class EvalConfig:
    """Deterministic evaluation on environments of its own."""

    every: int | None = None
    """Environment steps between two evaluations. Default: reach 2000, pick-place 10000, others 5000."""
    episodes: int = 40
    """Episodes of each evaluation."""
    seed: int = 1_000_000
    """Episode i of every evaluation is drawn from this seed + i.
    They are the same each time, and training never sees them."""
    goal: GoalKind | None = None
    """Goals to evaluate on; None is the task's own (pick-place: fixed)."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept on the disk."""

    every: int = 10_000
    """Environment steps between two checkpoints.
    An evaluation with the best success so far is saved as well."""
    keep: int = 3
    """How many of the newest to keep, besides the best by success and the first after each 100,000 steps."""


@dataclass(frozen=True)
class LogConfig:
    """TensorBoard."""

    every: int = 1_000
    """Environment steps between two points of the training curves."""


@dataclass(frozen=True)
class TrainConfig:
    """Train a policy with Soft Actor-Critic and Hindsight Experience Replay.

    The same command typed again continues the run where it stopped.
    Watch it with: tensorboard --logdir runs
    """

    env: str = "reach"
    """The task: reach, push, pick-place, or MODULE:CALLABLE for an environment of your own."""
    reward: Reward | None = None
    """sparse: 0 at the goal, -1 elsewhere. sparse-reach: the same and a potential for reaching.
    staged: dense, by the stages of a pick-and-place. Default: sparse-reach."""
    seed: int = 0
    """Seed of everything that is random."""
    steps: int | None = None
    """Environment steps of the whole run, resumed parts included.
    Default: reach 20000, push 200000, pick-place 400000, others 100000."""
    run: str | None = None
    """Run directory. Default: runs/ENV-REWARD-SEED."""
    resume: str = "auto"
    """auto: continue the run directory where it holds a run, else start it.
    never: refuse where it holds one. PATH: continue from that checkpoint."""
    device: DeviceName = "auto"
    """Where the networks live; ROCm's GPUs are called cuda, too. auto: where an update of this run is faster, found out
    by trying."""
    compile: bool = True
    """On a CPU let PyTorch compile the update: the same but for rounding, and faster. It takes half a minute the first
    time on a machine, and needs a C++ compiler; where there is none, the run says so and goes on without."""
    reduced_precision: bool = False
    """Round what matrix products multiply to bfloat16 on a CPU, to TF32 on a GPU: faster where the hardware has it
    (docs/performance.md)."""
    overlap: bool = True
    """Step the environments in a process of their own while the update computes; the result is the same bit by bit.
    --no-overlap: all in one process, which is easier to debug."""
    num_envs: int = 16
    """Environments that step side by side."""
    warmup: int | None = None
    """Environment steps of random actions before the policy acts and learns.
    Default: push and pick-place 3000, others 1000."""
    warmup_hold: float = 5.0
    """Steps for which a random action is held, on average."""
    updates_per_step: float | None = None
    """Gradient updates per environment step after the warm-up. Default: push and pick-place 0.4, others 0.25."""
    video: bool = True
    """Record a video of the trained policy at the end, and a few frames of it at evaluations (TensorBoard's images)."""
    watchdog: float | None = None
    """Seconds without a step after which the run shows where it hangs and ends, for a supervisor to start it again
    (docs/unattended.md)."""
    verify_resume: bool = False
    """Prove on this machine that a run of these options, killed and resumed, is the run that was never interrupted;
    trains a short one twice, in a temporary directory, and compares them."""
    task: TaskConfig = field(default_factory=TaskConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    her: HERConfig = field(default_factory=HERConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def resolved(self) -> "TrainConfig":
        """The same with every default filled in, and checked. Raises ConfigError."""
        if is_custom(self.env):
            theirs = {"--reward": self.reward is not None, "--eval.goal": self.eval.goal is not None}
            theirs["--task.*"] = self.task != TaskConfig()
            for name in (name for name, given in theirs.items() if given):
                raise ConfigError(f"{name} is the built-in tasks'; {self.env} brings its own")
        reward = self.reward or DEFAULT_REWARD
        kind = self.env.replace(":", "-") if is_custom(self.env) else f"{self.env}-{reward}"

        def given_or(value: Any, by_env: dict[str, Any], others: Any) -> Any:
            return by_env.get(self.env, others) if value is None else value

        task, sac = self.task, self.sac
        if not is_custom(self.env):
            task = replace(task, scripted_starts=given_or(task.scripted_starts, SCRIPTED_STARTS, 0.0))
        until = TASKS.get(self.env, ArmTask).scripted_until
        task = replace(task, scripted_until=until if task.scripted_until is None else task.scripted_until)
        sac = replace(
            sac,
            target_entropy=given_or(sac.target_entropy, TARGET_ENTROPY, None),
            lr_decay_after=given_or(sac.lr_decay_after, LR_DECAY_AFTER, 40_000),
        )
        # Who asks for less hindsight from the start is not given more of it later.
        late = {env: min(share, self.her.first_share) for env, share in LATE_RATIO.items()}
        config = replace(
            self,
            reward=None if is_custom(self.env) else reward,
            steps=given_or(self.steps, STEPS, 100_000),
            warmup=given_or(self.warmup, WARMUP, 1_000),
            updates_per_step=given_or(self.updates_per_step, UPDATES_PER_STEP, 0.25),
            run=self.run or f"runs/{kind}-{self.seed}",
            task=task,
            sac=sac,
            her=replace(self.her, late_ratio=given_or(self.her.late_ratio, late, None)),
            eval=replace(self.eval, every=given_or(self.eval.every, EVAL_EVERY, 5_000)),
        )
        config._check()
        config._check_training()
        return config

    def _check_training(self) -> None:
        """What a policy may have been trained with, by older code, and none is any more."""
        require(self.steps <= 10**12, f"--steps {self.steps}: is more than {10**12:,}")
        updates = self.num_envs * self.updates_per_step
        require(
            updates <= 10_000,
            f"--num-envs {self.num_envs} --updates-per-step {self.updates_per_step}: {updates:,.0f} updates between "
            "two steps, in which nobody is answered, are more than 10,000",
        )
        require(
            self.sac.n_step == 1 or not self.sac.backup_entropy,
            f"--sac.backup-entropy --sac.n-step {self.sac.n_step}: the entropy of the steps in between would be left "
            "out; give --sac.n-step 1",
        )

    def _check(self) -> None:
        for name, value, most in (
            ("--num-envs", self.num_envs, 4_096),
            ("--updates-per-step", self.updates_per_step, 100),
            ("--sac.batch-size", self.sac.batch_size, 2**20),
            ("--sac.n-step", self.sac.n_step, 10_000),
            ("--sac.hidden", max(self.sac.hidden, default=0), 2**16),
            ("--task.reach-weight", self.task.reach_weight, 1e6),
            ("--task.pinch-weight", self.task.pinch_weight, 1e6),
            ("--task.opening-weight", self.task.opening_weight, 1e6),
        ):
            # What is far beyond use ends in a machine without memory, or in a run that answers nobody.
            unusable = isinstance(value, float) and not math.isfinite(value)  # which is said below
            require(value <= most or unusable, f"{name} {value}: is more than {most:,.0f}")
        for name, value in (
            ("--num-envs", self.num_envs),
            ("--sac.batch-size", self.sac.batch_size),
            ("--eval.every", self.eval.every),
            ("--eval.episodes", self.eval.episodes),
            ("--checkpoint.every", self.checkpoint.every),
            ("--checkpoint.keep", self.checkpoint.keep),
            ("--log.every", self.log.every),
            ("--warmup", self.warmup),
        ):
            require(value >= 1, f"{name} {value}: must be at least 1")
        require(
            self.steps > self.warmup,
            f"--steps {self.steps}: the first {self.warmup} steps are random warm-up, so a run of {self.steps} would "
            "learn nothing; give more --steps or a smaller --warmup",
        )
        for name, value in flatten(asdict(self)).items():
            require(not isinstance(value, float) or math.isfinite(value), f"--{name} {value}: must be a finite number")
            if name.startswith("task."):
                require(not isinstance(value, float) or value >= 0, f"--{name} {value}: must not be negative")
        share = self.task.scripted_starts or 0.0
        require(share <= 1, f"--task.scripted-starts {share}: is a share of the episodes, from 0 to 1")
        astray = self.task.scripted_astray
        require(astray <= 1, f"--task.scripted-astray {astray}: is a share of the episodes, from 0 to 1")
        retry = self.task.retry_missed
        require(retry <= 1, f"--task.retry-missed {retry}: is a probability, from 0 to 1")
        until = self.task.scripted_until
        require(until is None or until >= 1, f"--task.scripted-until {until}: must be at least 1")
        require(self.task.reach_scale > 0, f"--task.reach-scale {self.task.reach_scale}: must be positive")
        require(self.watchdog is None or self.watchdog > 0, f"--watchdog {self.watchdog}: must be positive")
        require(self.eval.seed >= 0, f"--eval.seed {self.eval.seed}: must not be negative")
        require(self.her.capacity >= 1, f"--her.capacity {self.her.capacity}: must be at least 1")
        require(self.seed >= 0, f"--seed {self.seed}: must not be negative")
        require(self.updates_per_step > 0, f"--updates-per-step {self.updates_per_step}: must be positive")
        require(self.warmup_hold >= 1, f"--warmup-hold {self.warmup_hold}: must be at least 1")
        require(0 < self.sac.gamma < 1, f"--sac.gamma {self.sac.gamma}: must lie between 0 and 1")
        require(0 < self.sac.tau <= 1, f"--sac.tau {self.sac.tau}: must lie between 0 and 1")
        tau = self.sac.average_tau
        require(0 < tau <= 1, f"--sac.average-tau {tau}: must lie between 0 and 1")
        after = self.sac.lr_decay_after
        require(after is None or after >= 1, f"--sac.lr-decay-after {after}: must be at least 1")
        require(self.sac.n_step >= 1, f"--sac.n-step {self.sac.n_step}: must be at least 1")
        slope = self.task.action_slope
        require(0 < slope <= 1, f"--task.action-slope {slope}: must lie between 0 and 1")
        require(self.sac.lr > 0, f"--sac.lr {self.sac.lr}: must be positive")
        require(self.sac.init_alpha > 0, f"--sac.init-alpha {self.sac.init_alpha}: must be positive")
        require(len(self.sac.hidden) <= 32, f"--sac.hidden: {len(self.sac.hidden)} layers are too many; 32 at most")
        require(bool(self.sac.hidden) and min(self.sac.hidden) >= 1, "--sac.hidden: needs positive layer widths")
        require(self.her.k >= 0, f"--her.k {self.her.k}: cannot be negative")
        for name, ratio in (("--her.ratio", self.her.ratio), ("--her.late-ratio", self.her.late_ratio)):
            require(ratio is None or 0 <= ratio <= 1, f"{name} {ratio}: must lie between 0 and 1")
        require(self.her.late_from >= 1, f"--her.late-from {self.her.late_from}: must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return json.loads(json.dumps(asdict(self)))


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ConfigError(sentence)


def config_from_dict(content: dict[str, Any], source: Path) -> TrainConfig:
    """The configuration that to_dict wrote. Raises ConfigError that names `source`."""
    try:
        config = cattrs.Converter(forbid_extra_keys=True).structure(content, TrainConfig)
        config._check()
        return config
    except (ClassValidationError, TypeError, ValueError) as error:
        reasons = cattrs.transform_error(error) if isinstance(error, ClassValidationError) else [str(error)]
        raise ConfigError(f"{source} holds no configuration that this code knows: {'; '.join(reasons)}") from error
