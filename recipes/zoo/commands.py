"""SCAN: commands to actions; an answer is right if every action of it is."""

import zlib
from pathlib import Path

import numpy as np
from paired import arranged, batches, longest, own, still

from rnnzoo.data import read_text

__all__ = ["baseline", "batches", "measure", "own", "read", "still"]

DATA = Path(__file__).resolve().parents[1] / "data" / "scan"


def read(validate):
    """The simple split; validation, of the training pairs: zlib.crc32(command) % 10 == 1."""
    train, held = (pairs(f"tasks_{part}_simple.txt.gz") for part in ("train", "test"))
    if validate:
        chosen = [zlib.crc32(command.encode()) % 10 == 1 for command, _ in train]
        held = [pair for pair, is_ in zip(train, chosen) if is_]
        train = [pair for pair, is_ in zip(train, chosen) if not is_]
    return arranged(train, [], held)


def pairs(name):
    lines = read_text(DATA / name).splitlines()
    return [tuple(line.removeprefix("IN: ").split(" OUT: ")) for line in lines]


def measure(model, data):
    """Per cent of commands answered right in every action."""
    sources, targets = zip(*data.held)
    answers = model.generate(list(sources), max_length=longest(data), batch_size=256).text
    return 100 * float(np.mean([answer == right for answer, right in zip(answers, targets)]))


def baseline(data):
    """The answer to the training command that shares most pairs of words."""
    kinds = {pair: i for i, pair in enumerate({p for c, _ in data.train for p in runs(c)})}
    table, held = (counted(part, kinds) for part in (data.train, data.held))
    far = (table**2).sum(axis=1) - 2 * held @ table.T
    told = [data.train[i][1] for i in far.argmin(axis=1)]
    right = np.mean([answer == target for answer, (_, target) in zip(told, data.held)])
    return {"nearest neighbour by pairs of words": round(100 * float(right), 2)}


def counted(rows, kinds):
    counts = np.zeros((len(rows), len(kinds)), "float32")
    for row, (command, _) in zip(counts, rows):
        for run in runs(command):
            if run in kinds:
                row[kinds[run]] += 1
    return counts


def runs(command):
    words = ["^", *command.split(), "$"]
    return list(zip(words, words[1:]))
