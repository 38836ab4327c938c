"""One training run of SAC+HER: collect → store → update → log → evaluate → checkpoint.

python train.py --env reach         start it; type the same again to continue it
python train.py --help              every option
tensorboard --logdir runs           watch it
"""

import signal
import sys
import time
from pathlib import Path
from types import FrameType

import numpy as np
import torch
import tyro

import checkpoints
import her
from env import EnvError, GoalEnv, RenderingUnavailable
from env.video import write_video
from sac import SAC, Batch, DeviceError, describe_device, select_device, use_fastest_exact_products
from training.config import ConfigError, TrainConfig
from training.curves import Curves
from training.evaluation import record_episodes, run_episodes, summarise
from training.run_directory import RunDirectory, checkpoint_to_resume, version_notes
from training.setup import evaluation_goal, make_environments
from training.state import TrainingState

EVAL_ENVS = 20
"""Evaluation episodes that share a forward pass of the policy."""
VIDEO_EPISODES = 3


class TrainingDiverged(RuntimeError):
    """A loss or a weight is no longer finite; going on would only destroy what was learnt."""


class StopRequest:
    """Turns SIGINT, SIGTERM or SIGHUP into a wish that the loop grants at its next step.

    As a context manager it listens; a second signal changes nothing.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self):
        self.signal: int | None = None

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number


def train(config: TrainConfig) -> None:
    """Runs `config` to its last step, from the beginning or from where its directory left off."""
    device = select_device(config.device)
    if device.type == "cpu":
        use_fastest_exact_products()
    run = RunDirectory(Path(config.run))
    checkpoint, notes = checkpoint_to_resume(config)
    for note in notes:
        print(note)
    state = TrainingState.new(config, device)
    if checkpoint is not None:
        restore(state, checkpoint, config)
    if state.env_steps >= config.steps:
        print(f"{run.path} is complete: {state.env_steps:,} of {config.steps:,} steps; more --steps continue it")
        return
    goal = evaluation_goal(config.env, config.eval.goal)
    eval_envs, _ = make_environments(config, min(config.eval.episodes, EVAL_ENVS), goal)

    with run.lock():
        run.write_config(config)
        print(describe_device(device))
        print(f"{run.path} · {f'from step {state.env_steps:,}' if checkpoint else 'new run'} · {config.steps:,} steps")
        curves = Curves(run.path, config, state.env_steps)
        started = time.perf_counter()
        try:
            with StopRequest() as stop:
                train_loop(config, state, eval_envs, run, curves, stop)
        finally:
            curves.close()
        minutes = (time.perf_counter() - started) / 60
        if state.env_steps < config.steps:
            print(f"stopped and saved at step {state.env_steps:,}; the same command line continues the run")
            sys.exit(128 + stop.signal)
        if config.video:
            record_video(run, eval_envs[0], state, config)
        summary(state, run, minutes)


def train_loop(
    config: TrainConfig,
    state: TrainingState,
    eval_envs: list[GoalEnv],
    run: RunDirectory,
    curves: Curves,
    stop: StopRequest,
) -> None:
    """Collect, learn, log, evaluate and checkpoint, until the last step or until asked to stop."""
    started, first_step = time.perf_counter(), state.env_steps
    stopping = False
    while state.env_steps < config.steps and not stopping:
        collect(state, config, run)
        learn(state, config)
        curves.advance(config.num_envs)

        if crossed(state.env_steps, config.num_envs, config.log.every):
            means = state.update_metrics.pop()
            fps = (state.env_steps - first_step) / (time.perf_counter() - started)
            rates = {"train/n_updates": state.agent.updates, "time/fps": fps}
            curves.log(state.rollouts.values() | means | rates, state.env_steps)
            check_finite(means, state.env_steps, run)

        last_step = state.env_steps >= config.steps
        success, new_best = None, False
        if last_step or crossed(state.env_steps, config.num_envs, config.eval.every):
            result = evaluate(state, eval_envs, config)
            success = state.last_success = result["success"]["rate"]
            new_best = success > state.best_success
            state.best_success = max(success, state.best_success)
            curves.report(result, state.rollouts.goal_moved_rate, state.env_steps)

        due = crossed(state.env_steps, config.num_envs, config.checkpoint.every)
        stopping = stop.signal is not None  # read once: a signal from here on is the next step's
        if due or new_best or last_step or stopping:
            check_weights(state.agent, state.env_steps, run)
            run.save(config, state.env_steps, state.state_dict(), success)


def restore(state: TrainingState, checkpoint: Path, config: TrainConfig) -> None:
    """Puts a checkpoint into a new state, and says so where the run cannot be the very same. Raises CheckpointError."""
    content, manifest = checkpoints.load(checkpoint)
    for note in version_notes(manifest.versions):
        print(note)
    try:
        fresh = state.load_state_dict(content)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = f"it holds no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise checkpoints.CheckpointError(
            f"{checkpoint} does not fit {config.env} as it is now: {reason}; continue it with the code that wrote it, "
            "or give a new --run"
        ) from error
    if fresh:
        print(f"{config.env} has no state_dict: {fresh} environments begin a fresh episode; the run is not bit-exact")


def collect(state: TrainingState, config: TrainConfig, run: RunDirectory) -> None:
    """One step of every environment, at random first and with the policy after, into the buffer's staging area."""
    envs = state.envs
    obs = {key: value.copy() for key, value in envs.obs.items()}
    if state.env_steps < config.warmup:
        action = state.explorer()
    else:
        action = state.agent.act(her.policy_input(**obs, goal_scale=envs.spec.goal_scale))
        check_finite({"the policy's action": action.sum()}, state.env_steps, run)
    step = envs.step(action)
    state.env_steps += len(envs)
    state.rollouts.add(step)

    transition = her.Transition(
        obs, action, step.reward, step.next_obs, step.terminated, step.truncated, step.info, step.diverged
    )
    for episode in state.buffer.add(transition):
        achieved = state.buffer.rows["achieved_goal"][episode.start : episode.start + episode.length + 1]
        state.rollouts.add_displacement(her.goal_displacement(achieved))


