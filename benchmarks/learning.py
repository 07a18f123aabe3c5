"""The learning grid: every combination of options learns on a small real task, or is named.

    python -m benchmarks learning                      # every three options together, half an hour
    python -m benchmarks learning --minutes 10         # a part of it; the next call goes on
    python -m benchmarks learning --form one_to_one --together 2
    python -m benchmarks learning --all                # all combinations, a day

A combination has learned when the mean loss of its last updates lies a stated distance under the
entropy of the targets' frequencies, which is where models stay whose hidden units have saturated.
Tasks: spelling to sounds (CMUdict, encoder-decoder), next characters (Shakespeare, one-to-one),
speakers (Japanese Vowels, many-to-one), all bundled. What was run is kept in
`results/learning.json` and not run again; `LEARNING.md` has what came of it.
"""

import argparse
import functools
import itertools
import json
import os
import re
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import rnnzoo
from benchmarks.turns import HERE, RESULTS, machine
from rnnzoo.models.blueprint import Blueprint

FOLDER = HERE.parent / "recipes" / "data"
CELLS = ("lstm", "gru", "simple_rnn", *rnnzoo.cells.CELLS)
LOSS = "sparse_categorical_crossentropy"
ADAM = functools.partial(keras.optimizers.Adam, 2e-3, clipnorm=1.0)
# Nats under the entropy of the frequencies that must be reached, and in how many updates.
REACH = {"one_to_one": (0.45, 400), "many_to_one": (0.8, 400), "encoder_decoder": (0.45, 500)}


OPTIONS = {
    "cell": CELLS,
    "units": ([48], [48, 48]),
    "dropout": (0.0, 0.2),
    "layer_norm": (False, True),
    "residual": (False, True),
}
OWN = {
    "one_to_one": {"tied": (False, True), "recurrent_dropout": (0.0, 0.2)},
    "many_to_one": {"recurrent_dropout": (0.0, 0.2)},
    "encoder_decoder": {
        "attention": (None, "dot", "additive"),
        "bidirectional": (False, True),
        "tied": (False, True),
        "encoder_units": (None, 32),
        "input_feeding": (False, True),
        "shared": (False, True),
    },
}


def grid(form):
    """Every combination of options that a form allows, as keyword arguments of its factory."""
    names = {**OPTIONS, **OWN[form]}
    made = (dict(zip(names, values)) for values in itertools.product(*names.values()))
    return [options for options in made if _makes_sense(form, options)]


def _makes_sense(form, options):
    if options["residual"] and len(options["units"]) == 1:
        return False  # nothing to add
    if options.get("recurrent_dropout") and options["cell"] in rnnzoo.cells.CELLS:
        return False  # of the three of Keras only
    if form != "encoder_decoder":
        return True
    try:
        Blueprint(source_vocabulary=2, target_vocabulary=2, **options)
    except ValueError:
        return False  # options that contradict one another
    return True


def covering(combinations, together):
    """Few of them in which each choice of `together` options comes that comes in any of them.

    Greedy: the combination with most choices that did not come yet is next.
    """
    names = list(combinations[0])
    columns = []
    for chosen in itertools.combinations(names, together):
        keys = [repr([options[name] for name in chosen]) for options in combinations]
        columns.append(np.unique(keys, return_inverse=True)[1])
    starts = np.cumsum([0] + [column.max() + 1 for column in columns])
    choices = np.stack(columns, axis=1) + starts[:-1]
    wanted, picked = np.ones(starts[-1], bool), []
    while wanted.any():
        picked.append(int(wanted[choices].sum(axis=1).argmax()))
        wanted[choices[picked[-1]]] = False
    return [combinations[i] for i in picked]


def entropy(targets):
    """Nats of the frequencies of integer targets."""
    counts = np.bincount(np.asarray(targets).reshape(-1))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


