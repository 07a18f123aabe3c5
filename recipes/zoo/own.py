"""A user's own rows, in three parts that do not meet: 80 % to train, 10 to validate, 10 to test."""

import numpy as np


def split(rows, seed, key=None):
    """Parts of `rows` in a random order; rows with the same `key(row)` go to the same part.

    Raises:
        ValueError: fewer than ten different rows.
    """
    keys = list(range(len(rows))) if key is None else [key(row) for row in rows]
    distinct = sorted(set(keys))
    if len(distinct) < 10:
        raise ValueError(f"there must be at least 10 different rows; received {len(distinct)}")
    order = np.random.default_rng(seed).permutation(len(distinct))
    tenth = len(distinct) // 10
    part_of = np.zeros(len(distinct), int)
    part_of[order[:tenth]], part_of[order[tenth : 2 * tenth]] = 1, 2
    place = {one: part_of[i] for i, one in enumerate(distinct)}
    parts = ([], [], [])
    for row, one in zip(rows, keys):
        parts[place[one]].append(row)
    return parts


def labelled(*parts):
    """The labels of rows (x, label), and the parts with the places of the labels instead.

    Raises:
        ValueError: rows that all have one label.
    """
    labels = sorted({label for part in parts for _, label in part})
    if len(labels) < 2:
        raise ValueError(f"there must be at least 2 labels; received {', '.join(labels)}")
    place = {label: i for i, label in enumerate(labels)}
    return labels, *([(x, place[label]) for x, label in part] for part in parts)
