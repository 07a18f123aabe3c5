"""The inputs of an encoder-decoder: what forms they may have, checked and brought into one.

Users give `source` and `target`, or several inputs by name in the place of the source, and beside
the target what is known of its steps. Teacher forcing, which shifts the target by one step, is
done here (Williams & Zipser, 1989).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.core.spec import Input
from rnnzoo.data.pairs import FLAGS
from rnnzoo.feed.checks import (
    as_dtype,
    check_array,
    check_flags,
    check_ids,
    check_lengths,
    check_rows,
    finite_where,
    from_lists,
    plain,
    real_steps,
    zeroed,
)
from rnnzoo.heads.head import Head

Tensor = Any

SIDES = ("source", "target")


def pad(sequences: Sequence, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Ragged `sequences` as one array `(rows, longest, ...)`, zeros at the end, and lengths."""
    arrays = [_checks.array(f"{name}[{i}]", one) for i, one in enumerate(sequences)]
    if any(array.ndim == 0 for array in arrays):
        raise _checks.refuse(name, "a list of sequences, each with an axis of steps", sequences)
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


@dataclasses.dataclass(frozen=True)
class PairInputs:
    """How batches of sources and targets are read.

    Attributes:
        sides: for "source" and "target" what has its steps, by name: the source or the inputs in
            its place; the target, and what is known of its steps beforehand.
        static: what has no steps, by name.
        start, end: ids of the tokens before and after a target; None for real values.
        vocabularies: of the sides that have one, with which strings are encoded.
        head: what the outputs say of a target; None for tokens and plain numbers.
    """

    sides: dict[str, dict[str, Input]]
    static: dict[str, Input]
    start: int | None
    end: int | None
    vocabularies: dict[str, Any]
    head: Head | None = None

    @property
    def mask(self) -> str:
        """The name of the mask of the outputs in a batch as the model runs it."""
        return "mask"

    @property
    def beside(self) -> list[str]:
        """The names of what is known of the steps of a target beforehand."""
        return [name for name in self.sides["target"] if name != "target"]

    def as_dict(self, x: Any, need_target: bool = True) -> dict[str, Any]:
        """`x` as a dict of arrays; strings encoded, lists of sequences padded."""
        needed = [*self.sides["source"], *self.static]
        given = isinstance(x, dict) and not {*self.sides["target"]}.isdisjoint(x)
        needed += [*self.sides["target"]] if need_target else self.beside if given else []
        allowed = {*self.sides["source"], *self.static, *self.sides["target"], *FLAGS}
        if not isinstance(x, dict) or set(needed) - set(x) or set(x) - allowed:
            if isinstance(x, dict) and "reset" in x:
                raise ValueError(
                    "an encoder-decoder reads whole sequences and carries no state from batch to "
                    "batch, so its batches must come without 'reset', and ResetStates must be "
                    "left out; received a batch with 'reset'"
                )
            hint = ". To write a target use generate" if need_target else ""
            got = f"keys {sorted(x)}" if isinstance(x, dict) else type(x).__name__
            raise ValueError(
                f"inputs must be a dict with {' and '.join(map(repr, needed))}, and where wanted "
                "source_mask or source_lengths, target_mask or target_lengths; received "
                f"{got}{hint}"
            )
        x = dict(x)
        for side in SIDES:
            if side in x and _is_text(x[side]):
                x[side] = as_rows(side, x[side], self.vocabularies.get(side))
        return plain(self._padded(x))

    def _padded(self, x: dict) -> dict:
        """`x` with lists turned into arrays: of sequences into padded ones, with their lengths."""
        for name in {*self.static, *FLAGS} & set(x):
            x[name] = from_lists(x[name])
        for side, inputs in self.sides.items():
            found = {}
            for name, one in inputs.items():
                if not isinstance(x.get(name), (list, tuple)):
                    continue
                if not x[name]:
                    raise ValueError(f"{name} must have at least one row; received an empty list")
                x[name], found[name] = pad(x[name], name)
                if one.vocabulary is None and x[name].dtype.kind in "iufb":
                    x[name] = x[name].astype("float32")
            if not found:
                continue
            first, *others = found
            for name in others:
                if not np.array_equal(found[name], found[first]):
                    raise ValueError(
                        f"the rows of {first} and {name} must have the same numbers of steps; "
                        f"received {_checks.shown(found[first].tolist())} and "
                        f"{_checks.shown(found[name].tolist())}"
                    )
            flags = {f"{side}_mask", f"{side}_lengths"} & set(x)
            if not flags:
                x[f"{side}_lengths"] = found[first]
            elif len(flags) == 1:
                self._check_ends(x, side, x[first], found[first])
        return x

    def _check_ends(self, x: dict, side: str, values: np.ndarray, lengths: np.ndarray) -> None:
        """ValueError where a mask or lengths go on after the ends of the lists of a side."""
        if np.ndim(x.get(f"{side}_lengths", lengths)) != 1:
            return  # which is refused where it is checked
        real = _mask(x, side, values, np)
        ended = np.arange(values.shape[1]) >= lengths[:, None]
        if real.shape == ended.shape and (real & ended).any():
            row = int(np.argmax((real & ended).any(axis=1)))
            raise ValueError(
                f"{side}_mask or {side}_lengths must end with the lists of {side}; received more "
                f"than the {lengths[row]} steps of row {row}"
            )

    def arrays(self, values: Any, argument: str) -> Any:
        """Weights as an argument gave them, lists and tables as arrays."""
        return from_lists(plain(values, argument))

    def leading(self, side: str, x: Mapping) -> str | None:
        """The input that says how many rows and steps a side of `x` has; None where it has none."""
        return next((name for name in self.sides[side] if name in x), None)

    def vocabulary_sizes(self) -> dict[str, int | None]:
        """The number of tokens of each input."""
        inputs = self.sides["source"] | self.static | self.sides["target"]
        return {name: one.vocabulary for name, one in inputs.items()}

    def rows(self, x: Any) -> int:
        """The number of rows of a batch that has been checked."""
        return len(x[self.leading("source", x)])

    def steps_in(self, x: dict) -> int:
        """The number of steps of both sides in a batch that has been standardized."""
        return sum(int(x[name].shape[1]) for name in ("source_mask", "mask") if name in x)

    def carries(self, x: Any) -> bool:
        """False: sources and targets are whole sequences."""
        return False

    def begins(self, x: Any) -> bool:
        """False: a target begins with what the encoder made of its source."""
        return False

    def check(self, x: Any, lanes: int | None = None, need_target: bool = True) -> None:
        """ValueError where `x` is no batch of source and target."""
        x = self.as_dict(x, need_target)
        for side in SIDES:
            if self.leading(side, x) is not None:
                self._check_side(x, side)
        rows = self.rows(x)
        others = [*self.static, *self.sides["target"]]
        for name, one in self.static.items():
            check_array(x[name], one, name)
        check_rows(rows, **{name: x[name] for name in others if name in x})
        for name, one in self.static.items():
            if one.vocabulary is not None:
                check_ids(np.asarray(x[name]), one.vocabulary, f"{name} ")

    def _check_side(self, x: Mapping, side: str) -> None:
        """ValueError unless the inputs of a side agree with one another and with their mask."""
        first = self.leading(side, x)
        given = {name: one for name, one in self.sides[side].items() if name in x}
        for name, one in given.items():
            check_array(x[name], one, name)
        shape = tuple(x[first].shape[:2])
        for name in given:
            if tuple(x[name].shape[:2]) != shape:
                raise ValueError(
                    f"all inputs of a side must have the same rows and steps; received "
                    f"{tuple(x[name].shape)} for {name} beside {shape} of {first}"
                )
        valid = _checked_mask(x, side, shape)
        for name, one in given.items():
            if one.vocabulary is not None:
                check_ids(np.where(valid, np.asarray(x[name]), 0), one.vocabulary, f"{name} ")

    def standard(self, x: Any) -> dict[str, np.ndarray]:
        """A batch that was checked, as the model runs it, in arrays."""
        x = self.as_dict(x, need_target=False)
        return {key: np.asarray(value) for key, value in self._run(x, np).items()}

    def batch(self, x: Any, y: Any, weight: Any, class_weight: Any = None) -> tuple:
        """`(x, y, weight)` as the model runs them, from a batch whose `x` was checked.

        Raises:
            ValueError: targets beside those in `x`, weights that do not fit, class weights;
                targets that are none of the head.
        """
        if y is not None:
            raise ValueError(
                "an encoder-decoder takes its target in the inputs, {'source': ..., 'target': "
                "...}, and y must be None; received a y"
            )
        if class_weight is not None:
            raise ValueError(
                "class_weight is for targets that are given as y; received "
                f"class_weight={_checks.shown(class_weight)}. Give an encoder-decoder "
                "sample_weight, one weight for each step of the target."
            )
        x = self.as_dict(x, need_target="target" in x)
        if "target" not in x:
            return self.standard(x), None, None
        weight = self.weights(x, weight)
        if weight is not None:  # a target would be fed to the step after it
            idle = (weight == 0)[:, : x["target"].shape[1]]
            x |= {name: finite_where(x[name], idle) for name in self.sides["target"]}
            others = (*self.sides["source"], *self.static)
            x |= {name: finite_where(x[name], idle.all(axis=1)) for name in others}
        y = self.targets(x)
        if self.head is not None:
            self.head.check_targets(y, weight)
        return self.standard(x), y, weight

    def open_axes(self, batch: tuple) -> tuple:
        """For each array of a batch as the model runs it, how many axes after that of its rows may
        differ from batch to batch.
        """
        first, *rest = batch
        inputs = self.sides["source"] | self.sides["target"] | self.static
        axes = {name: one.open_axes for name, one in inputs.items()}
        return {name: axes.get(name, 1) for name in first}, *(1 for _ in rest)

    def standardize(self, x: Any) -> dict[str, Tensor]:
        """`x` as the model runs it: the source and `source_mask`, with a target `inputs`, `mask`.

        What is static, and what is known of the steps of a target, keeps its name. `inputs` are
        what the decoder is fed, `mask` is True where an output counts. With tokens, `start` goes
        before the target and `end` after it; real values start from zeros.
        """
        if "inputs" in x or "before" in x:  # it is in this form already
            return x
        return self._run({key: ops.convert_to_tensor(value) for key, value in x.items()}, ops)

    def targets(self, x: dict) -> np.ndarray:
        """What the outputs for the batch `x` should be, `(batch, steps of the outputs, ...)`."""
        x = self.as_dict(x)
        mask = _mask(x, "target", x["target"], np)
        spec = self.sides["target"]["target"]
        values = zeroed(as_dtype(x["target"], spec.dtype), ~mask)
        if self.end is None:
            return values
        values = np.where(mask, values, self.end).astype("int32")
        return np.pad(values, ((0, 0), (0, 1)), constant_values=self.end)

    def weights(self, x: dict, weight: Any) -> np.ndarray | None:
        """`weight` as `(batch, steps of the outputs)`, the end token's being that before it."""
        if weight is None:
            return None
        array = _checks.array("sample_weight", weight)
        if array.dtype.kind not in "iufb":
            raise ValueError(f"sample_weight must be numbers; received dtype {array.dtype}")
        array = array.astype("float32")
        rows, steps = np.shape(x["target"])[:2]
        check_rows(rows, sample_weight=array)
        longer = steps + (self.end is not None)
        if array.size and not (array >= 0).all():
            raise ValueError(f"sample_weight must be at least 0; received {array.min()}")
        if array.ndim == 1 or array.shape == (rows, 1):
            return np.repeat(array.reshape(rows, 1), longer, axis=1)
        if array.shape == (rows, steps) and longer > steps:
            x = self.as_dict(x)
            lengths = _mask(x, "target", x["target"], np).sum(axis=1)
            last = np.maximum(lengths - 1, 0)[:, None]
            ends = np.take_along_axis(array, last, axis=1)
            array = np.concatenate([array, np.zeros_like(ends)], axis=1)
            np.put_along_axis(array, lengths[:, None], ends, axis=1)
        if array.shape != (rows, longer):
            allowed = f"({rows},), ({rows}, 1), ({rows}, {steps})"
            allowed += f" or, with the end token, ({rows}, {longer})" if longer > steps else ""
            raise ValueError(
                f"sample_weight must have shape {allowed}; received shape {np.shape(weight)}"
            )
        return array

    def _run(self, x: dict, xp: Any) -> dict[str, Any]:
        """The batch as the model runs it, by NumPy on the host or by `keras.ops` in a graph."""
        batch = {}
        for side, inputs in self.sides.items():
            first = self.leading(side, x)
            if first is None:
                continue
            mask = _mask(x, side, x[first], xp)
            for name, one in inputs.items():
                if name in x:
                    values = as_dtype(x[name], one.dtype) if xp is np else x[name]
                    batch[name] = _without_padding(values, mask, xp)
            if side == "source":
                batch["source_mask"] = mask
        for name in self.beside if self.end is not None and first is not None else ():
            zeros = xp.zeros_like(batch[name][:, :1])  # of the end token nothing is known
            batch[name] = xp.concatenate([batch[name], zeros], axis=1)
        if "target" in batch:
            batch["inputs"], batch["mask"] = self._fed(batch.pop("target"), mask, xp)
        for name, one in self.static.items():
            batch[name] = as_dtype(x[name], one.dtype) if xp is np else x[name]
        return batch

    def _fed(self, values: Any, mask: Any, xp: Any) -> tuple:
        if self.end is None:
            zeros = xp.zeros_like(values[:, :1])
            return xp.concatenate([zeros, values[:, :-1]], axis=1), mask
        values = values.astype("int32") if xp is np else ops.cast(values, "int32")
        inputs = xp.pad(values, ((0, 0), (1, 0)), constant_values=self.start)
        return inputs, xp.concatenate([xp.ones_like(mask[:, :1]), mask], axis=1)


