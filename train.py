"""One training run of SAC+HER: collect → store → update → log → evaluate → checkpoint.

python train.py --env reach         start it; type the same again to continue it
python train.py --help              every option
tensorboard --logdir runs           watch it
"""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import checkpoints
import her
from env import VectorStep, empty_standard_input, is_custom
from errors import UserError, ending_for_sure, reporting
from sac import SAC, CompilerUnavailable, choose_products, describe_device
from training.batches import UPDATES_AT_ONCE, reward_scale
from training.command_line import ignored_options, parse
from training.config import TrainConfig
from training.curves.look_inside import draw_goals, look_inside
from training.curves.pictures import as_png
from training.curves.tensorboard import Curves
from training.device_choice import choose_device, compile_update
from training.evaluation.evaluator import Evaluator
from training.evaluation.video import record_video
from training.progress import Progress, say
from training.resume.run_directory import RunDirectory, Start, choose_start
from training.resume.saving import Saver, initialise, restore
from training.resume.versions import how_started
from training.state import TrainingState, first_notes
from training.stopping import StopRequest, Watchdog


def train(config: TrainConfig, run: RunDirectory, stop: StopRequest, watchdog: Watchdog) -> bool:
    """Runs `config` to its last step, from the beginning or from where its directory left off. Raises UserError.

    Returns False where a signal had it save and leave before that.
    """
    stop.at_once = True  # until there is something that could be saved
    device, why = choose_device(config)
    choose_products(device, config.reduced_precision)
    with (
        closing(Evaluator(config, watchdog)) as evaluate,
        closing(TrainingState.new(config, device)) as state,
        stop.ending_in_time(),
        run.lock(),
    ):
        start = choose_start(run, config, state.envs.spec.fingerprint)
        refuse_no_step(start, config)
        compile_where_possible(state.agent, config, start)
        notes = restore_or_begin(state, config, start)
        stop.at_once = False
        if is_complete(state, config):
            say(f"{config.run} is complete: {state.env_steps:,} of {config.steps:,} steps; more --steps continue it")
            checkpoints.prune(run.checkpoints, config.checkpoint.keep, newest=state.env_steps)
        else:
            say(f"{describe_device(device)} (--device {config.device}: {why})")
            where = f"from step {state.env_steps:,}" if start.checkpoint else "new run"
            say(f"{config.run} · {where} · {config.steps:,} steps")
            for note in first_notes(config, state):
                say(note)
            started = time.perf_counter()
            how = how_started(state.agent, config, start, state.env_steps, notes)
            continue_run(config, state, run, start, how, evaluate, stop, watchdog)
            if not is_complete(state, config):
                say(f"stopped and saved at step {state.env_steps:,}; the same command line continues the run")
                return False
            summary(config, state, (time.perf_counter() - started) / 60)
        if config.video:
            run.check_still_held()
            path = run.videos / f"step_{state.env_steps:09d}.mp4"
            record_video(path, evaluate.envs[0], evaluate.policy(state.agent), evaluate.seed)
    return True


def refuse_no_step(start: Start, config: TrainConfig) -> None:
    """Raises UserError for a branch that would take no step."""
    if not start.own and (step := checkpoints.read_manifest(start.checkpoint).step) >= config.steps:
        raise UserError(f"--resume {config.resume}: stands at step {step:,}; give more --steps to branch")


def restore_or_begin(state: TrainingState, config: TrainConfig, start: Start) -> list[str]:
    """Puts what the run starts from into `state`. Says, and returns, what is to be known of it."""
    notes: list[str] = []
    if start.checkpoint:
        notes = restore(state, start.checkpoint, config)
    elif config.init != "none":
        notes = [initialise(state, config.init)]
    if not start.own:
        state.begin_branch(config, start.changed)
    notes = [*start.notes, *notes]
    for note in notes:
        say(note)
    return notes


def continue_run(
    config: TrainConfig,
    state: TrainingState,
    run: RunDirectory,
    start: Start,
    how: dict[str, Any],
    evaluate: Evaluator,
    stop: StopRequest,
    watchdog: Watchdog,
) -> None:
    """Trains from where `state` stands, and tells with every failure where the run could be continued.

    `how` it was started is written down.
    """
    run.write_config(config, how)
    with (
        closing(Curves(run.path, config, state.env_steps, how)) as curves,
        closing(Saver(run, config, state, curves, start.checkpoint if start.own else None)) as saver,
        closing(Progress(config.steps, state.env_steps)) as progress,
    ):
        try:
            with ending_by_itself():
                train_loop(config, state, evaluate, Outputs(curves, progress, saver), stop, watchdog)
        except UserError as error:
            raise UserError(f"{error}; {saver.last_good()}", error.status) from error
        except torch.AcceleratorError as error:
            reason = str(error).splitlines()[0]
            ways = "the same command line goes on, with --graph never without GPU graphs"
            sentence = f"the GPU failed ({reason}); {ways}; python -m sac.device says more; {saver.last_good()}"
            raise UserError(sentence, status=1) from error
        except Exception as error:
            error.add_note(f"{run.path}: {saver.last_good()}")
            raise


