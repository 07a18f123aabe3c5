"""How far sequences are padded: to few lengths, for each of which a model is compiled anew."""

import numpy as np

# Lengths that are compiled without a question; no more than the second number in any case.
_FEW, _MOST = 8, 16
# Padding to spare for fewer lengths, as a share of all real steps.
_SPARE = 0.1
# Lengths among which the rule chooses; more would change the padding by less than 1 in 256.
_CANDIDATES = 256


def padded_lengths(lengths: np.ndarray, multiple: int | None) -> np.ndarray:
    """The lengths, rising, up to the next of which sequences of `lengths` are to be padded.

    Args:
        lengths: the steps of each sequence.
        multiple: pad to multiples of it; None chooses the lengths that leave the least padding:
            8, or up to 16 of them where 8 would leave more padding than a tenth of all steps.
    """
    if multiple is not None:
        return np.unique(-(-lengths // multiple) * multiple)
    ends, counts = np.unique(lengths, return_counts=True)
    if len(ends) <= _FEW:
        return ends
    number, total = np.cumsum(counts), np.cumsum(counts * ends)
    if len(ends) > _CANDIDATES:
        chosen = np.linspace(0, len(ends) - 1, _CANDIDATES).round().astype(int)
        ends, number, total = ends[chosen], number[chosen], total[chosen]
    return ends[_least_padding(ends, number, total)]


def round_up(steps: int, padded: np.ndarray) -> int:
    """The first of the `padded` lengths that holds `steps`."""
    return int(padded[np.searchsorted(padded, steps)])


def _least_padding(ends: np.ndarray, number: np.ndarray, total: np.ndarray) -> list[int]:
    """Which of `ends` to pad to, by dynamic programming; the last is always one of them.

    Args:
        ends: candidates, rising.
        number, total: how many sequences are not longer than each, and their steps in sum.
    """
    # padding[i, j]: of the sequences longer than candidate i - 1, up to j, all padded to j.
    before, done = np.append(0, number[:-1])[:, None], np.append(0, total[:-1])[:, None]
    padding = ends * (number - before) - (total - done).astype(float)
    padding[np.tril_indices(len(ends), -1)] = np.inf
    best, ways = padding[0], []
    for count in range(2, _MOST + 1):
        # Candidates before i are padded by the best of count - 1 lengths, the rest to j.
        choices = np.append(np.inf, best[:-1])[:, None] + padding
        ways.append(choices.argmin(axis=0))
        best = choices.min(axis=0)
        if count >= _FEW and best[-1] <= _SPARE * total[-1]:
            break
    place, chosen = len(ends) - 1, []
    for way in reversed(ways):
        chosen.append(place)
        place = int(way[place]) - 1
    return [place, *reversed(chosen)]
