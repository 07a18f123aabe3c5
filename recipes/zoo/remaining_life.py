"""C-MAPSS FD001: how many cycles an engine has left, told at each cycle of its sensors."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scaling import scale_into

import rnnzoo
from rnnzoo.data import read_text

# Not with the project, since NASA states no licence: see recipes/data/README.md.
DATA = Path(__file__).resolve().parents[1] / "data" / "cmapss-fd001"
FILES = ("train_FD001.txt", "test_FD001.txt", "RUL_FD001.txt")
# Of 26 columns: the 14 sensors that are not the same all the time (the choice of most papers).
SENSORS = [6, 7, 8, 11, 12, 13, 15, 16, 17, 18, 19, 21, 24, 25]
CAP = 125  # cycles: nothing tells a new engine from one that has more to go
CUTS = 10
# Some sensors are 450 times as large as they vary: half precision of their weights is too coarse.
STORAGE = "float32"


def read(validate):
    """The given split; validation is every fifth training engine, cut at ten places."""
    engines, cut = (by_engine(table(name)) for name in FILES[:2])
    left = table(FILES[2])[:, 0]
    held = list(zip(cut, left))
    if validate:
        random = np.random.default_rng(0)
        ends = [(x, len(x) - rest) for x in engines[4::5] for rest in random.integers(7, 146, CUTS)]
        held = [(x[:end], len(x) - end) for x, end in ends if end >= 30]
        engines = [x for i, x in enumerate(engines) if i % 5 != 4]
    train = [(x, np.minimum(np.arange(len(x))[::-1], CAP)) for x in engines]
    steps = np.concatenate(engines)
    known = {"mean": steps.mean(axis=0), "deviation": steps.std(axis=0)}
    return SimpleNamespace(train=train, held=held, sizes={}, labels=None, **known)


def table(name):
    path = next((p for p in (DATA / name, DATA / f"{name}.gz") if p.is_file()), DATA / name)
    return np.array([line.split() for line in read_text(path).splitlines()], "float64")


def by_engine(rows):
    ends = np.flatnonzero(np.diff(rows[:, 0])) + 1
    return [part[:, SENSORS].astype("float32") for part in np.split(rows, ends)]


def batches(data, training, seed):
    x = [(x - data.mean) / data.deviation for x, _ in data.train]
    y = [left[:, None] / CAP for _, left in data.train]
    options = {"per_step": True, "shuffle": True, "seed": seed, "pad_to_multiple_of": 64}
    return rnnzoo.data.bucket(x, y, batch_size=training.batch, **options)


def updates(train, training):
    return len(train)


def finish(model, data):
    """The model takes what the sensors say, and answers in cycles."""
    scale_into(model, data.mean, data.deviation)
    last = model.core.get_layer("output_layer")
    last.set_weights([weights * CAP for weights in last.get_weights()])


def measure(model, data):
    """Root mean squared error in cycles, at the last cycle of each engine of the test."""
    x, left = zip(*data.held)
    told = model.predict(rnnzoo.data.bucket(x, batch_size=32, pad_to_multiple_of=64), verbose=0)
    last = [outputs[len(rows) - 1, 0] for outputs, rows in zip(told, x)]
    return error(np.array(last), left)


def error(told, left):
    return float(np.sqrt(np.mean((told - np.array(left)) ** 2)))


def baseline(data):
    """Ridge regression on the last 30 cycles, and the same answer for all engines."""
    pairs = [
        (summary(x[:end]), y[end - 1]) for x, y in data.train for end in range(30, len(x) + 1, 3)
    ]
    table, y = (np.array(part) for part in zip(*pairs))
    held, left = np.array([summary(x) for x, _ in data.held]), [left for _, left in data.held]
    mean, scale = table.mean(axis=0), table.std(axis=0) + 1e-9
    table, held = (table - mean) / scale, (held - mean) / scale
    weights = np.linalg.solve(table.T @ table + np.eye(table.shape[1]), table.T @ (y - y.mean()))
    figures = {
        "ridge regression on the last 30 cycles": np.clip(held @ weights + y.mean(), 0, CAP),
        "always the mean": np.full(len(left), y.mean()),
    }
    return {name: round(error(told, left), 2) for name, told in figures.items()}


def summary(x):
    """Means of the last 30 and 5 cycles, slopes, and how long the engine ran."""
    part = x[-30:]
    times = np.linspace(-1, 1, len(part))[:, None]
    slope = (times * (part - part.mean(axis=0))).mean(axis=0)
    return np.concatenate([part.mean(axis=0), x[-5:].mean(axis=0), slope, [len(x)]])
