"""Checked arrays of steps, and the one place where slices of them are read."""

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnzoo._checks import positive_integer, shown

_INT32 = np.iinfo(np.int32)
_CHUNK = 1 << 18


def as_array(value: Any, name: str) -> np.ndarray:
    """`value` as a NumPy array; one that is an array already (a memmap too) is not read."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, (str, bytes)):
        raise ValueError(
            f"{name} must hold numbers; received the text {shown(value)}: "
            "turn it into token ids with rnnzoo.data.Vocabulary first"
        )
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"the entries of {name} must all have the same shape; received {shown(value)}"
        ) from error


def as_steps(value: Any, name: str) -> np.ndarray:
    """`value` as an array of steps: `(N,)` integer tokens or `(N, F)` features.

    Raises:
        ValueError: another rank, no step or no feature, tokens that are no integers,
            features that are no numbers.
    """
    array = as_array(value, name)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} must have shape (steps,) for tokens or (steps, features); "
            f"received shape {array.shape}"
        )
    if 0 in array.shape:
        raise ValueError(
            f"{name} must have at least one step and one feature; received shape {array.shape}"
        )
    if array.ndim == 1 and array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} of shape (steps,) must hold integer tokens; received dtype {array.dtype} "
            "(give one real-valued feature the shape (steps, 1))"
        )
    if array.dtype.kind not in "iufb":
        raise ValueError(f"features of {name} must be numbers; received dtype {array.dtype}")
    return array


def as_targets(value: Any, name: str, count: int, of: str) -> np.ndarray:
    """`value` as an array of `count` targets, any shape `(count, ...)`.

    Raises:
        ValueError: another number of targets, or targets that are no numbers.
    """
    array = as_array(value, name)
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{name} must be numbers; received dtype {array.dtype}")
    if array.ndim == 0 or len(array) != count:
        raise ValueError(
            f"{name} must have one entry for each {of}, that is {count}; "
            f"received shape {array.shape}"
        )
    return array


def as_sequences(sequences: Iterable, name: str = "sequences") -> list[np.ndarray]:
    """A list of arrays of steps, all tokens or all of the same number of features."""
    if isinstance(sequences, (str, bytes)) or not isinstance(sequences, Iterable):
        raise ValueError(
            f"{name} must be a list (or any iterable) of arrays; received {shown(sequences)}"
        )
    arrays = [as_steps(one, f"{name}[{i}]") for i, one in enumerate(sequences)]
    if not arrays:
        raise ValueError(f"{name} must hold at least one sequence; received none")
    for i, array in enumerate(arrays):
        if array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                "all sequences must be tokens of shape (steps,) or have the same number of "
                f"features; received shape {arrays[0].shape} for {name}[0] and "
                f"{array.shape} for {name}[{i}]"
            )
    return arrays


def is_mapped(array: np.ndarray) -> bool:
    """Whether the array is a view of a memory-mapped file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return isinstance(base, mmap.mmap)


@dataclass(frozen=True)
class Reader:
    """Reads checked slices of arrays that share dtype and trailing shape.

    Attributes:
        dtype: what slices come back as: int32 or float32.
        shape: the shape of one step: `()` or `(F,)` or, for targets, any.
        vocabulary: token ids must lie in `[0, vocabulary)`; None: not checked.
        check_finite: whether NaN and infinity are errors.
    """

    dtype: str
    shape: tuple[int, ...]
    vocabulary: int | None = None
    check_finite: bool = False

    @classmethod
    def of_steps(cls, array: np.ndarray, vocabulary: int | None, check_finite: bool) -> "Reader":
        """The reader of inputs: int32 for tokens, float32 for features."""
        if vocabulary is not None:
            vocabulary = positive_integer("vocabulary", vocabulary)
            if array.ndim == 2:
                raise ValueError(
                    "vocabulary is for tokens of shape (steps,); received "
                    f"vocabulary={vocabulary} with features of shape {array.shape}"
                )
        dtype = "int32" if array.ndim == 1 else "float32"
        return cls(dtype, array.shape[1:], vocabulary, bool(check_finite))

    @classmethod
    def of_targets(cls, array: np.ndarray, check_finite: bool) -> "Reader":
        """The reader of targets: int32 for integers, float32 for all else."""
        dtype = "int32" if array.dtype.kind in "iu" else "float32"
        return cls(dtype, array.shape[1:], None, bool(check_finite))

    def read(self, array: np.ndarray, low: int, high: int, place: str) -> np.ndarray:
        """Steps `low` to `high` of the array; only this slice is touched.

        Raises:
            ValueError: a value that the checks forbid; the text names `place` and the step.
        """
        values = np.asarray(array[low:high])
        if self.vocabulary is not None:
            limits = (0, self.vocabulary - 1)
            self._refuse((values < 0) | (values > limits[1]), values, low, place, limits)
        elif self.dtype == "int32" and not np.can_cast(values.dtype, np.int32):
            limits = (int(_INT32.min), int(_INT32.max))
            wrong = (values > limits[1]) | ((values < 0) & (values < limits[0]))
            self._refuse(wrong, values, low, place, limits)
        if self.check_finite and values.dtype.kind == "f":
            self._refuse(~np.isfinite(values), values, low, place, None)
        return values.astype(self.dtype)

    def check(self, array: np.ndarray, place: str, low: int = 0, high: int | None = None) -> None:
        """Reads an array in memory once, so that its errors come before training.

        A memory-mapped file is left alone: its slices are checked as they are read.
        """
        narrow = self.dtype != "int32" or np.can_cast(array.dtype, np.int32)
        unchecked = self.vocabulary is None and not self.check_finite and narrow
        if unchecked or is_mapped(array):
            return
        high = len(array) if high is None else high
        for start in range(low, high, _CHUNK):
            self.read(array, start, min(start + _CHUNK, high), place)

    def _refuse(self, wrong, values, low, place, limits) -> None:
        if not wrong.any():
            return
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        rule = "be finite" if limits is None else f"lie in [{limits[0]}, {limits[1]}]"
        column = "".join(f", feature {i}" for i in first[1:])
        raise ValueError(
            f"values of {place} must {rule}; received {values[first]} "
            f"at step {low + first[0]}{column}"
        )
