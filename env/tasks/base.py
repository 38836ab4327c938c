"""Puts the goal-environment protocol over a simulation: the base of every task on the arm."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Interval

from env.protocol import EnvError, SimulationDiverged
from env.so101.model import JOINTS, ArmModel
from env.so101.rendering import Camera
from env.so101.simulation import Scene, Simulation, look, step_together
from env.so101.workspace import Sector
from env.tasks import rewards
from env.tasks.rewards import Info, goal_distance
from env.vector import VectorStep

Reward = Literal["sparse", "sparse-reach", "staged", "staged-reference", "own"]
GoalKind = Literal["fixed", "table", "air", "mix", "own"]
Observation = Literal["full", "reference"]


@dataclass(frozen=True)
class TaskConfig:
    """Set up the built-in tasks. An environment of your own reads none of these."""

    goal: GoalKind = "own"
    """Goals to train on: fixed (the reference target), table, air, or mix (docs/environments.md). own: the first kind
    that the task knows."""
    max_episode_steps: Annotated[int, Ge(1)] = 100
    """Control steps (20 ms) before an episode is cut off. The cut is no termination."""
    scripted_starts: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Share of training episodes that begin in the middle of a scripted grasp, at first (docs/environments.md)."""
    scripted_until: Annotated[int, Ge(1)] = 200_000
    """Environment steps by which that share has fallen to 0. It begins to fall after half of them."""
    scripted_astray: Annotated[float, Interval(ge=0, le=1)] = 0.3
    """Share of those episodes that strays from the script by a few random actions. What is left to the policy then is
    a second try."""
    action_slope: Annotated[float, Interval(gt=0, le=1)] = 0.2
    """How much of a small action counts: a moves its servo's target by 0.07 rad times a (slope + (1 - slope) |a|).
    Small actions are fine then, and large ones as fast as ever (docs/environments.md). 1 is proportional."""
    observation: Observation = "full"
    """reference: without what the reference run did not see (docs/environments.md)."""
    retry_missed: Annotated[float, Interval(ge=0, le=1)] = 0.75
    """Probability that a training goal in the air is one that was missed the last time, instead of a new one
    (pick-place's mix): a place that a policy has given up is asked of it more often."""
    potential: Annotated[tuple[float, float, float], Interval(ge=0, le=1e6)] = (14.0, 14.0, 6.0)
    """Weights of the sparse-reach reward's potential: of coming near, of pinching the cube, and of opening the gripper
    for it. 0 leaves one out."""
    reach_per_finger: bool = True
    """Reach with each finger for its own side of the cube, instead of with the grasp point for its centre."""


@dataclass(frozen=True)
class ObservationField:
    """Describes a run of numbers in the observation: what they are, their unit, and what each is multiplied by."""

    name: str
    size: int
    unit: str
    scale: float
    in_reference: bool = True
    """Whether the reference run saw it too."""


ARM_FIELDS = (
    ObservationField("joint positions, " + ", ".join(JOINTS), 6, "rad", 1.0),
    ObservationField("joint velocities", 6, "rad/s", 0.2),
    ObservationField("servo targets minus joint positions", 6, "rad", 5.0, in_reference=False),
    ObservationField("grasp point (between the fingertips)", 3, "m", 5.0),
    ObservationField("gripper's closing direction (its x axis)", 3, "1", 1.0),
    ObservationField("gripper's back (its z axis, away from the fingertips)", 3, "1", 1.0),
)


