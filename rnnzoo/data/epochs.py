"""Data sets whose batches depend on the batch's index and the epoch, and on nothing else."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo.backend.keras_internals import DataAdapter, grouped


def seed_or_random(seed: int | None) -> int:
    """`seed`, or one drawn from NumPy's global generator (`keras.utils.set_random_seed`)."""
    if seed is None:
        return int(np.random.randint(2**31))
    return _checks.seed("seed", seed)


@contextlib.contextmanager
def seeds_kept_on_error() -> Iterator[None]:
    """Inside, an error leaves NumPy's global generator as it was: what is refused draws nothing."""
    before = np.random.get_state()
    try:
        yield
    except BaseException:
        np.random.set_state(before)
        raise


def seed_of_order(seed: int | None, shuffle: bool) -> int:
    """The checked `seed` of an order; one drawn at random only where it is to be shuffled."""
    checked = _checks.seed("seed", seed)
    return (seed_or_random(None) if shuffle else 0) if checked is None else checked


class EpochDataset(keras.utils.PyDataset, DataAdapter):
    """A `keras.utils.PyDataset` that counts its epochs and is its own Keras data adapter.

    Keras's adapter of a `PyDataset` shuffles the batches, as `fit` does by default, takes the
    shape of all batches from the first two (so that others fail on TensorFlow), and lets an
    epoch's end change the order of a pass under way. As its own adapter the data set does
    not; `fit(shuffle=..., class_weight=...)` do nothing here: weights come with the batches.

    `on_epoch_end` moves on to the next epoch, but not where Keras calls it for another reason:
    `EpochIterator.reset` does so before the first epoch, on JAX after a look at one batch. It
    asks for `num_batches` just before, and no batch is read between. So in callbacks use
    `len(ds)`; and in a loop of your own set `ds.epoch = n` at each epoch's start. An epoch that
    was broken off is served again by the next `fit`.

    A subclass defines `_batch(index, epoch)` and `_plan(seed, epoch)` (the order that an epoch
    has), and sets `_count` (batches of an epoch, the same in all: Keras asks once per `fit`),
    `_steps` (steps of a batch, None where they differ) and `_per_step` (whether targets and
    weights are per step).

    Attributes:
        batch_size: rows of a batch.
        seed: the seed of the order.
    """

    _count: int
    _steps: int | None
    _per_step: bool
    _full = False  # whether every batch has `batch_size` rows
    _left = 0  # rows of a batch that has fewer, 0 where there is none

    def __init__(self, batch_size: int, seed: int = 0):
        super().__init__()
        self.seed = seed
        self._rows = batch_size
        self._epoch = 0
        self._begun = False
        self._asked = False
        self._part = (0, 1)
        self._planned: tuple[tuple, Any] | None = None

    def _planned_of(self, epoch: int) -> Any:
        """The order that an epoch has; that of the last one asked for is kept."""
        planned, key = self._planned, (self.seed, epoch)
        if planned is None or planned[0] != key:
            planned = self._planned = (key, self._plan(*key))
        return planned[1]

    def __len__(self) -> int:
        """Batches of an epoch, the same in all epochs."""
        return self._count

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self._rows

    @property
    def part(self) -> tuple[int, int]:
        """Which of how many equal parts of every batch's rows is served: `(0, 1)`, all."""
        return self._part

    def shard(self, index: int, count: int) -> "EpochDataset":
        """This data set, which from now on reads and serves a part of every batch's rows only.

        For training in several processes, each of which reads its own rows; `fit` does it.

        Args:
            index: which part, from 0.
            count: how many parts the rows of a batch are cut into, in their order.

        Raises:
            ValueError: `count` does not divide the rows of a batch; a part that is not there.
        """
        count, index = _checks.positive_integer("count", count), _checks.integer("index", index, 0)
        if index >= count:
            raise ValueError(f"index must be less than count, {count}; received index={index}")
        if self.batch_size % count:
            raise ValueError(
                "the rows of a batch must divide over the processes that read them; received "
                f"batch_size={self.batch_size} for {count}. Take a multiple of {count}."
            )
        if self._left % count:
            raise ValueError(
                "the rows of every batch must divide over the processes that read them; "
                f"received a batch of {self._left} rows for {count}. Take a number of sequences "
                f"that batch_size divides, or that leaves a multiple of {count}."
            )
        self._part = (index, count)
        return self

    def _own(self, rows: int) -> slice:
        """Which of the `rows` rows of a batch are served."""
        index, count = self._part
        return slice(index * rows // count, (index + 1) * rows // count)

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, for Keras; use `len`."""
        self._asked = True
        return len(self)

    @property
    def epoch(self) -> int:
        """The number of the epoch that is served, from 0; set it to resume a run."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch = _checks.integer("epoch", value, 0)
        self._begun = False

    def on_epoch_begin(self) -> None:
        """Notes that an epoch has begun."""
        self._begun = True
        self._asked = False

    def on_epoch_end(self) -> None:
        """Moves on to the next epoch, if one has begun and been served."""
        self._epoch += self._begun and not self._asked
        self._begun = False

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Batch `index` of the present epoch; reading it again gives the same batch."""
        count = len(self)
        if not isinstance(index, (int, np.integer)):
            raise TypeError(f"index must be an integer; received index={_checks.shown(index)}")
        if not -count <= index < count:
            raise IndexError(f"index must be in [0, {count}); received index={index}")
        return self._batch(index % count, self._epoch)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """All batches of the epoch at which the iteration starts.

        The epoch is fixed at the first batch, so a change in the middle cannot mix two orders.
        """
        epoch = self._epoch
        for index in range(len(self)):
            self._asked = False
            yield self._batch(index, epoch)

    def get_numpy_iterator(self) -> Iterator[tuple[Any, ...]]:
        """The batches of an epoch, for Keras."""
        return iter(self)

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator:
        """The batches of an epoch, for Keras on JAX."""
        return grouped(iter(self), super_batch)

    def get_tf_dataset(self) -> Any:
        """The batches of an epoch as a `tf.data.Dataset`, for Keras on TensorFlow."""
        return as_tf_dataset(self, self.signature(), len(self))

    def signature(self) -> Any:
        """What a batch looks like to TensorFlow."""
        import tensorflow as tf

        rows = self.batch_size if self._full else None

        def with_time(array: np.ndarray) -> tf.TensorSpec:
            return tf.TensorSpec((rows, self._steps, *array.shape[2:]), array.dtype)

        def without_time(array: np.ndarray) -> tf.TensorSpec:
            return tf.TensorSpec((rows, *array.shape[1:]), array.dtype)

        x, *others = self._batch(0, self._epoch)
        other = with_time if self._per_step else without_time
        static = self._without_steps()
        x = {
            name: keras.tree.map_structure(without_time if name in static else with_time, part)
            for name, part in x.items()
        }
        return (x, *map(other, others))

    def _without_steps(self) -> Iterable[str]:
        """The names of inputs that have one value for a row, not one for each step."""
        return ()


def as_tf_dataset(batches: Any, signature: Any, count: int | None) -> Any:
    """The `count` batches of an iterable (None: as many as there are) as a `tf.data.Dataset`.

    Not by `from_generator`: on Python 3.11 it sets the C library's allocator, for good, to give
    blocks of 128 KiB back to the system at once (`mallopt`), and XLA's matrix products, which
    take such blocks at every step, may then spend more than half of their time there.
    """
    import tensorflow as tf

    plain = tf.autograph.experimental.do_not_convert  # nothing here is to be rewritten
    specs = tf.nest.flatten(signature)
    dtypes = [spec.dtype for spec in specs]
    passes: dict[int, Iterator] = {}  # one that was broken off may read on beside the next
    numbers = itertools.count()

    def begin() -> np.int64:
        number = np.int64(next(numbers))
        passes[number] = iter(batches)
        return number

    def read(number: np.int64, index: np.int64) -> list[np.ndarray]:
        found = next(passes[number], None)
        if found is None or index + 1 == count:
            del passes[number]
        if found is None:
            return [np.False_, *(np.zeros(0, dtype.as_numpy_dtype) for dtype in dtypes)]
        parts = zip(tf.nest.flatten(found), dtypes, strict=True)
        return [np.True_, *(np.asarray(part, dtype.as_numpy_dtype) for part, dtype in parts)]

    def fitted(_: tf.Tensor, *parts: tf.Tensor) -> Any:
        found = [tf.ensure_shape(part, spec.shape) for part, spec in zip(parts, specs)]
        return tf.nest.pack_sequence_as(signature, found)

    @plain
    def one_pass(number: tf.Tensor) -> Any:
        def batch(index: tf.Tensor) -> Any:
            return tuple(tf.numpy_function(read, [number, index], [tf.bool, *dtypes]))

        # Each function is traced anew in every `fit`: where all batches are known, one will do.
        if count is not None:
            return tf.data.Dataset.range(count).map(plain(lambda index: fitted(*batch(index))))
        # An end by StopIteration would be an error of `map`.
        read_on = tf.data.Dataset.range(2**62).map(plain(batch))
        return read_on.take_while(plain(lambda more, *_: more)).map(plain(fitted))

    number = tf.data.Dataset.range(1).map(plain(lambda _: tf.numpy_function(begin, [], tf.int64)))
    made = number.flat_map(one_pass)
    if count is not None:
        made = made.apply(tf.data.experimental.assert_cardinality(count))
    # Nothing is left to tune, and the thread that would do it holds up the end of each epoch.
    options = tf.data.Options()
    options.autotune.enabled = False
    return made.prefetch(2).with_options(options)
