"""Tries an environment before anything is learnt in it, and finds out what the learner needs to know of it."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np

from env.foreign import SIZES, Guarded, blaming
from env.protocol import EnvSpec, GoalEnv, SimulationDiverged, info_arrays
from env.vector import DIVERGED_IN_A_ROW

STEPS, OF_ONE_EPISODE, EPISODES = 60, 30, 10
"""Random steps that an environment is tried with, how many of one episode at most, and of how many episodes."""
ALONE = "it may depend on its arguments alone; what else it needs (the action, say) belongs into info, as an array"
AGREE = {
    "compute_reward": ("step paid", f"hindsight would teach other rewards than real ones; {ALONE}"),
    "compute_terminated": ("step's terminated was", f"both must tell whether the episode ends there; {ALONE}"),
    "is_success": ('info["is_success"] was', f"both must tell whether the goal is met now; {ALONE}"),
}
"""Says what each goal function must agree with, and why."""


class Episode(NamedTuple):
    """Holds the first steps of an episode: the seed it was reset with, actions (T, A), and what each step returned."""

    seed: int | None
    actions: np.ndarray
    steps: list[tuple]


class Seen(NamedTuple):
    """Holds N steps: goals (N, G) and info's arrays (N, …) as the buffer keeps them, and what was told of each (N,)."""

    achieved: np.ndarray
    desired: np.ndarray
    info: dict[str, np.ndarray]
    reward: np.ndarray
    success: np.ndarray
    terminated: np.ndarray


def probe(env: GoalEnv, name: str, judge: GoalEnv | None = None, hindsight: bool = True) -> EnvSpec:
    """Takes random steps in `env`, has `judge` judge them, and returns what is known then. Raises EnvError.

    `judge` is another instance, and has not been stepped. Without one `env` judges itself. Without `hindsight` nobody
    needs compute_reward. A Guarded `env` has an is_success afterwards where its rewards tell which goals are met. Both
    are somewhere in an episode then: reset them before use. NumPy's and Python's global generators stay as they were.
    """
    env, judge = (each if isinstance(each, Guarded) else Guarded(each, name) for each in (env, judge or env))
    with blaming(name, "trying it"), _global_generators_kept():
        _check_sizes(env)
        hindsight = hindsight and env.goal_dim > 0
        _check_attributes(env, hindsight)
        rng = np.random.default_rng(0)
        episodes = _random_episodes(env, rng)
        shapes = _check_info(env, episodes)
        seen = _seen(episodes)
        _start(judge)
        told = {"compute_reward": seen.reward, "compute_terminated": seen.terminated, "is_success": seen.success}
        asked = [method for method in told if _has(env, method) and (hindsight or method != "compute_reward")]
        for method in asked:
            _compare_with_steps(judge, method, seen, told[method])
        pairs = _as_hindsight_would(seen, rng)
        verdicts = {method: _compare_instances(env, judge, method, *pairs) for method in asked}
        reward_values = _told_by_reward(env, seen, verdicts) if "compute_reward" in asked else None
        lacks = {}
        if not (_has(env, "state_dict") and _has(env, "load_state_dict")):
            lacks["state_dict"] = "a resumed run begins fresh episodes"
        if not _has(env, "render"):
            lacks["render"] = "no videos"
        if hindsight and not _has(env, "is_success"):
            lacks["is_success"] = "its rewards do not tell which goals are met: hindsight takes any"
        if hindsight and seen.terminated.any() and not _has(env, "compute_terminated"):
            lacks["compute_terminated"] = "hindsight supposes that a met goal ends an episode, if nothing else does"
        if not _repeats(env, judge, episodes[0]):
            lacks["reset(seed) that repeats an episode"] = "evaluations differ each time, and so does a run"
        sizes = (int(getattr(env, size)) for size in SIZES)
        tells_success = "is_success" in episodes[0].steps[0][-1]
        return EnvSpec(*sizes, shapes, getattr(env, "fingerprint", None), tells_success, reward_values, lacks)


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002  (an environment may use it)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _has(env: GoalEnv, attribute: str) -> bool:
    return getattr(env, attribute, None) is not None


def _check_sizes(env: Guarded) -> None:
    for size in SIZES:
        value = getattr(env, size, None)
        whole = isinstance(value, (int, np.integer)) and value >= (size != "goal_dim")  # 0: it has no goals
        env.require(whole, f"the environment's {size} must be a positive whole number, and is {value!r}")


