"""The inputs of a recurrent model: what forms they may have, checked and brought into one."""

from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.layers.recurrent import State, Tensor

_KEYS = ("inputs", "reset", "mask", "lengths")


def callback_list(callbacks: Any) -> list:
    """`callbacks` as a list, from whatever form `fit` takes."""
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


def rows_of(x: Any) -> int:
    """The number of rows of an array, or of a batch as a dict."""
    if isinstance(x, dict):
        x = x["inputs"] if "inputs" in x else x["source"]
    return int(x.shape[0])


def carries_state(x: Any) -> bool:
    """Whether the inputs `x` bring a `reset` mask, and so go on from the batch before."""
    return isinstance(x, dict) and "reset" in x


def refuse_reset(x: Any) -> None:
    """ValueError where a batch of sources and targets brings a `reset` mask."""
    if carries_state(x):
        raise ValueError(
            "an encoder-decoder reads whole sequences and carries no state from batch to batch, "
            "so its batches must come without 'reset', and ResetStates must be left out; "
            "received a batch with 'reset'"
        )


def as_arrays(x: Any) -> Any:
    """`x`, with lists in its dict turned into arrays."""
    if not isinstance(x, dict):
        return x
    return {key: v if hasattr(v, "shape") else np.asarray(v) for key, v in x.items()}


def check_rows(rows: int, **others: Any) -> None:
    """ValueError where there is no row, or where `others` have another number than `rows`."""
    if rows == 0:
        raise ValueError("the data must have at least one row; received arrays of 0 rows")
    for name, values in others.items():
        for value in keras.tree.flatten(values):
            given = np.shape(value)[:1]
            if value is not None and given != (rows,):
                raise ValueError(
                    f"{name} must have one row for each of the {rows} rows of the inputs; "
                    f"received {given[0] if given else 'a scalar'}"
                )


def _as_dict(x: Any, masked: bool) -> dict[str, Any]:
    if not isinstance(x, dict):
        return {"inputs": x}
    allowed = _KEYS if masked else _KEYS[:2]
    if "inputs" not in x or set(x) - set(allowed):
        hint = ""
        if {"mask", "lengths"} & set(x) and not masked:
            hint = (
                ". One-to-one needs no mask: padding at the end changes no output before it; "
                "give padded steps a sample_weight of 0"
            )
        raise ValueError(
            f"inputs must be an array or a dict with 'inputs' and any of {list(allowed[1:])}; "
            f"received keys {sorted(x)}{hint}"
        )
    if "mask" in x and "lengths" in x:
        raise ValueError("mask and lengths say the same thing: give one; received both")
    return dict(x)


def standardize(x: Any, masked: bool) -> dict[str, Tensor]:
    """`x` as dict of `inputs`, `reset` where given, and `mask` where the core has one."""
    batch = {key: ops.convert_to_tensor(value) for key, value in _as_dict(x, masked).items()}
    if "reset" in batch:
        batch["reset"] = ops.cast(batch["reset"], "bool")
    if masked:
        rows, steps = ops.shape(batch["inputs"])[:2]
        batch["mask"] = real_steps(rows, steps, batch.get("mask"), batch.pop("lengths", None))
    return batch


def real_steps(rows: Any, steps: Any, mask: Any, lengths: Any) -> Tensor:
    """`(rows, steps)` bool from a mask or from lengths, True everywhere where both are None."""
    if mask is not None:
        return ops.cast(mask, "bool")
    if lengths is not None:
        place = ops.arange(steps, dtype="int32")[None]
        return place < ops.cast(lengths, "int32")[:, None]
    return ops.ones((rows, steps), dtype="bool")


def check_batch(core: keras.Model, x: Any, lanes: int | None) -> None:
    """ValueError where `x` is no batch for `core`, or has another number of rows than `lanes`."""
    spec = core.input["inputs"]
    masked = "mask" in core.input
    values = _as_dict(x, masked)
    array = values["inputs"]
    check_array(array, _features_of(spec))
    rows, steps = array.shape[:2]
    if lanes is not None and rows != lanes:
        raise ValueError(
            "every batch that carries state must have one row for each lane; "
            f"received a batch of {rows} rows for {lanes} lanes. Fill the last batch with rows "
            "of sample_weight 0, or choose a batch size that divides the rows."
        )
    for key in ("reset", "mask"):
        if key in values:
            check_flags(key, values[key], (rows, steps))
    if "lengths" in values:
        check_lengths(np.asarray(values["lengths"]), rows, steps)
    if _is_token_input(spec):
        check_ids(np.asarray(array), vocabulary_of(core))