def _is_text(values: Any) -> bool:
    if isinstance(values, (str, np.str_)):
        return True
    rows = values if isinstance(values, (list, tuple)) else ()
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "UO":
        rows = values
    return any(isinstance(row, str) for row in rows)


def as_rows(name: str, given: Any, vocabulary: Any) -> list[np.ndarray]:
    """Strings, lists of tokens or an array `(batch, time)` as one array of tokens per row."""
    rows = [given] if isinstance(given, str) else _checks.items(name, given, "rows of tokens")
    texts = [isinstance(row, str) for row in rows]
    if not any(texts):
        return [_checks.array(f"{name}[{i}]", row) for i, row in enumerate(rows)]
    if vocabulary is None:
        raise ValueError(
            f"{name} may be strings where the model has a vocabulary; received strings for "
            "a model that was made with a number of tokens. Make it with a "
            "rnnzoo.data.Vocabulary, or encode the strings."
        )
    if not all(texts):
        wrong = rows[texts.index(False)]
        raise ValueError(
            f"{name} must be all strings or none; received {_checks.shown(wrong)} beside strings"
        )
    try:
        return [np.asarray(vocabulary.encode(row)) for row in rows]
    except ValueError as error:
        raise ValueError(f"{name} must hold tokens of the vocabulary: {error}") from error


