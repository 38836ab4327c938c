"""Declares every option of a run with its default and its bounds. What each task changes: training/recipes.py."""

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Interval, Le, Lt

from env import TASKS, GoalKind, Reward, TaskConfig, is_custom, keyword_arguments
from errors import UserError
from her import HERConfig
from sac import DeviceName, SACConfig

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class EvalConfig:
    """Evaluate the policy deterministically, on environments of its own."""

    every: Count = 5_000
    """Environment steps between two evaluations."""
    episodes: Annotated[int, Interval(ge=1, le=10_000)] = 40
    """Episodes of each evaluation. They are the same each time, and training never sees them."""
    goal: GoalKind = "own"
    """Goals to evaluate on. own: the environment's own."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Keep checkpoints on the disk."""

    every: Count = 10_000
    """Environment steps between two checkpoints. An evaluation with the best success so far is saved as well."""
    keep: Count = 3
    """How many of the newest to keep, besides the best by success and the first after each 100,000 steps."""


@dataclass(frozen=True)
class LogConfig:
    """Write the curves for TensorBoard."""

    every: Count = 1_000
    """Environment steps between two points of the training curves."""


@dataclass(frozen=True)
class TrainConfig:
    """Train a policy with Soft Actor-Critic and Hindsight Experience Replay.

    The same command typed again continues the run where it stopped. Defaults are those of the --env that is given.

    python train.py --env reach                                         a task that comes along

    python train.py --env gym:FetchReach-v4 --steps 20000               one of Gymnasium's

    python train.py --env my_module:MyEnv --seed 1                      your own

    python train.py --resume runs/NAME --run runs/NEW --sac.lr 1e-4     a branch of a run

    tensorboard --logdir runs                                           watch them
    """

    env: str
    """The task: reach, push, pick-place, gym:ID for one of Gymnasium's, or MODULE:CALLABLE for one of your own."""
    env_args: tuple[str, ...] = ()
    """KEY=VALUE …: keyword arguments for MODULE:CALLABLE, or for gymnasium.make. Values are Python's literals, else
    strings."""
    reward: Reward = "own"
    """sparse: 0 at the goal, -1 elsewhere. sparse-reach: the same and a potential for reaching.
    staged: dense, by the stages of a pick-and-place. staged-reference: the same as the reference run had it.
    own: what an environment of your own pays."""
    seed: Annotated[int, Interval(ge=0, le=10**15)] = 0
    """Seed of everything that is random."""
    steps: Annotated[int, Interval(ge=1, le=10**12)] = 100_000
    """Environment steps of the whole run, resumed parts included."""
    run: str = "runs/{env}-{seed}"
    """Run directory."""
    resume: str = "auto"
    """auto: continue the run directory where it holds a run, else start it. never: refuse where it holds one.
    PATH: continue that run or checkpoint, with its options; with another --run as a branch, which may change them."""
    init: str = "none"
    """Networks that a new run begins with, and an empty buffer: those of a run directory's newest checkpoint, of one
    checkpoint, or of a policy in checkpoints/pretrained, by name. Its warm-up then follows that policy. none: untrained
    ones."""
    device: DeviceName = "auto"
    """Where the networks live. ROCm's GPUs are called cuda, too. auto: where an update of this run is faster, found out
    by trying."""
    compile: bool = True
    """On a CPU let PyTorch compile the update: the same but for rounding, and faster. It takes half a minute the first
    time on a machine, and needs a C++ compiler. Where there is none, the run says so and goes on without."""
    graph: Literal["auto", "never"] = "auto"
    """On a GPU launch updates as graphs. auto: compared with updates without graphs now and then, and given up aloud
    where they differ. never: operation by operation, which is slower (docs/rocm.md)."""
    reduced_precision: bool = False
    """Round what matrix products multiply to bfloat16 on a CPU, to TF32 on a GPU: faster where the hardware has it
    (docs/performance.md)."""
    overlap: bool = True
    """Step the environments in a process of their own while the update computes. The result is the same bit by bit.
    --no-overlap: all in one process, which is easier to debug."""
    env_workers: Annotated[int, Interval(ge=1, le=4_096)] | Literal["auto"] = "auto"
    """Processes that the environments step in, each with a part of them. The result is the same bit by bit.
    auto: one for each core but the learner's two, with four environments or more each, and at least one."""
    num_envs: Annotated[int, Interval(ge=1, le=4_096)] = 16
    """Environments that step side by side."""
    warmup: Count = 1_000
    """Environment steps of random actions before the policy acts and learns."""
    warmup_hold: Annotated[float, Ge(1)] = 5.0
    """Steps for which a random action is held, on average."""
    updates_per_step: Annotated[float, Interval(gt=0, le=100)] = 1.0
    """Gradient updates per environment step after the warm-up."""
    batch_size: Annotated[int, Interval(ge=1, le=2**20)] = 256
    """Transitions per update."""
    gamma: Annotated[float, Interval(gt=0, lt=1)] | Literal["auto"] = "auto"
    """Discount per environment step. auto: so that 1 / (1 - gamma), the horizon it looks ahead, is half an episode of
    the longest, and 100 steps at most."""
    n_step: Annotated[int, Interval(ge=1, le=10_000)] = 1
    """Steps whose rewards the critics' target adds up before it bootstraps. 1 is SAC to the letter. More are not
    corrected for what the policy would have done meanwhile."""
    video: bool = True
    """Record a video of the trained policy at the end, and a few frames of it at evaluations (TensorBoard's images)."""
    watchdog: Annotated[int, Interval(ge=0, le=10**6)] = 0
    """Seconds without a step after which the run shows where it hangs and ends, for a supervisor to start it again
    (docs/unattended.md). 0: never."""
    task: TaskConfig = field(default_factory=TaskConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    her: HERConfig = field(default_factory=HERConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def to_dict(self) -> dict[str, Any]:
        """Returns the options as JSON holds them."""
        return json.loads(json.dumps(asdict(self)))


MAY_CHANGE = (
    *("steps", "run", "resume", "device", "compile", "graph", "overlap", "env_workers", "video", "watchdog"),
    *("eval", "checkpoint", "log"),
)
"""What a resumed run may be told anew. Everything else would make it another run."""
BESIDE = ("command", "starts")
"""Names what stands beside the options where they are stored: what made an exported policy, how a run was started."""
EVALUATED = ("eval.goal", "eval.episodes")
"""What evaluations measure. It leaves the training as it is. But the best policy so far, and a success that falls, mean
nothing across two measures, so a resumed run keeps it, too."""


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested options by the names they have on the command line: {"sac.backup-entropy": False, …}."""
    items = {}
    for key, value in tree.items():
        name = f"{prefix}{key.replace('_', '-')}"
        items |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return items


def defining_options(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns the options, by name, that make a run what it is: those that a resumed run may not be told anew."""
    return flatten({key: value for key, value in tree.items() if key not in (*MAY_CHANGE, *BESIDE)})


def evaluated_options(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of EVALUATED, by name."""
    given = flatten({"eval": tree.get("eval", {})})
    return {name: given.get(name) for name in EVALUATED}


def option_words(name: str, value: Any) -> str:
    """Returns the words that give an option of flatten() on the command line: "--sac.hidden 64 64"."""
    if isinstance(value, bool):
        section, dot, last = name.rpartition(".")
        return f"--{section}{dot}{'' if value else 'no-'}{last}"
    return shlex.join([f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])])


def check(config: TrainConfig) -> None:
    """Raises UserError where an option lies outside of its bounds, or two contradict each other."""
    for sentence in out_of_bounds(config):
        raise UserError(sentence)
    keyword_arguments(config.env_args)
    for condition, sentence in (
        (
            is_custom(config.env) or config.env in TASKS,
            f"--env {config.env}: no such task; there are {', '.join(TASKS)}, gym:ID, or MODULE:CALLABLE for your own",
        ),
        (
            config.steps > config.warmup,
            f"--steps {config.steps}: the first {config.warmup} steps are random warm-up, so a run of {config.steps} "
            "would learn nothing; give more --steps or a smaller --warmup",
        ),
        (
            config.env_workers == "auto" or config.env_workers <= config.num_envs,
            f"--env-workers {config.env_workers}: there are {config.num_envs} environments to share out; give more "
            "--num-envs or fewer workers",
        ),
        (config.sac.hidden, "--sac.hidden: give the width of one layer or more"),
        (
            config.n_step == 1 or not config.sac.backup_entropy,
            f"--sac.backup-entropy --n-step {config.n_step}: the entropy of the steps in between would be left out; "
            "give --n-step 1",
        ),
        (
            is_custom(config.env) == (config.reward == "own"),
            f"--reward {config.reward}: {config.env} brings its own"
            if is_custom(config.env)
            else f"--reward own: is for environments of your own, and not for {config.env}",
        ),
        (
            is_custom(config.env) or not config.env_args,
            f"--env-args: is for environments of your own and Gymnasium's, and not for {config.env}",
        ),
        (
            not is_custom(config.env) or config.eval.goal == "own",
            f"--eval.goal {config.eval.goal}: is for the built-in tasks, and {config.env} draws its own",
        ),
        (
            not is_custom(config.env) or config.task == TaskConfig(),
            f"--task.*: is for the built-in tasks, and not for {config.env}",
        ),
    ):
        if not condition:
            raise UserError(sentence)


def out_of_bounds(config: Any, prefix: str = "") -> Iterator[str]:
    """Yields a sentence for each number of a dataclass that is outside of the bounds that stand beside its field."""
    hints = get_type_hints(type(config), include_extras=True)
    for option in fields(config):
        value, name = getattr(config, option.name), f"{prefix}{option.name.replace('_', '-')}"
        if is_dataclass(value):
            yield from out_of_bounds(value, f"{name}.")
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                yield f"--{name} {number}: must be a finite number"
            for bound in () if isinstance(number, str) else _bounds(hints[option.name]):
                words, limit, holds = _READ[type(bound)](bound)
                if not holds(number):
                    yield f"--{name} {number}: must be {words} {limit:,}"


def _bounds(hint: Any) -> Iterator[BaseMetadata]:
    number = next((kind for kind in get_args(hint) if hasattr(kind, "__metadata__")), hint)  # of "number or a word"
    for metadata in getattr(number, "__metadata__", ()):
        found = metadata if isinstance(metadata, Interval) else (metadata,)
        yield from (bound for bound in found if type(bound) in _READ)


_READ = {
    Ge: lambda bound: ("at least", bound.ge, lambda number: number >= bound.ge),
    Gt: lambda bound: ("more than", bound.gt, lambda number: number > bound.gt),
    Le: lambda bound: ("at most", bound.le, lambda number: number <= bound.le),
    Lt: lambda bound: ("less than", bound.lt, lambda number: number < bound.lt),
}
