"""The steps of all sequences under one name, and the one place where slices of them are read."""

import mmap
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

_INT32 = np.iinfo(np.int32)
_CHUNK = 1 << 18


@dataclass(frozen=True, eq=False)
class Steps:
    """Checked arrays, one for each sequence, that share dtype and the shape of a step.

    Attributes:
        name: what errors call them.
        arrays: `(steps, ...)` each; memory-mapped files are read slice by slice.
        dtype: what slices come back as: int32 or float32.
        size: token ids must lie in `[0, size)`; None: not checked.
        check_finite: whether NaN and infinity are errors.
        alone: whether there is one sequence only, which errors need not number.
        size_from: the argument that gave `size`.
        least: what no value may be below.
        unit: what the first axis of the arrays counts.
    """

    name: str
    arrays: list[np.ndarray]
    dtype: str
    size: int | None = None
    check_finite: bool = False
    alone: bool = False
    size_from: str = "vocabulary"
    least: float = -np.inf
    unit: str = "step"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one step: `()` for tokens, `(F,)` for features or several tokens; of targets
        any."""
        return self.arrays[0].shape[1:]

    @cached_property
    def lengths(self) -> np.ndarray:
        """The steps of each sequence."""
        return np.array([len(array) for array in self.arrays])

    @cached_property
    def mapped(self) -> list[bool]:
        """Of each array whether it is a view of a memory-mapped file."""
        return [is_mapped(array) for array in self.arrays]

    def read(self, index: int, low: int, high: int, note: str = "") -> np.ndarray:
        """Steps `low` to `high` of sequence `index`, maybe a view; only this slice is touched.

        Raises:
            ValueError: a value of a memory-mapped file that the checks forbid; the text names
                sequence, step and `note`.
        """
        values = np.asarray(self.arrays[index][low:high])
        if self.mapped[index]:
            self._check(values, index, low, note)
        return values.astype(self.dtype, copy=False)

    def check(self, index: int, low: int = 0, high: int | None = None, note: str = "") -> None:
        """Looks at an array in memory once, so that its errors come before training.

        A memory-mapped file is left alone: its slices are checked as they are read.
        """
        array = self.arrays[index]
        if self.mapped[index]:
            return
        high = len(array) if high is None else high
        for start in range(low, high, _CHUNK):
            self._check(array[start : min(start + _CHUNK, high)], index, start, note)

    def _check(self, values: np.ndarray, index: int, low: int, note: str) -> None:
        place = (self.name if self.alone else f"{self.name}[{index}]") + note
        if self.size is not None:
            least = -1 if values.ndim > 1 else 0  # of several in a step, -1 is none
            wrong = (values < least) | (values >= self.size)
            why = f" ({self.size_from}={self.size})"
            self._refuse(wrong, values, low, place, f"lie in [{least}, {self.size - 1}]", why)
        elif self.dtype == "int32" and not np.can_cast(values.dtype, np.int32):
            limits = (int(_INT32.min), int(_INT32.max))
            wrong = (values > limits[1]) | ((values < 0) & (values < limits[0]))
            self._refuse(wrong, values, low, place, f"lie in [{limits[0]}, {limits[1]}]")
        if self.check_finite and values.dtype.kind == "f":
            with np.errstate(over="ignore"):  # of what is too large for float32
                wrong = ~np.isfinite(values.astype(self.dtype, copy=False))
            self._refuse(wrong, values, low, place, "be finite", f" (as {self.dtype})")
        if self.least > -np.inf:
            self._refuse(values < self.least, values, low, place, f"be at least {self.least:g}")

    def _refuse(
        self, wrong: np.ndarray, values: np.ndarray, low: int, place: str, rule: str, why: str = ""
    ) -> None:
        if not wrong.any():
            return
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        column = "".join(f", feature {i}" for i in first[1:])
        raise ValueError(
            f"values of {place} must {rule}; received {values[first]} at {self.unit} "
            f"{low + first[0]}{column}{why}"
        )

    def check_all(self) -> "Steps":
        """These steps, every sequence checked."""
        for index in range(len(self.arrays)):
            self.check(index)
        return self


def is_mapped(array: np.ndarray) -> bool:
    """Whether the array is a view of a memory-mapped file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return isinstance(base, mmap.mmap)
