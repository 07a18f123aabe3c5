"""MNIST-1D: which of ten digits a line of 40 values was drawn from, read value by value."""

from pathlib import Path

import numpy as np
from labelled import (
    arranged,
    bucketed,
    finish,
    golden,
    measure,
    own,
    percent,
    scaled,
    still,
)

__all__ = ["baseline", "batches", "finish", "golden", "measure", "own", "read", "still"]

DATA = Path(__file__).resolve().parents[1] / "data" / "mnist-1d" / "mnist1d.npz"


def read(validate):
    """The given split; validation is every fifth training row."""
    with np.load(DATA) as stored:
        train, held = (rows(stored, part) for part in ("", "_test"))
    if validate:
        held, train = train[4::5], [row for i, row in enumerate(train) if i % 5 != 4]
    data = arranged(train, [], held)
    data.turned = True
    return data


def rows(stored, part):
    return [(x[:, None], str(y)) for x, y in zip(stored[f"x{part}"], stored[f"y{part}"])]


def batches(data, training, seed):
    """Each row from all 40 starts: the digits were moved along the line, end to beginning."""
    rows = scaled(data, data.train)
    if hasattr(data, "turned"):  # and not with data of others, which may not be circles
        rows = [(np.roll(x, start, axis=0), y) for x, y in rows for start in range(len(x))]
    return bucketed(rows, training.batch, shuffle=True, seed=seed)


def baseline(data):
    """The nearest training row, as it is and from all starts, and the most frequent digit."""
    longest = max(len(x) for x, _ in data.train + data.held)
    table, held = (filled(part, longest) for part in (data.train, data.held))
    y, right = (np.array([label for _, label in part]) for part in (data.train, data.held))
    squares, width = (table**2).sum(axis=1), table.shape[1] // longest
    near = squares - 2 * held @ table.T
    turned = near
    for start in range(width, table.shape[1], width):
        turned = np.minimum(turned, squares - 2 * np.roll(held, start, axis=1) @ table.T)
    told = {
        "nearest neighbour": y[near.argmin(axis=1)],
        "nearest neighbour from all starts": y[turned.argmin(axis=1)],
        "always the most frequent": np.bincount(y).argmax(),
    }
    return {name: percent(answers == right) for name, answers in told.items()}


def filled(rows, longest):
    return np.array([np.pad(x, [(0, longest - len(x)), (0, 0)]).ravel() for x, _ in rows])
