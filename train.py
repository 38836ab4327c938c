"""One training run of SAC+HER: collect → store → update → log → evaluate → checkpoint.

python train.py --env reach         start it; type the same again to continue it
python train.py --help              every option
tensorboard --logdir runs           watch it
"""

import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
import tyro

import checkpoints
import her
from env import EnvError, EnvFailed, GoalEnv, RenderingUnavailable, VectorStep
from env.outputs import leave_quietly
from env.video import write_video
from sac import SAC, CompilerUnavailable, DeviceError, choose_products, describe_device
from training.analysis.verify_resume import VerificationFailed, verify_resume
from training.batches import UPDATES_AT_ONCE, draw, to_batches, transition_of
from training.config import ConfigError, TrainConfig
from training.curves.look_inside import draw_goals, look_inside
from training.curves.pictures import as_png
from training.curves.tensorboard import Curves
from training.device_choice import choose_device, compile_update
from training.evaluation.film import Film
from training.evaluation.rollout import Policy, record_episodes, run_episodes, summarise
from training.ignored_options import unread
from training.progress import Progress, say
from training.resume.run_directory import RunDirectory, RunInUse, choose_start, refuse_impossible
from training.resume.saving import SaveFailed, Saver, TrainingDiverged, restore
from training.setup import evaluation_environments, evaluation_goal
from training.state import TrainingState
from training.stopping import Stopped, StopRequest, interruptible
from training.watchdog import Watchdog, WatchdogError

EVAL_ENVS = 20
"""Evaluation episodes that share a forward pass of the policy."""
VIDEO_EPISODES = 3
REFUSED = 2
"""Exit status of what no restart can cure: an impossible option, another run's directory, a diverged run."""


def train(config: TrainConfig, stop: StopRequest, watchdog: Watchdog) -> None:
    """Runs `config` to its last step, from the beginning or from where its directory left off."""
    device, why = choose_device(config)
    choose_products(device, config.reduced_precision)
    state = TrainingState.new(config, device)
    with closing(state.envs):
        continue_run(config, state, why, stop, watchdog)


def continue_run(
    config: TrainConfig, state: TrainingState, why_this_device: str, stop: StopRequest, watchdog: Watchdog
) -> None:
    """From the newest checkpoint or from the beginning to the last step, the video and the summary."""
    refuse_impossible(config, state.envs.spec.fingerprint)
    goal = evaluation_goal(config.env, config.eval.goal)
    eval_envs, _ = evaluation_environments(config, min(config.eval.episodes, EVAL_ENVS), goal)

    run = RunDirectory(Path(config.run))
    with run.lock():
        start = choose_start(config, state.envs.spec.fingerprint)
        done = checkpoints.step_of(start.checkpoint) if start.checkpoint else 0
        if config.compile and state.agent.device.type == "cpu" and done < config.steps:
            try_to_compile(state.agent, config.sac.batch_size)
        curves_so_far, notes = restore(state, start.checkpoint, config) if start.checkpoint else ({}, [])
        if not start.own:  # a branch: the curves that were restored are another directory's
            curves_so_far = None if run.own_checkpoints() else {}
        for note in (*start.notes, *notes):
            say(note)
        started = time.perf_counter()
        if is_complete(state, config):
            say(f"{run.path} is complete: {state.env_steps:,} of {config.steps:,} steps; more --steps continue it")
        else:
            run.write_config(config)
            say(f"{describe_device(state.agent.device)} (--device {config.device}: {why_this_device})")
            where = f"from step {state.env_steps:,}" if start.checkpoint else "new run"
            say(f"{run.path} · {where} · {config.steps:,} steps")
            with (
                closing(Curves(run.path, config, state.env_steps, curves_so_far)) as curves,
                closing(Saver(run, config, state, curves, start.checkpoint if start.own else None)) as saver,
                closing(Progress(config.steps, state.env_steps)) as progress,
            ):
                try:
                    train_loop(config, state, eval_envs, curves, saver, progress, stop, watchdog)
                except (TrainingDiverged, EnvError) as error:
                    raise type(error)(f"{error}; {saver.last_good()}") from error
                except Exception as error:
                    error.add_note(f"{run.path}: {saver.last_good()}")
                    raise
            if not is_complete(state, config):
                say(f"stopped and saved at step {state.env_steps:,}; the same command line continues the run")
                sys.exit(128 + stop.signal)
            summary(state, run, (time.perf_counter() - started) / 60)
        if config.video:
            record_video(run, eval_envs[0], state, config, stop, watchdog)


