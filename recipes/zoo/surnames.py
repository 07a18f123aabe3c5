"""Surnames: which of 18 languages a name is of, read letter by letter."""

import zlib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from own import labelled, split

import rnnzoo
from rnnzoo.data import read_pairs, read_text

DATA = Path(__file__).resolve().parents[1] / "data" / "surnames" / "surnames.tsv.gz"


def read(validate):
    """Test: zlib.crc32(name) % 10 == 0; validation, a part of the training names: == 1."""
    rows = [line.split("\t") for line in read_text(DATA).splitlines()]
    parts = {part: [] for part in range(10)}
    for language, name in rows:
        parts[zlib.crc32(name.encode()) % 10].append((name, language))
    held = parts.pop(1 if validate else 0)
    if validate:
        parts.pop(0)
    return arranged([row for part in parts.values() for row in part], [], held)


def own(path, seed):
    """A text file with `label <tab> text` on each line."""
    labels, texts = read_pairs(path)
    return arranged(*split(list(zip(texts, labels)), seed, key=lambda row: row[0]))


def arranged(train, valid, held):
    labels, train, valid, held = labelled(train, valid, held)
    text = "".join(name for name, _ in train)
    vocabulary = rnnzoo.data.Vocabulary.from_text(text, unknown=True)
    known = {"sizes": {"vocabulary": vocabulary, "outputs": len(labels)}, "labels": labels}
    return SimpleNamespace(train=train, valid=valid, held=held, **known)


def bucketed(rows, data, batch, **options):
    names, languages = zip(*rows)
    options |= {"vocabulary": data.sizes["vocabulary"], "pad_to_multiple_of": 8}
    return rnnzoo.data.bucket(names, list(languages), batch_size=batch, **options)


def batches(data, training, seed):
    return bucketed(data.train, data, training.batch, shuffle=True, seed=seed)


def still(data, rows):
    """Batches that are always the same."""
    return bucketed(rows, data, 256)


def measure(model, data):
    """Per cent of names whose language is told."""
    return 100 * model.evaluate(still(data, data.held), return_dict=True, verbose=0)["accuracy"]


def baseline(data):
    """Naive Bayes on runs of one to three letters, and the most frequent language."""
    counts = [Counter() for _ in data.labels]
    frequent = np.bincount([language for _, language in data.train], minlength=len(data.labels))
    for name, language in data.train:
        counts[language].update(runs(name))
    kinds = len(set().union(*counts))
    totals = np.array([sum(count.values()) for count in counts]) + kinds
    with np.errstate(divide="ignore"):  # of a label that is in no row to train on
        prior = np.log(frequent)
    right = []
    for name, language in data.held:
        seen = np.array([[count[run] + 1 for count in counts] for run in runs(name)])
        scores = prior + (np.log(seen) - np.log(totals)).sum(axis=0)
        right.append(scores.argmax() == language)
    most = np.mean([language == frequent.argmax() for _, language in data.held])
    figures = {"naive Bayes on 1 to 3 letters": np.mean(right), "always the most frequent": most}
    return {name: round(100 * float(value), 2) for name, value in figures.items()}


def runs(name):
    text = f"^{name.lower()}$"
    return [text[i : i + n] for n in (1, 2, 3) for i in range(len(text) - n + 1)]
