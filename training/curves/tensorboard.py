"""What a run shows in TensorBoard."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, histogram, hparams, text

from training.config import TrainConfig
from training.curves.events import EventFile, truncate
from training.curves.meters import funnel_curves
from training.options import defining_options
from training.progress import say

LAYOUT = {
    "What to look at first": {
        "1 success": ["Multiline", ["eval/success_rate", "eval/success_once_rate", "rollout/success_rate"]],
        "2 how far evaluation episodes come": ["Multiline", ["eval_funnel/.*"]],
        "3 return": ["Multiline", ["eval/mean_reward", "rollout/ep_rew_mean"]],
        "4 reward terms": ["Multiline", ["env/reward_.*"]],
        "5 do goals move, can hindsight use them": [
            "Multiline",
            ["her/goal_moved_rate", "her/relabelled_share", "her/trivial_share"],
        ],
        "6 successes in a batch, real and in hindsight": ["Multiline", ["her/success_real", "her/success_hindsight"]],
        "7 entropy and its target": ["Multiline", ["policy/entropy", "policy/target_entropy"]],
        "8 temperature": ["Multiline", ["train/ent_coef$"]],
        "9 the policy's actions": ["Multiline", ["policy/mean_abs", "policy/std", "policy/saturated_share"]],
        "10 steps as a share of the weights": ["Multiline", ["step/actor", "step/critic"]],
        "12 TD error, its middle and 90 %": ["Margin", ["q/td_error_p50", "q/td_error_p05", "q/td_error_p95"]],
        "11 Q, its middle and 90 %": ["Margin", ["q/value_p50", "q/value_p05", "q/value_p95"]],
    }
}
"""TensorBoard's custom scalars: twelve charts that tell what a run is doing. Tags are regular expressions there, and
bands come after lines, the last first."""


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
            self._events.add(custom_scalars(LAYOUT), 0)
            options = {name: _comparable(value) for name, value in defining_options(config.to_dict()).items()}
            for summary in hparams(options, {"eval/success_rate": 0.0}):
                self._events.add(summary, 0)

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

    def histograms(self, values: Mapping[str, np.ndarray], env_steps: int) -> None:
        """How the numbers of each array (M,) are spread."""
        for tag, array in values.items():
            self._events.add(histogram(tag, array, bins=30), env_steps)

    def picture(self, tag: str, encoded: bytes, env_steps: int) -> None:
        """A png or gif file; TensorBoard plays the latter."""
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
        content = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self._events.add(Summary(value=[Summary.Value(tag=tag, image=content)]), env_steps)

    def remark(self, sentence: str, env_steps: int) -> None:
        """A sentence about the run, for the text tab."""
        self._events.add(text("diagnosis", sentence), env_steps)

    def state_dict(self) -> dict[str, int]:
        """Sizes in bytes of the event files by name: what the curves are by now."""
        return self._events.position()

    def sync(self) -> None:
        """Returns when what the last state_dict() speaks of outlives a power cut. From any thread; never raises."""
        self._events.sync()

    def close(self) -> None:
        self._events.close()


def _comparable(value: Any) -> str | float | bool:
    """An option as TensorBoard's HParams tab can hold it."""
    return value if isinstance(value, (str, int, float, bool)) else str(value)