def train_loop(
    config: TrainConfig,
    state: TrainingState,
    eval_envs: list[GoalEnv],
    curves: Curves,
    saver: Saver,
    progress: Progress,
    stop: StopRequest,
    watchdog: Watchdog,
) -> None:
    """Collect, learn, log, evaluate and checkpoint, until the last step or until asked to stop."""
    policy = interruptible(state.agent.act_deterministic, stop, watchdog)
    film = Film(eval_envs[0], config.eval.seed, config.video)
    started, first_step = time.perf_counter(), state.env_steps
    while not is_complete(state, config) and stop.signal is None:
        watchdog.pat()
        # A run that was stopped in the middle of an evaluation goes on with that, at the same step.
        if not state.evaluation_due:
            collect_and_learn(state, config)
            progress.advance(config.num_envs)
            if crossed(state.env_steps, config.num_envs, config.log.every):
                fps = (state.env_steps - first_step) / (time.perf_counter() - started)
                log(state, config, curves, fps)
            last_step = state.env_steps >= config.steps
            state.evaluation_due = last_step or crossed(state.env_steps, config.num_envs, config.eval.every)

        success, new_best = None, False
        if state.evaluation_due:
            try:
                result = evaluate(state, eval_envs, policy, config)
                picture = film.take(policy, state.envs.spec.goal_scale)
            except Stopped:
                break
            state.evaluation_due = False
            success = state.last_success = result["success"]["rate"]
            new_best = success > state.best_success
            state.best_success = max(success, state.best_success)
            curves.report(result, state.env_steps)
            if picture is not None:
                curves.picture("eval/episode", picture, state.env_steps)
            if len(state.buffer):
                curves.picture("her/goal_coverage", as_png(draw_goals(state, config)), state.env_steps)
            tell(state.doctor.examine_evaluation(result, state.env_steps), curves, state.env_steps)
            progress.report(result, state.rollouts.goal_moved_rate, state.env_steps)

        due = crossed(state.env_steps, config.num_envs, config.checkpoint.every)
        if due or new_best or is_complete(state, config):
            saver.save(success)
    saver.finish()


def is_complete(state: TrainingState, config: TrainConfig) -> bool:
    return state.env_steps >= config.steps and not state.evaluation_due


def collect_and_learn(state: TrainingState, config: TrainConfig) -> None:
    """One step of every environment, and meanwhile the updates that are due, from what was stored before it."""
    obs = {key: value.copy() for key, value in state.envs.obs.items()}
    action = choose_actions(state, config)
    state.envs.begin(action)
    learn(state, config)
    store(state, obs, action, state.envs.finish())


def choose_actions(state: TrainingState, config: TrainConfig) -> np.ndarray:
    """An action for every environment, (N, A): at random first and the policy's after."""
    if state.env_steps < config.warmup:
        return state.explorer()
    action = state.agent.act(her.policy_input(**state.envs.obs, goal_scale=state.envs.spec.goal_scale))
    check_finite({"the policy's action": action.sum()}, state.env_steps)
    return action


def store(state: TrainingState, obs: dict[str, np.ndarray], action: np.ndarray, step: VectorStep) -> None:
    """What the environments' step led to, into the buffer's staging area and the curves."""
    state.env_steps += len(action)
    state.rollouts.add(step)
    for episode in state.buffer.add(transition_of(obs, action, step)):
        achieved = state.buffer.rows["achieved_goal"][episode.start : episode.start + episode.length + 1]
        state.rollouts.add_displacement(her.goal_displacement(achieved))


def learn(state: TrainingState, config: TrainConfig) -> None:
    """As many updates as the ratio asks for by now, counted from the end of the warm-up."""
    if state.learning_since is None:
        if not len(state.buffer) or state.env_steps <= config.warmup:
            return
        # Where the first episode ends after the warm-up, what was missed by then is not made up for in one burst.
        state.learning_since = max(config.warmup, state.env_steps - config.num_envs)
    due = int((state.env_steps - state.learning_since) * config.updates_per_step)
    while len(state.buffer) and state.agent.updates < due:
        count = min(due - state.agent.updates, UPDATES_AT_ONCE)
        batch = draw(state.buffer, state.judge, config, state.env_steps, count * config.sac.batch_size)
        metrics = state.agent.update(to_batches(batch, count, state.envs.spec.goal_scale, state.agent.device))
        state.update_metrics.add(metrics | {"her/relabelled_share": batch.relabelled.mean()}, count)


def log(state: TrainingState, config: TrainConfig, curves: Curves, fps: float) -> None:
    """A point on every curve, and what a doctor would say of them. Raises TrainingDiverged."""
    means = state.update_metrics.pop()
    check_finite(means, state.env_steps)
    point = state.rollouts.values() | means | {"train/n_updates": state.agent.updates, "time/fps": fps}
    if len(state.buffer):
        inside = look_inside(state, config)
        check_finite(inside.curves, state.env_steps)
        point |= inside.curves
        curves.histograms(inside.histograms, state.env_steps)
    curves.log(point, state.env_steps)
    tell(state.doctor.examine(point, state.env_steps), curves, state.env_steps)


