"""Each diagnosis is provoked by numbers of a sick run, and silent on those of a healthy one."""

import inspect
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.config import TrainConfig, flatten
from training.curves import diagnosis
from training.curves.diagnosis import (
    Advice,
    Doctor,
    actor_dead,
    actor_saturated,
    comes_far_since,
    critic_diverging,
    no_update,
    nothing_to_relabel,
    q_out_of_range,
    starts_ended_early,
    stops_short,
    success_fell,
    temperature_collapsed,
)
from training.recipes import PICK_PLACE, PUSH, REACH
from training.state import TrainingState, new_doctor

BOUNDS = (-50.0, 10.0)
STEADY = [1.0] * 25
GROWN = [1.0] * 20 + [40.0] * 5


@pytest.mark.parametrize(
    ("diagnosis", "sick", "healthy", "numbers"),
    [
        (nothing_to_relabel, (96, 0.0, 0.0, 1.0), (96, 0.05, 0.0, 0.9), ["0%", "96", "100%", "no reward tells"]),
        (nothing_to_relabel, (96, 0.02, 0.01, None), (79, 0.0, 0.0, None), ["2%"]),
        (nothing_to_relabel, (400, 0.0, 0.9, 1.0), (399, 0.0, 0.9, 1.0), ["400", "does not lead to it"]),
        (temperature_collapsed, (1e-6, -14.0, -6.0, 1.0), (0.02, -6.0, -6.0, 1.0), ["1.0e-06", "-14.0", "-6.0"]),
        (temperature_collapsed, (1e-6, -14.0, -6.0, 1.0), (1e-6, 2.0, -6.0, 1.0), ["1.0e-06"]),
        (q_out_of_range, (-70.0, 5.0, BOUNDS), (-50.0, 10.0, BOUNDS), ["-70.0 to 5.0", "-50.0 to 10.0"]),
        (q_out_of_range, (-40.0, 30.0, BOUNDS), (-55.0, 15.0, BOUNDS), ["-40.0 to 30.0"]),
        (q_out_of_range, (-40.0, 30.0, BOUNDS), (-1e9, 1e9, None), ["30.0"]),
        (actor_dead, (0.001, 0.0, 1000), (0.2, 0.1, 1000), ["0.0010"]),
        (actor_dead, (0.3, 1.0, 1000), (0.001, 1.0, 100), ["100%"]),
        (actor_saturated, (0.97, 1000), (0.6, 1000), ["97%"]),
        (actor_saturated, (0.97, 1000), (1.0, 100), ["97%"]),
        (critic_diverging, (GROWN, BOUNDS), (STEADY, BOUNDS), ["from 1 to 40"]),
        (critic_diverging, (GROWN, None), ([0.1] * 20 + [0.5] * 5, None), ["from 1 to 40"]),
        (critic_diverging, (GROWN, BOUNDS), ([0.02] * 20 + [0.6] * 5, BOUNDS), ["from 1 to 40"]),
        (critic_diverging, (GROWN, BOUNDS), (GROWN[1:], BOUNDS), ["from 1 to 40"]),
        (no_update, (5_000, 4_000, 0), (5_000, 4_000, 1), ["5,000"]),
        (no_update, (5_000, 4_000, 0), (4_000, 4_000, 0), ["5,000"]),
        (success_fell, ([0.2, 0.9, 0.4, 0.3, 0.1],), ([0.2, 0.9, 0.4, 0.3, 0.8],), ["90%", "40%"]),
        (success_fell, ([0.9, 0.4, 0.3, 0.1],), ([0.45, 0.0, 0.0, 0.0],), ["90%", "40%"]),
        (success_fell, ([0.9, 0.4, 0.3, 0.1],), ([0.9, 0.0, 0.0],), ["90%"]),
        (stops_short, ({"touched": 0, "lifted": 9_000}, 60_000), ({"touched": 0}, 40_000), ["'lifted'", "51,000"]),
        (stops_short, ({"touched": 0}, 60_000), ({"touched": 0, "lifted": 19_000}, 60_000), ["'touched'", "60,000"]),
        (stops_short, ({"touched": 0}, 60_000), ({}, 60_000), ["'touched'", "60,000"]),
        (
            starts_ended_early,
            ([0.0, 0.1, 0.05], 100_000, 100_000),
            ([0.0, 0.1, 0.05], 95_000, 100_000),
            ["100,000", "10%"],
        ),
        (starts_ended_early, ([0.2, 0.0], 120_000, 100_000), ([0.3, 0.0], 120_000, 100_000), ["20%"]),
        (starts_ended_early, ([0.0], 120_000, 100_000), ([0.0], 120_000, None), ["0%"]),
    ],
)
def test_a_diagnosis_says_its_numbers_for_the_sick_and_nothing_for_the_healthy(diagnosis, sick, healthy, numbers):
    assert diagnosis(*healthy) is None
    sentence = diagnosis(*sick)
    assert all(number in sentence for number in numbers), sentence
    assert "\n" not in sentence


