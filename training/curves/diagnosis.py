"""Tells why a run is not learning: one sentence with its numbers and what to try, or nothing.

Each diagnosis is a pure function of what the curves show. The limits lie far outside of what healthy runs of the
built-in tasks came to (docs/curves.md), so that a sentence means something.
"""

import statistics
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NO_MOVEMENT = 0.02
"""Share of episodes that move the achieved goal up to which hindsight has nothing to work with."""
NO_VARIETY = 0.01
"""Share of transitions up to which their rewards count as all the same."""
EPISODES_TO_JUDGE, EPISODES_TO_JUDGE_SHAPED = 80, 400
"""Episodes after which to judge: where rewards tell nothing apart, and where they lead somewhere else first."""
COMES_FAR, MEETS_NONE, STALLED = 0.8, 0.05, 50_000
"""Share of evaluation episodes that come to a stage, share that meets the goal at all, and environment steps for which
a policy that does the one and not the other is only late."""
ON_ITS_OWN = 0.2
"""Share of its episodes that some evaluation must have held by the time that scripted starts are no more."""
WINDOW, BEFORE = 5, 20
"""Points of a curve that are compared, and with how many before them."""


class Advice(NamedTuple):
    """Names the options that a run could try; nothing where its task has none, or it has tried them."""

    shaping: str | None = None
    starts: str | None = None


NONE_LEFT = Advice()


def nothing_to_relabel(
    episodes: int, moved: float, variety: float, trivial: float | None, advice: Advice = NONE_LEFT
) -> str | None:
    """Speaks where hindsight has no goals to learn from.

    moved: share of the recent episodes in which the achieved goal moved. variety, trivial: reward_variety and
    trivial_share of her.goal_health, the latter None where unknown.
    """
    enough = EPISODES_TO_JUDGE if variety <= NO_VARIETY else EPISODES_TO_JUDGE_SHAPED
    if episodes < enough or moved > NO_MOVEMENT:
        return None
    known = "" if trivial is None else f", and {trivial:.0%} of the hindsight goals hold from the start"
    reward = "no reward tells one action from another" if variety <= NO_VARIETY else "the reward does not lead to it"
    return (
        f"hindsight has nothing to work with: the achieved goal moved in {moved:.0%} of the last episodes "
        f"({episodes} so far){known}; {reward}. Let the policy reach what it is to move: a shaped "
        f"reward{_named(advice.shaping)}, starts nearer to it{_named(advice.starts)}, or longer random actions "
        "(--warmup-hold)"
    )


def _named(option: str | None) -> str:
    return f" ({option})" if option else ""


def temperature_collapsed(alpha: float, entropy: float, target_entropy: float, td_error: float) -> str | None:
    """Speaks where exploration has ended. td_error: the mean absolute one, in whose units the entropy bonus counts."""
    bonus = alpha * max(1.0, abs(entropy))
    if bonus > 1e-3 * td_error or entropy >= target_entropy - 1:
        return None
    return (
        f"the temperature has collapsed: alpha is {alpha:.1e}, the entropy {entropy:.1f} nats (target "
        f"{target_entropy:.1f}), and the policy has stopped exploring; rewards may be too small for --sac.lr to lift "
        "it again: scale them to about 1 a step, or raise --sac.lr"
    )


def q_out_of_range(low: float, high: float, bounds: tuple[float, float] | None) -> str | None:
    """Speaks where Q cannot be. low, high: its 5 % and 95 % quantiles. bounds: lowest and highest possible return."""
    if bounds is None:
        return None
    margin = 0.1 * (bounds[1] - bounds[0])
    if bounds[0] - margin <= low and high <= bounds[1] + margin:
        return None
    return (
        f"Q lies outside of what any return can be: {low:.1f} to {high:.1f} (5 % and 95 % quantiles), possible are "
        f"{bounds[0]:.1f} to {bounds[1]:.1f}; the critics believe in rewards that are not there. Keep "
        "--sac.clip-target and --sac.layer-norm, or lower --sac.lr"
    )