def _checked_mask(x: Mapping, side: str, shape: tuple) -> np.ndarray:
    """The mask of a side whose inputs have `shape`; ValueError where it cannot be one."""
    mask, lengths = x.get(f"{side}_mask"), x.get(f"{side}_lengths")
    if mask is not None and lengths is not None:
        raise ValueError(f"{side}_mask and {side}_lengths say the same: give one; received both")
    if mask is not None:
        check_flags(f"{side}_mask", mask, shape)
    if lengths is not None:
        check_lengths(np.asarray(lengths), *shape, f"{side}_lengths")
    valid = _mask(x, side, np.empty(shape), np)
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
    return valid


def _mask(x: Mapping, side: str, values: Any, xp: Any) -> Any:
    """`(rows, steps)` bool, True on the real steps of a side, one of whose inputs is `values`."""
    rows, steps = (np if xp is np else ops).shape(values)[:2]
    mask, lengths = x.get(f"{side}_mask"), x.get(f"{side}_lengths")
    if xp is not np:
        return real_steps(rows, steps, mask, lengths)
    if mask is not None:
        return np.asarray(mask, "bool")
    if lengths is not None:
        return np.arange(steps) < np.asarray(lengths)[:, None]
    return np.ones((rows, steps), "bool")


def _without_padding(values: Any, mask: Any, xp: Any) -> Any:
    """`values` with zeros on padding, which may hold what is no number or no token."""
    if len(values.shape) == 3:
        mask = mask[..., None]
    return xp.where(mask, values, xp.zeros_like(values))


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
