"""Tell each word's part of speech: one-to-one in both directions, on words and their characters.

A recurrent layer reads every word character by character, so that words never seen before have
endings, capitals and digits; beside it stands the embedding of the word. Above them, layers read
the whole sentence in both directions. With `--crf`, the tags of a sentence are chosen together.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import keras
import numpy as np
from running import parse, safeguards

import rnnzoo
from rnnzoo.curves import learning_curve
from rnnzoo.data import Vocabulary, read_text

HERE = Path(__file__).resolve().parent
EWT = HERE.parent.parent / "shared" / "data" / "ud-english-ewt"
FILES = [EWT / f"en_ewt-{part}.tsv.gz" for part in ("train", "dev", "test")]
SENTENCE = "Time flies like an arrow ; fruit flies like a banana ."
HALF = 8  # of a word's characters the first and the last are read


def arguments() -> tuple:
    """The parser, the options, and the scope for the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    text = (
        "sentences to train, to validate and to test, in CoNLL-U or as lines of a word, a tab and "
        "its tag, with a blank line between sentences; plain or .gz (default: UD English EWT)"
    )
    add("--data", type=Path, nargs=3, metavar=("TRAIN", "DEV", "TEST"), default=FILES, help=text)
    add("--crf", action="store_true", help="choose the tags of a sentence together")
    add("--units", type=int, nargs="+", default=[150, 150], help="of the layers over words")
    add("--embedding", type=int, default=100, help="size of a word's embedding")
    add("--characters", type=int, default=64, help="units of the layer over characters")
    add("--dropout", type=float, default=0.4)
    add("--rate", type=float, default=3e-3, help="highest learning rate")
    add("--epochs", type=int, default=15)
    add("--batch", type=int, default=32, help="sentences in a batch")
    add("--seed", type=int, default=0)
    add("--sentence", default=SENTENCE, help="words to tag at the end, with spaces between them")
    return parser, *parse(parser)


def read_tagged(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Words and tags of sentences; what CoNLL-U numbers as parts of words is left out."""
    sentences = [[]]
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        columns = line.split("\t")
        if not line.strip():
            sentences.append([])
        elif len(columns) == 2 or len(columns) == 10 and columns[0].isdigit():
            word, tag = columns if len(columns) == 2 else (columns[1], columns[3])
            sentences[-1].append((word.replace(" ", "_"), tag))
        elif len(columns) != 10 and not line.startswith("#"):
            rule = "must be a word, a tab and its tag, or the 10 columns of CoNLL-U"
            raise ValueError(f"{path}, line {number}: {rule}; received {line[:60]!r}")
    found = [zip(*sentence) for sentence in sentences if sentence]
    if not found:
        raise ValueError(f"{path} must hold a sentence; received none")
    words, tags = zip(*found)
    return [list(w) for w in words], [list(t) for t in tags]


def often(tokens: list[str], level: str) -> Vocabulary:
    """Tokens that come twice or more; what comes once trains the unknown one."""
    counted = Counter(tokens).most_common()
    return Vocabulary([token for token, n in counted if n > 1], level, unknown=True)


def batches(words: list[list[str]], **options) -> keras.utils.PyDataset:
    """Batches of whole sentences: words, and the characters that are read of them."""
    given = {
        "words": [[word.lower() for word in sentence] for sentence in words],
        "characters": [[w[:HALF] + w[HALF:][-HALF:] for w in sentence] for sentence in words],
    }
    return rnnzoo.data.bucket(given, vocabulary=known, **options)


def tag(model: keras.Model, words: list[list[str]]) -> list[np.ndarray]:
    """The most probable tags of each sentence, as numbers."""
    raw = model.predict(batches(words, batch_size=128), verbose=0)
    mask = np.arange(raw.shape[1]) < np.array([[len(sentence)] for sentence in words])
    best = keras.ops.convert_to_numpy(model.heads["outputs"].mode(raw, mask))
    return [row[: len(sentence)] for row, sentence in zip(best, words)]


def right(found: list, wanted: list[np.ndarray]) -> float:
    """The share of tags that are right."""
    return float(np.mean(np.concatenate(found) == np.concatenate(wanted)))


parser, args, scope = arguments()
try:
    (words, tags), *others = [read_tagged(path) for path in args.data]
    letters = [letter for sentence in words for word in sentence for letter in word]
    flat = [word.lower() for sentence in words for word in sentence]
    known = {"words": often(flat, "word"), "characters": often(letters, "character")}
except (OSError, ValueError) as error:
    absent = args.data == FILES and not FILES[0].exists()
    parser.error("UD English EWT is not bundled: give --data" * absent or f"--data: {error}")
names = sorted({tag for sentence in tags for tag in sentence})
number = {name: i for i, name in enumerate(names)}
numbered = [[np.array([number.get(t, -1) for t in s]) for s in part] for _, part in others]
targets = [np.array([number[tag] for tag in sentence]) for sentence in tags]

# The most frequent tag of each word, and of words that come once for those never seen.
pairs = Counter((w, t) for s, tagged in zip(words, tags) for w, t in zip(s, tagged))
usual = {word: number[tag] for (word, tag), _ in reversed(pairs.most_common())}
once = Counter(tag for (word, tag), n in pairs.items() if n == 1).most_common(1)[0][0]
simple = [[usual.get(word, number[once]) for word in sentence] for sentence in others[1][0]]

keras.utils.set_random_seed(args.seed)
train = batches(
    words, targets=targets, per_step=True, batch_size=args.batch, shuffle=True, seed=args.seed
)
steps = args.epochs * len(train)
rise = steps // 10
rate = keras.optimizers.schedules.CosineDecay(
    args.rate / 10, steps - rise, warmup_target=args.rate, warmup_steps=rise
)
inputs = {
    "words": rnnzoo.Tokens(len(known["words"]), args.embedding),
    "characters": rnnzoo.Characters(len(known["characters"]), args.characters, 32),
}
head = (rnnzoo.heads.CRF if args.crf else rnnzoo.heads.Logits)(len(names))
options = {"units": args.units, "dropout": args.dropout, "bidirectional": True}
with scope:
    model = rnnzoo.one_to_one(inputs=inputs, outputs=head, **options)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0))


class Validation(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs):
        logs["val_right"] = right(tag(model, others[0][0]), numbered[0])


best = keras.callbacks.EarlyStopping(
    "val_right", mode="max", patience=args.epochs, restore_best_weights=True
)
called, begin = [Validation(), best, *safeguards(args)], time.time()
history = model.fit(train, epochs=args.epochs, callbacks=called, verbose=2).history
minutes = (time.time() - begin) / 60
curves = {"training, with dropout": history["loss"]}
picture = learning_curve(curves, HERE / "output" / "tag.png", ylabel="nats per word")
print(f"\nlearning curve     {picture}")
print(f"training           {minutes:.1f} minutes, {model.count_params():,} parameters")
print(f"data               {len(words):,} sentences, {len(flat):,} words, {len(names)} tags")
for name, (part, _), wanted in zip(("validation", "test"), others, numbered):
    print(f"{name:<18} {100 * right(tag(model, part), wanted):.2f} % right")
print(f"most frequent tag  {100 * right(simple, numbered[1]):.2f} % right in the test")
sentence = args.sentence.split()
print(" ".join(f"{w}/{names[i]}" for w, i in zip(sentence, tag(model, [sentence])[0])))
