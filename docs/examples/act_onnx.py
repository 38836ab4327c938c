"""Lets an exported policy act with ONNX Runtime alone: python docs/examples/act_onnx.py reach.onnx [EPISODES]

Here the simulated arm stands in for the real one. docs/deploy.md says what the real one needs.
"""

import json
import sys

import numpy as np
import onnxruntime

from env import TaskConfig, make_envs

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
card = json.loads(session.get_modelmeta().custom_metadata_map["card"])
episodes = int(sys.argv[2]) if len(sys.argv) > 2 else 10
(robot,) = make_envs(card["env"], 1, TaskConfig(), "sparse")
held = 0
for seed in range(500, 500 + episodes):
    obs, _ = robot.reset(seed)
    ended = False
    while not ended:  # on a real arm: every card["outputs"]["action"]["period_s"] seconds
        inputs = {name: np.float32(obs[name])[None] for name in card["inputs"]}
        (action,) = session.run(["action"], inputs)[0]
        obs, _, terminated, ended, info = robot.step(action)
    held += info["is_success"]
print(f"{held} of {episodes} episodes of {card['env']} end at their goal")