def learn(state: TrainingState, config: TrainConfig) -> None:
    """As many updates as the ratio asks for by now, counted from the end of the warm-up."""
    env = state.envs.envs[0]
    due = int((state.env_steps - config.warmup) * config.updates_per_step)
    while len(state.buffer) and state.agent.updates < due:
        batch = her.sample(
            state.buffer,
            config.sac.batch_size,
            config.her,
            env.compute_reward,
            getattr(env, "compute_terminated", None),
            getattr(env, "is_success", None),
        )
        if not np.isfinite(batch.reward).all():
            raise EnvError(f"compute_reward of {config.env} returned a number that is not finite for a hindsight goal")
        metrics = state.agent.update(to_batch(batch, state.envs.spec.goal_scale, state.agent.device))
        state.update_metrics.add(metrics | {"her/relabelled_share": batch.relabelled.mean()})


def to_batch(batch: her.GoalBatch, goal_scale: float, device: torch.device) -> Batch:
    """Goal-conditioned transitions as the plain ones that SAC learns from."""
    arrays = (
        her.policy_input(batch.observation, batch.achieved_goal, batch.desired_goal, goal_scale),
        batch.action,
        batch.reward,
        her.policy_input(batch.next_observation, batch.next_achieved_goal, batch.desired_goal, goal_scale),
        batch.terminated,
    )
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))


def evaluate(state: TrainingState, envs: list[GoalEnv], config: TrainConfig) -> dict:
    """The deterministic policy on environments and episodes of its own; touches nothing that training uses."""
    goal_scale = state.envs.spec.goal_scale
    return summarise(
        list(run_episodes(envs, state.agent.act_deterministic, goal_scale, config.eval.episodes, config.eval.seed))
    )


def crossed(env_steps: int, stride: int, every: int) -> bool:
    """Whether the last `stride` steps reached or passed a multiple of `every`."""
    return env_steps // every > (env_steps - stride) // every


def check_finite(means: dict[str, float], env_steps: int, run: RunDirectory) -> None:
    """Raises TrainingDiverged where one of the agent's numbers is not finite."""
    bad = [name for name, value in means.items() if not np.isfinite(value)]
    if bad:
        raise TrainingDiverged(
            f"training diverged by step {env_steps:,}: {', '.join(bad)} not finite; {last_good(run)}; "
            "look for huge rewards or observations, or try a smaller --sac.lr"
        )


def check_weights(agent: SAC, env_steps: int, run: RunDirectory) -> None:
    """Nothing that is not finite is ever saved. Raises TrainingDiverged."""
    bad = agent.not_finite()
    if bad:
        raise TrainingDiverged(
            f"training diverged by step {env_steps:,}: {', '.join(bad)} not finite; {last_good(run)}"
        )


def last_good(run: RunDirectory) -> str:
    saved = checkpoints.list_checkpoints(run.checkpoints)
    return f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"


def record_video(run: RunDirectory, env: GoalEnv, state: TrainingState, config: TrainConfig) -> None:
    """A few evaluation episodes as mp4; a machine that cannot draw says so, and has its policy all the same."""
    if not hasattr(env, "render"):
        print(f"no video: {config.env} has no render()")
        return
    path = run.videos / f"step_{state.env_steps:09d}.mp4"
    policy, goal_scale = state.agent.act_deterministic, state.envs.spec.goal_scale
    try:
        write_video(path, record_episodes(env, policy, goal_scale, VIDEO_EPISODES, config.eval.seed))
        print(f"video: {path}")
    # Other people's render() fails in its own ways, and no picture is worth a trained policy.
    except Exception as error:
        reason = str(error) if isinstance(error, RenderingUnavailable) else f"{type(error).__name__}: {error}"
        print(f"no video: {reason}")


def summary(state: TrainingState, run: RunDirectory, minutes: float) -> None:
    rollouts = state.rollouts
    print(
        f"done: {state.env_steps:,} steps, {state.agent.updates:,} updates, {minutes:.1f} min\n"
        f"success {state.last_success:.0%} (best {state.best_success:.0%}) · "
        f"goal moved in {rollouts.episodes_moved:,} of {rollouts.episodes:,} training episodes\n"
        f"measure it: python evaluate.py {run.path} · curves: tensorboard --logdir {run.path.parent}"
    )


def main() -> None:
    config = tyro.cli(TrainConfig, prog="train.py")
    try:
        train(config.resolved())
    except OSError as error:
        sys.exit(f"train.py: {error.filename or 'output'}: {error.strerror or error}; what was saved before is intact")
    except (
        ConfigError,
        EnvError,
        DeviceError,
        her.EpisodeTooLong,
        checkpoints.CheckpointError,
        TrainingDiverged,
    ) as error:
        sys.exit(f"train.py: {error}")


if __name__ == "__main__":
    main()
