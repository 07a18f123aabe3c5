"""Japanese Vowels: which of nine men speaks; the scaling ends up in the weights."""

from pathlib import Path

import numpy as np
from labelled import arranged, baseline, batches, finish, golden, measure, own, still

from rnnzoo.data import read_text

__all__ = ["baseline", "batches", "finish", "golden", "measure", "own", "read", "still"]

DATA = Path(__file__).resolve().parents[1] / "data" / "japanese-vowels"
MEMBERS = 5
TRAIN, TEST = [30] * 9, [31, 35, 88, 44, 29, 24, 40, 50, 29]


def read(validate):
    """The given split; validation is every fourth training utterance of each man."""
    train, held = utterances("ae.train.gz", TRAIN), utterances("ae.test.gz", TEST)
    if validate:
        held, train = train[3::4], [row for i, row in enumerate(train) if i % 4 != 3]
    return arranged(train, [], held)


def utterances(name, counts):
    blocks = read_text(DATA / name).strip().split("\n\n")
    men = np.repeat([f"speaker {i}" for i in range(1, 10)], counts)
    steps = [np.array([line.split() for line in b.split("\n")], "float32") for b in blocks]
    return list(zip(steps, men.tolist(), strict=True))
