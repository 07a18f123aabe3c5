"""What `fit`, `evaluate` and `predict` read: any data form of Keras, looked at and checked.

The first batch shows how many lanes there are; every batch is checked on its way, on the
host, where a wrong one can still be named: inside a compiled step a short batch would
broadcast, or fail far from its cause.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo.backend.keras_internals import DataAdapter
from rnnzoo.checked import (
    CheckedAdapter,
    CheckedDataset,
    as_tuple,
    checked,
    mark,
    starts_sequence,
)
from rnnzoo.inputs import as_arrays, carries_state, check_rows, rows_of


class Feed(NamedTuple):
    """Data ready for Keras, and what is known of them."""

    x: Any
    first: tuple  # the first batch, as (x, y, sample_weight) or shorter
    lanes: int
    streaming: bool  # the batches carry state: they bring `reset`, or `every` marks them
    batches: int | None  # in an epoch, where known


def batches_of(data: Feed, steps: int | None) -> Iterator[Any]:
    """The inputs of every batch of one epoch, `steps` batches at most."""
    if isinstance(data.x, dict):
        rows = rows_of(data.x)
        batches = (
            {key: value[i : i + data.lanes] for key, value in data.x.items()}
            for i in range(0, rows, data.lanes)
        )
    elif isinstance(data.x, CheckedDataset):
        batches = (data.x[i][0] for i in range(data.x.num_batches))
    else:
        batches = (batch[0] if isinstance(batch, tuple) else batch for batch in data.x)
    return itertools.islice(batches, steps)


def feed(
    x: Any,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    every: int | str | None,
    check: Callable[[Any, int | None], None],
    steps: int | None = None,
) -> Feed:
    """`x` as Keras takes it, with resets marked and every batch checked.

    Args:
        x, y, sample_weight, batch_size: as `fit` takes them.
        every: None, or the number of batches after which a sequence ends ("epoch": all).
        check: called with the inputs of a batch and the number of lanes (None: any).
        steps: batches in an epoch, for a generator that has no end of its own.
    """
    if isinstance(x, keras.utils.PyDataset):
        data = _feed_dataset(x, every, check)
        refuse_with_dataset(data, y=y, sample_weight=sample_weight)
        return data
    if hasattr(x, "element_spec"):
        return _feed_tensorflow(x, every, check)
    if hasattr(x, "__next__") or not (hasattr(x, "shape") or isinstance(x, (dict, list, tuple))):
        return _feed_iterable(x, every, check, steps)
    return _feed_arrays(x, y, sample_weight, batch_size, every, check)


def refuse_with_dataset(data: Feed, **given: Any) -> None:
    """ValueError for what a data set gives in its batches and Keras would overlook beside it."""
    given = [name for name, value in given.items() if value is not None]
    if given and isinstance(data.x, CheckedDataset):
        raise ValueError(
            "a data set gives inputs, targets and sample weights in its batches, "
            f"so {', '.join(given)} must be None; received a value for {', '.join(given)}"
        )


def refuse_shuffling(shuffle: Any, validation_split: float) -> None:
    """ValueError where batches that carry state are to lose their order."""
    if shuffle or validation_split:
        raise ValueError(
            "batches that carry state follow one another and must not be shuffled or "
            f"split; received shuffle={shuffle}, validation_split={validation_split}. "
            "Shuffle documents before packing; pass validation_data."
        )


def _first_of(first: Any, every: Any, check: Callable) -> tuple[tuple, int, bool]:
    first = as_tuple(first)
    streaming = every is not None or carries_state(first[0])
    check(first[0], None)
    if every is not None:
        first = mark(first, True)
    return first, rows_of(first[0]), streaming


def _feed_dataset(x: Any, every: Any, check: Callable) -> Feed:
    if x.num_batches == 0:
        raise ValueError("the dataset must have at least one batch; received one of length 0")
    first, lanes, streaming = _first_of(x[0], every, check)
    kind = CheckedAdapter if isinstance(x, DataAdapter) and every is None else CheckedDataset
    data = kind(x, every, check, lanes if streaming else None)
    return Feed(data, first, lanes, streaming, x.num_batches)


def _feed_iterable(x: Any, every: Any, check: Callable, steps: int | None) -> Feed:
    if not hasattr(x, "__iter__"):
        raise ValueError(
            "the data must be an array, a dict of arrays, or an iterable of batches; "
            f"received {_checks.shown(x)}"
        )
    iterator = iter(x)
    start = next(iterator, None)
    if start is None:
        raise ValueError("the data must have at least one batch; received an empty iterator")
    first, lanes, streaming = _first_of(start, every, check)

    def batches() -> Iterator:
        source = iter(x)
        pending = [start] if source is iterator else []
        index = 0
        while True:
            batch = pending.pop() if pending else next(source, None)
            if batch is None:
                return
            place = index % steps if steps else index
            yield checked(batch, place, every, check, lanes if streaming else None)
            index += 1

    return Feed(batches(), first, lanes, streaming, steps)


def _feed_tensorflow(x: Any, every: Any, check: Callable) -> Feed:
    """A `tf.data.Dataset`: the checks become part of its pipeline."""
    import tensorflow as tf

    if x.cardinality() == tf.data.UNKNOWN_CARDINALITY:
        raise ValueError(
            "a tf.data set must have a known length: Keras adds an empty training step to every "
            "epoch of one that has not. Received cardinality UNKNOWN; append "
            ".apply(tf.data.experimental.assert_cardinality(number_of_batches))."
        )
    start = next(iter(x.take(1)), None)
    if start is None:
        raise ValueError("the dataset must have at least one batch; received one of length 0")
    first, lanes, streaming = _first_of(start, every, check)

    def guard(index: Any, *batch: Any) -> tuple:
        batch = batch[0] if len(batch) == 1 and isinstance(batch[0], tuple) else batch

        def look(*tensors: Any) -> np.bool_:
            check(keras.tree.pack_sequence_as(batch[0], list(tensors)), lanes)
            return np.True_

        fine = tf.numpy_function(look, keras.tree.flatten(batch[0]), tf.bool)
        with tf.control_dependencies([fine]):
            batch = keras.tree.map_structure(tf.identity, batch)
        if every is not None:
            values = batch[0] if isinstance(batch[0], dict) else {"inputs": batch[0]}
            shape = tf.shape(values["inputs"])[:2]
            starts = index == 0 if every == "epoch" else index % every == 0
            reset = tf.logical_and(starts, tf.broadcast_to(tf.range(shape[1]) == 0, shape))
            batch = ({**values, "reset": reset}, *batch[1:])
        return batch

    if not streaming:
        return Feed(x, first, lanes, False, int(x.cardinality()))
    return Feed(x.enumerate().map(guard), first, lanes, True, int(x.cardinality()))


def _feed_arrays(
    x: Any, y: Any, sample_weight: Any, batch_size: int | None, every: Any, check: Callable
) -> Feed:
    batch_size = _checks.positive_integer("batch_size", 32 if batch_size is None else batch_size)
    check(x, None)
    x, rows = as_arrays(x), rows_of(x)
    check_rows(rows, y=y, sample_weight=sample_weight)
    lanes = min(batch_size, rows)
    streaming = every is not None or carries_state(x)
    if every is not None:
        starts = [starts_sequence(row // lanes, every) for row in range(rows)]
        (x,) = mark((x,), np.array(starts)[:, None])
    if streaming and rows % lanes:
        raise ValueError(
            "rows that carry state must fill every batch: the number of rows must be a multiple "
            f"of batch_size; received {rows} rows, batch_size={batch_size}, so that the last "
            f"batch has {rows % lanes}. Pass a batch_size that divides {rows}."
        )
    part = [v for v in (x, y, sample_weight)]
    first = tuple(
        None if v is None else keras.tree.map_structure(lambda a: a[:lanes], v) for v in part
    )
    return Feed(x, first, lanes, streaming, -(-rows // lanes))
