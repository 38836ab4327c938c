"""Saving a run while it goes on, and putting it back."""

from pathlib import Path

import numpy as np

import checkpoints
from errors import UserError
from training.config import TrainConfig, option_words
from training.curves.tensorboard import Curves
from training.progress import say
from training.recipes import from_stored
from training.resume.run_directory import RunDirectory
from training.resume.versions import current_versions, version_notes
from training.state import TrainingState

REPAID = 1_000
"""Stored transitions whose rewards are asked for again when a run is continued."""


class Saver:
    """Writes the training state as one checkpoint, in the background, once the curves before it are on the disk.

    Args:
        run: the run's directory, whose lock this process holds.
        config: options of the run.
        state: what is saved.
        curves: what they show up to a checkpoint's step outlives a power cut with it.
        resumed: the run's own checkpoint that this process goes on from, or None.
    """

    def __init__(
        self, run: RunDirectory, config: TrainConfig, state: TrainingState, curves: Curves, resumed: Path | None
    ):
        self._run = run
        self._state = state
        self._curves = curves
        versions = current_versions(state.agent, config.env)
        self._about = checkpoints.About(config.to_dict(), versions, state.envs.spec.fingerprint)
        manifest = None if resumed is None else checkpoints.read_manifest(resumed)
        self._writer = checkpoints.CheckpointWriter(run.checkpoints, config.checkpoint.keep, say, manifest)

    def save(self, success: float | None) -> None:
        """Copies this step's state and lets training go on.

        Raises UserError where something in it is not finite, and where the run's directory is not there any more.
        """
        state = self._state
        content = state.state_dict()
        # What environments keep is theirs: a best of nothing so far is minus infinity.
        if bad := checkpoints.not_finite({part: tree for part, tree in content.items() if part != "envs"}):
            names = ", ".join(bad[:3]) + (" and more" if len(bad) > 3 else "")
            raise UserError(f"training diverged by step {state.env_steps:,}: {names} not finite")
        self._writer.wait()  # for what is in flight, which may take a while
        self._run.check_still_held()
        self._writer.save(state.env_steps, content, self._about, success, before=self._curves.sync)

    def finish(self) -> None:
        """Makes sure that this step's state is on the disk: saves it where it is not. Raises UserError."""
        self._writer.wait()
        if self._writer.last_good != self._state.env_steps:
            self.save(success=None)
            self._writer.wait()
        if self._writer.last_good != self._state.env_steps:
            raise UserError(
                f"step {self._state.env_steps:,} could not be saved; mend what the message above names, and type the "
                "same command line again",
                status=1,
            )

    def close(self) -> None:
        self._writer.close()

    def last_good(self) -> str:
        """Tells where the run could be continued. Waits for a save in flight."""
        self._writer.wait()
        step = self._writer.last_good
        return "there is no checkpoint yet" if step is None else f"the last good checkpoint is of step {step:,}"


def initialise(state: TrainingState, name: str) -> str:
    """Puts the networks of --init `name` into a new state. Returns what to tell. Raises CheckpointError."""
    path, problems = checkpoints.find_policy(name)
    about = checkpoints.read_manifest(path)
    if missing := set(checkpoints.NETWORKS) - checkpoints.load(path, only=["agent"])[0]["agent"].keys():
        raise checkpoints.CheckpointError(
            f"--init {name}: holds no {', no '.join(sorted(missing))}; it can be evaluated, and no run begin with it"
        )
    theirs, ours = from_stored(about.config, path), state.agent.config
    if (theirs.sac.hidden, theirs.sac.layer_norm) != (ours.hidden, ours.layer_norm):
        words = [option_words(f"sac.{key}", getattr(theirs.sac, key)) for key in ("hidden", "layer_norm")]
        raise UserError(f"--init {name}: has other networks; give {' '.join(words).replace('_', '-')}")
    expected = {part: tree for part, tree in state.agent.state_dict().items() if part in checkpoints.NETWORKS}
    try:
        content, manifest = checkpoints.load(path, only=["agent"], expected={"agent": expected})
    except checkpoints.CheckpointError as error:
        raise checkpoints.CheckpointError(
            f"--init {name}: was trained for {theirs.env}, whose observations, goals or actions differ: {error}"
        ) from error
    state.agent.load_networks(content["agent"])
    state.reward_scale = manifest.values["progress"]["reward_scale"]
    told = f"begins with the networks of {path} ({manifest.config['env']}, step {manifest.step:,})"
    return "; ".join([told, *(f"passed over: {problem}" for problem in problems)])


def restore(state: TrainingState, checkpoint: Path, config: TrainConfig) -> list[str]:
    """Puts a checkpoint into a new state. Returns why the run may be another. Raises CheckpointError."""
    content, manifest = checkpoints.load(checkpoint, expected=state.sizes(checkpoints.read_manifest(checkpoint)))
    notes = version_notes(manifest.versions, current_versions(state.agent, config.env))
    try:
        fresh = state.load_state_dict(content)
    # What can go wrong where other code, or another version of somebody's environment, wrote the state.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"it holds no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise checkpoints.CheckpointError(
            f"{checkpoint} does not fit {config.env} as it is now: {reason}; continue it with the code that wrote it, "
            "or give a new --run"
        ) from error
    if len(state.buffer) and config.her.strategy != "none":
        replay = state.replay(config).drawn_by(np.random.default_rng(0))
        if share := replay.paid_otherwise(REPAID):
            notes.append(
                f"{config.env} pays {share:.0%} of {REPAID:,} stored transitions otherwise than when they were made: "
                "its reward or threshold has changed; the run goes on, and learns from both"
            )
    if fresh and "state_dict" not in state.envs.spec.lacks:
        notes.append(f"{fresh} environments begin a fresh episode: their state was not saved; the run is not bit-exact")
    return notes
