"""Whole sequences of like length together in a batch, padded and masked."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnzoo._checks import positive_integer
from rnnzoo.data.epochs import EpochDataset, seed_or_random
from rnnzoo.data.reading import Reader, as_sequences, as_targets

# How far shuffling moves a sequence in the order by length, in batches.
_NEIGHBOURHOOD = 2


def bucket(
    sequences: Iterable,
    targets: Iterable | None = None,
    batch_size: int = 32,
    *,
    shuffle: bool = False,
    seed: int | None = None,
    pad_to_multiple_of: int = 1,
    sample_weight: Iterable | None = None,
    vocabulary: int | None = None,
    check_finite: bool = False,
) -> "BucketDataset":
    """Whole sequences, like lengths together, padded: a `keras.utils.PyDataset`.

    A batch is `({"inputs", "mask"}, y)`, or `({"inputs", "mask"},)` without targets, or
    `({"inputs", "mask"}, y, sample_weight)` where weights are given:

    - `inputs`: `(rows, T)` int32 tokens or `(rows, T, features)` float32, zeros after the end;
    - `mask`: `(rows, T)` bool, True on real steps;
    - `y`: `(rows, ...)`, integers as int32, others as float32;
    - `sample_weight`: `(rows,)` float32; `fit(class_weight=...)` has no effect on this data set.

    Every sequence comes once in an epoch. T is the longest of the batch, rounded up to
    `pad_to_multiple_of`: XLA compiles anew for each T, so a multiple of 8 or 32 may save time.
    The number of batches is `ceil(sequences / batch_size)`; the last may have fewer rows.

    Without shuffling, batches come from the longest to the shortest, so that a lack of memory
    shows at once. With it, sequences mix with others of about the same length (within about
    2 batches in the order by length), and batches come in random order, by seed and epoch.

    Args:
        sequences: arrays, lists or memmap views, `(n,)` integer tokens or `(n, features)`
            numbers; any iterable (it is read into a list).
        targets: None, or one target of the same shape for each sequence.
        batch_size: rows of a batch.
        shuffle: whether each epoch has another order.
        seed: an integer; None draws one from NumPy's global generator. It is kept as `.seed`.
        pad_to_multiple_of: T is a multiple of this.
        sample_weight: None, or one weight for each sequence; needs `targets`.
        vocabulary: when given, tokens must lie in `[0, vocabulary)`.
        check_finite: whether NaN and infinity are errors.

    Returns:
        A data set with `len()`, `order` (sequence indices as served), `epoch` (set it to
        resume a run), `seed`.

    Raises:
        ValueError: on arguments that break these rules; the text names sequence and step.

    Example:

    >>> import numpy as np
    >>> words = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6])]
    >>> batches = bucket(words, [0, 1, 1], batch_size=2)
    >>> x, y = batches[0]
    >>> x["inputs"], y
    (array([[1, 2, 3],
           [5, 6, 0]], dtype=int32), array([0, 1], dtype=int32))
    >>> x["mask"].sum(axis=1)
    array([3, 2])
    >>> batches.order
    array([0, 2, 1])
    """
    arrays = as_sequences(sequences)
    reader = Reader.of_steps(arrays[0], vocabulary, check_finite)
    others = [_per_sequence("targets", targets, len(arrays), check_finite)]
    others.append(_per_sequence("sample_weight", sample_weight, len(arrays), True))
    batch_size = positive_integer("batch_size", batch_size)
    multiple = positive_integer("pad_to_multiple_of", pad_to_multiple_of)
    seed = seed_or_random(seed) if shuffle else 0
    if sample_weight is not None:
        if targets is None or others[1].ndim != 1:
            raise ValueError(
                "sample_weight must be one number for each target; received shape "
                f"{others[1].shape} {'without' if targets is None else 'with'} targets"
            )
        others[1] = others[1].astype(np.float32)
    for i, array in enumerate(arrays):
        reader.check(array, f"sequences[{i}]")
    return BucketDataset(
        arrays,
        reader,
        [other for other in others if other is not None],
        batch_size=batch_size,
        multiple=multiple,
        shuffle=bool(shuffle),
        seed=seed,
    )


def _per_sequence(name, values, count: int, check_finite: bool) -> np.ndarray | None:
    if values is None:
        return None
    values = values if hasattr(values, "__len__") else list(values)
    values = np.array(as_targets(values, name, count, of="sequence"))
    reader = Reader.of_targets(values, check_finite)
    return reader.read(values, 0, count, name)


class BucketDataset(EpochDataset):
    """Padded batches of whole sequences: what `rnnzoo.data.bucket` returns.

    Attributes:
        batch_size: rows of a batch, at most.
        epoch: the epoch that is served; set it to resume.
        seed: the seed of the order.
    """

    _per_step = False

    def __init__(
        self,
        arrays: list[np.ndarray],
        reader: Reader,
        others: list[np.ndarray],
        *,
        batch_size: int,
        multiple: int,
        shuffle: bool,
        seed: int,
    ):
        super().__init__(batch_size, seed)
        self._arrays = arrays
        self._reader = reader
        self._others = others
        self._shuffle = shuffle
        self._lengths = np.array([len(array) for array in arrays])
        self._multiple = multiple
        self._planned: tuple[int, list[np.ndarray]] | None = None
        self._count = -(-len(arrays) // batch_size)
        steps = set((-(-self._lengths // multiple) * multiple).tolist())
        self._steps = steps.pop() if len(steps) == 1 else None

    @property
    def order(self) -> np.ndarray:
        """Indices of the sequences in the order in which the present epoch serves them."""
        return np.concatenate(self._batches(self.epoch))

    def _batches(self, epoch: int) -> list[np.ndarray]:
        planned = self._planned
        if planned is None or planned[0] != epoch:
            batches = self._shuffled(epoch) if self._shuffle else self._sorted()
            planned = self._planned = (epoch, batches)
        return planned[1]

    def _sorted(self) -> list[np.ndarray]:
        order = np.argsort(-self._lengths, kind="stable")
        return np.split(order, range(self.batch_size, len(order), self.batch_size))

    def _shuffled(self, epoch: int) -> list[np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        # Sequences of one length first change places at random, then all move a little.
        order = random.permutation(len(self._lengths))
        order = order[np.argsort(self._lengths[order], kind="stable")]
        reach = _NEIGHBOURHOOD * self.batch_size
        rank = np.arange(len(order)) + random.uniform(0, reach, len(order))
        order = order[np.argsort(rank)]
        # Else the short batch would always hold the longest sequences.
        short = len(order) % self.batch_size
        cut = int(random.integers(len(self))) * self.batch_size
        last, rest = order[cut : cut + short], np.delete(order, slice(cut, cut + short))
        batches = rest.reshape(-1, self.batch_size)
        batches = [batches[i] for i in random.permutation(len(batches))]
        return [*batches, last] if short else batches

    def _batch(self, index: int, epoch: int) -> tuple[Any, ...]:
        rows = self._batches(epoch)[index]
        own = self._own(len(rows))
        inputs, mask = padded(self._reader, self._arrays, rows, own, self._multiple, "sequences")
        return {"inputs": inputs, "mask": mask}, *(other[rows[own]] for other in self._others)


def padded(
    reader: Reader,
    arrays: list[np.ndarray],
    rows: np.ndarray,
    own: slice,
    multiple: int,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of `rows[own]` below one another, zeros after their ends, and where they are real.

    As many steps as the longest of all `rows` has, whichever of them are read.
    """
    lengths = np.array([len(arrays[i]) for i in rows])
    steps = int(-(-lengths.max() // multiple) * multiple)
    rows, lengths = rows[own], lengths[own]
    values = np.zeros((len(rows), steps, *reader.shape), reader.dtype)
    for row, i in enumerate(rows):
        values[row, : lengths[row]] = reader.read(arrays[i], 0, lengths[row], f"{name}[{i}]")
    return values, np.arange(steps) < lengths[:, None]
