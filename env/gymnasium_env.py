"""Makes what is registered with Gymnasium follow the protocol, by its ID. Nothing else here imports gymnasium."""

import contextlib
import difflib
import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import numpy as np

with contextlib.redirect_stderr(io.StringIO()):  # each prints its makers' news, in each process
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    try:
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
        ELSEWHERE = ""
    except ModuleNotFoundError:
        ELSEWHERE = " (Gymnasium-Robotics comes with: pip install -e '.[gym]')"

from env.protocol import GOAL_KEYS, EnvError

TRIAL = 4
"""Steps that find out what an environment's functions take and tell."""
Obs = dict[str, np.ndarray]
Judge = Callable[[np.ndarray, np.ndarray, Mapping[str, np.ndarray]], np.ndarray]


def load_gym_factory(name: str) -> Callable[..., "GymEnv"]:
    """Returns what makes environments of gym:ID, or of gym:MODULE:ID, whose MODULE registers the ID.

    It takes the keyword arguments of gymnasium.make. Raises EnvError.
    """
    module, _, identifier = name.removeprefix("gym:").rpartition(":")
    if module:
        sys.path += [os.getcwd()] if os.getcwd() not in sys.path else []
        importlib.import_module(module)
    try:
        creator = gymnasium.spec(identifier).entry_point
    except gymnasium.error.Error as error:
        nearest = difflib.get_close_matches(identifier, gymnasium.registry, n=3, cutoff=0.4)
        there = (
            f"the nearest are {', '.join(nearest)}" if nearest else "gymnasium.pprint_registry() lists what is there"
        )
        raise EnvError(f"--env {name}: Gymnasium knows no {identifier!r}; {there}{ELSEWHERE}") from error
    creator = load_env_creator(creator) if isinstance(creator, str) else creator
    metadata, usual = getattr(creator, "metadata", None), {"disable_env_checker": True}
    if isinstance(metadata, Mapping) and "rgb_array" in metadata.get("render_modes", ()):
        usual["render_mode"] = "rgb_array"  # costs nothing before the first frame
    exact: bool | None = None

    def make(**arguments: Any) -> GymEnv:
        nonlocal exact
        env = SavableGymEnv(gymnasium.make(identifier, **usual | arguments), name)
        exact = goes_on_exactly(env) if exact is None else exact
        return env if exact else GymEnv(env.made, name)

    return make


