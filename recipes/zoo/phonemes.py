"""CMU dictionary: letters to phonemes; a word is right if one of its pronunciations is met."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import paired
from paired import batches, longest, still

import rnnzoo
from rnnzoo.data import read_text

__all__ = ["baseline", "batches", "measure", "own", "read", "still"]

DATA = Path(__file__).resolve().parents[1] / "data" / "cmudict" / "cmudict.dict.gz"
BEAM = 5


def read(validate):
    """A tenth of the words, drawn with seed 0, to test; validation is the tenth after it."""
    train, held = parted(validate)
    return arranged(train, [], held)


def parted(validate):
    lines = [line.split(" #")[0].split(" ", 1) for line in read_text(DATA).splitlines()]
    # Without the marks of stress, and of a word's second and third pronunciation.
    rows = [(re.sub(r"\(\d+\)$", "", word), re.sub(r"\d", "", said)) for word, said in lines]
    rows = list(dict.fromkeys(rows))
    distinct = sorted({word for word, _ in rows})
    order = np.random.default_rng(0).permutation(len(distinct))
    tenth = len(distinct) // 10
    parts = [{distinct[i] for i in order[n * tenth : (n + 1) * tenth]} for n in (0, 1)]
    held = [row for row in rows if row[0] in parts[validate]]
    left_out = parts[0] | parts[1] if validate else parts[0]
    return [row for row in rows if row[0] not in left_out], held


def own(path, seed):
    """A text file with `word <tab> P H O N E M E S` on each line."""
    return paired.own(path, seed, level="character", pad=4)


def arranged(train, valid, held):
    return paired.arranged(train, valid, held, level="character", pad=4)


def measure(model, data):
    """Per cent of words of which none of the listed pronunciations is met."""
    words = list(dict.fromkeys(word for word, _ in data.held))
    beam = rnnzoo.decoding.Beam(BEAM)
    return wrong(data, words, model.generate(words, longest(data), beam, batch_size=256).text)


def wrong(data, words, answers):
    listed = set(data.held)
    return 100 * float(np.mean([pair not in listed for pair in zip(words, answers)]))


def baseline(data):
    """Each letter said as most often between its neighbours; the nearer ones where these are new.

    Which phonemes a letter of the training words has is told by its place alone.
    """
    seen = defaultdict(Counter)
    for word, said in data.train:
        said = said.split()
        ends = [round(i * len(said) / len(word)) for i in range(len(word) + 1)]
        for i, part in enumerate(zip(ends, ends[1:])):
            for known in contexts(word, i):
                seen[known][" ".join(said[slice(*part)])] += 1
    most = {known: counts.most_common(1)[0][0] for known, counts in seen.items()}
    words, answers = list(dict.fromkeys(word for word, _ in data.held)), []
    for word in words:
        told = [next(filter(most.__contains__, contexts(word, i)), "") for i in range(len(word))]
        answers.append(" ".join(filter(None, [most.get(known, "") for known in told])))
    return {"letter by letter, up to 3 neighbours": round(wrong(data, words, answers), 2)}


def contexts(word, i):
    """The letter `i` with three, two, one and no neighbours on each side."""
    text = f"^^^{word}$$$"
    return [(n, text[i + 3 - n : i + 4 + n]) for n in (3, 2, 1, 0)]