def _is_token_input(spec: Any) -> bool:
    return len(spec.shape) == 2


def _features_of(spec: Any) -> int | None:
    return None if _is_token_input(spec) else spec.shape[-1]


def vocabulary_of(core: keras.Model) -> int:
    """The number of tokens that `core` knows."""
    return core.get_layer("embedding").input_dim


def check_array(array: Any, features: int | None, name: str = "inputs") -> None:
    """ValueError unless `array` holds steps of `features` numbers, or token ids where None."""
    tokens = features is None
    form = "(batch, time) token ids" if tokens else f"(batch, time, {features})"
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise ValueError(
            f"{name} must be an array {form}; received {type(array).__name__}. For sequences of "
            "different length see rnnzoo.data.pack and rnnzoo.data.bucket."
        )
    shape = tuple(array.shape)
    if len(shape) != (2 if tokens else 3):
        raise ValueError(f"{name} must have shape {form}; received shape {shape}")
    if not tokens and shape[-1] != features:
        raise ValueError(
            f"{name} must have {features} features, as the model has; received shape {shape}"
        )
    if shape[1] == 0:
        raise ValueError(f"{name} must have at least one step; received shape {shape}")
    dtype = str(getattr(array.dtype, "name", array.dtype))
    if tokens and "int" not in dtype:
        raise ValueError(f"token ids must be integers; received {name} of dtype {dtype}")
    if not any(kind in dtype for kind in ("float", "int", "bool")):
        raise ValueError(f"features must be real numbers; received {name} of dtype {dtype}")


def check_ids(ids: np.ndarray, vocabulary: int, name: str = "") -> None:
    """ValueError naming the first row and step where an id is not in [0, vocabulary)."""
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
        row, step = np.argwhere((ids < 0) | (ids >= vocabulary))[0]
        raise ValueError(
            f"{name}token ids must be in 0 to {vocabulary - 1}; received {ids[row, step]} at row "
            f"{row}, step {step}"
        )


def check_flags(key: str, flags: Any, shape: tuple) -> None:
    """ValueError unless `flags` is boolean and of `shape`."""
    if tuple(np.shape(flags)) != tuple(shape):
        raise ValueError(
            f"{key} must have shape (batch, time) = {tuple(shape)}, as the inputs; "
            f"received shape {tuple(np.shape(flags))}"
        )
    dtype = getattr(flags, "dtype", np.asarray(flags).dtype)
    if keras.backend.standardize_dtype(dtype) != "bool":
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


def of_step(core: keras.Model, x: Any, state: State, reset: Any) -> dict[str, Any]:
    """The inputs of `core` for one call of `step`, checked."""
    x = x if hasattr(x, "shape") else np.asarray(x)
    spec = core.input["inputs"]
    check_array(x, _features_of(spec))
    if isinstance(x, np.ndarray):
        if _is_token_input(spec):
            check_ids(x, vocabulary_of(core))
        x = x.astype(spec.dtype, copy=False)
    rows, steps = x.shape[:2]
    names = [key for key in core.output if key != "outputs"]
    if not isinstance(state, dict) or set(state) != set(names):
        got = sorted(state) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"state must be a dict with the names {names}; received {got}")
    for key in names:
        wanted = (rows, core.input[key].shape[-1])
        given = tuple(state[key].shape) if hasattr(state[key], "shape") else None
        if given != wanted:
            got = type(state[key]).__name__ if given is None else f"shape {given}"
            raise ValueError(
                f"state {key!r} must be an array of shape (batch, units) = {wanted}, the batch "
                f"being that of the inputs; received {got}"
            )
    if reset is None:
        reset = np.zeros((rows, steps), "bool")
    else:
        reset = reset if hasattr(reset, "dtype") else np.asarray(reset)
        check_flags("reset", reset, (rows, steps))
    batch = {"inputs": x, "reset": reset, **state}
    if "mask" in core.input:
        batch["mask"] = np.ones((rows, steps), "bool")
    return batch


def lanes_of(rows: Any, lanes: int) -> np.ndarray:
    """`rows` as an array of lane numbers; ValueError where one does not exist."""
    rows = np.atleast_1d(np.asarray(rows))
    if rows.dtype.kind not in "iu" or (rows.size and (rows.min() < 0 or rows.max() >= lanes)):
        allowed = f"integers from 0 to {lanes - 1}" if lanes else "empty: there is no lane yet"
        raise ValueError(f"rows must be {allowed}; received rows={_checks.shown(rows.tolist())}")
    return rows
