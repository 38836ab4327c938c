"""Finds options that a run does not read. Who gives one should hear of it."""

from collections.abc import Iterator
from dataclasses import asdict

from training.config import TrainConfig, flatten
from training.recipes import recipe


def ignored_options(config: TrainConfig) -> list[str]:
    """Returns a sentence for each option of `config` that is not its task's default and has no effect."""
    usual, values = flatten(asdict(recipe(config.env))), flatten(asdict(config))
    reasons: dict[str, str] = {}
    for name, reason in _ignored(config):
        reasons.setdefault(name, reason)
    return [f"--{name} has no effect with {why}" for name, why in reasons.items() if values[name] != usual[name]]


def has_effect(name: str, config: TrainConfig) -> bool:
    """Tells whether the option `name` ("task.goal") is read in a run of `config`."""
    return name not in dict(_ignored(config))


def _ignored(config: TrainConfig) -> Iterator[tuple[str, str]]:
    her, task = config.her, config.task
    if config.init != "none":
        yield "warmup-hold", "--init"
    if her.strategy == "none":
        yield from ((f"her.{name}", "--her.strategy none") for name in ("k", "skip-met-at-start", "proposed-goals"))
    if config.sac.backup_entropy:
        yield "sac.clip-target", "--sac.backup-entropy"
    if config.reward.startswith("staged"):
        yield "sac.clip-target", f"--reward {config.reward}"
    if config.reward == "own":  # nothing of the following is read for an environment of somebody's own
        yield from ((name, f"--env {config.env}") for name in flatten({"task": asdict(task)}))
        return
    if not task.scripted_starts:
        yield from ((f"task.{name}", "no scripted starts") for name in ("scripted-until", "scripted-astray"))
    if config.reward != "sparse-reach":
        yield from ((name, f"--reward {config.reward}") for name in ("task.potential", "task.reach-per-finger"))
    if config.env == "reach":
        yield "task.reach-per-finger", "--env reach"
    if config.env != "pick-place":
        yield "task.retry-missed", f"--env {config.env}"
    elif task.goal != "mix":
        yield "task.retry-missed", f"--task.goal {task.goal}"
