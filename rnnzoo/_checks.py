"""Argument checks, one for each kind, with one form of error: the rule and what was received.

Each takes the argument's name and value, gives the value back in the form that the code wants,
and raises a ValueError that names the argument. Bool is no number, and a number no flag.
"""

import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import keras
import numpy as np

# Sizes, counts and token ids all end up in int32 tensors.
LARGEST = 2**31 - 1


def shown(value: Any) -> str:
    """A short text of `value` for an error message."""
    try:
        text = repr(value).encode("utf-8", "backslashreplace").decode()
    except Exception:  # of a class of the user's, or too deep
        text = f"<{type(value).__name__} without a repr>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def refuse(name: str, rule: str, value: Any) -> ValueError:
    """The error that argument `name` breaks `rule`, to be raised by the caller."""
    return ValueError(f"{name} must be {rule}; received {name}={shown(value)}")


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number of Python or NumPy."""
    if isinstance(value, (bool, np.bool_)):
        return False
    if isinstance(value, (int, np.integer)):
        return abs(int(value)) < 1e300
    return isinstance(value, (float, np.floating)) and math.isfinite(value)


def integer(name: str, value: Any, low: int, high: float = LARGEST) -> int:
    """`value` as int; ValueError unless it is an integer from `low` to `high`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low:
        raise refuse(name, f"an integer of at least {low}", value)
    if value > high:
        raise refuse(name, f"an integer from {low} to {high}", value)
    return int(value)


def positive_integer(name: str, value: Any) -> int:
    """`value` as int; ValueError unless it is an integer of at least 1."""
    return integer(name, value, 1)


def number(name: str, value: Any, rule: str, fits: Callable[[float], bool]) -> float:
    """`value` as float; ValueError unless it is a finite number that `fits`, as `rule` says."""
    if not is_number(value) or not fits(value):
        raise refuse(name, rule, value)
    return float(value)


def optional_count(name: str, value: Any) -> int | None:
    """`value` as int, or None; ValueError unless it is None or an integer of at least 1."""
    return None if value is None else positive_integer(name, value)


def fraction(name: str, value: Any) -> float:
    """`value` as float; ValueError unless 0 <= value < 1."""
    return number(name, value, "in [0, 1)", lambda v: 0 <= v < 1)


def flag(name: str, value: Any) -> bool:
    """`value` as bool; ValueError unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise refuse(name, "True or False", value)
    return bool(value)


def one_of(name: str, value: Any, allowed: Iterable) -> Any:
    """`value`; ValueError unless it is one of `allowed`, of the same type."""
    allowed = list(allowed)
    same = (choice for choice in allowed if isinstance(value, type(choice)) and value == choice)
    if not any(isinstance(value, bool) == isinstance(choice, bool) for choice in same):
        raise refuse(name, f"one of {', '.join(map(repr, allowed))}", value)
    return value


def seed(name: str, value: Any) -> int | None:
    """`value` as int, or None; ValueError unless it is None or an integer of at least 0."""
    return None if value is None else integer(name, value, 0, math.inf)


def text(name: str, value: Any) -> str:
    """`value`; ValueError unless it is a str."""
    if not isinstance(value, str):
        raise refuse(name, "a str", value)
    return value


def optional_text(name: str, value: Any) -> str | None:
    """`value`; ValueError unless it is None or a str."""
    if value is not None and not isinstance(value, str):
        raise refuse(name, "None or a str", value)
    return value


def label(name: str, value: Any) -> str | None:
    """`value`; ValueError unless it is None or a str that can name a model, layer or metric."""
    fits = isinstance(value, str) and value.isprintable() and value and "/" not in value
    if value is not None and not fits:
        raise refuse(name, "None or a str, printable, not empty and without '/'", value)
    return value


def seconds(name: str, value: Any) -> float:
    """`value`; ValueError unless it is a number above 0, or infinity."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not value > 0:
        raise refuse(name, "seconds above 0", value)
    return value


def instance(name: str, value: Any, kind: type | tuple, rule: str) -> Any:
    """`value`; ValueError unless it is of the class `kind`, in words `rule`."""
    if not isinstance(value, kind):
        raise refuse(name, rule, value)
    return value


def named(name: str, value: Any, kind: type, rule: str) -> dict:
    """`value`; ValueError unless it is a dict from names to what is of the class `kind`."""
    fits = isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(one, kind) for key, one in value.items()
    )
    if not fits:
        raise refuse(name, f"a dict from names to {rule}", value)
    return value


def shape(name: str, value: Any, sized: bool = False) -> tuple:
    """`value`; ValueError unless it is a tuple of sizes, or of None unless all are `sized`."""
    fits = isinstance(value, tuple) and all(
        (one is None and not sized) or (is_number(one) and one == int(one) >= 0) for one in value
    )
    if not fits:
        raise refuse(name, f"a tuple of sizes{'' if sized else ', or None for any'}", value)
    return value


def dtype_name(name: str, value: Any) -> str:
    """`value`; ValueError unless it is the name of a dtype that Keras has."""
    try:
        fits = isinstance(value, str) and keras.backend.standardize_dtype(value) == value
    except ValueError:
        fits = False
    if not fits:
        raise refuse(name, "the name of a dtype, as 'float32'", value)
    return value


def activation(name: str, value: Any) -> Callable:
    """The function that `value` stands for; ValueError unless Keras knows it."""
    try:
        return keras.activations.get(value)
    except Exception as error:  # of a class of the user's, or too deep
        raise refuse(name, "None, the name of an activation or a function", value) from error


