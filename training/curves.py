"""What a run shows of itself: TensorBoard's curves, the progress bar, and a line for each evaluation."""

import json
import sys
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.config import TrainConfig
from training.meters import funnel_curves


class Curves:
    """The x axis of every curve is the environment steps of the whole run, resumed parts included."""

    def __init__(self, path: Path, config: TrainConfig, env_steps: int):
        # Points past the checkpoint belong to steps that a resumed run takes again.
        self._writer = SummaryWriter(str(path), purge_step=env_steps + 1)
        if not env_steps:
            self._writer.add_text("config", f"```json\n{json.dumps(config.to_dict(), indent=2)}\n```", 0)
        # disable=None: no bar where nobody watches, in a log file or a pipe.
        self._bar = tqdm(total=config.steps, initial=env_steps, unit="step", disable=None, dynamic_ncols=True)

    def advance(self, steps: int) -> None:
        self._bar.update(steps)

    def log(self, values: dict[str, float], env_steps: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, env_steps)

    def report(self, result: dict[str, Any], goal_moved: float, env_steps: int) -> None:
        """An evaluation: success first."""
        success, once = result["success"]["rate"], result["success_once"]["rate"]
        values = {
            "eval/success_rate": success,
            "eval/success_once_rate": once,
            "eval/mean_reward": result["return"]["mean"],
            "eval/mean_ep_length": result["length"]["mean"],
        }
        values |= funnel_curves("eval_funnel", result.get("funnel", {}))
        self.log(values, env_steps)
        self._writer.flush()
        self._bar.set_postfix_str(f"success {success:.0%}")
        tqdm.write(
            f"step {env_steps:>9,} · success {success:>4.0%} · once {once:>4.0%} "
            f"· return {result['return']['mean']:>7.2f} · goal moved in {goal_moved:>4.0%} of recent episodes"
        )
        sys.stdout.flush()

    def close(self) -> None:
        self._writer.close()
        self._bar.close()
