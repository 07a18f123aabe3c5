"""Train an animal of the zoo again from its data, measure it, write its preset and its card.

`python recipes/zoo NAME`: with `--validate` it is trained without a part of its training data and
measured on that part, for the choice of settings, and nothing is written. With `--data` it is
trained on rows of yours instead, 80 % of them: 10 % stop the training, whose best weights are
taken, and 10 % are the test. `--tune` looks for cell, sizes, dropout and rate first.
"""

import argparse
import dataclasses
import datetime
import functools
import importlib
import math
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Last: a recipe there may have the name of a module here.
sys.path.append(str(HERE.parent))

from quiet import load_tensorflow

load_tensorflow()

import keras
import page
from together import together
from tuning import tuned

import rnnzoo
from rnnzoo.zoo.animals import BY_NAME

ANIMALS = {
    "char_rnn.shakespeare": "shakespeare",
    "char_rnn.first_names": "first_names",
    "lstm.surnames": "surnames",
    "lstm.digits": "digits",
    "speaker.vowels": "vowels",
    "gru.mnist_1d": "mnist_1d",
    "gru.remaining_life": "remaining_life",
    "gnmt.scan": "commands",
    "luong.pronounce": "phonemes",
    "luong.english_french": "french",
    "forecast.ett_oil": "ett_oil",
}
ABOUT = ("task", "paper", "year", "source", "licence", "data", "metric", "published", "notes")


def arguments():
    """The parser and the options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("name", choices=ANIMALS)
    add("--validate", action="store_true", help="measure on a part of the training data")
    add("--data", type=Path, help="your own file (lstm.digits: a folder); needs --to")
    add("--tune", type=float, metavar="MINUTES", help="look for settings first; needs --to")
    add("--epochs", type=int, help="passes over the data at most (default: those of the card)")
    add("--seed", type=int, default=1)
    add("--to", type=Path, help="folder of the preset (default: saved_models/NAME)")
    args = parser.parse_args()
    if args.data is not None and args.validate:
        parser.error("--validate is of the data of the zoo; received --data too")
    if (args.data or args.tune) and not (args.to or args.validate):
        parser.error("--to must name a folder for a model of your own data or settings")
    if args.tune is not None and not args.tune > 0:
        parser.error(f"--tune must be more than 0 minutes; received {args.tune:g}")
    if args.epochs is not None and args.epochs < 1:
        parser.error(f"--epochs must be at least 1; received {args.epochs}")
    if not 0 <= args.seed < 2**32:
        parser.error(f"--seed must be from 0 up to 2**32; received {args.seed}")
    return parser, args


def processor() -> str:
    """The name of this machine's processor, and how many of its cores this process may use."""
    listed = Path("/proc/cpuinfo")  # where Linux tells more; other systems have no such file
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name, count = [*names, platform.processor() or platform.machine()][0], os.cpu_count()
    used = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    cores = f"{count} cores" if used == count else f"{used} of {count} cores"
    return f"{name}, {cores}, {keras.backend.backend()}"


