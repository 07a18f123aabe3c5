"""Data sets whose batches are checked and marked as they are read."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from rnnzoo.backend.keras_internals import DataAdapter, grouped
from rnnzoo.data.epochs import as_tf_dataset


def starts_sequence(index: int, every: int | str) -> bool:
    """Whether batch `index` of an epoch begins a sequence."""
    return index == 0 if every == "epoch" else index % every == 0


def mark(batch: Any, starts: Any) -> Any:
    """`batch` with a `reset` mask that is `starts` at each row's first step."""
    x, *rest = batch if isinstance(batch, tuple) else (batch,)
    x = dict(x) if isinstance(x, dict) else {"inputs": x}
    if "reset" in x:
        raise ValueError(
            "ResetStates marks the resets itself, so batches must come without a 'reset' mask; "
            f"received a batch with {sorted(x)}. Leave ResetStates out, or the mask."
        )
    reset = np.zeros(x["inputs"].shape[:2], "bool")
    reset[:, :1] = starts
    return ({**x, "reset": reset}, *rest)


def as_tuple(batch: Any) -> tuple:
    """`batch` as `(x, y, sample_weight)` or shorter."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def checked(batch: Any, index: int, every: Any, check: Callable, lanes: int | None) -> tuple:
    """Batch `index` of an epoch, checked, and marked where `every` says so."""
    batch = as_tuple(batch)
    check(batch[0], lanes)
    return batch if every is None else mark(batch, starts_sequence(index, every))


class CheckedDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches are marked and checked as they are read."""

    def __init__(self, inner: Any, every: Any, check: Callable, lanes: int | None):
        super().__init__(
            workers=inner.workers,
            use_multiprocessing=inner.use_multiprocessing,
            max_queue_size=inner.max_queue_size,
        )
        self.inner, self.every, self.check, self.lanes = inner, every, check, lanes

    @property
    def num_batches(self) -> int | None:
        return self.inner.num_batches

    def __getitem__(self, index: int) -> tuple:
        return self.checked(index, self.inner[index])

    def checked(self, index: int, batch: Any) -> tuple:
        """Batch `index` of an epoch, as the model takes it."""
        return checked(batch, index, self.every, self.check, self.lanes)

    def on_epoch_begin(self) -> None:
        self.inner.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.inner.on_epoch_end()


class CheckedAdapter(CheckedDataset, DataAdapter):
    """A `CheckedDataset` of data that are their own Keras adapter, as those of `rnnzoo.data`.

    Keras's adapter of a `PyDataset` expects all batches to be as long as the first two.
    """

    @property
    def batch_size(self) -> int | None:
        return self.inner.batch_size

    def __iter__(self) -> Iterator[tuple]:
        return itertools.starmap(self.checked, enumerate(self.inner))

    def get_numpy_iterator(self) -> Iterator[tuple]:
        return iter(self)

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator:
        return grouped(iter(self), super_batch)

    def get_tf_dataset(self) -> Any:
        return as_tf_dataset(self, self.signature(), self.num_batches)

    def signature(self) -> Any:
        return self.inner.signature()
