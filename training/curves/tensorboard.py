"""Shows a run in TensorBoard: curves, histograms, pictures, and what the run says of itself."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, histogram, hparams, text

from training.config import TrainConfig, defining_options
from training.curves.events import EventFile
from training.curves.meters import funnel_curves

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

FIRST = ("env", "seed", "sac.lr", "gamma", "batch-size")
"""Options that the HParams tab shows before all others."""


class Curves(EventFile):
    """Writes a run's curves. Their x axis is the environment steps of the whole run, resumed parts included.

    Args:
        path: the run's directory, which no other process writes to.
        config: written down beside the curves, once for each run and each branch.
        env_steps: where the run goes on; 0 begins it. What the directory's curves hold beyond it is void: a resumed run
            takes these steps again.
        started: how it was started this time, for the text tab.
    """

    def __init__(self, path: Path, config: TrainConfig, env_steps: int, started: dict[str, Any] | None = None):
        first = not env_steps or not any(path.glob("events.out.tfevents.*"))
        begins = env_steps + 1 if env_steps else 0
        super().__init__(path, purge_step=begins)
        if first:
            self._describe(config.to_dict(), env_steps)
        if started is not None:  # at a step that the next start from the same checkpoint voids
            self.add(text("started", _as_code(started)), begins)

    def _describe(self, options: dict[str, Any], env_steps: int) -> None:
        """Writes the options as text and for the HParams tab, and the layout of the custom scalars."""
        self.add(text("config", _as_code(options)), env_steps)
        self.add(custom_scalars(LAYOUT), env_steps)
        comparable = {
            name: value if isinstance(value, (str, int, float, bool)) else str(value)
            for name, value in sorted(defining_options(options).items(), key=lambda item: item[0] not in FIRST)
        }
        for summary in hparams(comparable, {"eval/success_rate": 0.0}):
            self.add(summary, env_steps)

    def log(self, values: Mapping[str, float], env_steps: int) -> None:
        """Puts one point on each of these curves."""
        points = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()]
        self.add(Summary(value=points), env_steps)

    def report(self, result: dict[str, Any], env_steps: int) -> None:
        """Puts an evaluation's summary (training.evaluation.rollout.summarise) on its curves."""
        values = {"eval/mean_reward": result["return"]["mean"], "eval/mean_ep_length": result["length"]["mean"]}
        if result["success"]:
            values["eval/success_rate"] = result["success"]["rate"]
            values["eval/success_once_rate"] = result["success_once"]["rate"]
        self.log(values | funnel_curves("eval_funnel", result.get("funnel", {})), env_steps)

    def histograms(self, values: Mapping[str, np.ndarray], env_steps: int) -> None:
        """Shows how the numbers of each array (M,) are spread."""
        for tag, array in values.items():
            self.add(histogram(tag, array, bins=30), env_steps)

    def picture(self, tag: str, encoded: bytes, env_steps: int) -> None:
        """Shows a png or gif file; TensorBoard plays the latter."""
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
        content = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self.add(Summary(value=[Summary.Value(tag=tag, image=content)]), env_steps)

    def remark(self, sentence: str, env_steps: int) -> None:
        """Adds a sentence about the run to the text tab."""
        self.add(text("diagnosis", sentence), env_steps)


def _as_code(content: dict[str, Any]) -> str:
    return f"```json\n{json.dumps(content, indent=2)}\n```"
