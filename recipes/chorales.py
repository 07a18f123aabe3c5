"""Predict the next chord of Bach's chorales: one-to-one on sequences of 25 to 160 steps.

Chorales are packed one after the other into lanes; `reset` marks where one begins, so that its
first step sees nothing of the one before, and no step is padding but at the lanes' end.

The figure is that of Bai et al. (2018): the negative log-likelihood of step t + 1 given steps 1
to t, in nats, summed over the 88 pitches and averaged over all predicted steps.
"""

import argparse
import json
import time
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import keras
import numpy as np
from keras import ops
from running import parse, safeguards

import rnnzoo
from rnnzoo.curves import learning_curve
from rnnzoo.data import read_csv, read_text

HERE = Path(__file__).resolve().parent
JSB = HERE.parent.parent / "shared" / "data" / "jsb-chorales" / "jsb-chorales-quarter.json.gz"
LOWEST, PITCHES, RULE = 21, 88, "pitches must be integers from 21 to 108"


def arguments() -> tuple:
    """The parser, the options, and the scope for the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    text = (
        'JSON, {"train", "valid", "test"}: lists of sequences of steps of MIDI pitches (21 to '
        "108), or a CSV with the columns sequence, step, features... of 0 and 1, whose first "
        "60 %% of sequences train and whose last 20 %% test; plain or .gz (default: JSB Chorales)"
    )
    add("--data", type=Path, default=JSB, help=text)
    add("--units", type=int, default=300)
    add("--dropout", type=float, default=0.2)
    add("--recurrent-dropout", type=float, default=0.4)
    add("--rate", type=float, default=6e-3, help="highest learning rate")
    add("--decay", type=float, default=0.02, help="weight decay")
    add("--epochs", type=int, default=80)
    add("--patience", type=int, default=30, help="epochs without progress before it stops")
    add("--lanes", type=int, default=8)
    add("--window", type=int, default=40)
    add("--seed", type=int, default=0)
    return parser, *parse(parser)


def piano_roll(sequence: list[list[int]], place: str) -> np.ndarray:
    """A sequence of steps of pitches as an array `(steps, 88)` of 0 and 1."""
    roll = np.zeros((len(sequence), PITCHES), "float32")
    for t, pitches in enumerate(sequence):
        for pitch in pitches:
            if pitch not in range(LOWEST, LOWEST + PITCHES):
                raise ValueError(f"{place}, step {t}: {RULE}; received {pitch!r}")
            roll[t, int(pitch) - LOWEST] = 1.0
    return roll


def read_parts(path: Path) -> list[list[np.ndarray]]:
    """The sequences `(steps, features)` to train, to validate and to test."""
    if ".json" in path.suffixes:
        try:
            songs = json.loads(read_text(path))
            return [
                [piano_roll(song, f"{path}, {part}[{i}]") for i, song in enumerate(songs[part])]
                for part in ("train", "valid", "test")
            ]
        except json.JSONDecodeError as error:
            place = f"{path}, line {error.lineno}, column {error.colno}"
            raise ValueError(f"{place}: must be JSON; received: {error.msg}") from error
        except (KeyError, TypeError) as error:
            form = '{"train": [sequence, ...], "valid": ..., "test": ...}'
            raise ValueError(f"{path} must have the form {form}; received: {error!r}") from error
    sequences = read_csv(path, allowed=(0, 1)).sequences
    first, second = int(0.6 * len(sequences)), int(0.8 * len(sequences))
    return [sequences[:first], sequences[first:second], sequences[second:]]


def nats_per_step(y: np.ndarray, logits: np.ndarray):
    """The negative log-likelihood of each step, `(batch, time)`."""
    return ops.sum(ops.binary_crossentropy(y, logits, from_logits=True), axis=-1)


class NatsPerStep(keras.losses.Loss):
    """Mean of `nats_per_step` over the steps that are no padding."""

    def __init__(self):
        super().__init__(reduction="mean_with_sample_weight")

    def call(self, y_true, y_pred):
        return nats_per_step(y_true, y_pred)


def packed(part: list[np.ndarray], lanes: int, window: int, **options) -> keras.utils.PyDataset:
    """Batches of the sequences of one part, however few they are."""
    lanes = max(1, min(lanes, len(part)))
    steps = (sum(map(len, part)) - len(part)) // lanes
    return rnnzoo.data.pack(part, lanes, min(window, steps), **options)


parser, args, scope = arguments()
try:
    sequences = read_parts(args.data)
    train = packed(sequences[0], args.lanes, args.window, shuffle=True, seed=args.seed)
    valid, test = (packed(part, 16, 1000) for part in sequences[1:])
except (OSError, ValueError) as error:
    absent = args.data == JSB and not JSB.exists()
    parser.error("JSB Chorales is not bundled: give --data FILE" * absent or f"--data: {error}")

keras.utils.set_random_seed(args.seed)
features = sequences[0][0].shape[1]
updates = args.epochs * len(train)
rise = updates // 10
rate = keras.optimizers.schedules.CosineDecay(
    args.rate / 25, updates - rise, warmup_target=args.rate, warmup_steps=rise
)
dropped = {"dropout": args.dropout, "recurrent_dropout": args.recurrent_dropout}
with scope:
    model = rnnzoo.one_to_one(features=features, units=args.units, outputs=features, **dropped)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=args.decay, global_clipnorm=1.0),
        NatsPerStep(),
        weighted_metrics=[keras.metrics.MeanMetricWrapper(nats_per_step, name="nats")],
        # On a CPU, Keras leaves XLA out unless told; it halves the time.
        jit_compile=args.strategy == "none" or "auto",
    )
patience = {"patience": args.patience, "restore_best_weights": True}
best = keras.callbacks.EarlyStopping("val_nats", mode="min", **patience)
called, begin = [best, *safeguards(args)], time.time()
history = model.fit(train, validation_data=valid, epochs=args.epochs, callbacks=called).history
minutes = (time.time() - begin) / 60

curves = {"training, with dropout": history["nats"], "validation": history["val_nats"]}
picture = learning_curve(curves, HERE / "output" / "chorales.png", ylabel="nats per step")
print(f"\nlearning curve    {picture}")
print(f"training          {minutes:.1f} minutes, {model.count_params():,} parameters")
print(f"best epoch        {int(np.argmin(history['val_nats'])) + 1} of {len(history['loss'])}")
for name, part in (("validation", valid), ("test", test)):
    nats = model.evaluate(part, verbose=0, return_dict=True)["nats"]
    print(f"{name:<17} {nats:.3f} nats per step")
