"""SCAN: commands to actions; an answer is right if every action of it is."""

import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from own import split

import rnnzoo
from rnnzoo.data import Vocabulary, read_pairs, read_text

DATA = Path(__file__).resolve().parents[1] / "data" / "scan"


def read(validate):
    """The simple split; validation, of the training pairs: zlib.crc32(command) % 10 == 1."""
    train, held = (pairs(f"tasks_{part}_simple.txt.gz") for part in ("train", "test"))
    if validate:
        chosen = [zlib.crc32(command.encode()) % 10 == 1 for command, _ in train]
        held = [pair for pair, is_ in zip(train, chosen) if is_]
        train = [pair for pair, is_ in zip(train, chosen) if not is_]
    return arranged(train, [], held)


def own(path, seed):
    """A text file with `source <tab> target` on each line, their words between blanks."""
    return arranged(*split(list(zip(*read_pairs(path))), seed, key=lambda row: row[0]))


def arranged(train, valid, held):
    sides = [" ".join(side) for side in zip(*train)]
    words, actions = (Vocabulary.from_text(side, level="word", unknown=True) for side in sides)
    sizes = {"source_vocabulary": words, "target_vocabulary": actions}
    return SimpleNamespace(train=train, valid=valid, held=held, sizes=sizes, labels=None)


def pairs(name):
    lines = read_text(DATA / name).splitlines()
    return [tuple(line.removeprefix("IN: ").split(" OUT: ")) for line in lines]


def batches(data, training, seed):
    return paired(data, data.train, training.batch, shuffle=True, seed=seed)


def paired(data, rows, batch, **options):
    return rnnzoo.data.pairs(*zip(*rows), batch, pad_to_multiple_of=8, **data.sizes, **options)


def still(data, rows):
    """Batches that are always the same."""
    return paired(data, rows, 256)


def updates(train, training):
    return len(train)


def finish(model, data):
    """Nothing: the weights are ready."""


def golden(data):
    """Nothing: tokens at random do."""


def measure(model, data):
    """Per cent of commands answered right in every action."""
    sources, targets = zip(*data.held)
    longest = max(len(target.split()) for _, target in data.train) + 1
    answers = model.generate(list(sources), max_length=longest, batch_size=256).text
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
