"""Training data with a position: batches that are read from any of them on, and recognised."""

import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnnzoo import backend
from rnnzoo.data.arrays import ArrayBatches
from rnnzoo.data.epochs import EpochDataset
from rnnzoo.feed.batches import Batches, parts_of
from rnnzoo.feed.feed import Feed


class Source:
    """The batches of one epoch after another, with the place in them that training has come to.

    What was read of the epoch is remembered: one checksum for each array of each batch.

    Args:
        batches: what Keras reads; from now on it begins where it is told to.
    """

    def __init__(self, batches: Batches):
        self.data, self.batches, self.epoch = batches, batches.count, 0
        self.seed: int | None = None  # of an order that was drawn for this run
        # In several processes each reads its own rows: the names and sums of all stand together.
        index, count = backend.share()
        parts = list(parts_of(batches.first))
        self.names = parts
        if count > 1:
            self.names = [f"{part} of process {i}" for i in range(count) for part in parts]
        self.own = slice(index * len(parts), (index + 1) * len(parts))
        self.read: dict[int, list[int]] = {}
        batches.observe = self._note

    @property
    def first(self) -> int:
        """The batch of the epoch with which the next pass begins."""
        return self.data.start

    @first.setter
    def first(self, index: int) -> None:
        self.data.start = index

    def open(self, epoch: int) -> None:
        """Begin `epoch`."""
        self.epoch, self.read = epoch, {}

    def close(self) -> None:
        """End the epoch."""

    def look(self, index: int) -> None:
        """Read batch `index`, and note it; an iterator gives its next one."""
        raise NotImplementedError

    def checksums(self, batches: int) -> np.ndarray:
        """Of the first batches of the epoch: `(batches, arrays of a batch)` uint32.

        More may be noted: Keras reads ahead.
        """
        rows = backend.from_all(np.array([self.read[i] for i in range(batches)], np.uint32))
        return np.moveaxis(rows, 0, 1).reshape(batches, len(self.names))

    def _note(self, index: int, batch: tuple) -> None:
        self.read[index] = [_checksum(part) for part in parts_of(batch).values()]


class Indexed(Source):
    """A source over a data set whose batches have an index.

    A data set of another kind than those of `rnnzoo.data` is told of the begin and end of each
    epoch, also of those that a resumed run does not train again.
    """

    def __init__(self, batches: Batches):
        super().__init__(batches)
        inner = batches.source
        self.counted = inner if isinstance(inner, EpochDataset) else None
        self.start = inner.epoch if self.counted is not None else 0
        self.told = 0
        if isinstance(inner, ArrayBatches):
            self.seed = inner.seed

    def open(self, epoch: int) -> None:
        super().open(epoch)
        if self.counted is not None:
            self.counted.epoch = self.start + epoch
            return
        while self.told < epoch:
            self.data.tell_begin()
            self.close()
        self.data.tell_begin()

    def close(self) -> None:
        if self.counted is not None:
            self.counted.epoch = self.start + self.epoch + 1
        else:
            self.data.tell_end()
            self.told += 1

    def look(self, index: int) -> None:
        self.data[index]  # which is noted


class Iterated(Source):
    """A source over an iterator, which goes on from epoch to epoch."""

    def __init__(self, batches: Batches):
        super().__init__(batches)
        self.passed = 0

    def open(self, epoch: int) -> None:
        super().open(epoch)
        over = (epoch - self.passed) * self.batches
        for _ in itertools.islice(self.data.source, over):
            pass
        self.passed = max(self.passed, epoch)

    def close(self) -> None:
        self.passed += 1

    def look(self, index: int) -> None:
        self._note(index, self.data.reading.prepare(index, next(self.data.source)))


def source_of(data: Feed, seed: int | None, steps: int | None) -> Source:
    """The source of what `fit` was given.

    Args:
        data: as `feed` made it.
        seed: that of the order of arrays in the run that goes on, None for a new one.
        steps: `steps_per_epoch`.

    Raises:
        ValueError: data without a position.
    """
    if isinstance(data.source, Iterator):
        if data.batches is None:
            raise ValueError(
                "BackupAndResume needs to know the batches of an epoch; received an iterator "
                "without steps_per_epoch"
            )
        return Iterated(data.as_batches())
    if steps is not None:
        raise ValueError(
            "steps_per_epoch must be None with BackupAndResume, but for an iterator: an epoch is "
            f"one pass over the data; received steps_per_epoch={steps}"
        )
    batches = data.as_batches()
    if not batches.indexed:
        raise ValueError(
            "BackupAndResume needs data whose batches can be read again from any of them on: "
            "arrays, rnnzoo.data, a keras.utils.PyDataset, a list of batches, or an iterator with "
            f"steps_per_epoch; received {type(data.source).__name__.lstrip('_')}"
        )
    if isinstance(data.source, ArrayBatches) and seed is not None:
        data.source.seed = seed
    return Indexed(batches)


def _checksum(part: Any) -> int:
    """A number that tells arrays apart by dtype, shape and content."""
    array = np.ascontiguousarray(part)
    start = zlib.crc32(f"{array.dtype.str}{array.shape}".encode())
    return zlib.crc32(array.view(np.uint8).reshape(-1) if array.size else b"", start)