def tell(sentences: list[str], curves: Curves, env_steps: int) -> None:
    """Where somebody looks: in the terminal, and beside the curves."""
    for sentence in sentences:
        say(f"step {env_steps:>9,} · {sentence}")
        curves.remark(sentence, env_steps)


def evaluate(state: TrainingState, envs: list[GoalEnv], policy: Policy, config: TrainConfig) -> dict:
    """The deterministic policy on environments and episodes of its own; touches nothing that training uses."""
    goal_scale = state.envs.spec.goal_scale
    return summarise(list(run_episodes(envs, policy, goal_scale, config.eval.episodes, config.eval.seed)))


def try_to_compile(agent: SAC, batch_size: int) -> None:
    """Before a checkpoint is read, which says whether its update was compiled."""
    say("compiling the update: half a minute the first time on a machine (--no-compile: without)")
    try:
        compile_update(agent, batch_size)
    except CompilerUnavailable as error:
        say(f"the update is not compiled and so takes twice the time: {error}")


def crossed(env_steps: int, stride: int, every: int) -> bool:
    """Whether the last `stride` steps reached or passed a multiple of `every`."""
    return env_steps // every > (env_steps - stride) // every


def check_finite(means: dict[str, float], env_steps: int) -> None:
    """Raises TrainingDiverged where one of the agent's numbers is not finite."""
    bad = [name for name, value in means.items() if not np.isfinite(value)]
    if bad:
        raise TrainingDiverged(f"training diverged by step {env_steps:,}: {', '.join(bad)} not finite")


def record_video(
    run: RunDirectory, env: GoalEnv, state: TrainingState, config: TrainConfig, stop: StopRequest, watchdog: Watchdog
) -> None:
    """A few evaluation episodes as mp4, where there is none of this step yet; a machine that cannot draw says so, and
    has its policy all the same."""
    path = run.videos / f"step_{state.env_steps:09d}.mp4"
    if path.exists():
        return
    if not hasattr(env, "render"):
        say(f"no video: {config.env} has no render()")
        return
    policy, goal_scale = interruptible(state.agent.act_deterministic, stop, watchdog), state.envs.spec.goal_scale
    try:
        write_video(path, record_episodes(env, policy, goal_scale, VIDEO_EPISODES, config.eval.seed))
        say(f"video: {path}")
    except Stopped:
        say("no video yet; the same command line makes it")
        sys.exit(128 + stop.signal)
    # Other people's render() fails in its own ways, and no picture is worth a trained policy.
    except Exception as error:
        reason = str(error) if isinstance(error, RenderingUnavailable) else f"{type(error).__name__}: {error}"
        say(f"no video: {reason}")


def summary(state: TrainingState, run: RunDirectory, minutes: float) -> None:
    rollouts = state.rollouts
    say(
        f"done: {state.env_steps:,} steps, {state.agent.updates:,} updates, {minutes:.1f} min\n"
        f"success {state.last_success:.0%} (best {state.best_success:.0%}) · "
        f"goal moved in {rollouts.episodes_moved:,} of {rollouts.episodes:,} training episodes\n"
        f"measure it: python evaluate.py {run.path} · curves: tensorboard --logdir {run.path.parent}"
    )


def leave(status: int, sentence: object) -> NoReturn:
    with suppress(OSError):
        print(f"train.py: {sentence}", file=sys.stderr)
    sys.exit(status)


def main() -> None:
    try:
        given = tyro.cli(TrainConfig, prog="train.py")
        config = given.resolved()
        if config.verify_resume:
            for number in StopRequest.SIGNALS:
                signal.signal(number, lambda number, _: sys.exit(128 + number))  # its two runs must not outlive it
            sys.exit(0 if verify_resume(config, sys.argv[1:]) else 1)
        for sentence in unread(given, config):
            say(sentence)
        with StopRequest() as stop, Watchdog(config.watchdog) as watchdog:
            train(config, stop, watchdog)
    except EnvFailed as error:
        leave(1, error)
    except (
        ConfigError,
        EnvError,
        WatchdogError,
        her.EpisodeTooLong,
        checkpoints.CheckpointError,
        TrainingDiverged,
    ) as error:
        leave(REFUSED, error)
    except (DeviceError, RunInUse, SaveFailed, VerificationFailed) as error:
        leave(1, error)
    except torch.AcceleratorError as error:
        reason = str(error).splitlines()[0]
        leave(1, f"the GPU failed ({reason}); the same command line goes on from the last checkpoint")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        leave_quietly()
    except OSError as error:
        leave(1, f"{error.filename or 'output'}: {error.strerror or error}; what was saved before is intact")


if __name__ == "__main__":
    main()
