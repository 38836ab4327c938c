"""What a run shows in TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import text

from training.config import TrainConfig
from training.events import EventFile, truncate
from training.meters import funnel_curves
from training.progress import say


class Curves:
    """The x axis of every curve is the environment steps of the whole run, resumed parts included.

    Args:
        path: the run's directory, which no other process writes to.
        env_steps: where the run goes on; 0 begins it.
        state: state_dict() of the checkpoint that it goes on from: whatever the directory's curves hold beyond it is
            removed; {} where it begins, or begins again. None where the checkpoint is another run's.

    Raises ValueError where `state` is none, OSError where the directory's files cannot be cut.
    """

    def __init__(self, path: Path, config: TrainConfig, env_steps: int, state: Mapping[str, int] | None):
        gaps = truncate(path, state) if state is not None else []
        if gaps:
            say(f"the curves before step {env_steps:,} have a gap: {'; '.join(gaps)}")
        # Points past the checkpoint belong to steps that a resumed run takes again.
        self._events = EventFile(path, purge_step=env_steps + 1 if env_steps else 0)
        if not env_steps and not state:
            self._events.add(text("config", f"```json\n{json.dumps(config.to_dict(), indent=2)}\n```"), 0)

    def log(self, values: dict[str, float], env_steps: int) -> None:
        """One point on each of these curves."""
        points = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()]
        self._events.add(Summary(value=points), env_steps)

    def report(self, result: dict[str, Any], env_steps: int) -> None:
        """An evaluation's summary."""
        values = {
            "eval/success_rate": result["success"]["rate"],
            "eval/success_once_rate": result["success_once"]["rate"],
            "eval/mean_reward": result["return"]["mean"],
            "eval/mean_ep_length": result["length"]["mean"],
        }
        self.log(values | funnel_curves("eval_funnel", result.get("funnel", {})), env_steps)

    def state_dict(self) -> dict[str, int]:
        """Sizes in bytes of the event files by name: what the curves are by now."""
        return self._events.position()

    def sync(self) -> None:
        """Returns when what the last state_dict() speaks of outlives a power cut. From any thread; never raises."""
        self._events.sync()

    def close(self) -> None:
        self._events.close()