def evaluation(success: float, once: float | None = None, **funnel: float) -> dict[str, Any]:
    stages = {"funnel": funnel} if funnel else {}
    return {"success": {"rate": success}, "success_once": {"rate": success if once is None else once}} | stages


def test_how_long_a_stage_has_been_come_to_without_the_goal():
    since = comes_far_since({}, {"touched": 0.9, "lifted": 0.5}, 0.0, 5_000)
    assert since == {"touched": 5_000}
    since = comes_far_since(since, {"touched": 0.8, "lifted": 0.8}, 0.05, 10_000)
    assert since == {"touched": 5_000, "lifted": 10_000}
    assert comes_far_since(since, {"touched": 1.0, "lifted": 0.7}, 0.0, 15_000) == {"touched": 5_000}
    assert comes_far_since(since, {"touched": 1.0, "lifted": 1.0}, 0.06, 15_000) == {}


def point(**changes) -> dict[str, float]:
    """Of a run that is well, but for `changes`, by the tags' last parts."""
    healthy = {
        "train/n_updates": 4_000.0,
        "train/ent_coef": 0.03,
        "policy/entropy": -6.0,
        "q/td_error_abs": 1.0,
        "q/value_p05": -30.0,
        "q/value_p95": 5.0,
        "policy/spread_over_states": 0.5,
        "policy/dead_units": 0.05,
        "policy/saturated_share": 0.1,
        "q/lowest_possible": BOUNDS[0],
        "q/highest_possible": BOUNDS[1],
        "her/goal_moved_rate": 0.7,
        "her/reward_variety": 0.9,
        "her/trivial_share": 0.2,
        "rollout/episodes": 500.0,
    }
    assert changes.keys() <= {tag.split("/")[1] for tag in healthy}
    return {tag: changes.get(tag.split("/")[1], value) for tag, value in healthy.items()}


def test_advice_names_options_that_there_are():
    named = re.findall(r"--([a-z][a-z.-]*[a-z])", Path(diagnosis.__file__).read_text() + inspect.getsource(new_doctor))
    assert len(set(named)) > 8
    assert set(named) <= flatten(TrainConfig(env="reach").to_dict()).keys()


ADVICE = Advice("--reward sparse-reach", "--task.scripted-starts 0.8")


def test_what_a_run_could_try_is_named():
    assert "a shaped reward (--reward sparse-reach), starts nearer to it (--task.scripted-starts 0.8), or" in (
        nothing_to_relabel(96, 0.0, 0.0, 1.0, ADVICE)
    )
    assert "a shaped reward, starts nearer to it, or" in nothing_to_relabel(96, 0.0, 0.0, 1.0)
    assert stops_short({"lifted": 0}, 60_000, ADVICE).endswith("beyond it (--task.scripted-starts 0.8)")
    assert stops_short({"lifted": 0}, 60_000).endswith("beyond it")


def doctor_of(config: TrainConfig) -> Doctor:
    config = replace(config, num_envs=1, overlap=False)
    return TrainingState.new(config, torch.device("cpu")).doctor


def with_task(config: TrainConfig, **changes) -> TrainConfig:
    return replace(config, task=replace(config.task, **changes))


@pytest.mark.parametrize(
    ("config", "shaping", "starts"),
    [
        (replace(REACH, reward="sparse"), True, False),
        (REACH, False, False),
        (PICK_PLACE, False, False),
        (with_task(PUSH, scripted_starts=0.0), False, True),
        (with_task(replace(PICK_PLACE, reward="sparse"), scripted_starts=0.0), True, True),
    ],
)
def test_a_run_is_advised_what_its_task_has_and_it_does_not_do(config, shaping, starts):
    advice = doctor_of(config).advice
    assert (advice.shaping is not None, advice.starts is not None) == (shaping, starts)


def test_an_environment_of_ones_own_has_none_of_the_options(point_env, monkeypatch):
    monkeypatch.setitem(sys.modules, "point_env", point_env)
    assert doctor_of(TrainConfig(env="point_env:PointEnv")).advice == Advice()


def doctor(hindsight: bool = True) -> Doctor:
    return Doctor(-6.0, first_update_by=4_000, hindsight=hindsight, advice=ADVICE, scripted_until=200_000)


