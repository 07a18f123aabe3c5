"""Batches of lanes: row i of a batch goes on where row i of the batch before ended."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rnnzoo._checks import positive_integer
from rnnzoo.data.epochs import EpochDataset
from rnnzoo.data.steps import Steps


class Lane(NamedTuple):
    """The pieces of sequences that one lane holds, in order; arrays of one length.

    Attributes:
        sequence: the index of the sequence.
        offset: the step of the sequence at which the piece begins.
        begin: the step of the lane at which the piece begins.
        steps: the length of the piece.
    """

    sequence: np.ndarray
    offset: np.ndarray
    begin: np.ndarray
    steps: np.ndarray

    def between(self, low: int, high: int) -> Iterator[tuple[int, int, int, int]]:
        """`(sequence, offset, begin, steps)` of the pieces that meet steps `low` to `high`."""
        first = np.searchsorted(self.begin + self.steps, low, side="right")
        last = np.searchsorted(self.begin, high, side="left")
        for k in range(first, last):
            yield tuple(int(field[k]) for field in self)


class LaneDataset(EpochDataset):
    """Batches that carry state: what `rnnzoo.data.stream` and `rnnzoo.data.pack` return.

    Attributes:
        lanes: rows of a batch.
        window: steps of a window.
        windows_per_batch: windows of a batch.
        steps: steps of a lane over all batches, padding included.
        epoch: the epoch that is served; set it to resume.
        seed: the seed of the order.
    """

    _per_step = True
    _full = True

    def __init__(
        self,
        inputs: dict[str, Steps],
        targets: Steps,
        weights: Steps,
        plan: Callable[[int, int], list[Lane]],
        *,
        ahead: int,
        lanes: int,
        steps: int,
        window: int,
        windows_per_batch: int,
        static: dict[str, np.ndarray] | None = None,
        seed: int = 0,
    ):
        super().__init__(lanes, seed)
        self.lanes = lanes
        self.window = window
        self.windows_per_batch = positive_integer("windows_per_batch", windows_per_batch)
        self.steps = steps
        self._names = list(inputs)
        # Targets and weights may be those of a step after the input's.
        self._parts = [(part, 0) for part in inputs.values()]
        self._parts += [(targets, ahead), (weights, ahead)]
        self._static = static or {}
        self._plan = plan
        self._batch_steps = self.window * self.windows_per_batch
        self._count = -(-steps // self._batch_steps)
        whole = self._count == 1 or steps % self._batch_steps == 0
        self._steps = min(steps, self._batch_steps) if whole else None

    def _batch(self, index: int, epoch: int) -> tuple[Any, ...]:
        low = index * self._batch_steps
        high = min(low + self._batch_steps, self.steps)
        own, lanes = self._own(self.lanes), self._planned_of(epoch)
        shape = (own.stop - own.start, high - low)
        arrays = [np.zeros(shape + part.shape, part.dtype) for part, _ in self._parts]
        reset = np.zeros(shape, bool)
        for row, lane in enumerate(range(own.start, own.stop)):
            for sequence, offset, begin, steps in lanes[lane].between(low, high):
                start, stop = max(begin, low), min(begin + steps, high)
                place = (row, slice(start - low, stop - low))
                first, count = offset + start - begin, stop - start
                for array, (part, ahead) in zip(arrays, self._parts):
                    at = first + ahead
                    array[place] = part.read(sequence, at, at + count, f" (lane {lane})")
                if begin >= low:
                    reset[row, begin - low] = True
        *inputs, y, weight = arrays
        x = {**dict(zip(self._names, inputs)), "reset": reset}
        x |= {name: np.repeat(value, shape[0], axis=0) for name, value in self._static.items()}
        return x, y, weight

    def _without_steps(self) -> Iterable[str]:
        return self._static


def same_lanes(lanes: list[Lane], seed: int, epoch: int) -> list[Lane]:
    """The plan of a data set that is not shuffled: `lanes` in every epoch."""
    return lanes


def check_lanes(batch_size: int, limit: int, of: str) -> int:
    """`batch_size` as int; ValueError unless it lies in 1 to `limit`, the number `of` things."""
    batch_size = positive_integer("batch_size", batch_size)
    if batch_size > limit:
        raise ValueError(
            f"batch_size must be at most the number of {of}, {limit}; "
            f"received batch_size={batch_size} (take fewer lanes or more data)"
        )
    return batch_size


def check_window(window: int, longest: int, batch_size: int) -> int:
    """`window` as int; ValueError unless it lies in 1 to the longest lane's steps."""
    window = positive_integer("window", window)
    if window > longest:
        raise ValueError(
            f"window must be at most the steps of the longest lane, {longest} with "
            f"batch_size={batch_size}; received window={window} "
            "(take a smaller window or fewer lanes)"
        )
    return window
