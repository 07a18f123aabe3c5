"""MNIST-1D: which of ten digits a line of 40 values was drawn from, read value by value."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

import rnnzoo

DATA = Path(__file__).resolve().parents[1] / "data" / "mnist-1d" / "mnist1d.npz"


def read(validate):
    """The given split; validation is every fifth training row."""
    with np.load(DATA) as stored:
        x, y, held, right = (stored[name] for name in ("x", "y", "x_test", "y_test"))
    if validate:
        kept = np.arange(len(x)) % 5 != 4
        x, y, held, right = x[kept], y[kept], x[~kept], y[~kept]
    labels = [str(digit) for digit in range(10)]
    parts = {"train": (x, y.astype(int)), "held": (held, right.astype(int))}
    return SimpleNamespace(**parts, sizes={}, labels=labels)


def batches(data, training, seed):
    """Each row from all 40 starts: the digits were moved along the line, end to beginning."""
    x, y = data.train
    turned = np.concatenate([np.roll(x, start, axis=1) for start in range(x.shape[1])])
    return bucketed(turned, np.tile(y, x.shape[1]), training.batch, shuffle=True, seed=seed)


def bucketed(x, y, batch, **options):
    return rnnzoo.data.bucket(list(x[..., None]), y, batch_size=batch, **options)


def updates(train, training):
    return len(train)


def finish(model, data):
    """Nothing: the weights are ready."""


def measure(model, data):
    """Per cent of rows whose digit is told."""
    return 100 * model.evaluate(bucketed(*data.held, 256), return_dict=True, verbose=0)["accuracy"]


def baseline(data):
    """The nearest training row, as it is and from all starts, and the most frequent digit."""
    (x, y), (held, right) = data.train, data.held
    squares = (x**2).sum(axis=1)
    near = [squares - 2 * np.roll(held, start, axis=1) @ x.T for start in range(x.shape[1])]
    figures = {
        "nearest neighbour": y[near[0].argmin(axis=1)] == right,
        "nearest neighbour from all starts": y[np.min(near, axis=0).argmin(axis=1)] == right,
        "always the most frequent": np.bincount(y).argmax() == right,
    }
    return {name: round(100 * float(np.mean(hit)), 2) for name, hit in figures.items()}
