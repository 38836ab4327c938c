"""Nested dicts of arrays, numbers and logs are taken apart to be written, put together again, and compared.

A state is {part: nested dict}. Its leaves are NumPy arrays, what JSON can hold, and logs.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

SEPARATOR = "|"
Columns = dict[str, np.ndarray]


@runtime_checkable
class Log(Protocol):
    """Holds rows that never change, the newest of all: row `first` up to, not including, row `last`.

    read(a, b) returns rows a … b - 1 as {column: (b - a, …)}.
    """

    first: int
    last: int
    read: Callable[[int, int], Columns]


def split(tree: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Log], dict[str, Any]]:
    """Returns the arrays and the logs of a nested dict, by joined keys, and the same nesting with everything else.

    A NumPy number is an array without axes, and comes back as one: as a number of Python's it would lose its type.
    Raises ValueError where a key is no string, or could not be told apart again.
    """
    arrays: dict[str, np.ndarray] = {}
    logs: dict[str, Log] = {}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if not isinstance(key, str) or SEPARATOR in key:
            raise ValueError(f"the state's key {key!r} is no string without {SEPARATOR!r}")
        joined = prefix + key
        if isinstance(value, Mapping):
            inner_arrays, inner_logs, values[key] = split(value, joined + SEPARATOR)
            arrays |= inner_arrays
            logs |= inner_logs
        elif isinstance(value, np.ndarray | np.generic):
            arrays[joined] = np.asarray(value)
        elif isinstance(value, Log):
            logs[joined] = value
        else:
            values[key] = value
    return arrays, logs, values


def join(leaves: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Puts arrays and logs back where split took them from."""
    tree = dict(values)
    for joined, leaf in leaves.items():
        *parents, key = joined.split(SEPARATOR)
        node = tree
        for parent in parents:
            node = node[parent]
        node[key] = leaf
    return tree


def not_finite(state: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns the joined keys of every array and number that holds a NaN or an infinity. Logs are not looked into."""
    bad = []
    for key, value in state.items():
        name = prefix + str(key)
        if isinstance(value, Mapping):
            bad += not_finite(value, name + SEPARATOR)
        elif not _is_finite(value):
            bad.append(name)
    return bad


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    if isinstance(value, float | np.floating):
        return math.isfinite(value)
    return not isinstance(value, np.ndarray) or value.dtype.kind != "f" or bool(np.isfinite(value).all())


def digest(value: Any) -> str:
    """Returns the SHA-256 of a state or of any part of it.

    Two are equal exactly where every bit of every array, number and log is.
    """
    sha256 = hashlib.sha256()
    for piece in _pieces(value):
        sha256.update(piece)
    return sha256.hexdigest()


def _pieces(value: Any, name: str = "") -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield f"{name}:{len(value)}\n".encode()
        for key in sorted(value):
            yield from _pieces(value[key], f"{name}{SEPARATOR}{key}")
    elif isinstance(value, Log):
        yield from _pieces(value.read(value.first, value.last), f"{name}@{value.first}")
    elif isinstance(value, np.ndarray | np.generic):
        yield f"{name}:{value.dtype.str}{value.shape}\n".encode()
        yield np.ascontiguousarray(value).tobytes()
    else:
        yield f"{name}={json.dumps(value)}\n".encode()