@contextmanager
def ending_by_itself() -> Iterator[None]:
    """Turns sys.exit() and its like into a UserError: nothing of ours calls it here, but an environment may.

    Ctrl-C is none of them, since StopRequest has taken that over.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise UserError(f"the environment, or something that it uses, ended the program ({what})", 1) from error


@dataclass(frozen=True)
class Outputs:
    """Takes a run's results to TensorBoard, to the terminal, and into checkpoints."""

    curves: Curves
    progress: Progress
    saver: Saver

    def tell(self, sentences: list[str], env_steps: int) -> None:
        """Says each sentence where somebody looks: in the terminal, and beside the curves."""
        for sentence in sentences:
            say(f"step {env_steps:>9,} · {sentence}")
            self.curves.remark(sentence, env_steps)


def train_loop(
    config: TrainConfig,
    state: TrainingState,
    evaluate: Evaluator,
    outputs: Outputs,
    stop: StopRequest,
    watchdog: Watchdog,
) -> None:
    """Collects, learns, logs, evaluates and saves, until the last step or until asked to stop."""
    should_log = Every(config.log.every, config.num_envs)
    should_evaluate = Every(config.eval.every, config.num_envs)
    should_save = Every(config.checkpoint.every, config.num_envs)
    while not is_complete(state, config) and stop.signal is None:
        watchdog.pat()
        stop.keep_listening()
        collect_and_learn(state, config)
        outputs.progress.advance(config.num_envs)
        score, is_best = None, False
        if should_log(state.env_steps):
            log(state, config, outputs)
        if should_evaluate(state.env_steps) or is_complete(state, config):
            score, is_best = report(evaluate(state.agent, is_complete(state, config)), state, config, outputs)
        if should_save(state.env_steps) or is_best or is_complete(state, config):
            outputs.saver.save(score)
    outputs.saver.finish()


@dataclass(frozen=True)
class Every:
    """Tells whether the last `stride` environment steps reached or passed a multiple of `every`."""

    every: int
    stride: int

    def __call__(self, env_steps: int) -> bool:
        return env_steps // self.every > (env_steps - self.stride) // self.every


def is_complete(state: TrainingState, config: TrainConfig) -> bool:
    return state.env_steps >= config.steps


def collect_and_learn(state: TrainingState, config: TrainConfig) -> None:
    """Takes one step of every environment and, meanwhile, the updates that are due, from what was stored before it."""
    obs = {key: value.copy() for key, value in state.envs.obs.items()}
    replay = state.replay(config)
    state.goals.put_into(obs, replay)
    state.agent.see(her.policy_input(**obs))
    action = choose_actions(state, config, obs)
    state.envs.begin(action)
    learn(state, config)
    step = state.envs.finish()
    store(state, obs, action, state.goals.judged(step, replay))


def choose_actions(state: TrainingState, config: TrainConfig, obs: dict[str, np.ndarray]) -> np.ndarray:
    """Returns an action for every environment, (N, A): at random first, and the policy's after."""
    if state.env_steps < config.warmup and config.init == "none":
        return state.explorer()
    action = state.agent.act(her.policy_input(**obs))
    check_finite({"the policy's action": action.sum()}, state.env_steps)
    return action


def store(state: TrainingState, obs: dict[str, np.ndarray], action: np.ndarray, step: VectorStep) -> None:
    """Puts what the environments' step led to into the buffer's staging area and the curves."""
    state.env_steps += len(action)
    state.rollouts.add(step, state.goals.chosen)
    for episode in state.buffer.add(obs, action, step):
        if not state.envs.spec.goal_dim:
            continue
        rows = slice(episode.start, episode.start + episode.length + 1)
        goals = (state.buffer.rows[key][rows] for key in ("achieved_goal", "desired_goal"))
        state.rollouts.add_displacement(*her.goal_displacement(*goals))


def learn(state: TrainingState, config: TrainConfig) -> None:
    """Makes as many updates as the ratio asks for by now, counted from the end of the warm-up."""
    if state.learning_since is None:
        if not len(state.buffer) or state.env_steps <= config.warmup:
            return
        # Where the first episode ends after the warm-up, what was missed by then is not made up for in one burst.
        state.learning_since = max(config.warmup, state.env_steps - config.num_envs)
        if config.init == "none":  # else it is what those critics count in
            state.reward_scale = reward_scale(state.buffer, state.envs.spec.reward_values)
    state.relabel_env.met_goals_end_episodes = state.rollouts.met_goals_end_episodes
    due = int((state.env_steps - state.learning_since) * config.updates_per_step)
    while len(state.buffer) and state.agent.updates < due:
        count = min(due - state.agent.updates, UPDATES_AT_ONCE)
        replay = state.replay(config)
        drawn = replay.draw(count * config.batch_size)
        metrics = state.agent.update(replay.to_batches(drawn, count, state.agent.device))
        state.update_metrics.add(metrics | {"her/relabelled_share": drawn[2].mean()}, count)


