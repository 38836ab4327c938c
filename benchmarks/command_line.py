"""Numbers on the benchmarks' command lines; one that cannot be is refused in argparse's sentence."""

import argparse
import math
from collections.abc import Callable


def count(text: str) -> int:
    """Reads how many. Raises argparse.ArgumentTypeError, as the others do."""
    return _number(text, int, lambda value: value >= 1, "a whole number from 1 up")


def seed_number(text: str) -> int:
    return _number(text, int, lambda value: value >= 0, "a whole number from 0 up")


def positive(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < math.inf, "a number above 0")


def share(text: str) -> float:
    return _number(text, float, lambda value: 0 < value <= 1, "a share above 0, up to 1")


def _number(text: str, kind: type, allowed: Callable[[float], bool], expected: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not allowed(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return value