def path(name: str, value: Any) -> pathlib.Path:
    """`value` as a path; ValueError unless it is a str or os.PathLike that can be one."""
    try:
        given = os.fspath(value)
        fits = isinstance(given, str) and given != "" and b"\0" not in os.fsencode(given)
    except Exception:  # no path, or one of a class of the user's
        fits = False
    if not fits:
        raise refuse(name, "a path: a str or os.PathLike, not empty and without NUL", value)
    return pathlib.Path(given)


def dtype(name: str, value: Any) -> Any:
    """`value`; ValueError unless it is None or what Keras takes as a dtype or policy."""
    if value is None:
        return None
    kinds = (str, keras.DTypePolicy, type, np.dtype, dict)
    try:
        if isinstance(value, kinds) or hasattr(value, "as_numpy_dtype"):
            policy = isinstance(value, (str, keras.DTypePolicy, dict)) and value
            made = keras.dtype_policies.get(value) if policy else None
            return value if made else keras.backend.standardize_dtype(value) and value
    except (ValueError, TypeError):
        pass
    raise refuse(name, "None, a dtype as 'float32', or a keras.DTypePolicy", value)


def items(name: str, value: Any, of: str) -> list:
    """`value` as a list; ValueError for a text, a dict and what cannot be iterated over.

    What a generator raises while it is read is left as it is.
    """
    try:
        unfit = isinstance(value, (str, bytes, Mapping)) or isinstance(value, type)
        iterator = None if unfit else iter(value)
    except Exception:  # of a class of the user's
        iterator = None
    if iterator is None:
        raise refuse(name, f"a list (or any iterable) of {of}", value)
    return list(iterator)


def callbacks(name: str, value: Any) -> list[keras.callbacks.Callback]:
    """`value` as a list, from whatever form `fit` takes; ValueError for what is no callback."""
    if isinstance(value, keras.callbacks.CallbackList):
        return list(value.callbacks)
    try:
        given = [] if value is None else keras.tree.flatten(value)
    except Exception:  # too deep, or with keys that cannot be sorted
        given = [value]
    if not all(isinstance(one, keras.callbacks.Callback) for one in given):
        raise refuse(name, "a keras.callbacks.Callback, a list of them, or None", value)
    return given


def array(name: str, value: Any) -> np.ndarray:
    """`value` as a NumPy array; one that is an array already (a memmap too) is not read.

    Tables and their columns (pandas, polars: what has `to_numpy`) are arrays like all others.
    """
    unmasked(name, value)
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, (str, bytes)):
        raise ValueError(f"{name} must hold numbers; received the text {shown(value)}")
    try:
        return _of_table(value) if hasattr(value, "to_numpy") else np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"the entries of {name} must all have the same shape; received {shown(value)}"
        ) from error
    except Exception as error:  # NumPy runs the code of whatever object it is given
        raise ValueError(
            f"{name} must be an array or lists of numbers; received {shown(value)} "
            f"({type(error).__name__}: {error})"
        ) from error


def unmasked(name: str, value: Any) -> None:
    """ValueError for a masked array, or a list of some, with masked entries."""
    for one in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(one, np.ma.MaskedArray) and np.ma.is_masked(one):
            raise ValueError(
                f"{name} must have no masked entries: fill them, and give them a weight of 0; "
                f"received {shown(one)}"
            )


def numbers(name: str, value: Any) -> np.ndarray:
    """`value` as a float64 array; ValueError for what holds no real numbers."""
    held = array(name, value)
    if not holds_numbers(held):
        raise ValueError(f"{name} must hold numbers; received dtype {held.dtype}")
    return held.astype("float64", copy=False)


def holds_numbers(array: np.ndarray) -> bool:
    """Whether its dtype is one of real numbers; those of half precision are not NumPy's own."""
    return array.dtype.kind in "iufb" or "float" in array.dtype.name


def alike(one: tuple, other: tuple) -> bool:
    """Whether two shapes may be the same; None stands for any size."""
    return len(one) == len(other) and all(a == b or None in (a, b) for a, b in zip(one, other))


def leads(given: tuple, shape: tuple) -> bool:
    """Whether `given` may be the first axes of `shape`, or 1 in the place of any."""
    fits = all(a == 1 or a == b or None in (a, b) for a, b in zip(given, shape))
    return fits and len(given) <= len(shape)


def token_ids(name: str, value: Any, size: int) -> np.ndarray:
    """`value` as integers `(tokens,)` in [0, size); ValueError for others."""
    ids = array(name, list(value) if hasattr(value, "__next__") else value)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} must be integers of shape (tokens,); received {ids.dtype} {ids.shape}"
        )
    wrong = np.flatnonzero((ids < 0) | (ids >= size))
    if len(wrong):
        raise ValueError(
            f"{name} must lie in [0, {size}); received {ids[wrong[0]]} at position {wrong[0]}"
        )
    return ids


def by_name(name: str, value: Any) -> dict:
    """A dict, empty for None; ValueError for what is no dict by names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise refuse(name, "a dict by names, or None", value)
    return dict(value)


def tensor(name: str, value: Any) -> Any:
    """`value` as a tensor; ValueError for what holds no numbers."""
    if not keras.ops.is_tensor(value) and not isinstance(value, keras.KerasTensor):
        held = array(name, value)
        if not holds_numbers(held):
            raise ValueError(f"{name} must hold numbers; received dtype {held.dtype}")
    return keras.ops.convert_to_tensor(value)


def _of_table(value: Any) -> np.ndarray:
    """The array of a table, whose columns may be numbers of several kinds."""
    made = np.asarray(value.to_numpy())
    if made.dtype == object and all(isinstance(one, (Real, np.bool_)) for one in made.flat):
        return np.asarray(made.tolist())  # of integers alone they stay integers
    return made
