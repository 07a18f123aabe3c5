"""Argument checks with one form of error: the rule, what is allowed, what was received."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def shown(value: Any) -> str:
    """A short text of `value` for an error message."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deep to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


def positive_integer(name: str, value: Any) -> int:
    """`value` as int; ValueError unless it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; received {name}={shown(value)}")
    return int(value)


def fraction(name: str, value: Any) -> float:
    """`value` as float; ValueError unless 0 <= value < 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1); received {name}={shown(value)}")
    return float(value)


def one_of(name: str, value: Any, allowed: Iterable) -> Any:
    """`value`; ValueError unless it is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        listed = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"{name} must be one of {listed}; received {name}={shown(value)}")
    return value
