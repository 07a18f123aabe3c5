"""Arrays as batches whose order is known: what `fit(x, y)` reads where a run may be resumed."""

from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo.data.epochs import EpochDataset


class ArrayBatches(EpochDataset):
    """Rows of arrays in batches, shuffled by seed and epoch.

    Args:
        arrays: `(x, y, sample_weight)` or shorter; arrays or dicts of them, as many rows in each,
            or None.
        batch_size: rows of a batch; the last may have fewer.
        shuffle: whether each epoch has another order.
        seed: the seed of the order.
    """

    def __init__(self, arrays: tuple, batch_size: int, shuffle: bool, seed: int):
        super().__init__(batch_size, seed)
        self._arrays = keras.tree.map_structure(_as_array, arrays)
        self._shuffle = shuffle
        self._size = len(keras.tree.flatten(self._arrays)[0])
        self._count, self._left = -(-self._size // batch_size), self._size % batch_size

    def _plan(self, seed: int, epoch: int) -> np.ndarray:
        order = np.arange(self._size)
        return np.random.default_rng([seed, epoch]).permutation(order) if self._shuffle else order

    def _batch(self, index: int, epoch: int) -> tuple[Any, ...]:
        rows = self._planned_of(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        rows = rows[self._own(len(rows))]
        return keras.tree.map_structure(lambda a: None if a is None else a[rows], self._arrays)

    def signature(self) -> Any:
        import tensorflow as tf

        rows = None if self._size % self.batch_size else self.batch_size
        return keras.tree.map_structure(
            lambda a: None if a is None else tf.TensorSpec((rows, *a.shape[1:]), a.dtype),
            self._arrays,
        )


def _as_array(values: Any) -> np.ndarray | None:
    if values is None:
        return None
    array = _checks.array("the data", values)
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array
