"""Roll a trained policy out, say how good it is and how sure that is, record it, or watch it live.

python evaluate.py runs/reach-sparse-reach-0          the newest checkpoint of a run
python evaluate.py runs/…/checkpoints/step_000010000  one checkpoint
python evaluate.py reach --video reach.mp4            a policy that came with the code
"""

import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal, NoReturn

import tyro
from annotated_types import Ge

import checkpoints
from env import GoalEnv, GoalKind, SimulationDiverged, close_envs, empty_standard_input, is_custom
from env.tasks.cube import CubeTask
from env.tasks.grasp_watch import GraspWatch
from env.video import check_frame, check_video_path, write_video
from errors import Signalled, UserError, check_writable, ending_for_sure, reporting, write_json
from sac import SAC, DeviceName, choose_products, describe_device, select_device
from training.command_line import has_effect, whole_numbers
from training.config import out_of_bounds
from training.evaluation.evaluator import ENVS
from training.evaluation.rollout import Policy, record_episodes, run_episodes, summarise
from training.evaluation.viewer import watch
from training.recipes import newer_options
from training.setup import evaluated_task, evaluation_environments, evaluation_goal, make_agent, trained_with

File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")]


@dataclass(frozen=True)
class EvaluateConfig:
    """Roll a trained policy out deterministically, from start states that training never saw.

    success: the goal holds at the last step. success once: it held at any step. Intervals are 95 %.
    """

    path: Annotated[str, tyro.conf.Positional]
    """A run directory (its newest checkpoint), one checkpoint, or the name of a policy in checkpoints/pretrained."""
    episodes: Annotated[int, Ge(1)] = 100
    """How many episodes."""
    seed: Annotated[int, Ge(0)] = 10_000
    """Episode i is drawn from this seed + i and from nothing else."""
    goal: GoalKind = "own"
    """Kind of goals. own: the task's own (pick-place: fixed)."""
    device: DeviceName = "auto"
    """Where the policy lives."""
    checkpoint: Literal["last", "best"] = "last"
    """Which checkpoint of a run directory. best: by the success of training's own evaluations."""
    video: File = None
    """Record the first episodes to this .mp4 or .gif."""
    json: File = None
    """Write the summary to this file."""
    viewer: bool = False
    """Watch the policy in MuJoCo's window, and drag its goal, instead of measuring it; needs a screen."""


def evaluate(config: EvaluateConfig) -> None:
    """Rolls the policy out, prints and writes what was asked for. Raises UserError."""
    for sentence in out_of_bounds(config):
        raise UserError(sentence)
    if config.viewer and (config.video or config.json):
        raise UserError("--viewer: is for watching, without --video and --json")
    if config.video is not None:
        check_video_path(config.video)
    # Now: an environment of somebody's own may change the working directory.
    outputs = {name: path and path.absolute() for name, path in (("json", config.json), ("video", config.video))}
    config = replace(config, **outputs)
    device = select_device(config.device)
    choose_products(device, reduced_precision=False)
    found, problems = checkpoints.find_policy(config.path, best_one=config.checkpoint == "best")
    for problem in problems:
        print(f"passed over: {problem}")
    path = found.absolute()
    manifest = checkpoints.read_manifest(path)
    training = trained_with(manifest, path)
    if config.goal != "own" and is_custom(training.env):
        raise UserError(f"--goal {config.goal}: is for the built-in tasks; {training.env} has goals of its own")
    goal = evaluation_goal(training.env, config.goal)
    if is_custom(training.env):
        empty_standard_input()
    envs, spec = evaluation_environments(training, min(config.episodes, ENVS), goal)
    try:
        policy = load_policy(path, make_agent(training, spec, device, seed=0), training.env)
        print(f"{found} · {training.env}, goal {goal} · trained for {manifest.step:,} steps")
        print(describe_device(device))
        evaluated = replace(training, task=evaluated_task(training.task, goal))
        newer = newer_options(manifest.config, evaluated)
        if missing := [f"--{name}" for name in newer if name.startswith("task.") and has_effect(name, evaluated)]:
            print(f"older code trained it, without {', '.join(missing)}: as by default now, which may be another task")
        if None not in (manifest.fingerprint, spec.fingerprint) and manifest.fingerprint != spec.fingerprint:
            print("trained on another model of the environment: the files that it is read from have changed since")
        if config.viewer:
            watch(envs[0], policy, config.seed)
        else:
            about = {"env": training.env, "goal": goal, "env_steps": manifest.step}
            measure(config, about, envs, policy)
    finally:
        close_envs(envs)


