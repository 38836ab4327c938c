"""Brings the states that environments tell into a form that every checkpoint can hold."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np


class Unsavable(TypeError):
    """Says which of a state's entries is neither a NumPy array of numbers nor what JSON holds."""


def packed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays of a nested dict, and all else as one array of bytes, its JSON.

    So a state may be long, and hold numbers that are not finite, such as the best of nothing so far. Raises Unsavable.
    """
    arrays, others = _apart(state, "")
    return {"arrays": arrays, "json": np.frombuffer(json.dumps(others).encode(), np.uint8)}


def unpacked(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `packed` was given. Tuples come back as lists."""
    if state.keys() != {"arrays", "json"}:
        return dict(state)  # older code kept it as it is
    return _together(state["arrays"], json.loads(state["json"].tobytes()))


def _apart(state: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in state.items():
        name = f"{prefix}{key}"
        if not isinstance(key, str) or "|" in key:
            raise Unsavable(f"the key {key!r:.80} is no string without '|'")
        if isinstance(value, Mapping):
            arrays[key], others[key] = _apart(value, f"{name}.")
        elif isinstance(value, np.ndarray | np.generic):
            if np.asarray(value).dtype.kind not in "biuf":
                raise Unsavable(f"{name} is an array of {np.asarray(value).dtype}")
            arrays[key] = np.array(value)
        else:
            try:
                json.dumps(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise Unsavable(f"{name}: {error}") from error
            others[key] = value
    return arrays, others


def _together(arrays: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        key: _together(value, others[key]) if isinstance(value, Mapping) else value for key, value in arrays.items()
    }
    return {**others, **inner}
