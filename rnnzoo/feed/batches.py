"""`Batches`: what Keras reads, whatever form the data came in; every batch checked on its way.

Checked on the host, where a wrong batch can still be named: inside a compiled step a short one
would broadcast, or fail far from its cause.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from rnnzoo.backend.keras_internals import DataAdapter, grouped
from rnnzoo.data.epochs import EpochDataset, as_tf_dataset
from rnnzoo.feed.devices import check_divides
from rnnzoo.feed.labels import check_classes, has_time

# What arrays hold; each kind holds those before it.
_KINDS = ("booleans", "integers", "real numbers")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the batches of one pass are checked and brought into one form; fit for pickling.

    Attributes:
        reader: that of the model's inputs, `CoreInputs` or `PairInputs`.
        every: None, or the number of batches after which a sequence ends ("epoch": all).
        period: batches of an epoch, where they are counted on from epoch to epoch.
        lanes: rows that every batch must have; None: any.
        class_weight: as `fit` takes it.
        window: steps of the windows in which it is trained; None for whole batches.
        burn_in: first steps of a batch that are not trained.
        begins: whether every batch brings the states that its rows begin with; None: as it will.
        layout: of the first batch, as `layout_of` has it; None: any.
        classes: by the name of an output the number of classes of which its targets are, and the
            one that its loss passes over, or None.
    """

    reader: Any
    every: int | str | None = None
    period: int | None = None
    lanes: int | None = None
    class_weight: dict | None = None
    window: int | None = None
    burn_in: int = 0
    begins: bool | None = None
    layout: dict[str, tuple] | None = None
    classes: dict[str, tuple] = dataclasses.field(default_factory=dict)

    def prepare(self, index: int, batch: Any) -> tuple:
        """Batch `index` as the model takes it: `(x, y, weight)` or shorter."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(as_tuple(batch))
        x = self.reader.as_dict(x)
        self.reader.check(x, self.lanes)
        check_divides(self.reader.rows(x))
        if self.begins is not None and self.reader.begins(x) != self.begins:
            raise ValueError(
                "every batch must bring the states that its rows begin with, or none; received "
                f"the first batch {_with_state(self.begins)} and another "
                f"{_with_state(not self.begins)}"
            )
        if self.every is not None:
            place = index % self.period if self.period else index
            x = self.reader.mark(x, starts_sequence(place, self.every))
        x, y, weight = self.reader.batch(x, y, weight, self.class_weight)
        y = check_classes(self.classes, y, weight)
        self._check_windows(x, y)
        self._check_burn_in(x)
        found = tuple(itertools.dropwhile(lambda part: part is None, (weight, y, x)))[::-1]
        if self.layout is not None:
            self._check_layout(layout_of(self.reader, found))
        return found

    def _check_layout(self, found: dict[str, tuple]) -> None:
        """ValueError where TensorFlow would read one array as another, or cut digits off."""
        if found.keys() != self.layout.keys():
            raise ValueError(
                f"every batch must have what the first has, {', '.join(self.layout)}; received a "
                f"batch with {', '.join(found)}"
            )
        for name, (shape, kind) in found.items():
            first, then = self.layout[name]
            if shape != first:
                raise ValueError(
                    f"{name} must have the axes {first} in every batch, as in the first; received "
                    f"{shape}"
                )
            if kind > then:
                raise ValueError(
                    f"{name} must be of the kind of the first in every batch; received "
                    f"{_KINDS[kind]} after {_KINDS[then]}. Give all of them as float32."
                )

    def _check_windows(self, x: dict, y: Any) -> None:
        """ValueError where windows would have to cut targets that have no time."""
        outputs = getattr(getattr(self.reader, "spec", None), "outputs", None)
        if self.window is None or outputs is None or y is None:
            return
        steps = self.reader.steps_in(x)
        for name, output in outputs.items():
            target = y.get(name) if isinstance(y, dict) else y
            whole = steps <= self.window and not self.burn_in
            if target is None or not output.per_step or whole:
                continue
            if not has_time(target, output, steps):
                raise ValueError(
                    "TruncatedBPTT cuts targets by time, so they must have one entry for each "
                    f"step of the inputs, {steps}; received targets of shape {target.shape}. "
                    f"Labels of whole sequences need a window of all steps, at least {steps}, and "
                    "no burn_in."
                )

    def _check_burn_in(self, x: dict) -> None:
        """ValueError where no step, or none of a row that has one output, is left to be trained."""
        if not self.burn_in:
            return
        steps, spec = self.reader.steps_in(x), self.reader.spec
        if steps <= self.burn_in:
            raise ValueError(
                f"burn_in must be less than the steps of every batch; received burn_in="
                f"{self.burn_in} and a batch of {steps} steps, of which none would be trained"
            )
        if spec.of_last_step and self.reader.mask in x:
            left = x[self.reader.mask][:, self.burn_in :].any(axis=1)
            if not left.all():
                raise ValueError(
                    f"burn_in must be less than the steps of every row, whose last step is "
                    f"trained; received burn_in={self.burn_in}, which holds all real steps of row "
                    f"{int(np.argmin(left))}"
                )


def parts_of(batch: tuple) -> dict[str, Any]:
    """The arrays of a batch by name, as 'x.inputs' or 'y'."""
    kinds = ("x", "y", "sample_weight")
    parts = keras.tree.flatten_with_path(batch)
    return {".".join([kinds[kind], *map(str, path)]): part for (kind, *path), part in parts}


def layout_of(reader: Any, batch: tuple) -> dict[str, tuple]:
    """Of each array of a batch in its one form the axes, "any" for one that may differ from batch
    to batch, and the number of its kind.
    """
    axes = keras.tree.flatten(reader.open_axes(batch))
    return {
        name: (
            ("any",) * (1 + left) + array.shape[1 + left :],
            {"b": 0, "i": 1}.get(array.dtype.kind, 2),
        )
        for (name, array), left in zip(parts_of(batch).items(), axes, strict=True)
    }


def _with_state(begins: bool) -> str:
    return "with 'state'" if begins else "without 'state'"


def starts_sequence(index: int, every: int | str) -> bool:
    """Whether batch `index` of an epoch begins a sequence."""
    return index == 0 if every == "epoch" else index % every == 0


def as_tuple(batch: Any) -> tuple:
    """`batch` as `(x, y, sample_weight)` or shorter."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


