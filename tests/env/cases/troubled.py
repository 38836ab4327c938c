"""Environments that make trouble for the process that they step in, each in one way."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from point_env import PointEnv


class Raises(PointEnv):
    """Fails, by an action that says how."""

    def step(self, action):
        print("an environment that talks")
        if action[0] > 0.9:
            raise ZeroDivisionError("too far")
        if action[0] < -0.9:

            class Odd(Exception):
                pass

            raise Odd("nobody else knows this class")
        if action[0] == 0.5:
            raise OSError("unplugged")
        if action[0] == 0.25:
            sys.exit(0)
        if action[0] == 0.125:
            raise KeyboardInterrupt
        if action[0] == 0.75:
            os._exit(0)
        obs, reward, *rest = super().step(action)
        return obs, "none" if action[1] == 0.5 else reward, *rest


class Nowhere(PointEnv):
    """Leaves its world at once where it is told to move."""

    def step(self, action):
        obs, *rest = super().step(action)
        return obs | {"observation": np.full(2, np.nan)} if action[0] else obs, *rest


class Tells(PointEnv):
    """Has other metrics and stages by its action."""

    def step(self, action):
        *rest, info = super().step(action)
        if action[0] > 0.5:
            return *rest, info | {"metrics": {"much": action[0]}, "stages": {"moved": True}}
        return *rest, info | {"metrics": {"little": action[0]}}


class Forks(PointEnv):
    """Has a helper that outlives everybody, and holds every file that was open when it began."""

    helper = None

    def reset(self, seed=None):
        if self.helper is None:
            self.helper = os.fork()
            if not self.helper:
                time.sleep(600)
                os._exit(0)
        return super().reset(seed)


class Leaves(PointEnv):
    """Has helpers in sessions of their own, which have lost their parent, and tells in files which they are.

    One holds every file that was open, the other is another program.
    """

    def reset(self, seed=None):
        for program in (False, True):
            if not (child := os.fork()):
                os.setsid()
                if not os.fork():
                    Path(f"helper-{os.getpid()}").touch()
                    if program:
                        os.execvp("sleep", ["sleep", "600"])
                    time.sleep(600)
                os._exit(0)
            os.waitpid(child, 0)
        return super().reset(seed)


class Hangs(Forks):
    """Never comes back from C code that holds Python's lock, some time after the check of random steps."""

    taken = 0

    def step(self, action):
        self.taken += 1
        if self.taken == 100:
            ctypes.PyDLL(None).sleep(600)
        return super().step(action)


class Restarts(PointEnv):
    """Ends a program of its own by SIGTERM, and a process that it forked."""

    def reset(self, seed=None):
        program = subprocess.Popen(["sleep", "600"])
        program.terminate()
        program.wait()
        if not (forked := os.fork()):
            time.sleep(600)
        os.kill(forked, 15)
        os.waitpid(forked, 0)
        return super().reset(seed)


class Reads(PointEnv):
    """Starts a program that reads standard input to its end."""

    def reset(self, seed=None):
        assert subprocess.run(["cat"], capture_output=True).stdout == b""
        return super().reset(seed)


class Asks(PointEnv):
    """Asks the user, from the first step on."""

    def step(self, action):
        input("Press Enter to go on ")
        return super().step(action)


class Closes(PointEnv):
    """Leaves a file in the working directory when it is closed, and then hangs where the file HANG says so."""

    def close(self):
        Path(f"closed-{id(self)}").touch()
        if Path("HANG").exists():
            time.sleep(600)


class Saves(PointEnv):
    """Has a state of 40 MB, and fails to load one."""

    def state_dict(self):
        return {"large": np.zeros(10_000_000, np.float32)}

    def load_state_dict(self, state):
        os.kill(os.getpid(), 9)
