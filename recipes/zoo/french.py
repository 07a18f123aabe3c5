"""Tatoeba: English sentences to French ones, word by word; measured by BLEU."""

import re
import zlib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from own import split
from paired import batches, still

import rnnzoo
from rnnzoo.data import Vocabulary, read_pairs

__all__ = ["baseline", "batches", "measure", "own", "read", "still"]

DATA = Path(__file__).resolve().parents[1] / "data" / "tatoeba" / "fra.txt.gz"
KEPT = {"source_vocabulary": 4000, "target_vocabulary": 5000}  # the most frequent words
WORDS, LONGEST, BEAM = 15, 30, 5


def read(validate):
    """Test: zlib.crc32(English) % 10 == 0; validation, a part of the others: == 1."""
    train, held = parted(validate)
    return arranged(train, [], held)


def parted(validate):
    rows = [pair for pair in zip(*read_pairs(DATA)) if max(len(s.split()) for s in pair) <= WORDS]
    parts = {part: [] for part in range(10)}
    for row in rows:
        parts[zlib.crc32(row[0].encode()) % 10].append(row)
    held = parts.pop(1 if validate else 0)
    if validate:
        parts.pop(0)
    return [row for part in parts.values() for row in part], held


def own(path, seed):
    """A text file with `source <tab> target` on each line."""
    return arranged(*split(list(zip(*read_pairs(path))), seed, key=lambda row: row[0]))


def arranged(train, valid, held):
    """Rows with words and marks apart; the translations to be met stay as they are."""
    train, valid = ([tuple(map(apart, row)) for row in part] for part in (train, valid))
    sizes = {
        name: Vocabulary.from_text(" ".join(side), "word", KEPT[name], unknown=True)
        for name, side in zip(KEPT, zip(*train))
    }
    known = {"sizes": sizes, "labels": None, "pad": 4}
    known["held"] = [(apart(source), target) for source, target in held]
    return SimpleNamespace(train=train, valid=valid, **known)


def apart(text):
    """Words and marks between blanks; a word that was cut short keeps its apostrophe."""
    return " ".join(re.findall(r"\w+['’]|\w+(?:-\w+)*|[^\w\s]", text))


def together(text):
    """As it is written: l'eau for l' eau. Blanks before marks are the same to BLEU."""
    return re.sub(r"(?<=['’]) ", "", text)


def measure(model, data):
    """BLEU of whole sentences, against all translations that are listed of each."""
    sources, beam = list(listed(data)), rnnzoo.decoding.Beam(BEAM)
    return bleu(data, model.generate(sources, LONGEST, beam, batch_size=256).text)


def listed(data):
    """The translations of each sentence that is held out."""
    known = {}
    for source, target in data.held:
        known.setdefault(source, []).append(target)
    return known


def bleu(data, answers):
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError("BLEU needs sacrebleu: pip install 'rnnzoo[bleu]'") from error
    right = list(listed(data).values())
    most = max(map(len, right))
    streams = [[one[i] if i < len(one) else None for one in right] for i in range(most)]
    # Forced: marks are apart, of which it warns, and its own tokens are the same for all that.
    return float(sacrebleu.corpus_bleu(list(map(together, answers)), streams, force=True).score)


def baseline(data):
    """Each English word as the French one that it meets most often, for how often both are met."""
    met, seen = Counter(), Counter()
    for source, target in data.train:
        sides = set(source.split()), set(target.split())
        for i, side in enumerate(sides):
            seen.update((i, word) for word in side)
        met.update((word, other) for word in sides[0] for other in sides[1])
    best = {}
    for (word, other), count in met.items():
        dice = 2 * count / (seen[0, word] + seen[1, other])
        best[word] = max(best.get(word, (0.0, "")), (dice, other))
    told = [" ".join(best.get(word, (0, word))[1] for word in one.split()) for one in listed(data)]
    return {"word by word": round(bleu(data, told), 2)}
