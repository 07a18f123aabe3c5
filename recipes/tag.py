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
from rnnzoo.data import Vocabulary, read_tagged

HERE = Path(__file__).resolve().parent
EWT = HERE.parent.parent / "shared" / "data" / "ud-english-ewt"
FILES = [EWT / f"en_ewt-{part}.tsv.gz" for part in ("train", "dev", "test")]
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
    add("--sentence", default="Time flies like an arrow .", help="words to tag, and spaces")
    return parser, *parse(parser)


def often(tokens: list[str], level: str) -> Vocabulary:
    """Tokens that come twice or more; what comes once trains the unknown one."""
    counted = Counter(tokens).most_common()
    return Vocabulary([token for token, n in counted if n > 1], level, unknown=True)


def single(word: str) -> str:
    """A word as its embedding knows it."""
    return word.lower().replace(" ", "_")


def batches(words: list[list[str]], **options) -> keras.utils.PyDataset:
    """Batches of whole sentences: words, and the characters that are read of them."""
    given = {
        "words": [[single(word) for word in sentence] for sentence in words],
        "characters": [[w[:HALF] + w[HALF:][-HALF:] for w in sentence] for sentence in words],
    }
    return rnnzoo.data.bucket(given, vocabulary=known, **options)


def tag(model: keras.Model, words: list[list[str]]) -> list[np.ndarray]:
    """The most probable tags of each sentence, as numbers."""
    raw = model.predict(batches(words, batch_size=128), verbose=0)
    best = keras.ops.convert_to_numpy(model.heads["outputs"].mode(raw))
    return [row[: len(sentence)] for row, sentence in zip(best, words)]


def right(found: list, wanted: list[np.ndarray]) -> float:
    """The share of tags that are right."""
    return float(np.mean(np.concatenate(found) == np.concatenate(wanted)))


parser, args, scope = arguments()
try:
    (words, tags), *others = [read_tagged(path) for path in args.data]
    letters = [letter for sentence in words for word in sentence for letter in word]
    flat = [single(word) for sentence in words for word in sentence]
    known = {"words": often(flat, "word"), "characters": often(letters, "character")}
except (OSError, ValueError) as error:
    absent = args.data == FILES and not FILES[0].exists()
    parser.error("UD English EWT is not bundled: give --data" * absent or f"--data: {error}")
names = sorted({tag for sentence in tags for tag in sentence})
number = {name: i for i, name in enumerate(names)}
numbered = [[np.array([number.get(t, -1) for t in s]) for s in part] for _, part in others]
targets = [np.array([number[tag] for tag in sentence]) for sentence in tags]

pairs = Counter((w, t) for s, tagged in zip(words, tags) for w, t in zip(s, tagged))
usual = {word: number[tag] for (word, tag), _ in reversed(pairs.most_common())}


def guessed(part: int, new: int) -> float:
    """The share that each word's most frequent tag gets right, `new` for words never seen."""
    found = [[usual.get(word, new) for word in sentence] for sentence in others[part][0]]
    return right(found, numbered[part])


keras.utils.set_random_seed(args.seed)
options = {"batch_size": args.batch, "shuffle": True, "seed": args.seed}
train = batches(words, targets=targets, per_step=True, **options)
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


def validate(epoch: int, logs: dict) -> None:
    """Adds the share of tags that are right in the validation."""
    logs["val_right"] = right(tag(model, others[0][0]), numbered[0])


options = {"patience": args.epochs, "restore_best_weights": True}
best = keras.callbacks.EarlyStopping("val_right", mode="max", **options)
measured = keras.callbacks.LambdaCallback(on_epoch_end=validate)
called, begin = [measured, best, *safeguards(args)], time.time()
history = model.fit(train, epochs=args.epochs, callbacks=called, verbose=2).history
minutes = (time.time() - begin) / 60
curve = {"training, with dropout": history["loss"]}
picture = learning_curve(curve, HERE / "output" / "tag.png", ylabel="nats per word")
print(f"\nlearning curve     {picture}")
print(f"training           {minutes:.1f} minutes, {model.count_params():,} parameters")
print(f"data               {len(words):,} sentences, {len(flat):,} words, {len(names)} tags")
for name, (part, _), wanted in zip(("validation", "test"), others, numbered):
    print(f"{name:<18} {100 * right(tag(model, part), wanted):.2f} % right")
simple = guessed(1, max(range(len(names)), key=lambda new: guessed(0, new)))
print(f"most frequent tag  {100 * simple:.2f} % right in the test")
sentence = args.sentence.split()
print(" ".join(f"{w}/{names[i]}" for w, i in zip(sentence, tag(model, [sentence])[0])))