def actor_dead(spread: float, dead_units: float, updates: int) -> str | None:
    """Speaks where states change nothing. spread: standard deviation of mean actions. dead_units: see sac.inspect."""
    if updates < 500 or (spread >= 0.005 and dead_units <= 0.95):
        return None
    return (
        f"the actor is dead: its actions differ by {spread:.4f} between states, and {dead_units:.0%} of a layer's "
        "units answer to no state; lower --sac.lr, and look whether the observations are of a size about 1"
    )


def actor_saturated(share: float, updates: int) -> str | None:
    """Speaks where gradients vanish. share: of actions whose mean lies at its limit."""
    if updates < 500 or share <= 0.95:
        return None
    return (
        f"the actor is saturated: {share:.0%} of its actions lie at their limits, where tanh passes no gradient; lower "
        "--sac.lr, raise --sac.target-entropy, or look whether rewards are of a size about 1"
    )


def critic_diverging(td_errors: Sequence[float], bounds: tuple[float, float] | None) -> str | None:
    """Speaks where the TD error grows. td_errors: the curve of their mean size so far. bounds: of the return."""
    if len(td_errors) < WINDOW + BEFORE:
        return None
    now = statistics.median(td_errors[-WINDOW:])
    before = statistics.median(td_errors[-WINDOW - BEFORE : -WINDOW])
    if now <= 3 * before or (bounds is not None and now <= 0.1 * (bounds[1] - bounds[0])):
        return None
    if bounds is None and now <= 10 * before:
        return None
    return (
        f"the critics diverge: their TD error has grown from {before:.3g} to {now:.3g}; lower --sac.lr or --sac.tau, "
        "and keep --sac.layer-norm and --sac.clip-target"
    )


def no_update(env_steps: int, expected_by: int, updates: int) -> str | None:
    """Speaks where nothing is learnt. expected_by: the environment step by which a first update was due."""
    if updates or env_steps <= expected_by:
        return None
    return (
        f"nothing has been learnt by step {env_steps:,}: there was no update yet; no episode has ended since the "
        "warm-up, or --updates-per-step is too small for --steps"
    )


def success_fell(successes: Sequence[float]) -> str | None:
    """Speaks where learning was undone. successes: of the evaluations so far."""
    if len(successes) < 4:
        return None
    best, recent = max(successes[:-3]), max(successes[-3:])
    if best < 0.5 or recent > best - 0.4:
        return None
    return (
        f"success has risen and fallen: it was {best:.0%}, and at most {recent:.0%} in the last three evaluations; the "
        "best policy is kept as a checkpoint. Try a lower --sac.lr"
    )


def stops_short(far_since: Mapping[str, int], env_steps: int, advice: Advice = NONE_LEFT) -> str | None:
    """Speaks where a stage is reached and the goal is not. far_since: see comes_far_since."""
    furthest = next(reversed(far_since), None)
    if furthest is None or env_steps - far_since[furthest] < STALLED:
        return None
    return (
        f"the policy stops at '{furthest}': for {env_steps - far_since[furthest]:,} steps {COMES_FAR:.0%} of the "
        f"evaluation episodes or more have come that far, and {MEETS_NONE:.0%} at most have met the goal. Either the "
        "reward pays more for staying there than for going on (compare its terms, env/reward_…), or nothing leads on: "
        f"begin some episodes beyond it{_named(advice.starts)}"
    )


def comes_far_since(
    before: Mapping[str, int], funnel: Mapping[str, float], success_once: float, env_steps: int
) -> dict[str, int]:
    """Returns since which step most evaluation episodes come to a stage while next to none meets the goal, by stage.

    before: the same after the evaluation before. funnel: share of this one's episodes in each stage, in order.
    success_once: share that met the goal at any step.
    """
    if success_once > MEETS_NONE:
        return {}
    return {str(stage): before.get(str(stage), env_steps) for stage, share in funnel.items() if share >= COMES_FAR}


