"""Japanese Vowels: which of nine men speaks; the scaling ends up in the weights."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scaling import scale_into

import rnnzoo
from rnnzoo.data import read_text

DATA = Path(__file__).resolve().parents[1] / "data" / "japanese-vowels"
TRAIN, TEST = [30] * 9, [31, 35, 88, 44, 29, 24, 40, 50, 29]


def read(validate):
    """The given split; validation is every fourth training utterance of each man."""
    train = list(zip(utterances("ae.train.gz"), np.repeat(np.arange(9), TRAIN)))
    held = list(zip(utterances("ae.test.gz"), np.repeat(np.arange(9), TEST)))
    if validate:
        held, train = train[3::4], [row for i, row in enumerate(train) if i % 4 != 3]
    steps = np.concatenate([x for x, _ in train])
    mean, deviation = steps.mean(axis=0), steps.std(axis=0) + 1e-6
    scaled = [((x - mean) / deviation, y) for x, y in train]
    labels = [f"speaker {i}" for i in range(1, 10)]
    known = {"labels": labels, "sizes": {}, "mean": mean, "deviation": deviation}
    return SimpleNamespace(train=train, scaled=scaled, held=held, **known)


def utterances(name):
    blocks = read_text(DATA / name).strip().split("\n\n")
    return [np.array([line.split() for line in b.split("\n")], "float32") for b in blocks]


def bucketed(rows, batch, **options):
    x, y = zip(*rows)
    options |= {"pad_to_multiple_of": 16}
    return rnnzoo.data.bucket(x, np.array(y), batch_size=batch, **options)


def batches(data, training, seed):
    return bucketed(data.scaled, training.batch, shuffle=True, seed=seed)


def updates(train, training):
    return len(train)


def finish(model, data):
    scale_into(model, data.mean, data.deviation)


def measure(model, data):
    """Per cent of utterances whose speaker is told."""
    held = bucketed(data.held, 64)
    return 100 * model.evaluate(held, return_dict=True, verbose=0)["accuracy"]


def baseline(data):
    """The nearest training utterance, by the mean and the deviation of its coefficients."""
    table = np.array([summary(x) for x, _ in data.train])
    scale = table.std(axis=0)
    right = []
    for x, speaker in data.held:
        nearest = np.linalg.norm((table - summary(x)) / scale, axis=1).argmin()
        right.append(data.train[nearest][1] == speaker)
    return {"nearest neighbour of means and deviations": round(100 * float(np.mean(right)), 2)}


def summary(x):
    return np.concatenate([x.mean(axis=0), x.std(axis=0)])
