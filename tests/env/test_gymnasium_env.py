"""Environments of Gymnasium by name: what is taken as it is, what is refused, and how they go on from a kept state."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from env import EnvError, TaskConfig, VectorEnvWorkers, make_envs, make_vector, probe

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("gymnasium_robotics")

import checkpoints  # noqa: E402
from env import gymnasium_env  # noqa: E402
from env.packing import packed  # noqa: E402
from training.analysis.open_run import open_run  # noqa: E402

ROOT = Path(__file__).parents[2]
SAVABLE = ["FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4", "PointMaze_UMaze-v3", "HalfCheetah-v5"]


def make(name, *arguments, count=1):
    return make_envs(f"gym:{name}", count, TaskConfig(), "own", arguments)


def random_actions(env, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, env.action_dim)).astype(np.float32)


def play(env, actions):
    """Returns what is seen while `env` takes these steps, an episode after the other, as bytes."""
    seen = []
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        first = env.reset()[0] if terminated or truncated else {}
        numbers = [*obs.values(), np.array([reward, terminated, truncated]), *first.values()]
        seen.append((b"".join(value.tobytes() for value in numbers), repr(info)))
    return seen


@pytest.mark.parametrize("name", SAVABLE)
def test_a_state_of_mid_episode_goes_on_in_another_instance_to_the_same_bits(name):
    env, other = make(name, "max_episode_steps=15", count=2)
    actions = random_actions(env, 60)
    env.reset(seed=5)
    other.reset(seed=6)
    play(env, actions[:22])
    play(other, actions[30:35])
    state = env.state_dict()
    packed(state)
    assert sum(value.nbytes for part in state.values() for value in part.values() if hasattr(value, "nbytes")) < 30_000
    expected = play(env, actions[22:])
    other.load_state_dict(state)
    assert play(other, actions[22:]) == expected
    other.load_state_dict(state)
    assert play(other, actions[22:]) == expected


def test_what_an_environment_keeps_between_its_steps_is_part_of_the_state():
    """A maze moves its goal when that is reached, a door stands elsewhere in each episode: in the model."""
    (door, other) = make("AdroitHandDoor-v1", count=2)
    door.reset(seed=1)
    other.reset(seed=2)
    other.load_state_dict(door.state_dict())
    bodies = (env.unguarded.made.unwrapped.model.body_pos for env in (door, other))
    assert np.array_equal(*bodies)
    assert play(door, random_actions(door, 5)) == play(other, random_actions(door, 5))


class Forgetful(gymnasium.Wrapper):
    """Draws from a generator that no attribute holds."""

    def __init__(self):
        super().__init__(gymnasium.make("Reacher-v5"))
        self.hidden = [np.random.default_rng(0)]

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return obs, reward + self.hidden[0].normal(), *rest


gymnasium.register("Forgetful-v0", Forgetful, max_episode_steps=50)


@pytest.mark.parametrize("name", ["Forgetful-v0", "Pendulum-v1", "MountainCarContinuous-v0"])
def test_what_would_not_go_on_exactly_has_no_state(name):
    (env,) = make(name)
    assert not hasattr(env, "state_dict")


@pytest.mark.parametrize("name", SAVABLE)
def test_goal_environments_and_plain_ones_follow_the_protocol(name):
    (env,) = make(name)
    spec, raw = probe(env, name), gymnasium.make(name)
    obs, _ = env.reset(seed=3)
    given, _ = raw.reset(seed=3)
    if isinstance(given, dict):
        assert all(np.array_equal(obs[key], given[key].astype(np.float32)) for key in given)
        assert (spec.goal_dim, spec.tells_success, spec.info_shapes) == (len(given["desired_goal"]), True, {})
    else:
        assert (spec.goal_dim, spec.tells_success, spec.info_shapes) == (0, False, {})
        assert obs["achieved_goal"].shape == obs["desired_goal"].shape == (0,)
    for action in random_actions(env, 5):
        obs, reward, *_ = env.step(action)
        given, expected, *_ = raw.step(action)
        assert reward == expected


def test_rewards_are_judged_for_whole_batches():
    (env,) = make("FetchPush-v4")
    near, far = np.zeros((1000, 3), np.float32), np.full((1000, 3), 0.2, np.float32)
    assert (env.compute_reward(near, near, {}) == 0).all()
    assert (env.compute_reward(near, far, {}) == -1).all()
    assert not hasattr(env, "compute_terminated")  # no goal ends an episode there


def test_a_function_that_takes_one_goal_is_asked_one_by_one():
    """This maze's compute_terminated makes one bool of everything that it is given."""
    (env,) = make("PointMaze_UMaze-v3", "continuing_task=False")
    goals = np.array([[0, 0], [1, 1], [2, 2]], np.float32)
    assert env.compute_terminated(goals, np.zeros((3, 2), np.float32), {}).tolist() == [True, False, False]


