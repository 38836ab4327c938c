"""States taken apart and put together again, compared, and searched for what is not finite."""

import copy

import numpy as np
import pytest

from checkpoints import digest, load, not_finite
from checkpoints.tree import join, split


def test_arrays_and_logs_come_apart_and_go_back_to_their_places(samples):
    state = samples.state()
    arrays, logs, values = split(state)
    assert set(logs) == {"buffer|rows"}
    assert "agent|generator|state" in arrays
    assert values["agent"] == {
        "actor": {},
        "actor_average": {},
        "critic": {},
        "critic_target": {},
        "normalizer": {"count": 7},
        "optimizer": {},
        "updates": 3 * 10**9,
        "generator": {"device": "cpu"},
    }
    samples.assert_same(state, join({**arrays, **logs}, values))


@pytest.mark.parametrize("key", ["a|b", 3, None])
def test_a_key_that_could_not_be_told_apart_again_is_refused(key):
    with pytest.raises(ValueError, match=r"no string without '\|'"):
        split({"part": {key: 1}})


# Digests


def test_equal_states_have_equal_digests_whatever_the_order_of_their_keys(samples):
    state = samples.state()
    assert digest(state) == digest(samples.state())
    assert digest(state) == digest({part: state[part] for part in reversed(state)})


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["agent"]["actor"]["net.0.weight"].view(np.uint32).__ixor__(1),
        lambda state: state["agent"].update(log_alpha=np.array(-1.5, np.float64)),
        lambda state: state["buffer"].update(steps_before=np.arange(5, dtype=np.int32).reshape(5, 1)),
        lambda state: state["buffer"]["rng"]["state"].update(state=state["buffer"]["rng"]["state"]["state"] + 1),
        lambda state: state["counters"].update(done=0),
        lambda state: state["counters"].update(best=False),
        lambda state: state["counters"].update(rate=0.3),
        lambda state: state["counters"].pop("best"),
        lambda state: state["counters"]["nested"].pop("deeper"),
        lambda state: state.pop("nothing"),
        lambda state: setattr(state["buffer"]["rows"], "seed", 1),
        lambda state: setattr(state["buffer"]["rows"], "last", 19),
    ],
)
def test_whatever_differs_changes_the_digest(samples, change):
    state = samples.state()
    change(state)
    assert digest(state) != digest(samples.state())


def test_rows_that_moved_change_the_digest():
    class Same:
        def __init__(self, first):
            self.first, self.last = first, first + 5

        def read(self, first, last):
            return {"x": np.arange(5)}

    assert digest({"rows": Same(0)}) == digest({"rows": Same(0)})
    assert digest({"rows": Same(0)}) != digest({"rows": Same(1)})


def test_a_log_has_the_same_digest_live_and_stored(samples, tmp_path, short_segments):
    restored, _ = load(samples.store(tmp_path, first=3, last=30))
    assert digest(restored) == digest(samples.state(first=3, last=30))


# What is not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        np.float32,
        lambda x: np.array([0, x]),
        lambda x: np.array(x, np.float16),
        lambda x: [1.0, x],
        lambda x: [1.0, None, "three", [x]],
        lambda x: [[1.0], [1.0, x]],
        lambda x: [{"deep": x}],
        lambda x: (x,),
    ],
)
def test_whatever_is_not_finite_is_named(samples, wrap, bad):
    state = samples.state()
    assert not_finite(state) == []
    state["counters"]["nested"]["deeper"]["loss"] = wrap(bad)
    assert not_finite(state) == ["counters|nested|deeper|loss"]


def test_looking_for_what_is_not_finite_changes_nothing(samples):
    state = samples.state() | {"more": {"lists": [[1], [2, 3]], "text": ["a", None], "whole": np.arange(3)}}
    before = copy.deepcopy(state)
    assert not_finite(state) == []
    samples.assert_same(before, state)
