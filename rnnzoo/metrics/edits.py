"""The distance between two sequences, on which word and phoneme error rates are built."""

from collections.abc import Sequence


def edit_distance(first: Sequence, second: Sequence) -> int:
    """The fewest insertions, deletions and substitutions from `first` to `second`.

    Levenshtein (1966). Divided by the length of the true sequence it is an error rate: of
    words, phonemes or characters, whichever the items are.

    Example:

    >>> edit_distance("K AE T".split(), "K AA R T".split())
    2
    """
    row = list(range(len(second) + 1))
    for i, item in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (item != other))
    return row[-1]
