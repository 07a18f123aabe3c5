"""First names: many short sequences, packed into lanes with a reset before each."""

import math
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from own import split

import rnnzoo
from rnnzoo.data import read_text

DATA = Path(__file__).resolve().parents[1] / "data" / "first-names" / "names.txt.gz"
END = "\n"


def read(validate):
    """The split of the lectures: 80 % to train, 10 % to validate, 10 % to test."""
    names = read_text(DATA).split()
    random.seed(42)
    random.shuffle(names)
    first, second = int(0.8 * len(names)), int(0.9 * len(names))
    return arranged(names[:first], [], names[first:second] if validate else names[second:])


def own(path, seed):
    """A text file with a name, or another short text, on each line."""
    lines = [line for line in read_text(path).splitlines() if line]
    return arranged(*split(lines, seed, key=str))


def arranged(train, valid, held):
    letters = sorted(set("".join([*train, *valid, *held])))
    sizes = {"vocabulary": rnnzoo.data.Vocabulary([END, *letters])}
    return SimpleNamespace(train=train, valid=valid, held=held, sizes=sizes, labels=None)


def packed(names, data, lanes, window, **options):
    texts = [f"{END}{name}{END}" for name in names]
    steps = sum(map(len, texts)) - len(texts)
    # Few names fill few lanes.
    lanes, window = max(1, min(lanes, len(texts), steps // window)), min(window, steps)
    return rnnzoo.data.pack(texts, lanes, window, vocabulary=data.sizes["vocabulary"], **options)


def batches(data, training, seed):
    options = {"shuffle": True, "seed": seed, "windows_per_batch": 8}
    return packed(data.train, data, training.batch, training.window, **options)


def still(data, rows):
    """Batches that are always the same."""
    return packed(rows, data, 64, 32)


def measure(model, data):
    """Nats per character, the newline that ends a name included."""
    return math.log(
        model.evaluate(still(data, data.held), return_dict=True, verbose=0)["perplexity"]
    )


def baseline(data):
    """Interpolated n-grams: an estimate of n - 1 letters counts as `n` sights of the next one."""
    return {f"{n}-gram": round(ngram(data, n), 4) for n in (2, 3, 4, 5)}


def ngram(data, order, weight=4.0):
    counts, totals = Counter(), Counter()
    for name in data.train:
        for context, letter in contexts(name, order):
            for k in range(len(context) + 1):
                counts[context[k:], letter] += 1
                totals[context[k:]] += 1
    nats, steps = 0.0, 0
    for name in data.held:
        for context, letter in contexts(name, order):
            chance = 1 / len(data.sizes["vocabulary"])
            for k in range(len(context), -1, -1):
                part = context[k:]
                chance = (counts[part, letter] + weight * chance) / (totals[part] + weight)
            nats, steps = nats - math.log(chance), steps + 1
    return nats / steps


def contexts(name, order):
    text = END * (order - 1) + name + END
    for i in range(order - 1, len(text)):
        yield text[i - order + 1 : i], text[i]