def starts_ended_early(successes: Sequence[float], env_steps: int, scripted_until: int | None) -> str | None:
    """Speaks where the policy cannot begin alone. successes: of the evaluations so far. scripted_until: the step from
    which no episode begins in a scripted grasp, None where none ever did."""
    if scripted_until is None or env_steps < scripted_until or max(successes) > ON_ITS_OWN:
        return None
    return (
        f"the scripted starts have ended too early: from step {scripted_until:,} on every episode begins where "
        f"evaluations do, and of those at most {max(successes):.0%} have held their goal so far; the policy knows what "
        "comes after a grasp, and not how to come to one. Begin anew with a larger --task.scripted-until (and more "
        "--steps)"
    )


MEMORY = ("td_errors", "successes", "far_since", "said")
"""What a doctor keeps between two examinations."""


@dataclass
class Doctor:
    """Asks every diagnosis at each point of the curves or evaluation, and says each sentence once in a run."""

    target_entropy: float
    """Nats."""
    first_update_by: int
    """The environment step by which a first update is due."""
    hindsight: bool
    """Whether goals are relabelled at all."""
    advice: Advice
    """What the run could try."""
    scripted_until: int | None
    """See starts_ended_early."""
    td_errors: list[float] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)
    far_since: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """Names of the diagnoses that have spoken."""

    def examine(self, curves: Mapping[str, float], env_steps: int) -> list[str]:
        """Returns what is new in a point of the curves, given by their tags. Of what is not in it nothing is said."""
        updates = int(curves["train/n_updates"])
        asked = [(no_update, env_steps, self.first_update_by, updates)]
        known = "q/lowest_possible" in curves
        bounds = (curves["q/lowest_possible"], curves["q/highest_possible"]) if known else None
        if self.hindsight and "her/reward_variety" in curves:  # there are stored episodes
            episodes, moved = int(curves["rollout/episodes"]), curves["her/goal_moved_rate"]
            variety, trivial = curves["her/reward_variety"], curves.get("her/trivial_share")
            asked.append((nothing_to_relabel, episodes, moved, variety, trivial, self.advice))
        if "q/td_error_abs" in curves:  # there were updates since the point before
            alpha, entropy, td_error = (curves[t] for t in ("train/ent_coef", "policy/entropy", "q/td_error_abs"))
            self.td_errors = [*self.td_errors, td_error][-WINDOW - BEFORE :]
            asked += [
                (critic_diverging, self.td_errors, bounds),
                (temperature_collapsed, alpha, entropy, self.target_entropy, td_error),
            ]
        if "q/value_p05" in curves:  # somebody looked inside
            asked += [
                (q_out_of_range, curves["q/value_p05"], curves["q/value_p95"], bounds),
                (actor_dead, curves["policy/spread_over_states"], curves["policy/dead_units"], updates),
                (actor_saturated, curves["policy/saturated_share"], updates),
            ]
        return self._ask(asked)

    def examine_evaluation(self, result: Mapping[str, Any], env_steps: int) -> list[str]:
        """Returns what is new after an evaluation (training.evaluation.rollout.summarise): nothing without success."""
        if result["success"] is None:
            return []
        self.successes.append(result["success"]["rate"])
        once = result["success_once"]["rate"]
        self.far_since = comes_far_since(self.far_since, result.get("funnel", {}), once, env_steps)
        return self._ask(
            [
                (success_fell, self.successes),
                (stops_short, self.far_since, env_steps, self.advice),
                (starts_ended_early, self.successes, env_steps, self.scripted_until),
            ]
        )

    def _ask(self, questions: list[tuple]) -> list[str]:
        """Asks each diagnosis (the first of a tuple) with its arguments (the rest), and keeps what was not yet said."""
        heard = {diagnosis.__name__: diagnosis(*arguments) for diagnosis, *arguments in questions}
        new = {name: sentence for name, sentence in heard.items() if sentence and name not in self.said}
        self.said += new
        return list(new.values())

    def state_dict(self) -> dict[str, Any]:
        return {name: copy(getattr(self, name)) for name in MEMORY}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in MEMORY:
            setattr(self, name, copy(state[name]))