class Odd(gymnasium.Env):
    """A point that is steered, with spaces that a test chooses."""

    observation = gymnasium.spaces.Box(-1, 1, (2, 1))
    action_space = gymnasium.spaces.Box(np.array([-3.0, 0.0]), np.array([1.0, 0.5]), dtype=np.float64)

    def __init__(self, space="goals", action="box"):
        box = self.observation
        goals = {"observation": box, "achieved_goal": box, "desired_goal": box}
        spaces = {
            "goals": gymnasium.spaces.Dict(goals),
            "more": gymnasium.spaces.Dict({**goals, "camera": box}),
            "fewer": gymnasium.spaces.Dict({"observation": box}),
            "unequal": gymnasium.spaces.Dict({**goals, "desired_goal": gymnasium.spaces.Box(-1, 1, (3,))}),
            "image": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8),
            "tuple": gymnasium.spaces.Tuple([box, box]),
            "number": gymnasium.spaces.Discrete(3),
        }
        self.observation_space = spaces[space]
        if action != "box":
            self.action_space = {
                "discrete": gymnasium.spaces.Discrete(2),
                "unbounded": gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
                "whole": gymnasium.spaces.Box(-1, 1, (2,), np.int64),
                "switches": gymnasium.spaces.MultiBinary(2),
            }[action]

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = self.np_random.uniform(-1, 1, (2, 2, 1))
        return {"observation": self.at, "achieved_goal": self.at, "desired_goal": self.goal}, {}

    def step(self, action):
        self.taken = action
        self.at = self.at + 0.1
        obs = {"observation": self.at, "achieved_goal": self.at, "desired_goal": self.goal}
        info = {"weight": 2.0, "note": "of no use"}
        return obs, float(self.compute_reward(self.at, self.goal, info)), False, False, info

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -info["weight"] * float(np.abs(achieved_goal - desired_goal).sum() > 0.1)  # for one goal only


gymnasium.register("Odd-v0", Odd, max_episode_steps=10)
gymnasium.register("Endless-v0", Odd)
gymnasium.register("NoReward-v0", lambda: gymnasium.Wrapper(Blind()), max_episode_steps=10)


class Blind(Odd):
    compute_reward = property()  # as if there were none

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


def test_actions_are_stretched_and_goals_of_any_shape_are_vectors():
    (env,) = make("Odd-v0")
    spec = probe(env, "gym:Odd-v0")
    assert (spec.obs_dim, spec.goal_dim, spec.action_dim, spec.max_episode_steps) == (2, 2, 2, 10)
    env.reset(seed=0)
    for action, stretched in (([-1, -1], [-3, 0]), ([1, 1], [1, 0.5]), ([0, 0], [-1, 0.25])):
        env.step(np.array(action, np.float32))
        assert env.unguarded.made.unwrapped.taken.tolist() == stretched


def test_what_the_reward_reads_of_info_is_stored_and_nothing_else():
    (env,) = make("Odd-v0")
    assert probe(env, "gym:Odd-v0").info_shapes == {"weight": ()}
    goals = np.zeros((2, 2), np.float32), np.array([[0, 0], [1, 0]], np.float32)
    assert env.compute_reward(*goals, {"weight": np.array([2.0, 3.0], np.float32)}).tolist() == [0, -3]