class Batches(keras.utils.PyDataset, DataAdapter):
    """The batches of an epoch, prepared by a `Reading`, as a Keras data adapter of its own.

    Keras's adapter of a `PyDataset` expects all batches to be as long as the first two.

    Args:
        source: what gives raw batches: something with an index or, where it is an iterable, a
            pass at each `iter`; an iterator goes on from epoch to epoch.
        reading: how they are prepared.
        first: the first batch, prepared.
        count: batches in an epoch, None where that is not known.

    Attributes:
        start: the batch of the epoch with which the next pass begins.
        observe: called with index and batch of each batch that is read.
        failed: the error that ended the last pass, of which TensorFlow makes one of its own.
    """

    batch_size = None

    def __init__(self, source: Any, reading: Reading, first: tuple, count: int | None):
        super().__init__()
        self.source, self.reading, self.first, self.count = source, reading, first, count
        self.start = 0
        self.observe: Callable[[int, tuple], None] | None = None
        self.failed: Exception | None = None

    @property
    def indexed(self) -> bool:
        """Whether any batch can be read by its index."""
        return hasattr(self.source, "__getitem__") and self.count is not None

    @property
    def num_batches(self) -> int | None:
        if self.count is None:
            return None
        told = isinstance(self.source, keras.utils.PyDataset)  # some count how often they are asked
        return (self.source.num_batches if told else self.count) - self.start

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> tuple:
        """Batch `index` of the epoch."""
        return self._observed(index, self.source[index])

    def __iter__(self) -> Iterator[tuple]:
        if self.start and self.indexed:
            raw: Iterable = map(self.source.__getitem__, range(self.start, self.count))
        else:
            raw = iter(self.source)
        if self.count is not None:
            raw = itertools.islice(raw, self.count - self.start)
        self.failed = None
        return self._prepared(zip(itertools.count(self.start), raw))

    def _prepared(self, raw: Iterable) -> Iterator[tuple]:
        index = self.start - 1
        try:
            for index, batch in raw:
                yield self._observed(index, batch)
            # An iterator may end before its time, of which Keras warns.
            if not isinstance(self.source, Iterator) and self.count not in (None, index + 1):
                told = f"received {index + 1}, where its length is {self.count}"
                raise ValueError(f"x must have as many batches as its length says; {told}")
        except Exception as error:
            self.failed = error
            raise

    def _observed(self, index: int, batch: Any) -> tuple:
        batch = self.reading.prepare(index, batch)
        if self.observe is not None:
            self.observe(index, batch)
        return batch

    def on_epoch_begin(self) -> None:
        if self.observe is None:
            self.tell_begin()

    def on_epoch_end(self) -> None:
        if self.observe is None:
            self.tell_end()

    def tell_begin(self) -> None:
        """Tell the source of an epoch's begin; who observes the batches does it, not Keras."""
        getattr(self.source, "on_epoch_begin", _nothing)()

    def tell_end(self) -> None:
        """Tell the source of an epoch's end."""
        getattr(self.source, "on_epoch_end", _nothing)()

    def get_numpy_iterator(self) -> Iterator[tuple]:
        return iter(self)

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator[tuple]:
        return grouped(iter(self), super_batch)

    def get_tf_dataset(self) -> Any:
        count = None if isinstance(self.source, Iterator) else self.num_batches
        return as_tf_dataset(self, self.signature(), count)

    def signature(self) -> Any:
        """What a batch looks like to TensorFlow: sizes that all batches share are fixed.

        XLA compiles a loop over windows best where the number of steps is known.
        """
        import tensorflow as tf

        rows, steps = self._sizes()

        def spec(array: np.ndarray, open_axes: int) -> tf.TensorSpec:
            shape = [rows, *array.shape[1:]]
            if not steps:
                shape[1 : 1 + open_axes] = [None] * open_axes
            return tf.TensorSpec(shape, array.dtype)

        return keras.tree.map_structure(spec, self.first, self.reading.reader.open_axes(self.first))

    @property
    def of_equal_steps(self) -> bool:
        """Whether it is known that all batches have as many steps."""
        return self._sizes()[1]

    def _sizes(self) -> tuple[int | None, bool]:
        """The rows of every batch, None where they differ, and whether all have equal steps."""
        if not isinstance(self.source, EpochDataset):
            return None, False
        known = keras.tree.flatten(self.source.signature())
        known = [spec for spec in known if spec is not None]
        leading = [spec for spec in known if len(spec.shape) > 1]
        rows = known[0].shape[0]
        return rows, bool(leading) and all(spec.shape[1] is not None for spec in leading)


def shape_of(batch: Any) -> str:
    """A name for the shapes of all arrays of a batch."""
    return ",".join(
        "-" if array is None else "x".join(map(str, array.shape))
        for array in keras.tree.flatten(batch)
    )


def _nothing() -> None:
    """For sources that need not be told of epochs."""


class CheckedDataset(keras.utils.PyDataset):
    """A user's own `PyDataset`, with its workers, whose batches are prepared as they are read."""

    def __init__(self, inner: keras.utils.PyDataset, reading: Reading):
        super().__init__(
            workers=inner.workers,
            use_multiprocessing=inner.use_multiprocessing,
            max_queue_size=inner.max_queue_size,
        )
        self.inner, self.reading = inner, reading
        self.failed: Exception | None = None

    @property
    def num_batches(self) -> int | None:
        return self.inner.num_batches

    def __getitem__(self, index: int) -> tuple:
        try:
            return self.reading.prepare(index, self.inner[index])
        except Exception as error:
            self.failed = error
            raise

    def on_epoch_begin(self) -> None:
        self.inner.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.inner.on_epoch_end()
