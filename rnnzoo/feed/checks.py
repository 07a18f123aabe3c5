"""Single arrays of a batch: what they must be, and how they become arrays of one kind."""

from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.core.spec import Input

Tensor = Any


def plain(x: Any, name: str = "inputs") -> Any:
    """`x`, its data frames turned into arrays; ragged tensors and masks are refused by name."""
    if isinstance(x, dict):
        return {key: plain(value, key) for key, value in x.items()}
    if hasattr(x, "row_splits") or hasattr(x, "nested_row_splits"):
        raise ValueError(
            "inputs must be arrays of one length; received a RaggedTensor. For sequences of "
            "different length see rnnzoo.data.pack and rnnzoo.data.bucket."
        )
    _checks.unmasked(name, x)
    return _checks.array(name, x) if hasattr(x, "to_numpy") else x


def from_lists(values: Any) -> Any:
    """`values`; the array of a list of numbers, of which all parts are as long as one another."""
    if not isinstance(values, (list, tuple)):
        return values
    try:
        array = np.asarray(values)
    except Exception:  # parts of different length, symbols of a graph: for others to judge
        return values
    return array if array.dtype.kind in "iufb" else values


def is_table(x: Any) -> bool:
    """Whether `x` is a data frame of pandas or polars, as far as one looks at it."""
    return hasattr(x, "to_numpy") and hasattr(x, "columns")


def as_dtype(values: Any, dtype: str) -> np.ndarray:
    """`values` as an array of `dtype` in the machine's byte order."""
    if str(getattr(values, "dtype", "")) == dtype and not isinstance(values, np.ndarray):
        return np.asarray(values)
    target = "float32" if dtype == "bfloat16" else dtype
    return np.asarray(values).astype(target, copy=False)


def zeroed(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`values` with zeros where `where`, whose axes are the first ones of `values`, is True."""
    where = where.reshape(where.shape + (1,) * (values.ndim - where.ndim))
    return np.where(where, np.zeros((), values.dtype), values)


def finite_where(values: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """`values` with zeros for what is not finite where `idle`, whose axes are the first, is True.

    What stands there counts for nothing; but not a number times a weight of 0 is no 0.
    """
    unfit = ~np.isfinite(values) & idle.reshape(idle.shape + (1,) * (values.ndim - idle.ndim))
    return np.where(unfit, np.zeros((), values.dtype), values) if unfit.any() else values


def real_steps(rows: Any, steps: Any, mask: Any, lengths: Any) -> Tensor:
    """`(rows, steps)` bool from a mask or from lengths, True everywhere where both are None."""
    if mask is not None:
        return ops.cast(mask, "bool")
    if lengths is not None:
        place = ops.arange(steps, dtype="int32")[None]
        return place < ops.cast(lengths, "int32")[:, None]
    return ops.ones((rows, steps), dtype="bool")


def check_array(array: Any, spec: Input, name: str = "inputs") -> None:
    """ValueError unless `array` is a batch of what `spec` describes."""
    tokens = spec.vocabulary is not None
    axes = ["batch", "time"] if spec.per_step else ["batch"]
    sizes = ", ".join([*axes, *("any" if s is None else str(s) for s in spec.shape)])
    form = f"({sizes}{',' if sizes == 'batch' else ''})" + (" token ids" if tokens else "")
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise ValueError(
            f"{name} must be an array {form}; received {type(array).__name__}. For sequences of "
            "different length see rnnzoo.data.pack and rnnzoo.data.bucket, which take texts too."
        )
    shape = tuple(array.shape)
    if len(shape) != spec.rank:
        hint = ""
        if str(array.dtype) == "object":
            hint = " of objects. For sequences of different length see rnnzoo.data.pack and bucket"
        raise ValueError(f"{name} must have shape {form}; received shape {shape}{hint}")
    own = shape[len(axes) :]
    if any(wanted not in (None, size) for wanted, size in zip(spec.shape, own)):
        features = f"{spec.shape[0]} features" if len(own) == 1 else f"shape {form}"
        raise ValueError(f"{name} must have {features}, as the model has; received shape {shape}")
    if spec.padding is not None and 0 in own:
        raise ValueError(
            f"{name} must have room for at least one token in each step; received shape {shape}"
        )
    if spec.per_step and shape[1] == 0:
        raise ValueError(f"{name} must have at least one step; received shape {shape}")
    dtype = str(getattr(array.dtype, "name", array.dtype))
    if tokens and "int" not in dtype:
        raise ValueError(f"token ids must be integers; received {name} of dtype {dtype}")
    if not any(kind in dtype for kind in ("float", "int", "bool")):
        raise ValueError(f"features must be real numbers; received {name} of dtype {dtype}")


def check_ids(ids: np.ndarray, vocabulary: int, name: str = "", padding: int | None = None) -> None:
    """ValueError naming the first row and step where an id is not in [0, vocabulary).

    It may be `padding` too, where that is given.
    """
    low = 0 if padding is None else padding
    if ids.size and (ids.min() < low or ids.max() >= vocabulary):
        place = np.argwhere((ids < low) | (ids >= vocabulary))[0]
        where = ", ".join(f"{axis} {i}" for axis, i in zip(("row", "step", "feature"), place))
        none = "" if padding is None else f", or {padding} for none"
        raise ValueError(
            f"{name}token ids must be in 0 to {vocabulary - 1}{none}; received "
            f"{ids[tuple(place)]} at {where}"
        )


def check_flags(key: str, flags: Any, shape: tuple) -> None:
    """ValueError unless `flags` is boolean and of `shape`."""
    if tuple(np.shape(flags)) != tuple(shape):
        raise ValueError(
            f"{key} must have shape (batch, time) = {tuple(shape)}, as the inputs; "
            f"received shape {tuple(np.shape(flags))}"
        )
    dtype = getattr(flags, "dtype", np.asarray(flags).dtype)
    if getattr(dtype, "name", str(dtype).split(".")[-1]) != "bool":
        raise ValueError(f"{key} must be boolean; received dtype {dtype}")


def check_lengths(lengths: np.ndarray, rows: int, steps: int, name: str = "lengths") -> None:
    """ValueError unless `lengths` has an integer of 0 to `steps` for each of `rows`."""
    if lengths.shape != (rows,) or lengths.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integers of shape (batch,) = ({rows},); "
            f"received shape {lengths.shape}, dtype {lengths.dtype}"
        )
    if lengths.size and (lengths.min() < 0 or lengths.max() > steps):
        row = int(np.argwhere((lengths < 0) | (lengths > steps))[0][0])
        raise ValueError(
            f"{name} must be in 0 to {steps}, the steps of the inputs; "
            f"received {lengths[row]} in row {row}"
        )


def check_rows(rows: int, **others: Any) -> None:
    """ValueError where there is no row, or where `others` have another number than `rows`."""
    if rows == 0:
        raise ValueError("the inputs must have at least one row; received arrays of 0 rows")
    for name, values in others.items():
        for value in _leaves(name, values):
            if value is None:
                continue
            held = value if hasattr(value, "shape") else _checks.array(name, value)
            given = tuple(held.shape[:1])
            if given != (rows,):
                raise ValueError(
                    f"{name} must have one row for each of the {rows} rows of the inputs; "
                    f"received {given[0] if given else 'a scalar'}"
                )


def _leaves(name: str, values: Any) -> list:
    try:
        return keras.tree.flatten(values)
    except Exception as error:  # too deep, or with keys that cannot be sorted
        raise _checks.refuse(name, "an array, or a dict or list of arrays", values) from error
