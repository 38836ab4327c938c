"""Options that a run does not read: who gives one should hear of it. And those that it reads and were never given."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from env import TASKS
from training.config import TrainConfig
from training.options import flatten

HINDSIGHT = ("her.k", "her.ratio", "her.late-ratio", "her.late-from", "her.skip-met-at-start")
SCRIPT = ("task.scripted-until", "task.scripted-opening", "task.scripted-astray")
FINGERS = ("task.reach-per-finger", "task.pinch-weight", "task.opening-weight")
POTENTIAL = ("task.reach-weight", "task.reach-scale", *FINGERS)
STAGED = {
    "reach": {"reach", "success"},
    "push": {"reach", "place", "success", "lost"},
}
"""Which weights of the staged reward a task has; the others have all."""


def unread(given: TrainConfig, config: TrainConfig) -> list[str]:
    """A sentence for each option of `given` that is not its default and has no effect in `config`, which is the same
    with every default filled in."""
    usual, values = flatten(asdict(TrainConfig())), flatten(asdict(given))
    reasons: dict[str, str] = {}
    for name, reason in _unread(config):
        reasons.setdefault(name, reason)
    told = (name for name in reasons if values[name] != usual[name])
    return [f"--{name} has no effect with {reasons[name]}" for name in told]


def unsaid(said: dict[str, Any], config: TrainConfig) -> list[str]:
    """The built-in task's options that have an effect in `config`, and that the same configuration as older code wrote
    it, `said`, does not know: they are as they are today by default."""
    if config.env not in TASKS:
        return []
    missing = flatten(config.to_dict()).keys() - flatten(said).keys() - dict(_unread(config)).keys()
    return sorted(f"--{name}" for name in missing if name.startswith("task."))


def _unread(config: TrainConfig) -> Iterator[tuple[str, str]]:
    def each(names: tuple[str, ...], reason: str) -> Iterator[tuple[str, str]]:
        yield from ((name, reason) for name in names)

    her, task, sac = config.her, config.task, config.sac
    if her.strategy == "none":
        yield from each(HINDSIGHT, "--her.strategy none")
    if her.ratio is not None:
        yield "her.k", "--her.ratio"
    if her.late_ratio in (None, her.first_share):
        yield "her.late-from", "a share of hindsight that stays as it is"
    if sac.backup_entropy:
        yield "sac.clip-target", "--sac.backup-entropy"
    if config.reward == "staged":
        yield "sac.clip-target", "--reward staged"
    if config.reward is None:  # an environment of somebody's own takes none of the following
        return
    if not task.scripted_starts:
        yield from each(SCRIPT, "no scripted starts")
    if config.reward != "sparse-reach":
        yield from each(POTENTIAL, f"--reward {config.reward}")
    weights = [name for name in flatten(asdict(task)) if name.startswith("staged.")]
    read = STAGED.get(config.env, {name.removeprefix("staged.") for name in weights})
    for name in weights:
        if config.reward != "staged":
            yield f"task.{name}", f"--reward {config.reward}"
        elif name.removeprefix("staged.") not in read:
            yield f"task.{name}", f"--env {config.env}"
    if config.env == "reach":
        yield from each(FINGERS, "--env reach")
    if config.env != "pick-place":
        yield "task.retry-missed", f"--env {config.env}"
    elif task.goal not in (None, "mix"):
        yield "task.retry-missed", f"--task.goal {task.goal}"