class GymEnv:
    """Adapts an environment that gymnasium.make made. What the protocol asks for is stated in env/protocol.py.

    Actions in [-1, 1] are stretched to the environment's box, and each part of an observation becomes a vector. A task
    whose observation is one box has no goal: its goal_dim is 0. Numbers in `info` are metrics.

    Raises EnvError where the environment has other spaces, no compute_reward for its goals, or no time limit.
    """

    def __init__(self, env: gymnasium.Env, name: str):
        self.made, self._name = env, name
        parts = self._observed(env.observation_space)
        self._low, self._high = self._limits(env.action_space)
        sizes = {key: int(np.prod(part.shape)) for key, part in parts.items()}
        self.obs_dim, self.goal_dim = sizes["observation"], sizes.get("desired_goal", 0)
        self.action_dim = self._low.size
        self.max_episode_steps = env.spec.max_episode_steps
        limit = "--env-args max_episode_steps=200, say, gives it one"
        self._require(self.max_episode_steps, f"it has no time limit; {limit}")
        if env.render_mode == "rgb_array":
            self.render = env.render
        self._stored: list[str] = []
        steps = self._try()
        self._success = next((key for key in ("is_success", "success") if key in steps[0][-1]), None)
        if self.goal_dim:
            self._find_goal_functions(steps, parts["desired_goal"].shape)

    def reset(self, seed: int | None = None) -> tuple[Obs, dict[str, Any]]:
        obs, _ = self.made.reset(seed=seed)
        return self._vectors(obs), {}

    def step(self, action: np.ndarray) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        given, reward, terminated, truncated, info = self.made.step(self._stretched(action))
        obs = self._vectors(given)
        told = {key: np.array(info[key], np.float32) for key in self._stored}
        numbers = {key: value for key, value in info.items() if isinstance(value, float | np.floating)}
        told["metrics"] = {key: float(value) for key, value in numbers.items() if key != self._success}
        if self._success:
            told["is_success"] = bool(info[self._success])
        elif self.goal_dim:
            goal = obs["desired_goal"][None]
            told["is_success"] = bool(
                reward == self.compute_reward(goal, goal, {k: told[k][None] for k in self._stored})
            )
        return obs, float(reward), bool(terminated), bool(truncated), told

    def close(self) -> None:
        self.made.close()

    def _require(self, condition: Any, sentence: str) -> None:
        if not condition:
            raise EnvError(f"--env {self._name}: {sentence}")

    def _observed(self, space: gymnasium.Space) -> dict[str, gymnasium.spaces.Box]:
        """Returns the boxes that make up an observation, by key."""
        parts = dict(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else {"observation": space}
        boxes = all(isinstance(part, gymnasium.spaces.Box) and not is_image(part) for part in parts.values())
        whole = len(parts) == 1 if parts.get("observation") is space else set(parts) == set(GOAL_KEYS)
        meant = f"one box of numbers, or a Dict of {', '.join(GOAL_KEYS)}"
        self._require(boxes and whole, f"its observations are {space!s:.120}; what can be learnt from is {meant}")
        shapes = {part.shape for key, part in parts.items() if key != "observation"}
        self._require(len(shapes) < 2, f"achieved_goal and desired_goal must be of one shape, and are {shapes}")
        return parts

    def _limits(self, space: gymnasium.Space) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lowest and the highest action."""
        box = isinstance(space, gymnasium.spaces.Box) and space.dtype.kind == "f"
        bounded = box and np.isfinite([space.low, space.high]).all()
        self._require(bounded, f"its actions are {space}; they must be a Box of real numbers with finite bounds")
        return space.low, space.high

    def _stretched(self, action: np.ndarray) -> np.ndarray:
        """Brings an action (A,) in [-1, 1] to the environment's box. Where that is [-1, 1], no bit of it changes."""
        low, high = self._low, self._high
        return np.clip((high + low) / 2 + (high - low) / 2 * np.reshape(action, low.shape), low, high)

    def _vectors(self, obs: Any) -> Obs:
        given = obs if self.goal_dim else {"observation": obs}
        nothing = np.zeros(0, np.float32)
        return {key: np.ravel(np.asarray(given.get(key, nothing), np.float32)) for key in GOAL_KEYS}

    def _try(self) -> list[tuple]:
        """Takes a few random steps. Returns for each (observation, reward, terminated, truncated, info)."""
        rng, ended, steps = np.random.default_rng(0), True, []
        for action in rng.uniform(-1, 1, (TRIAL, self.action_dim)).astype(np.float32):
            if ended:
                self.made.reset(seed=0)
            steps.append(self.made.step(self._stretched(action)))
            ended = steps[-1][2] or steps[-1][3]
        return steps

    def _find_goal_functions(self, steps: list[tuple], shape: tuple[int, ...]) -> None:
        """Finds out how compute_reward and compute_terminated want to be asked. Raises EnvError."""
        there = self.made.has_wrapper_attr("compute_reward")
        self._require(there, "its observations hold goals, and it has no compute_reward for them")
        obs, _, _, _, info = steps[0]
        reads = Reads(info)
        self.made.get_wrapper_attr("compute_reward")(obs["achieved_goal"], obs["desired_goal"], reads)
        self._stored = sorted(reads.keys_read)
        # Each as it was, and as if its goal had been met.
        pairs = [(obs[key], obs["desired_goal"]) for obs, *_ in steps for key in ("achieved_goal", "desired_goal")]
        achieved, desired = (np.stack(goals) for goals in zip(*pairs, strict=True))
        infos = {key: np.array([step[-1][key] for step in steps for _ in range(2)], np.float32) for key in self._stored}
        rows = achieved, desired, infos
        self.compute_reward = vectorised(self.made.get_wrapper_attr("compute_reward"), rows, shape)
        if self.made.has_wrapper_attr("compute_terminated"):
            judge = vectorised(self.made.get_wrapper_attr("compute_terminated"), rows, shape)
            if judge(*rows).any():  # most say no whatever they are asked
                self.compute_terminated = judge


class Reads(dict):
    """Remembers which of its keys were read."""

    def __init__(self, content: Mapping[str, Any]):
        super().__init__(content)
        self.keys_read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.keys_read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_read |= {key} & self.keys()
        return super().get(key, default)


def vectorised(
    judge: Callable[..., Any], rows: tuple[np.ndarray, np.ndarray, Mapping], shape: tuple[int, ...]
) -> Judge:
    """Returns compute_reward or its like for batches: itself where it judges `rows` as one by one, else a loop.

    shape: of one goal. The batches that are handed in are of vectors, (B, G).
    """

    def one_by_one(achieved: np.ndarray, desired: np.ndarray, info: Mapping[str, np.ndarray]) -> np.ndarray:
        each = ({key: column[i] for key, column in info.items()} for i in range(len(achieved)))
        return np.array([judge(*row) for row in zip(achieved, desired, each, strict=True)])

    expected = one_by_one(*rows)
    try:
        at_once = np.asarray(judge(*rows))
        fits = at_once.shape == expected.shape and np.allclose(at_once, expected)
    except Exception:  # other people's code fails in its own ways
        fits = False
    judge_rows = judge if fits else one_by_one
    return lambda achieved, desired, info: np.asarray(
        judge_rows(achieved.reshape(-1, *shape), desired.reshape(-1, *shape), info)
    )


def is_image(box: gymnasium.spaces.Box) -> bool:
    return box.dtype == np.uint8 and len(box.shape) > 1


# ---- The state of environments that MuJoCo simulates ----

PLAIN = (bool, int, float, str, type(None), np.generic, np.ndarray, np.random.Generator)
"""Lists what an attribute that is part of the state may be."""
MOVED = ("body_", "geom_", "site_", "jnt_", "dof_", "eq_", "actuator_")
"""Arrays of a model that some environments write to: where a target is drawn, where a door stands."""
LATE = ("xpos", "xquat", "xmat", "xipos", "ximat", "site_xpos", "site_xmat", "geom_xpos", "geom_xmat")
LATE += ("subtree_com", "cdof", "cvel", "sensordata")
"""Names what mj_step leaves as it was before its last integration: environments read it before they step again."""
INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION


class SavableGymEnv(GymEnv):
    """Adds the state of an environment that MuJoCo simulates: enough to go on to the same bits (goes_on_exactly).

    It is MuJoCo's integration state and what has changed since the environment was made: numbers, arrays and generators
    in its objects and wrappers (a goal, the steps so far), and places in its model.
    """

    def __init__(self, env: gymnasium.Env, name: str):
        self._at_first = {path: contents(part) for path, part in state_parts(env).items()}
        super().__init__(env, name)

    def state_dict(self) -> dict[str, Any]:
        state = {}
        for path, part in state_parts(self.made).items():
            made, now = self._at_first.get(path, {}), contents(part)
            state[path] = {key: value for key, value in now.items() if key not in made or differs(value, made[key])}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        parts = state_parts(self.made)
        for path, kept in state.items():
            put(parts[path], self._at_first.get(path, {}) | kept)


def state_parts(env: gymnasium.Env) -> dict[str, Any]:
    """Returns what holds an environment's state, by path, models before their data: wrappers, environments inside."""
    found, waiting = {}, {"env": env}
    while waiting:
        path, part = waiting.popitem()
        if any(part is known for known in found.values()):
            continue
        found[path] = part
        if isinstance(part, gymnasium.Env):
            kinds = gymnasium.Env | mujoco.MjModel | mujoco.MjData
            waiting |= {f"{path}.{name}": value for name, value in vars(part).items() if isinstance(value, kinds)}
    return dict(sorted(found.items(), key=lambda item: isinstance(item[1], mujoco.MjData)))


def contents(part: Any) -> dict[str, Any]:
    """Returns copies of what may change in a part of the state, by name. Of a generator it is the state."""
    if isinstance(part, mujoco.MjData):
        integration = np.empty(mujoco.mj_stateSize(part.model, INTEGRATION))
        mujoco.mj_getState(part.model, part, integration, INTEGRATION)
        return {"integration": integration} | {name: getattr(part, name).copy() for name in LATE}
    if isinstance(part, mujoco.MjModel):
        return {name: getattr(part, name).copy() for name in dir(part) if name.startswith(MOVED)}
    plain = {name: value for name, value in vars(part).items() if isinstance(value, PLAIN)}
    for name, value in plain.items():
        if isinstance(value, np.random.Generator):
            plain[name] = value.bit_generator.state
        elif isinstance(value, np.ndarray):
            plain[name] = value.copy()
    return plain


def differs(value: Any, other: Any) -> bool:
    """Tells whether two of what `contents` returns are not the same to the bit."""
    if type(value) is not type(other) or not isinstance(value, np.ndarray):
        return value != other
    return value.shape != other.shape or value.tobytes() != other.tobytes()


def put(part: Any, kept: Mapping[str, Any]) -> None:
    """Puts back what `contents` returned of a part of the state, its generators as their states."""
    if isinstance(part, mujoco.MjData):
        mujoco.mj_setState(part.model, part, kept["integration"], INTEGRATION)
        mujoco.mj_forward(part.model, part)
        mujoco.mj_setState(part.model, part, kept["integration"], INTEGRATION)  # mj_forward may move the warm start
    for name, value in kept.items():
        if isinstance(value, Mapping):
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = value
            setattr(part, name, generator)
        elif isinstance(part, gymnasium.Env):
            setattr(part, name, value.copy() if isinstance(value, np.ndarray) else value)
        elif name != "integration":
            getattr(part, name)[...] = value


def goes_on_exactly(env: SavableGymEnv) -> bool:
    """Tries whether `env`, put back to a kept state, takes the same steps to the bit, into another episode."""
    if not any(isinstance(part, mujoco.MjData) for part in state_parts(env.made).values()):
        return False
    actions = np.random.default_rng(1).uniform(-1, 1, (3, TRIAL, env.action_dim)).astype(np.float32)

    def play(episodes: np.ndarray) -> list[bytes]:
        """Takes the steps of each episode (E, T, A), and begins another after it. Returns what was seen."""
        seen = []
        for episode in episodes:
            for action in episode:
                obs, reward, *ended, _ = env.step(action)
                seen += [*(value.tobytes() for value in obs.values()), repr((reward, ended))]
                if any(ended):
                    env.reset()
            env.reset()
        return seen

    env.reset(seed=0)
    for action in actions[0]:
        env.step(action)
    try:
        state = env.state_dict()
        once = play(actions[1:])
        env.load_state_dict(state)
        return play(actions[1:]) == once
    except Exception:  # other people's objects need not bear it
        return False