def _check_attributes(env: Guarded, hindsight: bool) -> None:
    if (space := getattr(env, "action_space", None)) is not None:
        _check_action_space(env, space)
    fingerprint = getattr(env, "fingerprint", None)
    told = f"fingerprint must be a string, and is {fingerprint!r:.80}"
    env.require(fingerprint is None or isinstance(fingerprint, str), told)
    told = (
        "it has no compute_reward, by which hindsight judges its goals; give it one, or train with --her.strategy none"
    )
    env.require(not hindsight or _has(env, "compute_reward"), told)


def _check_action_space(env: Guarded, space: object) -> None:
    """Raises EnvError where the space is not the box [-1, 1] of action_dim numbers."""
    is_box = hasattr(space, "low") and hasattr(space, "high")
    shapes = {np.shape(end) for end in (space.low, space.high)} - {()} if is_box else set()
    shapes |= {getattr(space, "shape", None)} - {None}
    whole = np.dtype(getattr(space, "dtype", None) or float).kind != "f"
    told = f"actions are {env.action_dim} numbers in [-1, 1] (action_dim), and its action_space is {space!r:.80}"
    env.require(is_box and not whole and shapes <= {(env.action_dim,)}, f"{told}; bring them to that in a wrapper")
    for limit, bound in (("low", -1.0), ("high", 1.0)):
        ends = getattr(space, limit)
        told = f"actions are in [-1, 1], and its action_space.{limit} is {np.unique(ends)}; rescale them in a"
        env.require(np.all(np.asarray(ends) == bound), f"{told} wrapper, whose action_space says so")


def _random_episodes(env: Guarded, rng: np.random.Generator) -> list[Episode]:
    """Takes STEPS random steps, in two episodes or more. One that diverges is dropped, as in training."""
    episodes, dropped = [], 0
    while len(episodes) < EPISODES and sum(len(episode.steps) for episode in episodes) < STEPS:
        # The first has a seed, so that it can be tried again. Training gives none after the first.
        seed = None if episodes else dropped
        actions = rng.uniform(-1, 1, (OF_ONE_EPISODE, env.action_dim)).astype(np.float32)
        steps = []
        try:
            env.reset(seed)
            for action in actions:
                steps.append(env.step(action.copy()))
                if steps[-1][2] or steps[-1][3]:
                    break
        except SimulationDiverged as error:
            dropped += 1
            told = f"{DIVERGED_IN_A_ROW} episodes of random actions were dropped; the last: {error}"
            env.require(dropped < DIVERGED_IN_A_ROW, told)
        else:
            episodes.append(Episode(seed, actions, steps))
    return episodes


