"""The inputs of an encoder-decoder: what forms they may have, checked and brought into one.

Users give `source` and `target`; teacher forcing, which shifts the target by one step, is done
here, inside the graph (Williams & Zipser, 1989).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.inputs import check_array, check_flags, check_ids, check_lengths, check_rows, real_steps
from rnnzoo.layers.recurrent import Tensor

SIDES = ("source", "target")
_KEYS = tuple(f"{side}{kind}" for side in SIDES for kind in ("", "_mask", "_lengths"))


class Steps(NamedTuple):
    """What one step of a side is: `features` numbers, or one of `vocabulary` tokens."""

    features: int | None
    vocabulary: int | None


def pad(sequences: Sequence, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Ragged `sequences` as one array `(rows, longest, ...)`, zeros at the end, and lengths."""
    arrays = [np.asarray(sequence) for sequence in sequences]
    filled = [array for array in arrays if len(array)]
    shapes = {array.shape[1:] for array in filled}
    if len(shapes) > 1:
        raise ValueError(
            f"all sequences of {name} must be tokens or have the same number of features; "
            f"received steps of shapes {sorted(shapes)}"
        )
    lengths = np.array([len(array) for array in arrays], "int32")
    # What is no number stays as it came, for the check that names it.
    dtype = np.result_type(*(array.dtype for array in filled)) if filled else "int32"
    padded = np.zeros((len(arrays), max(int(lengths.max()), 1), *(shapes or {()}).pop()), dtype)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return padded, lengths


def ragged_as_arrays(x: Any, steps: dict[str, Steps]) -> Any:
    """`x` with lists of sequences turned into padded arrays beside their lengths."""
    if not isinstance(x, dict):
        return x
    x = dict(x)
    for side in SIDES:
        if isinstance(x.get(side), (list, tuple)):
            if not x[side]:
                raise ValueError(f"{side} must have at least one row; received an empty list")
            x[side], lengths = pad(x[side], side)
            if steps[side].vocabulary is None and x[side].dtype.kind in "iufb":
                x[side] = x[side].astype("float32")
            if f"{side}_mask" not in x and f"{side}_lengths" not in x:
                x[f"{side}_lengths"] = lengths
    return x


def check_pair(x: Any, steps: dict[str, Steps], need_target: bool = True) -> None:
    """ValueError where `x` is no batch of source and target as `steps` describes them."""
    needed = SIDES if need_target else SIDES[:1]
    if not isinstance(x, dict) or set(needed) - set(x) or set(x) - set(_KEYS):
        hint = ". To write a target use generate" if need_target else ""
        got = f"keys {sorted(x)}" if isinstance(x, dict) else type(x).__name__
        raise ValueError(
            f"inputs must be a dict with {' and '.join(map(repr, needed))}, and where wanted "
            f"source_mask or source_lengths, target_mask or target_lengths; received {got}{hint}"
        )
    for side in SIDES:
        if side in x:
            _check_side(x, side, steps[side])
    if "target" in x:
        check_rows(int(np.shape(x["source"])[0]), target=x["target"])


def _check_side(x: dict, side: str, steps: Steps) -> None:
    array = x[side]
    check_array(array, steps.features, side)
    shape = tuple(array.shape[:2])
    mask, lengths = x.get(f"{side}_mask"), x.get(f"{side}_lengths")
    if mask is not None and lengths is not None:
        raise ValueError(f"{side}_mask and {side}_lengths say the same: give one; received both")
    valid = np.ones(shape, "bool")
    if mask is not None:
        check_flags(f"{side}_mask", mask, shape)
        valid = np.asarray(mask)
    if lengths is not None:
        check_lengths(np.asarray(lengths), *shape, f"{side}_lengths")
        valid = np.arange(shape[1]) < np.asarray(lengths)[:, None]
    if side == "source" and not valid.any(axis=1).all():
        row = int(np.argmin(valid.any(axis=1)))
        raise ValueError(
            f"every source must have at least one step; received an empty source in row {row}"
        )
    if side == "target" and mask is not None and (valid[:, 1:] > valid[:, :-1]).any():
        row = int(np.argmax((valid[:, 1:] > valid[:, :-1]).any(axis=1)))
        raise ValueError(
            "target_mask must be True up to each row's end and False after it; "
            f"received a step after a gap in row {row}"
        )
    if steps.vocabulary is not None:
        check_ids(np.where(valid, np.asarray(array), 0), steps.vocabulary, f"{side} ")


def standardize(x: dict, start: int | None, end: int | None) -> dict[str, Tensor]:
    """`x` as the model runs it: `source`, `source_mask`, and with a target `inputs`, `mask`.

    `inputs` are what the decoder is fed, `mask` is True where an output counts. With tokens,
    `start` goes before the target and `end` after it; real-valued targets start from zeros.
    """
    if "inputs" in x:  # it is in this form already
        return x
    batch = {"before": x["before"]} if "before" in x else {}
    for side in SIDES:
        if side in x:
            values = ops.convert_to_tensor(x[side])
            mask = _mask(x, side, values)
            if side == "source":
                batch["source"], batch["source_mask"] = _without_padding(values, mask), mask
            else:
                batch["inputs"], batch["mask"] = _fed(values, mask, start, end)
    return batch


def targets(x: dict, end: int | None) -> Tensor:
    """What the outputs for the batch `x` should be."""
    values = ops.convert_to_tensor(x["target"])
    mask = _mask(x, "target", values)
    if end is None:
        return _without_padding(values, mask)
    values = ops.where(mask, ops.cast(values, "int32"), end)
    return ops.pad(values, ((0, 0), (0, 1)), constant_values=end)


def _fed(values: Tensor, mask: Tensor, start: int | None, end: int | None) -> tuple:
    values = _without_padding(values, mask)
    if end is None:
        zeros = ops.zeros_like(values[:, :1])
        return ops.concatenate([zeros, values[:, :-1]], axis=1), mask
    inputs = ops.pad(ops.cast(values, "int32"), ((0, 0), (1, 0)), constant_values=start)
    return inputs, ops.concatenate([ops.ones_like(mask[:, :1]), mask], axis=1)


def _mask(x: dict, side: str, values: Tensor) -> Tensor:
    rows, steps = ops.shape(values)[:2]
    return real_steps(rows, steps, x.get(f"{side}_mask"), x.get(f"{side}_lengths"))


def _without_padding(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with zeros on padding, which may hold what is no number or no token."""
    if len(values.shape) == 3:
        mask = mask[..., None]
    return ops.where(mask, values, ops.zeros_like(values))


def check_end_tokens(start: Any, end: Any, vocabulary: int) -> tuple[int, int, int]:
    """`(start, end, number of tokens)`; two tokens are added where neither is given."""
    if start is None and end is None:
        return vocabulary, vocabulary + 1, vocabulary + 2
    for name, value in (("start", start), ("end", end)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or not 0 <= value < vocabulary:
            raise ValueError(
                f"start and end must both be token ids in 0 to {vocabulary - 1}, or both None, "
                f"which adds two tokens of the model's own; received {name}={_checks.shown(value)}"
            )
    return int(start), int(end), vocabulary
