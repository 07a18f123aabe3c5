"""`feed`: arrays, data sets and iterables of any kind as one kind of `Feed`."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo.backend.keras_internals import DataAdapter
from rnnzoo.data.arrays import ArrayBatches
from rnnzoo.data.epochs import seed_or_random
from rnnzoo.feed.batches import Batches, CheckedDataset, Reading, as_tuple, layout_of, shape_of
from rnnzoo.feed.checks import check_rows, plain
from rnnzoo.feed.devices import check_divides, shared_out
from rnnzoo.feed.inputs import CoreInputs


class Feed(NamedTuple):
    """Data ready for Keras, and what is known of them.

    Attributes:
        x: what Keras reads.
        source: what gives the raw batches.
        first: the first batch as the model takes it: `(x, y, weight)` or shorter.
        lanes: rows of the first batch.
        streaming: whether the batches carry state: they bring resets, or a callback marks them.
        batches: in an epoch, None where that is not known.
    """

    x: Batches | CheckedDataset
    source: Any
    first: tuple
    lanes: int
    streaming: bool
    batches: int | None

    def as_batches(self) -> Batches:
        """The same, read by ourselves and not by Keras's adapter of a `PyDataset`."""
        if isinstance(self.x, Batches):
            return self.x
        return Batches(self.source, self.x.reading, self.first, self.batches)

    def planned(self, passes: int) -> dict[str, int]:
        """The steps to come in so many passes, by shape of the batches, as far as that is known.

        That is where all batches have one length; of the last one's rows it takes no notice.
        """
        if self.batches is None or not isinstance(self.x, Batches) or not self.x.of_equal_steps:
            return {}
        steps = self.x.reading.reader.steps_in(self.first[0])
        return {shape_of(self.first): passes * self.batches * steps}


def feed(
    reading: Reading,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    onward: bool = False,
) -> Feed:
    """`x` as Keras takes it, every batch checked and brought into one form.

    Args:
        reading: how batches are prepared; its lanes and parts are found here.
        x, y, sample_weight, batch_size: as `fit` takes them.
        steps: batches in an epoch, for an iterator that has no end of its own.
        shuffle: whether rows of arrays come in another order each epoch.
        seed: of that order.
        onward: whether an epoch of `steps` batches goes on where the one before stopped, as those
            of training do; every validation begins with the first batch.

    Raises:
        ValueError: a first batch that the model cannot take, data without a batch.
    """
    if x is None:
        raise ValueError(
            "x must be an array, a dict of arrays, or an iterable of batches; received x=None"
        )
    x = shared_out(x)
    if steps:  # epochs may end in the middle of a pass over the data
        reading = dataclasses.replace(reading, period=steps)
    if is_array_like(x):
        found = _of_arrays(reading, x, y, sample_weight, batch_size, shuffle, seed)
        return _in_epochs(found, steps, onward)
    given = {"y": y, "sample_weight": sample_weight, "batch_size": batch_size}
    if named := [name for name, value in given.items() if value is not None]:
        raise ValueError(
            "a data set gives inputs, targets and sample weights in batches of its own, "
            f"so {', '.join(named)} must be None; received a value for {', '.join(named)}"
        )
    if isinstance(x, keras.utils.PyDataset):
        return _in_epochs(_of_dataset(reading, x), steps, onward)
    return _of_iterable(reading, x, steps, onward)


def is_array_like(x: Any) -> bool:
    """Whether `x` holds rows, as arrays and dicts of them do, and not batches."""
    if isinstance(x, keras.utils.PyDataset) or hasattr(x, "element_spec"):
        return False
    if isinstance(x, (list, tuple)):
        return not (x and all(isinstance(one, (tuple, dict)) for one in x))
    return isinstance(x, (dict, str, bytes)) or hasattr(x, "shape")


def split_rows(reader: Any, given: tuple, fraction: float) -> tuple[tuple, tuple]:
    """`(x, y, sample_weight)` cut in two: the last `fraction` of their rows is the second part.

    Raises:
        ValueError: data that are no arrays, a part without rows.
    """
    if not is_array_like(given[0]):
        raise ValueError(
            "validation_split needs arrays, whose last rows it takes; received "
            f"{type(given[0]).__name__}. Pass validation_data."
        )
    x = reader.as_dict(given[0])
    reader.check(x)
    rows, others = reader.rows(x), [*map(reader.arrays, given[1:], ("y", "sample_weight"))]
    check_rows(rows, y=others[0], sample_weight=others[1])
    at = int(np.floor(rows * (1.0 - fraction)))
    if not 0 < at < rows:
        raise ValueError(
            f"validation_split must leave rows on both sides; received {fraction} of {rows} rows"
        )

    def part(low: int, high: int) -> tuple:
        def cut(value: Any) -> Any:
            return None if value is None else np.asarray(value)[low:high]

        return tuple(keras.tree.map_structure(cut, one) for one in (x, *others))

    return part(0, at), part(at, rows)


def _begun(reading: Reading, batch: Any) -> tuple[Reading, tuple, int, bool]:
    """The reading as the first batch fixes it, that batch, its rows, whether it streams."""
    first = reading.prepare(0, batch)
    rows = len(keras.tree.flatten(first[0])[0])
    streaming = reading.reader.carries(first[0])
    lanes, begins = rows if streaming else None, reading.reader.begins(first[0])
    layout = layout_of(reading.reader, first)
    reading = dataclasses.replace(reading, lanes=lanes, begins=begins, layout=layout)
    return reading, first, rows, streaming