def test_without_is_success_a_goal_is_met_where_its_reward_is_that_of_a_goal_met():
    (env,) = make("Odd-v0")
    env.reset(seed=0)
    made = env.unguarded.made.unwrapped
    assert env.step(np.zeros(2, np.float32))[-1]["is_success"] is False
    made.goal = made.at + 0.1
    assert env.step(np.zeros(2, np.float32))[-1]["is_success"] is True


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("FetchPsh-v4", [], r"Gymnasium knows no 'FetchPsh-v4'; the nearest are FetchPush-v4"),
        ("FetchPush-v99", [], r"Gymnasium knows no 'FetchPush-v99'; the nearest are FetchPush-v4"),
        ("qqqqqq", [], r"Gymnasium knows no 'qqqqqq'; gymnasium.pprint_registry\(\) lists what is there"),
        ("no_such_module:Env-v0", [], "importing it failed: ModuleNotFoundError: No module named 'no_such_module'"),
        ("CartPole-v1", [], r"its actions are Discrete\(2\); they must be a Box"),
        ("Odd-v0", ["action=discrete"], r"its actions are Discrete"),
        ("Odd-v0", ["action=unbounded"], r"its actions are Box.*; they must be .* with finite bounds"),
        ("Odd-v0", ["action=whole"], r"its actions are Box.*; they must be a Box of real numbers"),
        ("Odd-v0", ["action=switches"], r"its actions are MultiBinary"),
        ("Odd-v0", ["space=more"], r"its observations are Dict.*; what can be learnt from is one box of numbers, or a"),
        ("Odd-v0", ["space=fewer"], r"its observations are Dict"),
        ("Odd-v0", ["space=unequal"], r"achieved_goal and desired_goal must be of one shape"),
        ("Odd-v0", ["space=image"], r"its observations are Box"),
        ("Odd-v0", ["space=tuple"], r"its observations are Tuple"),
        ("Odd-v0", ["space=number"], r"its observations are Discrete"),
        ("Odd-v0", ["nonsense=1"], r"calling it with nonsense=1 failed: TypeError: .*nonsense"),
        ("Endless-v0", [], r"it has no time limit; --env-args max_episode_steps=200, say, gives it one"),
        ("NoReward-v0", [], r"its observations hold goals, and it has no compute_reward for them"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_in_a_sentence(name, arguments, sentence):
    with pytest.raises(EnvError, match=sentence) as caught:
        make(name, *arguments)
    assert (caught.value.status, str(caught.value).count("\n")) == (2, 0)
    assert str(caught.value).startswith(f"--env gym:{name}: ")


def test_a_module_registers_its_environments(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("their_registry.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "gymnasium.register('Theirs-v0', PendulumEnv, max_episode_steps=7)\n"
    )
    (env,) = make("their_registry:Theirs-v0")
    assert env.max_episode_steps == 7


def test_a_time_limit_is_given_by_an_argument():
    (env,) = make("Endless-v0", "max_episode_steps=4")
    env.reset(seed=0)
    assert [env.step(action)[3] for action in random_actions(env, 4)] == [False, False, False, True]


def test_in_a_process_of_their_own_they_are_what_they_are_here():
    name, arguments = "gym:FetchReach-v4", ("max_episode_steps=4", "reward_type=dense")
    spec = probe(make("FetchReach-v4", *arguments)[0], name)
    given = name, 2, TaskConfig(), None, spec, arguments
    here, apart = make_vector(*given), VectorEnvWorkers(*given)
    try:
        for envs in (here, apart):
            envs.reset([1, 2])
        for actions in random_actions(here.envs[0], 12).reshape(6, 2, -1):
            left, right = here.step(actions), apart.step(actions)
            assert left.reward.tobytes() == right.reward.tobytes()
            assert left.truncated.tolist() == right.truncated.tolist()
        assert (left.reward != -1).all()  # dense, as the argument asks
    finally:
        apart.close()


def train(directory, *options, status=0):
    """Runs train.py there. Returns what it said."""
    usual = ["--no-compile", "--device", "cpu", "--sac.hidden", "16", "--warmup", "100", "--run", "r"]
    command = [sys.executable, ROOT / "train.py", *usual, *options]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=900)
    assert result.returncode == status, result.stderr
    return result.stdout if status == 0 else result.stderr


def test_a_hopper_trains_by_plain_sac_and_its_falls_are_stored(tmp_path):
    options = ["--env", "gym:Hopper-v5", "--num-envs", "4", "--steps", "600", "--her.strategy", "none", "--no-video"]
    said = train(tmp_path, *options, "--eval.episodes", "2")
    assert "return " in said
    assert "success" not in said
    rows = open_run(tmp_path / "r").buffer.rows
    assert rows["terminated"].any()
    assert rows["achieved_goal"].shape[1] == 0


def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path):
    options = ["--env", "gym:FetchPickAndPlace-v4", "--env-args", "max_episode_steps=20", "--num-envs", "2"]
    options += ["--no-video", "--eval.episodes", "1", "--eval.every", "1000"]
    for name, stops in (("whole", ["250"]), ("stopped", ["130", "250"])):
        (tmp_path / name).mkdir()
        for steps in stops:
            said = train(tmp_path / name, *options, "--steps", steps)
    assert "fresh episode" not in said
    whole, stopped = (
        checkpoints.load(tmp_path / name / "r/checkpoints/step_000000250")[0] for name in ("whole", "stopped")
    )
    for part in ("agent", "buffer", "envs"):
        assert checkpoints.digest(whole[part]) == checkpoints.digest(stopped[part])


def test_where_nothing_can_be_drawn_a_run_goes_on_without_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    options = ["--env", "gym:FetchReach-v4", "--num-envs", "2", "--steps", "300", "--eval.every", "150"]
    said = train(tmp_path, *options, "--eval.episodes", "1")
    assert said.count("no pictures of evaluations: ") == 1
    assert said.count("no video: ") == 1
    assert "done: 300 steps" in said


def test_a_frame_is_a_picture():
    (env,) = make("FetchReach-v4")
    env.reset(seed=0)
    try:
        frame = env.render()
    except Exception as error:
        pytest.skip(f"no off-screen rendering here: {error}")
    assert (frame.ndim, frame.shape[2], frame.dtype) == (3, 3, np.uint8)
    assert frame.std() > 5
    env.close()


def test_nothing_is_drawn_before_a_frame_is_asked_for():
    (env,) = make("FetchReach-v4")
    env.reset(seed=0)
    env.step(np.zeros(4, np.float32))
    assert env.unguarded.made.unwrapped.mujoco_renderer.viewer is None


def test_gymnasium_is_imported_for_its_own_environments_alone():
    code = "import sys, env; env.make_envs('reach', 1, env.TaskConfig(), 'sparse'); print('gymnasium' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_nothing_is_said_by_the_import():
    result = subprocess.run(
        [sys.executable, "-c", f"import {gymnasium_env.__name__}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (result.stdout, result.stderr) == ("", "")
