"""Lets an exported policy act with ONNX Runtime alone: python docs/examples/act_onnx.py reach.onnx [EPISODES]

Here the simulated arm stands in for the real one. docs/deploy.md says what the real one needs.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime

from env import TaskConfig, make_envs
from errors import UserError
from training.analysis.open_run import run_example


def main(file: str, episodes: str = "10") -> None:
    if not Path(file).is_file():
        raise UserError(f"{file}: no such file; python -m checkpoints export reach --onnx {file} makes it")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["card"])
    (robot,) = make_envs(card["env"], 1, TaskConfig(), "sparse")
    held = 0
    for seed in range(500, 500 + int(episodes)):
        obs, _ = robot.reset(seed)
        ended = False
        while not ended:  # on a real arm: every card["outputs"]["action"]["period_s"] seconds
            inputs = {name: np.float32(obs[name])[None] for name in card["inputs"]}
            (action,) = session.run(["action"], inputs)[0]
            obs, _, _, ended, info = robot.step(action)
        held += info["is_success"]
    print(f"{held} of {episodes} episodes of {card['env']} end at their goal")


if __name__ == "__main__":
    run_example(main)
