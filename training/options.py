"""Options by the names they have on the command line, and which of them make a run what it is."""

from typing import Any

from env import TASKS

MAY_CHANGE = (
    *("steps", "run", "resume", "device", "compile", "overlap", "video", "watchdog", "verify_resume"),
    *("eval", "checkpoint", "log"),
)
"""What a resumed run may be told anew: everything else would make it another run."""
EVALUATED = ("eval.goal", "eval.episodes", "eval.seed")
"""What evaluations measure. It leaves the training as it is; but the best policy so far, and a success that falls, mean
nothing across two measures, so a resumed run keeps it, too."""


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by the names they have on the command line: {"sac.batch-size": 256, …}."""
    items = {}
    for key, value in tree.items():
        name = f"{prefix}{key.replace('_', '-')}"
        items |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return items


def defining_options(tree: dict[str, Any]) -> dict[str, Any]:
    """The options, by name, that make a run what it is: what a resumed run may be told anew is left out."""
    return _said(tree, flatten({key: value for key, value in tree.items() if key not in MAY_CHANGE}))


def evaluated_options(tree: dict[str, Any]) -> dict[str, Any]:
    """The options of EVALUATED, by name; None where older code did not know one, or the task has no say."""
    given = flatten({"eval": tree.get("eval", {})})
    return _said(tree, {name: given.get(name) for name in EVALUATED})


def _said(tree: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """`options` with what the task decides where they are None: it is no other run that says so."""
    name = tree.get("env")
    if not isinstance(name, str) or name not in TASKS:
        return options
    task = TASKS[name]
    decided = {
        "task.goal": task.training_goal,
        "task.max-episode-steps": task.episode_steps,
        "sac.target-entropy": -task.action_dim / 2,
        "eval.goal": task.goal_kinds[0],
    }
    return options | {name: value for name, value in decided.items() if name in options and options[name] is None}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The options, by name, in which a resumed run would be another run: "--sac.lr: 0.001, now 0.0003"."""
    before, after = (defining_options(tree) | evaluated_options(tree) for tree in (old, new))
    return [
        f"--{name}: {before.get(name)}, now {after.get(name)}"
        for name in sorted(before | after)
        if before.get(name) != after.get(name)
    ]
