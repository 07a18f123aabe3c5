"""The distance between two sequences, on which word and phoneme error rates are built."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnzoo import _checks


def edit_distance(first: Sequence, second: Sequence) -> int:
    """The fewest insertions, deletions and substitutions from `first` to `second`.

    Levenshtein (1966). Divided by the length of the true sequence it is an error rate: of
    words, phonemes or characters, whichever the items are.

    Args:
        first, second: str, lists, tuples or arrays `(items,)`.

    Raises:
        ValueError: what is none of these.

    Example:

    >>> edit_distance("K AE T".split(), "K AA R T".split())
    2
    """
    first, second = _items("first", first), _items("second", second)
    row = list(range(len(second) + 1))
    for i, item in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (item != other))
    return row[-1]


def _items(name: str, given: Any) -> Sequence:
    if not isinstance(given, Sequence):
        array = _checks.array(name, given)
        if array.ndim != 1:
            raise _checks.refuse(name, "a str, a list, a tuple or an array (items,)", given)
        return array.tolist()
    if any(isinstance(item, np.ndarray) for item in given):
        raise _checks.refuse(name, "a sequence of items that compare as wholes", given)
    return given
