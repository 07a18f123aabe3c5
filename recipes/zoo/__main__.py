"""Train an animal of the zoo again from its data, measure it, write its preset and its card.

`python recipes/zoo NAME`: with `--validate` it is trained without a part of its training data and
measured on that part, for the choice of settings, and nothing is written.
"""

import argparse
import dataclasses
import datetime
import importlib
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from quiet import load_tensorflow

load_tensorflow()

import keras

import rnnzoo
from rnnzoo.zoo.animals import BY_NAME

ANIMALS = {
    "char_rnn.shakespeare": "shakespeare",
    "char_rnn.first_names": "first_names",
    "lstm.surnames": "surnames",
    "speaker.vowels": "vowels",
    "gnmt.scan": "commands",
    "gru.mnist_1d": "mnist_1d",
    "lstm.digits": "digits",
    "gru.remaining_life": "remaining_life",
}


def processor() -> str:
    """The name of this machine's processor, and how many cores there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores, {keras.backend.backend()}"


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("name", choices=ANIMALS)
parser.add_argument(
    "--validate", action="store_true", help="measure on a part of the training data"
)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--folder", type=Path, default=HERE.parent.parent / "saved_models")
args = parser.parse_args()
animal = importlib.import_module(ANIMALS[args.name])
card = BY_NAME[args.name].card
keras.utils.set_random_seed(args.seed)

data = animal.read(args.validate)
train = animal.batches(data, card.training, args.seed)
training = dataclasses.replace(card.training, updates=animal.updates(train, card.training))
card = dataclasses.replace(card, training=training)
model = card.compile(rnnzoo.zoo.build(args.name, **data.sizes))
called = [] if training.window is None else [rnnzoo.TruncatedBPTT(training.window)]
begin = time.time()
model.fit(train, epochs=training.epochs, callbacks=called, verbose=2)
minutes = (time.time() - begin) / 60
animal.finish(model, data)

plain = animal.baseline(data)
told = {field: getattr(card, field) for field in ("task", "paper", "year", "source", "licence")}
told |= {field: getattr(card, field) for field in ("data", "metric", "published", "notes")}
told |= {field: getattr(card, field) for field in ("end", "sound")}
told |= {"labels": data.labels, "training": training, "baseline": plain}
storage = getattr(animal, "STORAGE", "float16")
with tempfile.TemporaryDirectory() as folder:
    # What is measured is what is stored: weights in half precision.
    model.save_to_preset(Path(folder, args.name), storage=storage)
    stored = rnnzoo.from_preset(Path(folder, args.name))
before, measured = (animal.measure(one, data) for one in (model, card.compile(stored)))
print(f"\n{card.metric}{' (here: of validation)' if args.validate else ''}")
print(f"measured   {measured:.4f}   (in float32 {before:.4f})")
for name, value in plain.items():
    print(f"baseline   {value:.4f}   {name}")
print(f"training   {minutes:.1f} minutes, {model.count_params():,} parameters")
if not args.validate:
    told |= {"measured": round(measured, 4), "minutes": round(minutes, 1), "machine": processor()}
    told |= {"command": f"make zoo zoo={args.name}", "date": f"{datetime.date.today()}"}
    path = args.folder / args.name
    stored.save_to_preset(path, storage=storage, overwrite=True, **told)
    print(f"written    {path}")
