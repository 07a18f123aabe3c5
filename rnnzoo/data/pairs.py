"""Pairs of source and target sequences of like length together in a batch, padded and masked."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnzoo._checks import positive_integer
from rnnzoo.data.buckets import BucketDataset, padded
from rnnzoo.data.epochs import seed_or_random
from rnnzoo.data.reading import Reader, as_sequences


def pairs(
    sources: Iterable,
    targets: Iterable,
    batch_size: int = 32,
    *,
    shuffle: bool = False,
    seed: int | None = None,
    pad_to_multiple_of: int = 1,
    source_vocabulary: int | None = None,
    target_vocabulary: int | None = None,
    check_finite: bool = False,
) -> "PairDataset":
    """Sources and their targets, like lengths together, padded: a `keras.utils.PyDataset`.

    For `encoder_decoder`. A batch is `({"source", "source_mask", "target", "target_mask"},)`:

    - `source`, `target`: `(rows, T)` int32 tokens or `(rows, T, features)` float32, zeros after
      the end; T is the longest of that side in the batch, rounded up to `pad_to_multiple_of`;
    - `source_mask`, `target_mask`: `(rows, T)` bool, True on real steps.

    Targets come without start and end tokens, which the model adds. Order and shuffling are
    those of `bucket`, by the length of both sides together.

    Args:
        sources: arrays or lists, `(n,)` integer tokens or `(n, features)` numbers; any iterable.
        targets: the same, one for each source.
        batch_size: rows of a batch.
        shuffle: whether each epoch has another order.
        seed: an integer; None draws one from NumPy's global generator. It is kept as `.seed`.
        pad_to_multiple_of: T is a multiple of this; it saves compilations.
        source_vocabulary, target_vocabulary: when given, tokens must lie in `[0, vocabulary)`.
        check_finite: whether NaN and infinity are errors.

    Returns:
        A data set with `len()`, `order` (indices of the pairs as served), `epoch`, `seed`.

    Raises:
        ValueError: on arguments that break these rules; the text names sequence and step.

    Example:

    >>> batches = pairs([[1, 2], [3]], [[4], [5, 6, 7]], batch_size=2)
    >>> x = batches[0][0]
    >>> x["source"], x["target"]
    (array([[3, 0],
           [1, 2]], dtype=int32), array([[5, 6, 7],
           [4, 0, 0]], dtype=int32))
    """
    sides, readers = [], []
    for name, values, vocabulary in (
        ("sources", sources, source_vocabulary),
        ("targets", targets, target_vocabulary),
    ):
        arrays = as_sequences(values, name)
        reader = Reader.of_steps(arrays[0], vocabulary, check_finite)
        for i, array in enumerate(arrays):
            reader.check(array, f"{name}[{i}]")
        sides.append(arrays)
        readers.append(reader)
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            "every source must have one target; "
            f"received {len(sides[0])} sources and {len(sides[1])} targets"
        )
    return PairDataset(
        sides,
        readers,
        batch_size=positive_integer("batch_size", batch_size),
        multiple=positive_integer("pad_to_multiple_of", pad_to_multiple_of),
        shuffle=bool(shuffle),
        seed=seed_or_random(seed) if shuffle else 0,
    )


class PairDataset(BucketDataset):
    """Padded batches of sources and targets: what `rnnzoo.data.pairs` returns."""

    def __init__(self, sides: list[list[np.ndarray]], readers: list[Reader], **options: Any):
        super().__init__(sides[0], readers[0], [], **options)
        self._sides, self._readers = sides, readers
        self._lengths = self._lengths + np.array([len(array) for array in sides[1]])
        self._steps = None

    def _batch(self, index: int, epoch: int) -> tuple[Any, ...]:
        rows = self._batches(epoch)[index]
        own, x = self._own(len(rows)), {}
        for side, arrays, reader in zip(("source", "target"), self._sides, self._readers):
            values, mask = padded(reader, arrays, rows, own, self._multiple, f"{side}s")
            x |= {side: values, f"{side}_mask": mask}
        return (x,)
