"""C-MAPSS FD001: how many cycles an engine has left, told at each cycle of its sensors."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from labelled import golden, scale_into, spread
from own import split

import rnnzoo
from rnnzoo.data import read_csv, read_text

__all__ = ["baseline", "batches", "finish", "golden", "measure", "own", "read", "still"]

# Not with the project, since NASA states no licence: see recipes/data/README.md.
DATA = Path(__file__).resolve().parents[1] / "data" / "cmapss-fd001"
# Some sensors are 450 times as large as they vary: half precision of their weights is too coarse.
STORAGE = "float32"
# Of 26 columns: the 14 sensors that are not the same all the time (the choice of most papers).
SENSORS = [6, 7, 8, 11, 12, 13, 15, 16, 17, 18, 19, 21, 24, 25]
CAP = 125  # cycles: nothing tells a new engine from one that has more to go
CUTS = 10
SEEN = 30  # cycles that the plain method looks at


def read(validate):
    """The given split; validation is every fifth training engine, each cut at ten places."""
    engines, cut = (by_engine(table(f"{part}_FD001.txt")) for part in ("train", "test"))
    held = list(zip(cut, table("RUL_FD001.txt")[:, 0]))
    if validate:
        held = cut_short(engines[4::5])
        engines = [x for i, x in enumerate(engines) if i % 5 != 4]
    return arranged(engines, [], held)


def own(path, seed):
    """A CSV file with the columns sequence, step, features..., each sequence up to its end."""
    train, valid, held = split(read_csv(path).sequences, seed)
    held = cut_short(held)
    if not held or max(map(len, train)) < SEEN:
        raise ValueError(
            f"{path} must have sequences of which {SEEN} steps are left where 7 to 145 before the "
            "end are cut off; received too short ones"
        )
    return arranged(train, [(x, 0) for x in valid], held)


def arranged(engines, valid, held):
    """Rows (x, cycles left after the last); engines to train on ran to their end."""
    known = {**spread(engines), "labels": None}
    known["sizes"] = {"features": len(known["mean"])}
    train = [(x, 0) for x in engines]
    return SimpleNamespace(train=train, valid=valid, held=held, **known)


def table(name):
    path = next((p for p in (DATA / name, DATA / f"{name}.gz") if p.is_file()), DATA / name)
    return np.array([line.split() for line in read_text(path).splitlines()], "float64")


def by_engine(rows):
    ends = np.flatnonzero(np.diff(rows[:, 0])) + 1
    return [part[:, SENSORS].astype("float32") for part in np.split(rows, ends)]


def cut_short(engines):
    """Each engine up to ten random cycles, with 7 to 145 left, as those of the test have."""
    random = np.random.default_rng(0)
    places = [(x, rest) for x in engines for rest in random.integers(7, 146, CUTS)]
    return [(x[: len(x) - rest], rest) for x, rest in places if len(x) - rest >= SEEN]


def scaled(data, rows):
    x = [(x - data.mean) / data.deviation for x, _ in rows]
    counts = [left + np.arange(len(x))[::-1, None] for x, left in rows]
    return x, [np.minimum(count, CAP) / CAP for count in counts]


def batches(data, training, seed):
    """Engines one after the other in lanes, the state carried on and reset before each."""
    x, y = scaled(data, data.train)
    options = {"targets": y, "shuffle": True, "seed": seed, "windows_per_batch": 4}
    lanes = max(1, min(training.batch, sum(map(len, x)) // training.window))
    return rnnzoo.data.pack(x, lanes, training.window, **options)


def still(data, rows):
    x, y = scaled(data, rows)
    return rnnzoo.data.bucket(x, y, batch_size=32, per_step=True)


def finish(model, data):
    """The model takes what the sensors say, and answers in cycles."""
    scale_into(model, data.mean, data.deviation)
    last = model.core.get_layer("output_layer")
    last.set_weights([weights * CAP for weights in last.get_weights()])


def measure(model, data):
    """Root mean squared error in cycles, at the last cycle of each engine of the test."""
    x, left = zip(*data.held)
    told = model.predict(rnnzoo.data.bucket(x, batch_size=32), verbose=0)
    return error([outputs[len(rows) - 1, 0] for outputs, rows in zip(told, x)], left)


def error(told, left):
    return float(np.sqrt(np.mean((np.array(told) - np.array(left)) ** 2)))


def baseline(data):
    """Ridge regression on the last 30 cycles, and the same answer for all engines."""
    pairs = [
        (summary(x[:end]), min(len(x) - end, CAP))
        for x, _ in data.train
        for end in range(SEEN, len(x) + 1, 3)
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
    part = x[-SEEN:]
    times = np.linspace(-1, 1, len(part))[:, None]
    slope = (times * (part - part.mean(axis=0))).mean(axis=0)
    return np.concatenate([part.mean(axis=0), x[-5:].mean(axis=0), slope, [len(x)]])