def test_a_healthy_run_hears_nothing():
    examiner = doctor()
    for step in range(1_000, 50_000, 1_000):
        assert examiner.examine(point(), step) == []
    # Everything but the goal for as long as a healthy run has been seen to need, twice over.
    for step, success in enumerate((0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.5, 0.9, 0.7, 0.95)):
        assert examiner.examine_evaluation(evaluation(success, lifted=0.9), 5_000 * step) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_updates": 0.0}, "no update"),
        ({"goal_moved_rate": 0.0}, "nothing to work with"),
        ({"ent_coef": 1e-7, "entropy": -20.0}, "temperature has collapsed"),
        ({"value_p05": -90.0}, "Q lies outside"),
        ({"value_p95": 40.0}, "Q lies outside"),
        ({"spread_over_states": 0.0}, "actor is dead"),
        ({"dead_units": 1.0}, "actor is dead"),
        ({"saturated_share": 1.0}, "actor is saturated"),
    ],
)
def test_the_doctor_hands_each_diagnosis_its_own_curves(changes, words):
    (sentence,) = doctor().examine(point(**changes), 10_000)
    assert words in sentence


def test_a_diverging_critic_is_seen_over_time():
    examiner, heard = doctor(), []
    for step, error in enumerate(GROWN):
        heard += examiner.examine(point(td_error_abs=error), step)
    assert len(heard) == 1
    assert "diverge" in heard[0]


def test_a_success_that_falls_is_seen_over_evaluations():
    examiner = doctor()
    heard = [examiner.examine_evaluation(evaluation(success), 0) for success in (0.9, 0.2, 0.1, 0.1, 0.0)]
    assert [len(sentences) for sentences in heard] == [0, 0, 0, 1, 0]


def test_a_policy_that_stops_short_is_seen_over_evaluations_also_by_a_run_that_went_on():
    first, resumed = doctor(), doctor()
    for step in range(0, 50_000, 10_000):
        assert first.examine_evaluation(evaluation(0.0, touched=1.0, lifted=0.95), step) == []
    resumed.load_state_dict(first.state_dict())
    for examiner in (first, resumed):
        (sentence,) = examiner.examine_evaluation(evaluation(0.0, touched=1.0, lifted=0.95), 50_000)
        assert "stops at 'lifted'" in sentence
        assert examiner.examine_evaluation(evaluation(0.0, touched=1.0, lifted=0.95), 60_000) == []


def test_starts_that_end_early_are_seen_when_they_have_ended():
    examiner = doctor()
    heard = [examiner.examine_evaluation(evaluation(0.1), step) for step in (190_000, 200_000, 210_000)]
    assert [len(sentences) for sentences in heard] == [0, 1, 0]
    assert "scripted starts have ended too early" in heard[1][0]


@pytest.mark.parametrize(
    ("config", "until"),
    [
        (PICK_PLACE, PICK_PLACE.task.scripted_until),
        (with_task(PICK_PLACE, scripted_until=30_000), 30_000),
        (with_task(PICK_PLACE, scripted_starts=0.0), None),
    ],
)
def test_a_run_knows_when_its_starts_end(config, until):
    assert doctor_of(config).scripted_until == until


def test_a_goal_met_and_not_held_is_no_stopping_short():
    examiner = doctor()
    for step in range(0, 100_000, 10_000):
        assert examiner.examine_evaluation(evaluation(0.0, once=0.4, lifted=1.0), step) == []


def test_without_hindsight_there_is_no_word_about_it():
    assert doctor(hindsight=False).examine(point(goal_moved_rate=0.0), 10_000) == []


def test_what_a_point_does_not_hold_is_not_judged():
    few = {"train/n_updates": 5.0, "time/fps": 300.0}
    assert doctor().examine(few, 10_000) == []


def test_a_sentence_is_said_once_also_by_a_run_that_went_on():
    first = doctor()
    sick = point(saturated_share=1.0)
    assert len(first.examine(sick, 10_000)) == 1
    assert first.examine(sick, 11_000) == []
    resumed = doctor()
    resumed.load_state_dict(first.state_dict())
    assert resumed.examine(sick, 12_000) == []
    assert len(resumed.examine(point(dead_units=1.0), 13_000)) == 1


def test_a_resumed_doctor_remembers_what_was_before():
    first, resumed = doctor(), doctor()
    for step, error in enumerate(GROWN[:-1]):
        first.examine(point(td_error_abs=error), step)
    for success in (0.9, 0.2, 0.1):
        first.examine_evaluation(evaluation(success), 0)
    resumed.load_state_dict(first.state_dict())
    for examiner in (first, resumed):
        assert len(examiner.examine_evaluation(evaluation(0.1), 0)) == 1
    assert first.state_dict() == resumed.state_dict()