def log(state: TrainingState, config: TrainConfig, outputs: Outputs) -> None:
    """Adds a point to every curve, and what a doctor would say of them. Raises UserError where training diverged."""
    means = state.update_metrics.pop()
    check_finite(means, state.env_steps)
    point = state.rollouts.values() | means
    point |= {"train/n_updates": state.agent.updates, "time/fps": outputs.progress.steps_per_second()}
    if len(state.buffer):
        inside = look_inside(state.agent, state.replay(config), config, state.env_steps)
        check_finite(inside.curves, state.env_steps)
        point |= inside.curves
        outputs.curves.histograms(inside.histograms, state.env_steps)
    outputs.curves.log(point, state.env_steps)
    outputs.tell(state.doctor.examine(point, state.env_steps), state.env_steps)


def report(result: dict, state: TrainingState, config: TrainConfig, outputs: Outputs) -> tuple[float, bool]:
    """Tells of an evaluation's result. Returns its score, and whether that is the best so far.

    The score is the success rate, or the mean return where the task tells no success.
    """
    score = result["success"]["rate"] if result["success"] else result["return"]["mean"]
    is_best = state.last_success is None or score > state.best_success
    state.best_success = score if is_best else state.best_success
    state.last_success = score
    outputs.curves.report(result, state.env_steps)
    if result["film"] is not None:
        outputs.curves.picture("eval/episode", result["film"], state.env_steps)
    if len(state.buffer) and state.envs.spec.goal_dim:
        goals = draw_goals(state.buffer, config.seed, state.env_steps)
        outputs.curves.picture("her/goal_coverage", as_png(goals), state.env_steps)
    outputs.tell(state.doctor.examine_evaluation(result, state.env_steps), state.env_steps)
    goal_moved = state.rollouts.goal_moved_rate if state.envs.spec.goal_dim else None
    outputs.progress.report(result, goal_moved, state.env_steps)
    return score, is_best


def compile_where_possible(agent: SAC, config: TrainConfig, start: Start) -> None:
    """Compiles the update, before a checkpoint is read, which says whether its own was."""
    done = checkpoints.step_of(start.checkpoint) if start.checkpoint else 0
    if not config.compile or agent.device.type != "cpu" or done >= config.steps:
        return
    say("compiling the update: half a minute the first time on a machine (--no-compile: without)")
    try:
        compile_update(agent, config.batch_size)
    except CompilerUnavailable as error:
        say(f"the update is not compiled and so takes twice the time: {error}")


def check_finite(means: dict[str, float], env_steps: int) -> None:
    """Raises UserError where one of the agent's numbers is not finite."""
    bad = [name for name, value in means.items() if not np.isfinite(value)]
    if bad:
        raise UserError(f"training diverged by step {env_steps:,}: {', '.join(bad)} not finite")


def summary(config: TrainConfig, state: TrainingState, minutes: float) -> None:
    rollouts, run = state.rollouts, Path(config.run)
    say(f"done: {state.env_steps:,} steps, {state.agent.updates:,} updates, {minutes:.1f} min")
    if not state.agent.updates:
        say("nothing was learnt: no episode ended in time for an update; give more --steps, or fewer --num-envs")
    name, form = ("success", ".0%") if state.envs.spec.tells_success else ("return", ".2f")
    moved = f" · goal moved in {rollouts.episodes_moved:,} of {rollouts.episodes:,} training episodes"
    say(
        f"{name} {state.last_success:{form}} (best {state.best_success:{form}})"
        f"{moved if state.envs.spec.goal_dim else ''}\n"
        f"measure it: python evaluate.py {shlex.quote(str(run))} · "
        f"curves: tensorboard --logdir {shlex.quote(str(run.parent))}"
    )


def main() -> None:
    with reporting("train.py"):
        config = parse(sys.argv[1:])
        for sentence in ignored_options(config):
            say(sentence)
        # Before an environment of somebody's own is imported, which may change the working directory.
        run = RunDirectory(Path(config.run).absolute())
        if config.resume not in ("auto", "never"):
            config = replace(config, resume=str(Path(config.resume).absolute()))
        if config.init != "none" and not (checkpoints.PRETRAINED / config.init).is_dir():
            config = replace(config, init=str(Path(config.init).absolute()))
        if is_custom(config.env) and config.overlap:  # without, a debugger needs the terminal
            empty_standard_input()
        with StopRequest() as stop, Watchdog(config.watchdog) as watchdog, ending_by_itself():
            complete = train(config, run, stop, watchdog)
        if not complete:
            sys.exit(128 + stop.signal)


if __name__ == "__main__":
    ending_for_sure(main)
