"""Training data with a position: batches that are read from any of them on, and recognised."""

import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from rnnzoo import backend
from rnnzoo.backend.keras_internals import DataAdapter, grouped
from rnnzoo.checked import CheckedDataset
from rnnzoo.data.arrays import ArrayBatches
from rnnzoo.data.epochs import EpochDataset, as_tf_dataset, seed_or_random
from rnnzoo.feeding import Feed


class Source(keras.utils.PyDataset, DataAdapter):
    """The batches of one epoch after another, for Keras, from batch `first` of `epoch` on.

    What was read of the epoch is remembered: one checksum for each array of each batch.

    Args:
        batches: batches in an epoch.
        example: any batch.
    """

    batch_size = None

    def __init__(self, batches: int, example: tuple):
        super().__init__()
        self.batches, self.first, self.epoch = batches, 0, 0
        self.seed: int | None = None  # of an order that the source itself has drawn
        # In several processes each reads its own rows: the names and sums of all stand together.
        index, count = backend.share()
        parts = list(_parts(example))
        self.names = parts
        if count > 1:
            self.names = [f"{part} of process {i}" for i in range(count) for part in parts]
        self.own = slice(index * len(parts), (index + 1) * len(parts))
        self.read: dict[int, list[int]] = {}

    def open(self, epoch: int) -> None:
        """Begin `epoch`."""
        self.epoch, self.read = epoch, {}

    def close(self) -> None:
        """End the epoch."""

    def batch(self, index: int) -> tuple:
        """Batch `index` of the epoch; an iterator gives its next one."""
        raise NotImplementedError

    def signature(self) -> Any:
        """What a batch looks like to TensorFlow."""
        raise NotImplementedError

    def checksums(self, batches: int) -> np.ndarray:
        """Of the first batches of the epoch: `(batches, arrays of a batch)` uint32.

        More may be noted: Keras reads ahead.
        """
        rows = backend.from_all(np.array([self.read[i] for i in range(batches)], np.uint32))
        return np.moveaxis(rows, 0, 1).reshape(batches, len(self.names))

    def look(self, index: int) -> tuple:
        """Batch `index`, which is noted as read."""
        batch = self.batch(index)
        self.read[index] = [_checksum(part) for part in _parts(batch).values()]
        return batch

    @property
    def num_batches(self) -> int:
        return self.batches - self.first

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[tuple]:
        return map(self.look, range(self.first, self.batches))

    def get_numpy_iterator(self) -> Iterator[tuple]:
        return iter(self)

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator:
        return grouped(iter(self), super_batch)

    def get_tf_dataset(self) -> Any:
        return as_tf_dataset(self, self.signature(), self.num_batches)


class Indexed(Source):
    """A source over a data set whose batches have an index.

    A data set of another kind than those of `rnnzoo.data` is told of the begin and end of each
    epoch, also of those that a resumed run does not train again.
    """

    def __init__(self, data: Any, inner: Any, example: tuple):
        super().__init__(data.num_batches, example)
        self.data, self.example = data, example
        self.counted = inner if isinstance(inner, EpochDataset) else None
        self.start = inner.epoch if self.counted is not None else 0
        self.told = 0

    def open(self, epoch: int) -> None:
        super().open(epoch)
        if self.counted is not None:
            self.counted.epoch = self.start + epoch
            return
        while self.told < epoch:
            self.data.on_epoch_begin()
            self.close()
        self.data.on_epoch_begin()

    def close(self) -> None:
        if self.counted is not None:
            self.counted.epoch = self.start + self.epoch + 1
        else:
            self.data.on_epoch_end()
            self.told += 1

    def batch(self, index: int) -> tuple:
        return self.data[index]

    def signature(self) -> Any:
        known = hasattr(self.data, "signature")
        return self.data.signature() if known else _any_size(self.example)


class Iterated(Source):
    """A source over an iterator, which goes on from epoch to epoch."""

    def __init__(self, iterator: Iterator[tuple], batches: int, example: tuple):
        super().__init__(batches, example)
        self.iterator, self.example, self.passed = iterator, example, 0

    def open(self, epoch: int) -> None:
        super().open(epoch)
        over = (epoch - self.passed) * self.batches
        for _ in itertools.islice(self.iterator, over):
            pass
        self.passed = max(self.passed, epoch)

    def close(self) -> None:
        self.passed += 1

    def batch(self, index: int) -> tuple:
        return next(self.iterator)

    def signature(self) -> Any:
        return _any_size(self.example)


def source_of(
    data: Feed, y: Any, sample_weight: Any, shuffle: bool, seed: int | None, steps: int | None
) -> Source:
    """The source of what `fit` was given.

    Raises:
        ValueError: data without a position.
    """
    if hasattr(data.x, "element_spec"):
        raise ValueError(
            "BackupAndResume needs data whose batches can be read again from any of them on: "
            "arrays, rnnzoo.data, a keras.utils.PyDataset, or an iterator with steps_per_epoch; "
            "received a tf.data set, which keeps its position to itself"
        )
    if isinstance(data.x, Iterator):
        if data.batches is None:
            raise ValueError(
                "BackupAndResume needs to know the batches of an epoch; received an iterator "
                "without steps_per_epoch"
            )
        return Iterated(data.x, data.batches, data.first)
    if steps is not None:
        raise ValueError(
            "steps_per_epoch must be None with BackupAndResume, but for an iterator: an epoch is "
            f"one pass over the data; received steps_per_epoch={steps}"
        )
    if isinstance(data.x, CheckedDataset):
        return Indexed(data.x, data.x.inner, data.first)
    given = (data.x, y, sample_weight)
    while given[-1] is None:
        given = given[:-1]
    arrays = ArrayBatches(given, data.lanes, shuffle, seed_or_random(seed))
    source = Indexed(arrays, arrays, arrays[0])
    source.seed = arrays.seed
    return source


def _parts(batch: tuple) -> dict[str, Any]:
    """The arrays of a batch by name, as 'x.inputs' or 'y'."""
    kinds = ("x", "y", "sample_weight")
    parts = keras.tree.flatten_with_path(batch)
    return {".".join([kinds[kind], *map(str, path)]): part for (kind, *path), part in parts}


def _checksum(part: Any) -> int:
    """A number that tells arrays apart by dtype, shape and content."""
    array = np.ascontiguousarray(part)
    start = zlib.crc32(f"{array.dtype.str}{array.shape}".encode())
    return zlib.crc32(array.view(np.uint8).reshape(-1) if array.size else b"", start)


def _any_size(example: tuple) -> Any:
    """A signature for any number of rows and steps."""
    import tensorflow as tf

    def spec(part: Any) -> tf.TensorSpec:
        shape = [None] * min(2, len(part.shape)) + list(part.shape[2:])
        return tf.TensorSpec(shape, part.dtype)

    return keras.tree.map_structure(spec, example)