def _of_dataset(reading: Reading, x: Any) -> Feed:
    if x.num_batches == 0:
        raise ValueError("x must have at least one batch; received a data set of length 0")
    reading, first, rows, streaming = _begun(reading, x[0])
    count = x.num_batches
    if isinstance(x, DataAdapter):  # those of rnnzoo.data read themselves
        data: Any = Batches(x, reading, first, count)
    else:
        data = CheckedDataset(x, reading)
    return Feed(data, x, first, rows, streaming, count)


def _of_iterable(reading: Reading, x: Any, steps: int | None, onward: bool) -> Feed:
    if not hasattr(x, "__iter__"):
        raise ValueError(
            "x must be an array, a dict of arrays, or an iterable of batches; "
            f"received x={_checks.shown(x)}"
        )
    if hasattr(x, "as_numpy_iterator"):
        x = _NumpyBatches(x)
    try:
        iterator = iter(x)
    except Exception as error:  # of a class of the user's
        raise _checks.refuse("x", "an array, or an iterable of batches", x) from error
    start = next(iterator, None)
    if start is None:
        raise ValueError("x must have at least one batch; received an empty iterator, of length 0")
    once = iterator is x
    if once:
        x, count = itertools.chain([start], x), steps
    else:
        count = _length(x, steps)
        x = _passes(x, onward) if steps else x
    reading, first, rows, streaming = _begun(reading, start)
    return Feed(Batches(x, reading, first, count), x, first, rows, streaming, count)


def _in_epochs(data: Feed, steps: int | None, onward: bool) -> Feed:
    """`data`, whose epochs of `steps` batches begin a sequence wherever in the set they begin."""
    if not steps or data.x.reading.every is None or steps == data.batches:
        return data
    source = _passes(data.source, onward)
    batches = Batches(source, data.x.reading, data.first, steps)
    return data._replace(x=batches, source=source, batches=steps)


class _NumpyBatches:
    """A `tf.data.Dataset` as arrays, one pass at each `iter`."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __iter__(self) -> Iterator:
        return iter(self.dataset.as_numpy_iterator())

    def __len__(self) -> int:
        size = int(self.dataset.cardinality())
        if size == -1:
            raise ValueError(
                "a tf.data set without end needs steps_per_epoch (evaluate, predict: steps); "
                "received none"
            )
        if size < 0:
            raise TypeError("the length is not known")
        return size


class _Endless:
    """Passes over an iterable, one after the other, for epochs of a given number of batches."""

    def __init__(self, batches: Any):
        self.batches = batches

    def __iter__(self) -> Iterator:
        more = True
        while more:
            more = False
            for batch in self.batches:
                more = True
                yield batch


def _passes(batches: Any, onward: bool) -> Any:
    """Passes over `batches` without end, gone on with in every epoch where that is `onward`."""
    return iter(_Endless(batches)) if onward else _Endless(batches)


def _length(x: Any, steps: int | None) -> int:
    """Batches of an epoch over what can be read again; counted where it has no `len`."""
    if steps:
        return steps
    try:
        return len(x)
    except TypeError:
        return sum(1 for _ in x)


def _of_arrays(
    reading: Reading,
    x: Any,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    shuffle: bool,
    seed: int | None,
) -> Feed:
    batch_size = _checks.positive_integer("batch_size", 32 if batch_size is None else batch_size)
    if isinstance(reading.reader, CoreInputs) and reading.reader.one_sequence(x):
        y, sample_weight = (_one_row(value, len(x)) for value in (y, sample_weight))
    x = reading.reader.as_dict(x)
    reading.reader.check(x)
    rows = reading.reader.rows(x)
    y = reading.reader.arrays(y, "y")
    sample_weight = reading.reader.arrays(sample_weight, "sample_weight")
    check_rows(rows, y=y, sample_weight=sample_weight)
    lanes = min(batch_size, rows)
    streaming = reading.every is not None or reading.reader.carries(x)
    if streaming and rows % lanes:
        raise ValueError(
            "rows that carry state must fill every batch: the number of rows must be a multiple "
            f"of batch_size; received {rows} rows, batch_size={batch_size}, so that the last "
            f"batch has {rows % lanes}. Pass a batch_size that divides {rows}."
        )
    check_divides(lanes)
    parts = (x, y, sample_weight)
    while parts[-1] is None:
        parts = parts[:-1]
    source = ArrayBatches(parts, lanes, shuffle and not streaming, seed_or_random(seed))
    reading, first, _, streaming = _begun(reading, as_tuple(source[0]))
    return Feed(
        Batches(source, reading, first, len(source)), source, first, lanes, streaming, len(source)
    )


def _one_row(values: Any, steps: int) -> Any:
    """Targets or weights beside a table, one for each of its `steps`, as those of one row."""
    if values is None:
        return None
    if isinstance(values, dict):
        return {name: _one_row(value, steps) for name, value in values.items()}
    array = _checks.array("y", plain(values))
    return array[None] if array.shape[:1] == (steps,) else array
