"""Spoken digits: which of ten is said, from log-mel frames; the scaling ends up in the weights."""

from pathlib import Path

import numpy as np
from labelled import (
    arranged,
    baseline,
    between,
    bucketed,
    finish,
    golden,
    measure,
    scaled,
    still,
)
from own import split

from rnnzoo.zoo.animals import BY_NAME

__all__ = ["baseline", "batches", "finish", "golden", "measure", "own", "read", "still"]

DATA = Path(__file__).resolve().parents[1] / "data" / "spoken-digits" / "fsdd_logmel26.npz"
COPIES = 8


def read(validate):
    """The official split: recordings 0 to 4 of each digit and speaker to test; 5 to 9 validate."""
    with np.load(DATA) as stored:
        low, high = float(stored["lo"]), float(stored["hi"])
        frames = (low + stored["x"] / 255 * (high - low)).astype("float32")
        x = np.split(frames, np.cumsum(stored["length"].astype(int))[:-1])
        recordings = list(zip(x, map(str, stored["digit"]), stored["index"] // 5))
    parts = {part: [(x, y) for x, y, of in recordings if of == part] for part in range(10)}
    test, valid = parts.pop(0), parts.pop(1)
    train = [row for part in parts.values() for row in part]
    return arranged(train, [], valid) if validate else arranged(valid + train, [], test)


def own(path, seed):
    """A folder with a folder for each label, and in these WAV files."""
    if not path.is_dir():
        raise ValueError(f"--data must be a folder with a folder for each label; received {path}")
    files = sorted(file for file in path.glob("*/*") if file.suffix.lower() == ".wav")
    sound = BY_NAME["lstm.digits"].card.sound
    return arranged(*split([(sound.read(file), file.parent.name) for file in files], seed))


def batches(data, training, seed):
    """Each recording as it is and in `COPIES - 1` changed ways."""
    random = np.random.default_rng(seed)
    rows = scaled(data, data.train)
    more = [(changed(x, random), y) for x, y in rows for _ in range(COPIES - 1)]
    return bucketed(rows + more, training.batch, shuffle=True, seed=seed)


def changed(x, random):
    """Another speed, voice, loudness and microphone; a stretch of frames and of bands hidden."""
    bands = x.shape[1]
    speed, shift = random.uniform(0.8, 1.25), random.uniform(-1.5, 1.5)
    x = between(x, np.arange(0, max(len(x) - 1, 1), speed))
    x = between(x.T, np.clip(np.arange(bands) + shift, 0, bands - 1)).T
    x = x + random.normal(0, 0.3) + random.normal(0, 0.3) * np.linspace(-1, 1, bands)
    x = x + random.normal(0, 0.1, x.shape)
    start, band = random.integers(len(x)), random.integers(bands)
    x[start : start + random.integers(len(x) // 5 + 1)] = 0
    x[:, band : band + random.integers(5)] = 0
    return x.astype("float32")
