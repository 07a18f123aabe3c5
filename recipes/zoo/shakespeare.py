"""Tiny Shakespeare: one long text, read in lanes, its state carried from window to window."""

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import rnnzoo
from rnnzoo.data import read_text

DATA = Path(__file__).resolve().parents[1] / "data" / "tinyshakespeare" / "input.txt.gz"


def read(validate):
    """The first 90 % and the last 10 % of the text; there is no test set."""
    text = read_text(DATA)
    vocabulary = rnnzoo.data.Vocabulary.from_text(text)
    train, held = np.split(vocabulary.encode(text), [int(0.9 * len(text))])
    return SimpleNamespace(train=train, held=held, sizes={"vocabulary": vocabulary}, labels=None)


def batches(data, training, seed):
    return rnnzoo.data.stream(data.train, training.batch, training.window, windows_per_batch=8)


def updates(train, training):
    return math.ceil(train.steps / training.window)


def finish(model, data):
    """Nothing: the weights are ready."""


def measure(model, data):
    """Nats per character, the state carried through the whole text."""
    whole = rnnzoo.data.stream(data.held, 1, len(data.held) // 20)
    return math.log(model.evaluate(whole, return_dict=True, verbose=0)["perplexity"])


def baseline(data):
    """A trigram: each character by the two before it, as often as seen, one added."""
    size = len(data.sizes["vocabulary"])
    triples = Counter(zip(data.train[:-2], data.train[1:-1], data.train[2:]))
    pairs = Counter(zip(data.train[:-2], data.train[1:-1]))
    seen = zip(data.held[:-2], data.held[1:-1], data.held[2:])
    nats = [math.log((triples[t] + 1) / (pairs[t[:2]] + size)) for t in seen]
    return {"trigram, one added": round(-float(np.mean(nats)), 4)}
