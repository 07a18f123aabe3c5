"""The learning grid: every combination of options learns on a small real task, or is named.

    python -m benchmarks learning                      # a spread: 8 combinations of each form
    python -m benchmarks learning --all                # all of them, hours
    python -m benchmarks learning --form one_to_one --limit 12

A combination has learned when the mean loss of its last updates lies a stated distance under the
entropy of the targets' frequencies, which is where models stay whose hidden units have saturated.
Tasks: spelling to sounds (CMUdict, encoder-decoder), next characters (Shakespeare, one-to-one),
speakers (Japanese Vowels, many-to-one), all bundled.
"""

import argparse
import itertools
import os
import re
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import rnnzoo

FOLDER = "recipes/data"
CELLS = ("lstm", "gru", "simple_rnn")
# Nats under the entropy of the frequencies that must be reached, and in how many updates.
REACH = {"one_to_one": (0.45, 400), "many_to_one": (0.8, 400), "encoder_decoder": (0.45, 500)}


def grid(form):
    """Every combination of options of a form, as keyword arguments of its factory."""
    shared = {
        "cell": CELLS,
        "units": ([48], [48, 48]),
        "dropout": (0.0, 0.2),
        "layer_norm": (False, True),
        "residual": (False, True),
    }
    own = {
        "one_to_one": {"tied": (False, True), "recurrent_dropout": (0.0, 0.2)},
        "many_to_one": {"recurrent_dropout": (0.0, 0.2)},
        "encoder_decoder": {
            "attention": (None, "dot", "additive"),
            "bidirectional": (False, True),
            "tied": (False, True),
            "encoder_units": (None, 32),
        },
    }[form]
    names = {**shared, **own}
    for values in itertools.product(*names.values()):
        options = dict(zip(names, values))
        if options["residual"] and len(options["units"]) == 1:
            continue  # nothing to add
        yield options


def spread(combinations, count):
    """`count` of them, evenly spread, so that every option comes in both ways."""
    combinations = list(combinations)
    if count is None or count >= len(combinations):
        return combinations
    chosen = np.random.default_rng(0).permutation(len(combinations))[:count]
    return [combinations[i] for i in sorted(chosen)]


def entropy(targets):
    """Nats of the frequencies of integer targets."""
    counts = np.bincount(np.asarray(targets).reshape(-1))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


class Characters:
    """Next characters of Shakespeare."""

    def __init__(self):
        text = rnnzoo.data.read_text(f"{FOLDER}/tinyshakespeare/input.txt.gz")[:300_000]
        self.vocabulary = rnnzoo.data.Vocabulary.from_text(text)
        self.ids = self.vocabulary.encode(text)
        self.floor = entropy(self.ids)

    def fit(self, options, updates):
        model = rnnzoo.one_to_one(vocabulary=len(self.vocabulary), **options)
        model.compile(keras.optimizers.Adam(2e-3, clipnorm=1.0), "sparse_categorical_crossentropy")
        data = rnnzoo.data.stream(self.ids, 32, 25, windows_per_batch=8)
        epochs = -(-updates // (8 * len(data)))
        callbacks = [rnnzoo.TruncatedBPTT(25)]
        return model.fit(data, epochs=epochs, verbose=0, callbacks=callbacks).history["loss"]


class Speakers:
    """Which of nine speakers says a vowel."""

    def __init__(self):
        text = rnnzoo.data.read_text(f"{FOLDER}/japanese-vowels/ae.train.gz")
        blocks = text.strip().split("\n\n")
        self.sequences = [np.array([s.split() for s in b.split("\n")], "float32") for b in blocks]
        self.labels = np.repeat(np.arange(9), 30)
        self.floor = entropy(self.labels)

    def fit(self, options, updates):
        model = rnnzoo.many_to_one(features=self.sequences[0].shape[1], outputs=9, **options)
        model.compile(keras.optimizers.Adam(2e-3, clipnorm=1.0), "sparse_categorical_crossentropy")
        data = rnnzoo.data.bucket(self.sequences, self.labels, 32, shuffle=True, seed=0)
        epochs = -(-updates // len(data))
        return model.fit(data, epochs=epochs, verbose=0).history["loss"]


class Sounds:
    """How English words are said: letters to phonemes."""

    def __init__(self):
        lines = rnnzoo.data.read_text(f"{FOLDER}/cmudict/cmudict.dict.gz").splitlines()
        chosen = np.random.default_rng(0).permutation(len(lines))[:4000]
        both = [lines[i].split(" #")[0].split(" ", 1) for i in chosen]
        words, sounds = zip(*[(w, re.sub(r"\d", "", s)) for w, s in both if w.isalpha()])
        self.letters = rnnzoo.data.Vocabulary.from_text("".join(words))
        self.phonemes = rnnzoo.data.Vocabulary.from_text("\n".join(sounds), level="word")
        self.pairs = (
            [self.letters.encode(w) for w in words],
            [self.phonemes.encode(s) for s in sounds],
        )
        ends = [np.append(s, len(self.phonemes)) for s in self.pairs[1]]
        self.floor = entropy(np.concatenate(ends))

    def fit(self, options, updates):
        model = rnnzoo.encoder_decoder(
            source_vocabulary=len(self.letters), target_vocabulary=len(self.phonemes), **options
        )
        model.compile(keras.optimizers.Adam(2e-3, clipnorm=1.0), "sparse_categorical_crossentropy")
        data = rnnzoo.data.pairs(*self.pairs, 64, shuffle=True, seed=0, pad_to_multiple_of=16)
        epochs = -(-updates // len(data))
        return model.fit(data, epochs=epochs, verbose=0).history["loss"]


TASKS = {"one_to_one": Characters, "many_to_one": Speakers, "encoder_decoder": Sounds}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning", description=__doc__)
    parser.add_argument("--form", choices=list(TASKS), action="append")
    parser.add_argument("--limit", type=int, default=8, help="combinations of each form")
    parser.add_argument("--all", action="store_true", help="every combination")
    args = parser.parse_args(arguments)
    failed = 0
    for form in args.form or TASKS:
        task, (under, updates) = TASKS[form](), REACH[form]
        chosen = spread(grid(form), None if args.all else args.limit)
        print(
            f"\n{form}: {len(chosen)} of {len(list(grid(form)))} combinations; frequencies alone "
            f"{task.floor:.3f} nats, wanted {task.floor - under:.3f} after {updates} updates"
        )
        for options in chosen:
            keras.utils.set_random_seed(0)
            begin = time.perf_counter()
            loss = task.fit(options, updates)[-1]
            fine = loss <= task.floor - under
            failed += not fine
            told = ", ".join(f"{k}={v}" for k, v in options.items() if v not in (False, 0.0, None))
            seconds = time.perf_counter() - begin
            print(
                f"{'ok  ' if fine else 'STAYS'} {loss:.3f} nats {seconds:5.1f} s  {told}",
                flush=True,
            )
    print(f"\n{failed} combinations have not learned")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main()))