class Characters:
    """Next characters of Shakespeare."""

    def __init__(self, size=300_000):
        text = rnnzoo.data.read_text(f"{FOLDER}/tinyshakespeare/input.txt.gz")[:size]
        self.vocabulary = rnnzoo.data.Vocabulary.from_text(text)
        self.ids = self.vocabulary.encode(text)
        self.floor = entropy(self.ids)

    def fit(self, options, updates, jit_compile="auto"):
        model = rnnzoo.one_to_one(vocabulary=len(self.vocabulary), **options)
        model.compile(ADAM(), LOSS, jit_compile=jit_compile)
        data = rnnzoo.data.stream(self.ids, 32, 25, windows_per_batch=8)
        epochs = -(-updates // (8 * len(data)))
        callbacks = [rnnzoo.TruncatedBPTT(25)]
        return model.fit(data, epochs=epochs, verbose=0, callbacks=callbacks).history["loss"]


class Speakers:
    """Which of nine speakers says a vowel."""

    def __init__(self, size=270):
        text = rnnzoo.data.read_text(f"{FOLDER}/japanese-vowels/ae.train.gz")
        blocks = text.strip().split("\n\n")
        self.sequences = [np.array([s.split() for s in b.split("\n")], "float32") for b in blocks]
        self.labels = np.repeat(np.arange(9), 30)
        kept = np.random.default_rng(0).permutation(270)[:size]
        self.sequences, self.labels = [self.sequences[i] for i in kept], self.labels[kept]
        self.floor = entropy(self.labels)

    def fit(self, options, updates, jit_compile="auto"):
        model = rnnzoo.many_to_one(features=self.sequences[0].shape[1], outputs=9, **options)
        model.compile(ADAM(), LOSS, jit_compile=jit_compile)
        data = rnnzoo.data.bucket(self.sequences, self.labels, 32, shuffle=True, seed=0)
        epochs = -(-updates // len(data))
        return model.fit(data, epochs=epochs, verbose=0).history["loss"]


class Sounds:
    """How English words are said: letters to phonemes."""

    def __init__(self, size=4000):
        lines = rnnzoo.data.read_text(f"{FOLDER}/cmudict/cmudict.dict.gz").splitlines()
        chosen = np.random.default_rng(0).permutation(len(lines))[:size]
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

    def fit(self, options, updates, jit_compile="auto"):
        model = rnnzoo.encoder_decoder(
            source_vocabulary=len(self.letters), target_vocabulary=len(self.phonemes), **options
        )
        model.compile(ADAM(), LOSS, jit_compile=jit_compile)
        data = rnnzoo.data.pairs(*self.pairs, 64, shuffle=True, seed=0, pad_to_multiple_of=16)
        epochs = -(-updates // len(data))
        return model.fit(data, epochs=epochs, verbose=0).history["loss"]


TASKS = {"one_to_one": Characters, "many_to_one": Speakers, "encoder_decoder": Sounds}


def told(options):
    """The options of a combination that are not off, in one line."""
    return ", ".join(f"{k}={v}" for k, v in options.items() if v not in (False, 0.0, None))


def run(form, task, options):
    """What became of one combination, as a row of the table."""
    under, updates = REACH[form]
    keras.utils.set_random_seed(0)
    begin = time.perf_counter()
    loss = float(task.fit(options, updates)[-1])
    seconds = time.perf_counter() - begin
    return {
        "form": form,
        "options": told(options),
        "loss": loss,
        "wanted": task.floor - under,
        "learned": loss <= task.floor - under,
        "seconds": seconds,
    }


def summary(rows):
    """A table of the worst and the median of each value of each option, in Markdown."""
    lines = ["| form | option | combinations | learned | median | worst | wanted |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for form in TASKS:
        # Each row beside the options that it has, of which one may have commas.
        of_form = [
            ({"all", *re.split(", (?=[a-z])", row["options"])}, row)
            for row in rows
            if row["form"] == form
        ]
        values = set().union(*(held for held, _ in of_form))
        for value in sorted(values, key=lambda value: (value != "all", value)):
            fit = [row for held, row in of_form if value in held]
            losses = [row["loss"] for row in fit]
            lines.append(
                f"| {form} | {value} | {len(fit)} | {sum(row['learned'] for row in fit)} | "
                f"{np.median(losses):.3f} | {max(losses):.3f} | {fit[0]['wanted']:.3f} |"
            )
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning", description=__doc__)
    parser.add_argument("--form", choices=list(TASKS), action="append")
    parser.add_argument("--together", type=int, default=3, help="options whose choices all come")
    parser.add_argument("--all", action="store_true", help="every combination")
    parser.add_argument("--minutes", type=float, default=np.inf, help="then stop; call again")
    parser.add_argument("--again", action="store_true", help="also what was run already")
    args = parser.parse_args(arguments)
    file = RESULTS / "learning.json"
    backend = keras.backend.backend()
    kept = json.loads(file.read_text()) if file.exists() and not args.again else {}
    begin, rows = time.perf_counter(), []
    for form in args.form or TASKS:
        combinations = grid(form)
        chosen = combinations if args.all else covering(combinations, args.together)
        task = functools.cache(TASKS[form])
        print(f"\n{form}: {len(chosen)} of {len(combinations)} combinations", flush=True)
        for options in chosen:
            name = f"{backend}, {form}, {told(options)}"
            if name not in kept and time.perf_counter() - begin < 60 * args.minutes:
                kept[name] = run(form, task(), options)
                RESULTS.mkdir(exist_ok=True)
                file.write_text(json.dumps({**kept, "machine": machine()}, indent=1) + "\n")
                row = kept[name]
                print(
                    f"{'ok   ' if row['learned'] else 'STAYS'} {row['loss']:.3f} nats "
                    f"{row['seconds']:5.1f} s  {row['options']}",
                    flush=True,
                )
            rows += [kept[name]] if name in kept else []
        print(f"{sum(row['form'] == form for row in rows)} of {len(chosen)} were run", flush=True)
    failed = [row for row in rows if not row["learned"]]
    print(f"\n{summary(rows)}\n\n{len(rows)} combinations, of which {len(failed)} have not learned")
    return len(failed)


if __name__ == "__main__":
    sys.exit(bool(main()))
