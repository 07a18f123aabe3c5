"""Sources and targets, one pair a line: what commands and words have in common."""

from types import SimpleNamespace

from own import split

import rnnzoo
from rnnzoo.data import Vocabulary, read_pairs


def own(path, seed, **options):
    """A text file with `source <tab> target` on each line, their words between blanks."""
    return arranged(*split(list(zip(*read_pairs(path))), seed, key=lambda row: row[0]), **options)


def arranged(train, valid, held, level="word", pad=8):
    """Rows (source, target), sources read word by word or by the `character`; padded to `pad`."""
    sources, targets = zip(*train)
    join = {"word": " ", "character": ""}[level]
    sizes = {
        "source_vocabulary": Vocabulary.from_text(join.join(sources), level=level, unknown=True),
        "target_vocabulary": Vocabulary.from_text(" ".join(targets), level="word", unknown=True),
    }
    known = {"sizes": sizes, "labels": None, "pad": pad}
    return SimpleNamespace(train=train, valid=valid, held=held, **known)


def batches(data, training, seed):
    return paired(data, data.train, training.batch, shuffle=True, seed=seed)


def paired(data, rows, batch, **options):
    return rnnzoo.data.pairs(
        *zip(*rows), batch, pad_to_multiple_of=data.pad, **data.sizes, **options
    )


def still(data, rows):
    """Batches that are always the same."""
    return paired(data, rows, 256)


def longest(data):
    """Words of the longest target of the training rows, and its end."""
    return max(len(target.split()) for _, target in data.train) + 1
