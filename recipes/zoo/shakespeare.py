"""Tiny Shakespeare: one long text, read in lanes, its state carried from window to window."""

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import rnnzoo
from rnnzoo.data import read_text

DATA = Path(__file__).resolve().parents[1] / "data" / "tinyshakespeare" / "input.txt.gz"
LEAST = 200


def read(validate):
    """The first 90 % and the last 10 % of the text; there is no test set."""
    return arranged(read_text(DATA), 0.9, 0.9)


def own(path, seed):
    """A text: its first 80 % to train, 10 % to validate, 10 % to test."""
    text = read_text(path)
    if len(text) < LEAST:
        raise ValueError(f"{path} must have at least {LEAST} characters; received {len(text)}")
    return arranged(text, 0.8, 0.9)


def arranged(text, *ends):
    vocabulary = rnnzoo.data.Vocabulary.from_text(text)
    places = [int(end * len(text)) for end in ends]
    train, valid, held = np.split(vocabulary.encode(text), places)
    sizes = {"vocabulary": vocabulary}
    return SimpleNamespace(train=train, valid=valid, held=held, sizes=sizes, labels=None)


def batches(data, training, seed):
    lanes = min(training.batch, (len(data.train) - 1) // training.window)
    return rnnzoo.data.stream(data.train, lanes, training.window, windows_per_batch=8)


def still(data, text):
    """The text as one stream, its state carried from window to window."""
    return rnnzoo.data.stream(text, 1, max(1, len(text) // 20))


def measure(model, data):
    """Nats per character, the state carried through the whole text."""
    return math.log(
        model.evaluate(still(data, data.held), return_dict=True, verbose=0)["perplexity"]
    )


def baseline(data):
    """A trigram: each character by the two before it, as often as seen, one added."""
    size = len(data.sizes["vocabulary"])
    triples = Counter(zip(data.train[:-2], data.train[1:-1], data.train[2:]))
    pairs = Counter(zip(data.train[:-2], data.train[1:-1]))
    seen = zip(data.held[:-2], data.held[1:-1], data.held[2:])
    nats = [math.log((triples[t] + 1) / (pairs[t[:2]] + size)) for t in seen]
    return {"trigram, one added": round(-float(np.mean(nats)), 4)}