def measure(config: EvaluateConfig, about: dict, envs: list[GoalEnv], policy: Policy) -> None:
    """Prints the episodes and their summary, and writes it, beside what it is `about`. Raises UserError."""
    check_outputs(config, envs[0], about["env"])
    episodes = []
    watched = [GraspWatch(env) if isinstance(env, CubeTask) else env for env in envs]
    for i, episode in enumerate(run_episodes(watched, policy, config.episodes, config.seed)):
        episodes.append(episode)
        verdict = "success" if episode.success else "reached, not held" if episode.success_once else "failed"
        told = f" · {verdict:<17}" if episode.success is not None else ""
        print(f"episode {i:>4}{told} · return {episode.ret:>8.2f} · {episode.length} steps")
    summary = summarise(episodes)
    print_summary(summary)
    if config.json is not None:
        write_json("--json", config.json, about | summary)
    if config.video is not None:
        count = min(config.episodes, 5)
        write_video(config.video, record_episodes(envs[0], policy, count, config.seed))
        print(f"video of the first {count} episodes: {config.video}")


def load_policy(path: Path, agent: SAC, env: str) -> Policy:
    """Returns the deterministic policy of the checkpoint at `path`, put into `agent`, which was made for `env`.

    Raises CheckpointError.
    """
    policy = {name: agent.state_dict()[name] for name in checkpoints.POLICY}
    try:
        state, _ = checkpoints.load(path, only=["agent"], expected={"agent": policy})
    except checkpoints.CheckpointError as error:
        raise checkpoints.CheckpointError(f"{error} (needed for {env} as it is now)") from error
    agent.load_networks(state["agent"], only=checkpoints.POLICY)
    return agent.act_deterministic


def check_outputs(config: EvaluateConfig, env: GoalEnv, name: str) -> None:
    """Fails before the first episode where something would fail after the last. Raises UserError."""
    if config.video is not None:
        if not hasattr(env, "render"):
            raise UserError(f"--video: {name} has no render()")
        with suppress(SimulationDiverged):  # then that episode has failed
            env.reset(seed=config.seed)
            check_frame(env.render())
    for option, path in (("--json", config.json), ("--video", config.video)):
        if path is not None:
            check_writable(option, path)


def print_summary(summary: dict) -> None:
    print(f"\n{summary['episodes']} episodes, 95 % intervals")
    for name in ("success", "success_once") if summary["success"] else ():
        rate = summary[name]
        print(f"  {name:<13}{rate['rate']:>8.1%}   [{rate['low']:.1%}, {rate['high']:.1%}]")
    for name in ("return", "length"):
        value = summary[name]
        print(f"  {name:<13}{value['mean']:>8.2f}   [{value['low']:.2f}, {value['high']:.2f}]")
    if "funnel" in summary:
        print("  episodes that " + " · ".join(f"{stage} {rate:.0%}" for stage, rate in summary["funnel"].items()))
    for name, value in summary.get("largest", {}).items():
        print(f"  largest {name}: {value:.2f}")


def leave_on_signals() -> None:
    """Lets SIGTERM and SIGHUP end the program as Ctrl-C does, with its environments closed."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise Signalled(number)


def main() -> None:
    with reporting("evaluate.py"):
        with whole_numbers():
            config = tyro.cli(EvaluateConfig, prog="evaluate.py")
        leave_on_signals()
        evaluate(config)


if __name__ == "__main__":
    ending_for_sure(main)