def fitted(data, rows, training, seed, **changes):
    """A model that was trained, its card, and what `fit` returned.

    With `rows` for validation, training stops when these no longer get better, and the best
    weights are taken.
    """
    keras.utils.set_random_seed(seed)
    train = animal.batches(data, training, seed)
    steps = None if training.window is None else train.steps
    updates = len(train) if steps is None else math.ceil(steps / training.window)
    training = dataclasses.replace(training, updates=updates)
    card = dataclasses.replace(BY_NAME[args.name].card, training=training)
    model = card.compile(rnnzoo.zoo.build(args.name, **data.sizes, **changes))
    if hasattr(animal, "begin"):
        animal.begin(model, data)
    called = [] if training.window is None else [rnnzoo.TruncatedBPTT(training.window)]
    valid = None
    if len(rows):
        valid, patience = animal.still(data, rows), max(2, training.epochs // 4)
        called.append(
            keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
        )
    options = {"epochs": training.epochs, "callbacks": called, "verbose": 2}
    return model, card, model.fit(train, validation_data=valid, **options)


parser, args = arguments()
# Each has `read` and `own` (data), `batches` and `still` (of rows), `measure` and `baseline`; some
# `begin` and `finish` (weights before and after the training), `golden` (inputs), `STORAGE` and
# `MEMBERS` (models that are trained apart, and put side by side as one).
animal = importlib.import_module(ANIMALS[args.name])
training, changes = BY_NAME[args.name].card.training, {}
path = args.to or HERE.parent.parent / "saved_models" / args.name
if args.tune and hasattr(animal, "begin"):
    parser.error(f"--tune is of models whose cell can be another; received {args.name}")
try:
    # All that can fail for want of rows, a library or a place comes before the training.
    data = animal.own(args.data, args.seed) if args.data else animal.read(args.validate)
    plain = animal.baseline(data)
    if not args.validate:
        path.mkdir(parents=True, exist_ok=True)
except (OSError, ValueError, ImportError) as error:
    parser.error(str(error))
if args.epochs:
    training = dataclasses.replace(training, epochs=args.epochs)
if args.tune:
    # What is searched on is never what is measured on.
    search = data if args.data else animal.read(True)
    rows = search.valid if args.data else search.held
    # An encoder of sizes of its own gets those that are tried, too.
    both = {"encoder_units": None} if "encoder_units" in BY_NAME[args.name].sizes else {}

    def score(rate, **changes):
        settings = dataclasses.replace(training, rate=rate)
        found = fitted(search, rows, settings, args.seed, **changes, **both)
        return min(found[2].history["val_loss"])

    try:
        changes = {**tuned(score, args.tune, args.seed), **both}
    except (ImportError, ValueError) as error:
        parser.error(str(error))
    training = dataclasses.replace(training, rate=changes.pop("rate"))
begin = time.time()
# Members of runs with another --seed have other seeds.
seeds = [(args.seed + 1000 * i) % 2**32 for i in range(getattr(animal, "MEMBERS", 1))]
models, (card, *_), _ = zip(*(fitted(data, data.valid, training, one, **changes) for one in seeds))
model = models[0]
if len(models) > 1:
    changes.pop("units", None)
    build = functools.partial(rnnzoo.zoo.build, args.name, **data.sizes, **changes)
    model = card.compile(together(build, models))
minutes = (time.time() - begin) / 60
if hasattr(animal, "finish"):
    animal.finish(model, data)

golden = animal.golden(data) if hasattr(animal, "golden") else None
told = {field: getattr(card, field) for field in (*ABOUT, "end", "sound", "training")}
told |= {"labels": data.labels, "baseline": plain, "golden": golden}
if args.data:
    told |= dict.fromkeys(("paper", "year", "published", "source", "notes"))
    told |= {"data": f"{args.data.name}: 80 % to train, 10 % to validate, 10 % to test"}
    told |= {"licence": {}, "metric": card.metric.replace(", validation", ", test")}
# Features of others may be of a size that makes half precision too coarse.
storage = "float32" if args.data else getattr(animal, "STORAGE", "float16")
with tempfile.TemporaryDirectory() as folder:
    # What is measured is what is stored: weights in half precision, if that is how they are kept.
    model.save_to_preset(Path(folder, args.name), storage=storage)
    stored = rnnzoo.from_preset(Path(folder, args.name))
before, measured = (animal.measure(one, data) for one in (model, card.compile(stored)))
print(f"\n{told['metric']}{' (here: of validation)' if args.validate else ''}")
print(f"measured   {measured:.4f}   (in float32 {before:.4f})")
for name, value in plain.items():
    print(f"baseline   {value:.4f}   {name}")
print(f"training   {minutes:.1f} minutes, {model.count_params():,} parameters")
if not args.validate:
    told |= {"measured": round(measured, 4), "minutes": round(minutes, 1), "machine": processor()}
    given = {"data": args.data and args.data.name, "tune": args.tune, "epochs": args.epochs}
    given |= {"seed": None if args.seed == 1 else args.seed}
    own = "".join(f" --{key} {value}" for key, value in given.items() if value is not None)
    command = f"python recipes/zoo {args.name}{own}" if own else f"make zoo zoo={args.name}"
    told |= {"command": command, "date": f"{datetime.date.today()}"}
    stored.save_to_preset(path, storage=storage, overwrite=True, **told)
    print(f"written    {path}")
    if args.to is None:
        page.PAGE.write_text(page.page(), encoding="utf-8")
        print(f"written    {page.PAGE}")
