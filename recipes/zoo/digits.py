"""Spoken digits: which of ten is said, from log-mel frames; the scaling ends up in the weights."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scaling import scale_into

import rnnzoo

DATA = Path(__file__).resolve().parents[1] / "data" / "spoken-digits" / "fsdd_logmel26.npz"
COPIES = 8


def read(validate):
    """The official split: recordings 0 to 4 of each digit and speaker to test; 5 to 9 validate."""
    with np.load(DATA) as stored:
        low, high = float(stored["lo"]), float(stored["hi"])
        frames = (low + stored["x"] / 255 * (high - low)).astype("float32")
        x = np.split(frames, np.cumsum(stored["length"].astype(int))[:-1])
        digits, index = stored["digit"].astype(int), stored["index"]
    rows = {part: [] for part in range(10)}
    for recording, digit, number in zip(x, digits, index):
        rows[number // 5].append((recording, digit))
    held = rows.pop(1 if validate else 0)
    if validate:
        rows.pop(0)
    train = [row for part in rows.values() for row in part]
    steps = np.concatenate([x for x, _ in train])
    known = {"mean": steps.mean(axis=0), "deviation": steps.std(axis=0), "sizes": {}}
    labels = [str(digit) for digit in range(10)]
    return SimpleNamespace(train=train, held=held, labels=labels, **known)


def batches(data, training, seed):
    """Each recording as it is and in `COPIES - 1` changed ways, scaled."""
    random = np.random.default_rng(seed)
    rows = [((x - data.mean) / data.deviation, y) for x, y in data.train]
    more = [(changed(x, random), y) for x, y in rows for _ in range(COPIES - 1)]
    return bucketed(rows + more, training.batch, shuffle=True, seed=seed)


def changed(x, random):
    """Another speed, loudness, voice and microphone; a stretch of frames and of bands hidden."""
    speed, shift = random.uniform(0.8, 1.25), random.uniform(-1.5, 1.5)
    times = np.arange(0, len(x) - 1, speed)
    first = times.astype(int)
    part = (times - first)[:, None]
    x = (1 - part) * x[first] + part * x[first + 1]
    bands = np.clip(np.arange(26) + shift, 0, 25)
    low = np.minimum(bands.astype(int), 24)
    x = (1 - (bands - low)) * x[:, low] + (bands - low) * x[:, low + 1]
    tilt = random.normal(0, 0.3) + random.normal(0, 0.3) * np.linspace(-1, 1, 26)
    x = x + tilt + random.normal(0, 0.1, x.shape)
    start, band = random.integers(len(x)), random.integers(26)
    x[start : start + random.integers(len(x) // 5 + 1)] = 0
    x[:, band : band + random.integers(5)] = 0
    return x.astype("float32")


def bucketed(rows, batch, **options):
    x, y = zip(*rows)
    return rnnzoo.data.bucket(x, np.array(y), batch_size=batch, pad_to_multiple_of=32, **options)


def updates(train, training):
    return len(train)


def finish(model, data):
    scale_into(model, data.mean, data.deviation)


def measure(model, data):
    """Per cent of recordings whose digit is told."""
    held = bucketed(data.held, 64)
    return 100 * model.evaluate(held, return_dict=True, verbose=0)["accuracy"]


def baseline(data):
    """Nearest neighbour and ridge regression on means and deviations, and the most frequent."""
    table, held = (np.array([summary(x) for x, _ in part]) for part in (data.train, data.held))
    mean, scale = table.mean(axis=0), table.std(axis=0)
    table, held = (table - mean) / scale, (held - mean) / scale
    y, right = (np.array([digit for _, digit in part]) for part in (data.train, data.held))
    near = (table**2).sum(axis=1) - 2 * held @ table.T
    gram = table.T @ table + 10.0 * np.eye(table.shape[1])
    weights = np.linalg.solve(gram, table.T @ (np.eye(10)[y] - 0.1))
    figures = {
        "nearest neighbour of means and deviations": y[near.argmin(axis=1)],
        "ridge regression on means and deviations": (held @ weights).argmax(axis=1),
        "always the most frequent": np.full(len(right), np.bincount(y).argmax()),
    }
    return {name: round(100 * float(np.mean(told == right)), 2) for name, told in figures.items()}


def summary(x):
    thirds = [part.mean(axis=0) for part in np.array_split(x, 3)]
    return np.concatenate([x.mean(axis=0), x.std(axis=0), *thirds])
