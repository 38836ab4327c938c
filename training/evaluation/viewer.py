"""Shows a policy at work in MuJoCo's own window, where its goal can be dragged."""

import os
import sys
import time

import mujoco

from env import GoalEnv, SimulationDiverged
from env.so101.rendering import copy_positions
from env.so101.simulation import CONTROL_STEP
from env.tasks.base import ArmTask
from errors import UserError
from her import policy_input
from training.evaluation.rollout import Policy

GESTURES = "Ctrl + right mouse button drags the goal, with Shift along the table · Backspace begins a new episode"
VIEW = {"azimuth": 132.4, "elevation": -22.7, "distance": 0.8, "lookat": (0.18, -0.05, 0.11)}
"""The place of the model's camera "overview", degrees and m; unlike that camera, the view can be turned."""


def watch(env: GoalEnv, policy: Policy, seed: int) -> None:
    """Shows episode after episode in real time, until the window is closed. Raises UserError."""
    if not isinstance(env, ArmTask):
        raise UserError("--viewer: only the built-in tasks can be watched in MuJoCo's window; try --video")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("--viewer: there is no screen here (neither DISPLAY nor WAYLAND_DISPLAY is set); try --video")
    import mujoco.viewer  # looks for GLFW, which nothing else needs

    model = env.sim.model.drawn
    drawn = mujoco.MjData(model)
    with mujoco.viewer.launch_passive(model, drawn, show_left_ui=False, show_right_ui=False) as window:
        print(GESTURES)
        with window.lock():
            for name, value in VIEW.items():
                setattr(window.cam, name, value)
        while window.is_running():
            watch_episode(env, policy, seed, window, drawn)
            seed += 1


def watch_episode(env: ArmTask, policy: Policy, seed: int, window, drawn: mujoco.MjData) -> None:
    """Shows one episode in `window`, a handle of mujoco.viewer's that draws `drawn`, with its goal where it is dragged.

    It ends as in training, or with the window's reset (Backspace). Once its goal is dragged it has no time limit: it
    goes on until the cube is lost.
    """
    obs, _ = env.reset(seed=seed)
    dragged = ended = False
    while window.is_running() and not ended:
        started = time.perf_counter()
        inputs = policy_input(**{key: value[None] for key, value in obs.items()})
        try:
            obs, _, terminated, truncated, info = env.step(policy(inputs)[0])
        except SimulationDiverged:
            return  # the next episode begins from a state that is good again
        show(env, window, drawn)
        # A rotation would swing the target: MuJoCo turns a body without mass about another point than its centre.
        if window.perturb.active == mujoco.mjtPertBit.mjPERT_TRANSLATE:
            dragged = True
            env.move_goal(drawn.mocap_pos[env.sim.model.target_mocap])
            obs = env.observe()
        was_reset = drawn.time == 0
        ended = was_reset or (info["metrics"].get("cube_lost", 0) > 0 if dragged else terminated or truncated)
        time.sleep(max(0.0, CONTROL_STEP - (time.perf_counter() - started)))


def show(env: ArmTask, window, drawn: mujoco.MjData) -> None:
    """Shows the simulation as it is. After that, MuJoCo does to `drawn` what was done in the window: drags, a reset."""
    model = env.sim.model.drawn
    with window.lock():
        # Nothing else can be dragged; MuJoCo would wait for a double-click on the target, which the cube may hide.
        window.perturb.select = model.body("target").id
        window.perturb.localpos = 0
        copy_positions(env.sim.data, drawn)
        drawn.time = env.sim.data.time
        mujoco.mj_forward(model, drawn)
    window.sync()