class ArmTask(ABC):
    """Follows the protocol of env/protocol.py with the SO-101.

    Actions: (6,) in [-1, 1], each moving its servo's target by up to 0.07 rad; values outside are clipped.
    Goals are points in the world frame, (3,) m; success needs to be within `threshold` of one. All environments of a
    process share a model.

    A task's equations take the Scene of N environments, and everything has a leading axis N there: step_together puts
    environments of one configuration through them at once, and step is the same with N = 1.
    """

    has_cube: ClassVar[bool]
    fields: ClassVar[tuple[ObservationField, ...]]
    goal_kinds: ClassVar[tuple[GoalKind, ...]]
    """Kinds of goals that the task knows. The first is what evaluation asks for by default."""
    goal_sector: ClassVar[Sector]
    """Where goals of every kind lie."""
    threshold: ClassVar[float]
    stages: ClassVar[tuple[str, ...]]
    """What an episode goes through on its way to success, in order; the last is the goal being met."""
    goal_dim: ClassVar[int] = 3
    action_dim: ClassVar[int] = 6

    def __init__(self, model: ArmModel, config: TaskConfig, reward: Reward):
        goal = self.goal_kinds[0] if config.goal == "own" else config.goal
        if goal not in self.goal_kinds:
            raise EnvError(f"this task has no goals of kind {goal}; there are: {', '.join(self.goal_kinds)}")
        self.config = config
        self.goal_kind = goal
        self.reward = reward
        self.max_episode_steps = config.max_episode_steps
        self.observed = [field for field in self.fields if field.in_reference or config.observation == "full"]
        """The fields that the policy sees, in order."""
        self.obs_dim = sum(field.size for field in self.observed)
        self.fingerprint = model.fingerprint
        self.sim = Simulation(model)
        self.rng = np.random.default_rng(0)
        self.goal = np.zeros(self.goal_dim)
        self.steps = 0
        self.steps_so_far = 0
        """Control steps of all episodes together."""
        self.starts: Callable[[ArmTask], int] | None = None
        """Moves the beginning of training episodes, and returns how many of their steps that costs
        (env/oracle/starts.py)."""
        self.midway = False
        """Whether `starts` moved this episode's beginning."""
        self._kept: Any = None
        """Holds what _to_keep says of the current state."""
        self._seen = np.concatenate([np.full(field.size, field in self.observed) for field in self.fields])
        self._scale = np.concatenate([np.full(field.size, field.scale) for field in self.observed])
        self._camera = Camera(model, inset=self.has_cube)
        self._drawn_path: list[np.ndarray] = []

    @abstractmethod
    def _reset_scene(self) -> None:
        """Puts the simulation into a start state and draws self.goal, both from self.rng."""

    @abstractmethod
    def _achieved_goal(self, scene: Scene) -> np.ndarray:
        """Returns the points (N, 3) that should get to the goals."""

    @abstractmethod
    def _measure(self, scene: Scene) -> tuple[np.ndarray, ...]:
        """Returns the observations' numbers in SI units, in the order of `fields`, each (N, size)."""

    @abstractmethod
    def _examine(self, scene: Scene) -> Any:
        """Returns what states are judged by beyond the goals, arrays (N, …)."""

    @abstractmethod
    def _to_keep(self, after: Any) -> np.ndarray:
        """Returns what of the states that _examine has seen the next step's rewards compare with, (N, …)."""

    @abstractmethod
    def _reward_info(self, before: np.ndarray, after: Any) -> dict[str, np.ndarray]:
        """Returns the arrays (N, …) that _met and _terms need beyond the goals: `before` is what _to_keep said of the
        states before the step, and `after` what _examine says of those that it led to."""

    @abstractmethod
    def _met(self, distance: np.ndarray, desired: np.ndarray, info: Info) -> np.ndarray:
        """Tells whether the goal is met, (…) bool, at `distance` (…) m from the goal `desired` (…, 3)."""

    @abstractmethod
    def _terms(
        self, distance: np.ndarray, success: np.ndarray, desired: np.ndarray, info: Info
    ) -> dict[str, np.ndarray]:
        """Returns the reward's terms by name, each (…), at `distance` (…) m from the goals `desired` (…, 3)."""

    @abstractmethod
    def _stages(self, scene: Scene, after: Any, goal: np.ndarray, success: np.ndarray) -> tuple[np.ndarray, ...]:
        """Tells for each of `stages` which states are in it, (N,) bool. goal (N, 3) m. success (N,) bool."""

    def reward_terms(self, achieved: np.ndarray, desired: np.ndarray, info: Info) -> dict[str, np.ndarray]:
        """Returns the reward's terms by name, each (…), for goals (…, 3) and stored info arrays (…)."""
        distance = goal_distance(achieved, desired)
        return self._terms(distance, self._met(distance, desired, info), desired, info)

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Info) -> np.ndarray:
        """Returns rewards (B,) float32 for goals (B, 3) and the `info` arrays (B, …) of their transitions."""
        return sum(self.reward_terms(achieved_goal, desired_goal, info).values()).astype(np.float32)

    def is_success(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Info) -> np.ndarray:
        """Tells whether goals (B, 3) that were achieved meet those desired in states described by `info`, (B,) bool."""
        return self._met(goal_distance(achieved_goal, desired_goal), desired_goal, info)

    def return_bounds(self, gamma: float, desired: np.ndarray, info: Info) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the lowest and highest return, (B,) both, from states before the transitions of `info` (B, …) on.

        desired: their goals (B, 3). gamma: discount. None where the reward has no bound.
        """
        if self.reward.startswith("staged"):
            return None
        worst, nothing = np.full(len(desired), -1 / (1 - gamma)), np.zeros(len(desired))
        if self.reward == "sparse":
            return worst, nothing
        # What progress adds up to: -Phi(s) at once, and (1 - gamma) Phi of each later state, which is 0 at best.
        return worst + self._lowest_potential(), -self._potential_before(desired, info)

    def _potential_before(self, desired: np.ndarray, info: Info) -> np.ndarray:
        """Returns Phi(s) (B,) of the states before transitions, under sparse-reach."""
        return info["potentials"][..., 0]

    def _lowest_potential(self) -> float:
        return float(rewards.reach_potential(rewards.FAR, self.config.potential[0]))

    def reset(self, seed: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode. With a seed, the episode depends on that seed alone; without, the generator goes on.

        (With `starts`, whether it begins midway depends on the steps of all episodes before as well.)
        """
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self._drawn_path.clear()
        self._reset_scene()
        self.steps = 0
        if self.starts is not None:
            try:
                self.steps = self.starts(self)
            except SimulationDiverged:
                self._reset_scene()
        self.midway = self.steps > 0
        self.sim.show_target(self.goal)
        scene = look([self.sim])
        self._keep(scene)
        return self._observation(scene), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Takes a control step of 20 ms. Raises ValueError for an action that is none, SimulationDiverged."""
        step, diverged = self.step_together([self], np.asarray(action)[None])
        for error in diverged.values():
            raise error
        return step.of(0)

    @staticmethod
    def step_together(
        tasks: Sequence["ArmTask"], actions: np.ndarray
    ) -> tuple[VectorStep, dict[int, SimulationDiverged]]:
        """Has N environments of one configuration take a control step, each with its row of `actions` (N, 6).

        Returns the errors of those that diverged, too, by index. Raises ValueError for actions that are none.
        """
        one, sims = tasks[0], [task.sim for task in tasks]
        diverged = step_together(sims, one.target_change(one._checked(actions)))
        for i in diverged:
            sims[i].reset()  # to something finite
        scene = look(sims)
        goal, before = (np.array([getattr(task, name) for task in tasks]) for name in ("goal", "_kept"))
        obs, after = one._observations(scene, goal), one._examine(scene)
        stored = one._reward_info(before, after)
        distance, desired = goal_distance(obs["achieved_goal"], obs["desired_goal"]), obs["desired_goal"]
        success = one._met(distance, desired, stored)
        terms = one._terms(distance, success, desired, stored)
        metrics = {f"reward_{name}": value for name, value in terms.items()} | one._metrics(after)
        if one.starts is not None:
            metrics["begun_midway"] = np.array([task.midway for task in tasks])
        truncated, dropped = np.zeros((2, len(tasks)), bool)
        dropped[list(diverged)] = True
        for i, (task, kept) in enumerate(zip(tasks, one._to_keep(after), strict=True)):
            if i not in diverged:
                truncated[i] = task._count_step(kept, success[i])
        step = VectorStep(
            next_obs=obs,
            reward=sum(terms.values()).astype(np.float32),
            terminated=np.zeros(len(tasks), bool),
            truncated=truncated,
            success=success,
            diverged=dropped,
            info=stored,
            metrics={name: value.astype(np.float64) for name, value in metrics.items()},
            stages=dict(zip(one.stages, one._stages(scene, after, goal, success), strict=True)),
        )
        return step, diverged

    def _count_step(self, kept: np.ndarray, success: bool) -> bool:
        """Counts a step that led to a state of which `kept` is kept. Tells whether it was the episode's last."""
        self._kept = kept
        self.steps += 1
        self.steps_so_far += 1
        return self.steps >= self.max_episode_steps

    def _keep(self, scene: Scene) -> None:
        (self._kept,) = self._to_keep(self._examine(scene))

    def target_change(self, action: np.ndarray) -> np.ndarray:
        """Returns what an action (6,) in [-1, 1] adds to the servos' targets, (6,), in units of the largest change."""
        slope = self.config.action_slope
        return action * (slope + (1 - slope) * np.abs(action))

    def action_for(self, change: np.ndarray) -> np.ndarray:
        """Returns the action (6,) that has the target_change `change` (6,)."""
        slope = self.config.action_slope
        return 2 * change / (slope + np.sqrt(slope**2 + 4 * (1 - slope) * np.abs(change)))

    def move_goal(self, place: np.ndarray) -> None:
        """Moves the goal of the episode under way towards `place` (3,) m, as far as goals go (`goal_sector`)."""
        self.goal = self.goal_sector.confine(place)
        self.sim.show_target(self.goal)

    def render(self) -> np.ndarray:
        """Draws the scene and the achieved goal's path through the calls since the reset, (480, 640, 3) uint8.

        Raises UserError.
        """
        self._drawn_path.append(self._achieved_goal(look([self.sim]))[0])
        return self._camera.draw(self.sim.data, self._drawn_path)

    def state_dict(self) -> dict[str, Any]:
        return {
            "simulation": self.sim.state(),
            "goal": self.goal.copy(),
            "steps": self.steps,
            "steps_so_far": self.steps_so_far,
            "midway": self.midway,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what state_dict returned."""
        self.sim.load_state(state["simulation"])
        self.goal = state["goal"].copy()
        self.steps, self.steps_so_far, self.midway = state["steps"], state["steps_so_far"], state["midway"]
        self._keep(look([self.sim]))
        self._drawn_path.clear()
        self.rng.bit_generator.state = state["rng"]

    def observe(self) -> dict[str, np.ndarray]:
        """Returns the observation of the current state, as reset and step do."""
        return self._observation(look([self.sim]))

    def _observation(self, scene: Scene) -> dict[str, np.ndarray]:
        return {key: rows[0] for key, rows in self._observations(scene, self.goal[None]).items()}

    def _observations(self, scene: Scene, goal: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the observations (N, …) of environments with goals (N, 3)."""
        measured = np.concatenate(self._measure(scene), axis=1)
        return {
            "observation": (measured[:, self._seen] * self._scale).astype(np.float32),
            "achieved_goal": self._achieved_goal(scene).astype(np.float32),
            "desired_goal": goal.astype(np.float32),
        }

    def _draw_away_from(self, start: np.ndarray, draw: Callable[[], np.ndarray]) -> np.ndarray:
        """Draws a goal that is not met from the start: those teach nothing and flatter the success rate."""
        while not self._is_away_from(start, goal := draw()):
            pass
        return goal

    def _is_away_from(self, start: np.ndarray, goal: np.ndarray) -> bool:
        return bool(goal_distance(goal, start) >= 2 * self.threshold)

    def _measure_arm(self, scene: Scene) -> tuple[np.ndarray, ...]:
        return (
            scene.joint_position,
            scene.joint_velocity,
            scene.servo_target - scene.joint_position,
            scene.grasp_point,
            scene.gripper_axes[:, :, 0],
            scene.gripper_axes[:, :, 2],
        )

    def _metrics(self, after: Any) -> dict[str, np.ndarray]:
        """Returns numbers worth a curve, (N,) each, for the protocol's info["metrics"]."""
        return {}

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape[1:] != (self.action_dim,):
            shape = actions.shape[1:]
            raise ValueError(f"an action must have shape ({self.action_dim},), one number a servo, not {shape}")
        if not np.isfinite(actions).all():
            raise ValueError(f"an action must be finite, not {actions}; look for NaN in what produced it")
        return np.minimum(np.maximum(actions, -1.0), 1.0)
