"""Whatever an environment tells of its state comes back from a checkpoint, or is named."""

import math

import numpy as np
import pytest

from env.packing import Unsavable, packed, unpacked

STATE = {
    "steps": 3,
    "best": -math.inf,
    "nothing": None,
    "path": list(range(100_000)),
    "point": np.array([1.5, np.nan], np.float32),
    "number": np.float64(2.5),
    "rng": np.random.default_rng(0).bit_generator.state,
    "inner": {"deeper": {"flags": np.array([True, False])}, "empty": {}, "json": "x", "arrays": [1, [2.5, "y"]]},
}


def test_it_comes_back_as_it_was():
    def arrays_alone(tree):
        return all(
            arrays_alone(leaf) if isinstance(leaf, dict) else isinstance(leaf, np.ndarray) for leaf in tree.values()
        )

    there = packed(STATE)
    assert arrays_alone(there)
    back = unpacked(there)
    for key in ("steps", "best", "nothing", "path", "rng"):
        assert back[key] == STATE[key]
    np.testing.assert_array_equal(back["point"], STATE["point"])
    assert back["number"] == 2.5
    assert back["number"].dtype == np.float64
    inner = back["inner"]
    assert inner["deeper"]["flags"].tolist() == [True, False]
    assert (inner["empty"], inner["json"], inner["arrays"]) == ({}, "x", [1, [2.5, "y"]])


def test_a_live_array_is_copied():
    state = {"point": np.zeros(2)}
    there = packed(state)
    state["point"][:] = 1
    assert unpacked(there)["point"].tolist() == [0, 0]


def test_what_older_code_kept_as_it_was_is_taken_as_it_is():
    assert unpacked({"steps": 3, "rng": {"state": 1}}) == {"steps": 3, "rng": {"state": 1}}


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({1: 2}, "the key 1 is no string"),
        ({"a|b": 1}, "the key 'a|b' is no string without '|'"),
        ({"a": {"b": {3}}}, "a.b: Object of type set is not JSON serializable"),
        ({"a": b"x"}, "a: Object of type bytes"),
        ({"a": [np.int64(1)]}, "a: Object of type int64"),
        ({"a": np.zeros(2, complex)}, "a is an array of complex128"),
        ({"a": np.array(["x"])}, "a is an array of <U1"),
        ({"a": np.array([object()])}, "a is an array of object"),
    ],
)
def test_what_cannot_be_saved_is_named(bad, named):
    with pytest.raises(Unsavable) as caught:
        packed(bad)
    assert named in str(caught.value)