def _check_info(env: Guarded, episodes: list[Episode]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of info's arrays. Raises EnvError where they change, or where a name is none."""
    infos = [step[-1] for episode in episodes for step in episode.steps]
    shapes = [{key: array.shape for key, array in info_arrays(info).items()} for info in infos]
    for info, now in zip(infos, shapes, strict=True):
        for key in (*info, *info.get("metrics", {}), *info.get("stages", {})):
            env.require(isinstance(key, str) and "|" not in key, f"info's {key!r}: names are strings without |")
        told = f"info must hold the same NumPy arrays at every step: first they were {shapes[0]}, now {now}"
        env.require(now == shapes[0], told)
    return shapes[0]


def _seen(episodes: list[Episode]) -> Seen:
    obs, reward, terminated, _, info = zip(*(step for episode in episodes for step in episode.steps), strict=True)
    arrays = [info_arrays(each) for each in info]
    return Seen(
        achieved=np.stack([each["achieved_goal"] for each in obs]),
        desired=np.stack([each["desired_goal"] for each in obs]),
        info={key: np.stack([each[key] for each in arrays]).astype(np.float32) for key in arrays[0]},
        reward=np.array(reward, np.float32),
        success=np.array([bool(each.get("is_success", False)) for each in info]),
        terminated=np.array(terminated),
    )


def _start(env: Guarded) -> None:
    """Resets the environment, as often as training would."""
    for seed in range(1, 1 + DIVERGED_IN_A_ROW):
        with suppress(SimulationDiverged):
            env.reset(seed)
            return


def _ask(env: Guarded, method: str, achieved: np.ndarray, desired: np.ndarray, info: dict) -> np.ndarray:
    what = f"{method}(achieved_goal, desired_goal, info) of {len(achieved)} transitions, info's arrays as float32,"
    with blaming(env.name, what):
        # Copies: what one call did to its arguments must not mislead the next.
        return getattr(env, method)(achieved.copy(), desired.copy(), {key: each.copy() for key, each in info.items()})


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = np.float64(one), np.float64(other)
    return ~np.isclose(one, other, rtol=1e-4, atol=1e-4 * np.abs([one, other]).max())


def _compare_with_steps(judge: Guarded, method: str, seen: Seen, told: np.ndarray) -> None:
    """Raises EnvError where the goal function says otherwise of the steps than they themselves did."""
    judged = 0.0 + _ask(judge, method, seen.achieved, seen.desired, seen.info)
    wrong = np.flatnonzero(_differ(judged, told))
    what, why = AGREE[method]
    if wrong.size:
        numbers = f"gives {judged[wrong[0]]:g} where {what} {told[wrong[0]]:g}"
        where = f"at {wrong.size} of {len(told)} random steps, asked of an instance that was just reset"
        judge.require(False, f"{method} {numbers}, {where}: {why}")


def _as_hindsight_would(seen: Seen, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict]:
    """Returns achieved and desired goals (5 N, G) and info (5 N, …). In the last 2 N both goals are the same."""
    achieved, desired, other = seen.achieved, seen.desired, rng.permutation(len(seen.achieved))
    info = {key: np.concatenate([array] * 5) for key, array in seen.info.items()}
    goals = [achieved[other], np.roll(achieved, 1, axis=0), desired[other], achieved, desired]
    return np.concatenate([achieved, achieved, achieved, achieved, desired]), np.concatenate(goals), info


def _compare_instances(env: Guarded, judge: Guarded, method: str, *pairs: np.ndarray | dict) -> np.ndarray:
    """Returns the function's verdicts on `pairs`. Raises EnvError where they depend on who is asked."""
    mine, theirs = (0.0 + _ask(each, method, *pairs) for each in (env, judge))  # no -0 in what is said
    wrong = np.flatnonzero(_differ(mine, theirs))
    if wrong.size:
        numbers = f"{mine[wrong[0]]:g} and {theirs[wrong[0]]:g}"
        where = f"for {wrong.size} of {len(mine)} transitions"
        env.require(False, f"{method} of two instances gives {numbers} for the same arguments, {where}: {ALONE}")
    return theirs


def _told_by_reward(env: Guarded, seen: Seen, verdicts: dict[str, np.ndarray]) -> tuple[float, float] | None:
    """Returns what an unmet and a met goal are paid, where there are two rewards only, and lets `env` tell met goals.

    A dense reward tells them where the steps seen that met their goal were all paid more than those that did not.
    Raises EnvError where a goal counts as met that is paid like one that is not.
    """
    judged = verdicts["compute_reward"].astype(np.float32)
    where_it_lies = judged[-2 * len(seen.reward) :]
    values = np.unique(np.concatenate([0.0 + seen.reward, judged]))
    if len(values) == 2 and values[1] in where_it_lies:
        unmet, met = map(float, values)
        for what, success, reward in (
            ('info["is_success"]', seen.success, seen.reward),
            ("is_success", verdicts.get("is_success", judged == met), judged),
        ):
            wrong = int(np.sum(success.astype(bool) & (reward == values[0])))
            told = f"{what} says that the goal is met at {wrong} of {len(reward)} transitions that are paid {unmet:g}"
            env.require(not wrong, f"{told}, which is what unmet goals are paid (met ones: {met:g}): mend either")
        env.tell_success_by_reward((unmet + met) / 2)
        return unmet, met
    if seen.success.any() and not seen.success.all():
        least, most = seen.reward[seen.success].min(), seen.reward[~seen.success].max()
        if most < least and most < where_it_lies.min():
            env.tell_success_by_reward(float(least + most) / 2)
    return None


def _repeats(env: Guarded, judge: Guarded, episode: Episode) -> bool:
    """Tells whether the same seed and actions lead to the same episode again.

    Raises EnvError where they do so only while no other instance is used.
    """

    def use_judge() -> None:
        with _global_generators_kept(), suppress(SimulationDiverged):
            judge.reset(episode.seed + 1)
            judge.step(-episode.actions[0])

    if judge.unguarded is not env.unguarded and _same_again(env, episode, use_judge):
        return True
    repeats = _same_again(env, episode, lambda: None)
    told = "two instances of it share a simulation: to reset one changes the other; each call must make one of its own"
    env.require(not repeats or judge.unguarded is env.unguarded, told)
    return repeats


def _same_again(env: Guarded, episode: Episode, meanwhile: Callable[[], None]) -> bool:
    """Tells whether the episode takes the same course, to rounding, with `meanwhile` called after its reset."""
    with suppress(SimulationDiverged):
        env.reset(episode.seed)
        meanwhile()
        for action, (obs, *_, terminated, truncated, _) in zip(episode.actions, episode.steps, strict=False):
            again, *_, now_terminated, now_truncated, _ = env.step(action.copy())
            same = (now_terminated, now_truncated) == (terminated, truncated)
            if not same or any(
                not np.allclose(again[key], old, rtol=1e-3, atol=1e-3 * np.abs(old).max(initial=0))
                for key, old in obs.items()
            ):
                return False
        return True
    return False
