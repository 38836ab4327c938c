"""Steps environments apart until a signal asks it to stop: python trainer.py MODULE:CALLABLE [steps]."""

import sys
from contextlib import closing

import numpy as np

from env import TaskConfig, VectorEnvWorkers, make_envs, probe
from errors import reporting
from training.stopping import StopRequest


def main():
    name, steps = sys.argv[1], int(sys.argv[2])
    spec = probe(make_envs(name, 1, TaskConfig(), None)[0], name)
    with StopRequest() as stop:
        with closing(VectorEnvWorkers(name, 2, TaskConfig(), None, spec, workers=2)) as envs:
            envs.reset([0, 1])
            print(*(each.process.pid for each in envs._workers), flush=True)
            while stop.signal is None and steps:
                envs.step(np.zeros((2, spec.action_dim), np.float32))
                steps -= 1
            envs.step(np.zeros((2, spec.action_dim), np.float32))
            print("saved", flush=True)
        sys.exit(128 + stop.signal if stop.signal else 0)


with reporting("trainer.py"):
    main()
