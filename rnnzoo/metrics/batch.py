"""A batch as the metrics take it: predictions, a class and a weight for each step."""

from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.backend.keras_internals import get_keras_mask


def classes_of(batch: tuple, name: str) -> tuple[Any, Any, Any]:
    """`y_true` int32, `y_pred`, and a weight for each target that is 0 where one is masked.

    What is no integer is -2**31, which no class is.

    Args:
        batch: `(y_true, y_pred, sample_weight)` as `update_state` takes them: targets `(...)` or
            `(..., 1)`, predictions `(..., classes)`, weights of the targets' first axes or None.
        name: the metric's, for errors.

    Raises:
        ValueError: what is no number, no integer, negative as a weight, or of another shape.
    """
    y_true, y_pred, sample_weight = batch
    mask = get_keras_mask(y_pred)
    y_pred = _tensor("y_pred", y_pred)
    y_true = _fitting(_tensor("y_true", y_true), y_pred, name)
    weight = step_weights(sample_weight, y_true)
    if mask is not None:
        weight = weight * step_weights(mask, y_true)
    return y_true, y_pred, weight


def step_weights(given: Any, y_true: Any) -> Any:
    """Weights of the shape of `y_true`, from None or from its first axes."""
    if given is None:
        return ops.ones_like(y_true, dtype="float32")
    given = ops.cast(_tensor("sample_weight", given, least=0), "float32")
    shape, rank = tuple(given.shape), len(y_true.shape)
    if len(shape) == rank + 1 and shape[-1] == 1:
        given = ops.squeeze(given, axis=-1)
    if not _checks.leads(tuple(given.shape), tuple(y_true.shape)):
        raise ValueError(
            f"sample_weight must have the shape of the targets, {tuple(y_true.shape)}, or of "
            f"their first axes; received shape {shape}"
        )
    for _ in range(rank - len(given.shape)):
        given = ops.expand_dims(given, -1)
    return ops.broadcast_to(given, ops.shape(y_true))


def _tensor(name: str, value: Any, least: float | None = None) -> Any:
    """`value` as a tensor of numbers; what is no tensor yet is also looked at for its values."""
    if not ops.is_tensor(value):
        value = _checks.array(name, value)
        fits = _checks.holds_numbers(value)
        if fits and least is not None:
            fits = bool(np.all(np.isfinite(value)) and np.all(value >= least))
        if not fits:
            rule = "real numbers" if least is None else f"finite numbers of at least {least}"
            raise ValueError(f"{name} must hold {rule}; received {_checks.shown(value)}")
        return ops.convert_to_tensor(value)
    dtype = keras.backend.standardize_dtype(value.dtype)
    if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise ValueError(f"{name} must hold real numbers; received dtype {dtype}")
    return value


def _fitting(y_true: Any, y_pred: Any, name: str) -> Any:
    rank = len(y_pred.shape)
    if len(y_true.shape) == rank and rank > 1 and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    given, allowed = tuple(y_true.shape), tuple(y_pred.shape)[:-1]
    if rank == 0 or not _checks.alike(given, allowed):
        raise ValueError(
            f"{name} must have y_true of integers, of shape {allowed} for y_pred of shape "
            f"{tuple(y_pred.shape)}; received shape {given}"
        )
    found = ops.cast(y_true, "int32")
    return ops.where(ops.equal(ops.cast(found, y_true.dtype), y_true), found, -(2**31))
