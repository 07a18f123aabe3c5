"""Pairs of source and target sequences of like length together in a batch, padded and masked."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import flag, positive_integer
from rnnzoo.data.buckets import BucketDataset, below_one_another
from rnnzoo.data.epochs import seed_of_order
from rnnzoo.data.padding import padded_lengths, round_up
from rnnzoo.data.reading import steps_of
from rnnzoo.data.steps import Steps
from rnnzoo.data.tokens import TextVocabulary


def pairs(
    sources: Iterable,
    targets: Iterable,
    batch_size: int = 32,
    *,
    shuffle: bool = False,
    seed: int | None = None,
    pad_to_multiple_of: int | None = None,
    source_vocabulary: int | TextVocabulary | None = None,
    target_vocabulary: int | TextVocabulary | None = None,
    check_finite: bool = False,
) -> "PairDataset":
    """Sources and their targets, like lengths together, padded: a `keras.utils.PyDataset`.

    For `encoder_decoder`. A batch is `({"source", "source_mask", "target", "target_mask"},)`:

    - `source`, `target`: `(rows, T)` int32 tokens or `(rows, T, features)` float32, zeros after
      the end; T is one of the few lengths of that side, as in `bucket`;
    - `source_mask`, `target_mask`: `(rows, T)` bool, True on real steps.

    Targets come without start and end tokens, which the model adds. Order and shuffling are
    those of `bucket`, by the length of both sides together.

    Args:
        sources: arrays, lists or tables, `(n,)` integer tokens or `(n, features)` numbers, and
            texts where there is a `Vocabulary`; any iterable.
        targets: the same, one for each source.
        batch_size: rows of a batch.
        shuffle: whether each epoch has another order.
        seed: an integer; None draws one from NumPy's global generator. It is kept as `.seed`.
        pad_to_multiple_of: T is the longest of the side in the batch, rounded up to a multiple
            of this (1: not rounded), instead of one of few lengths.
        source_vocabulary, target_vocabulary: the number of tokens, which must lie in
            `[0, vocabulary)`, or the `Vocabulary` that also encodes texts.
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
    batch_size = positive_integer("batch_size", batch_size)
    shuffle, check_finite = flag("shuffle", shuffle), flag("check_finite", check_finite)
    if pad_to_multiple_of is not None:
        positive_integer("pad_to_multiple_of", pad_to_multiple_of)
    _checks.seed("seed", seed)
    sides = {}
    for side, given, vocabulary in (
        ("source", sources, source_vocabulary),
        ("target", targets, target_vocabulary),
    ):
        argument = f"{side}_vocabulary"
        made = steps_of(given, f"{side}s", vocabulary, check_finite, argument=argument)
        sides[side] = made.check_all()
    counts = [len(steps.arrays) for steps in sides.values()]
    if counts[0] != counts[1]:
        raise ValueError(
            "every source must have one target; "
            f"received {counts[0]} sources and {counts[1]} targets"
        )
    return PairDataset(
        sides,
        batch_size=batch_size,
        multiple=pad_to_multiple_of,
        shuffle=shuffle,
        seed=seed_of_order(seed, shuffle),
    )


class PairDataset(BucketDataset):
    """Padded batches of sources and targets: what `rnnzoo.data.pairs` returns."""

    def __init__(self, sides: dict[str, Steps], *, multiple: int | None, **options: Any):
        super().__init__(sides, {}, [], multiple=multiple, **options)
        self._lengths = sum(steps.lengths for steps in sides.values())
        self._sides = {side: padded_lengths(v.lengths, multiple) for side, v in sides.items()}
        self._steps = None

    def _batch(self, index: int, epoch: int) -> tuple[Any, ...]:
        rows = self._batches(epoch)[index]
        own, x = self._own(len(rows)), {}
        for side, steps in self._inputs.items():
            longest = round_up(steps.lengths[rows].max(), self._sides[side])
            x[side] = below_one_another(steps, rows[own], longest)
            x[f"{side}_mask"] = np.arange(longest) < steps.lengths[rows[own], None]
        return (x,)
