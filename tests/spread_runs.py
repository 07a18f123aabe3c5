"""Training runs whose end must not depend on how many devices and processes share them.

As a program, `spread_runs.py FOLDER`, each process makes all runs and saves what it found in
`FOLDER/<process>.npz`. Slurm's variables say how many processes there are.
"""

import datetime
import os
import pathlib
import sys

import keras
import numpy as np
from stopping import StopAt, Stopped

import rnnzoo

LANES, WINDOW, UNITS = 8, 4, 5
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 7, 8 * 25 - 2).astype("int32")
SONGS = [RNG.normal(size=(n, 2)).astype("float32") for n in RNG.integers(5, 30, 24)]
LABELS = RNG.normal(size=(24, 1)).astype("float32")


class Watched(np.ndarray):
    """An array that notes which slices of it are read."""

    def __getitem__(self, index):
        if hasattr(self, "noted"):
            self.noted.append((self.number, index.start, index.stop))
        return super().__getitem__(index)


def watched(arrays):
    """Views of the arrays, and the list of what is read of them: (array, from, to)."""
    noted = []
    arrays = [array.view(Watched) for array in arrays]
    for number, array in enumerate(arrays):
        array.noted, array.number = noted, number
    return arrays, noted


def build(form=rnnzoo.one_to_one, loss=None, **kind):
    keras.utils.set_random_seed(3)
    model = form(units=UNITS, **kind)
    mean = "mean_with_sample_weight"
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=mean)
    model.compile(keras.optimizers.Adam(0.02, global_clipnorm=1.0), loss, weighted_metrics=[])
    return model


def squares():
    return keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")


def fit(model, data, *callbacks, **options):
    """What a run ends with, by name."""
    history = model.fit(data, epochs=2, verbose=0, callbacks=list(callbacks), **options).history
    found = {f"weight {i}": w.numpy() for i, w in enumerate(model.trainable_weights)}
    found |= {f"state {name}": value for name, value in model.states.items()}
    return found | {name: np.array(values) for name, values in history.items()}


def stream(*callbacks, saved=None):
    """Whole windows in one loop, a short last batch, one step of padding, dropout, validation."""
    model = build(vocabulary=7, embedding=3, dropout=0.2)
    (tokens,), noted = watched([TOKENS])
    options = {"batch_size": LANES, "window": WINDOW}
    data = rnnzoo.data.stream(tokens, windows_per_batch=3, **options)
    noted.clear()  # each process checks all values once
    checks = rnnzoo.data.stream(TOKENS[:97], **options)
    callbacks = (rnnzoo.TruncatedBPTT(WINDOW), *callbacks)
    found = fit(model, data, *callbacks, validation_data=checks)
    if saved is not None:
        model.save(saved)
    (h, *_) = model.training_carry.variables
    layout = getattr(h.value.sharding, "spec", None)
    return found | {"read": np.array(noted), "layout": np.array(str(layout))}


def pack():
    """Windows that overlap, sequences that end within them, lanes that end in padding."""
    model = build(features=2, outputs=2, loss=squares(), cell="gru")
    songs, noted = watched(SONGS)
    options = {"batch_size": LANES, "window": WINDOW, "windows_per_batch": 7}
    data = rnnzoo.data.pack(songs, shuffle=True, seed=1, **options)
    noted.clear()
    best = keras.callbacks.EarlyStopping("loss", restore_best_weights=True, patience=9)
    found = fit(model, data, rnnzoo.TruncatedBPTT(WINDOW, stride=2), best)
    model.reset_states([1, 6])
    return found | {"read": np.array(noted), "reset": model.states["h_0"]}


def bucket():
    """Whole sequences, without a state from batch to batch."""
    model = build(rnnzoo.many_to_one, features=2, outputs=1, loss=squares(), cell="simple_rnn")
    songs, noted = watched(SONGS)
    options = {"shuffle": True, "seed": 1, "pad_to_multiple_of": 32}
    data = rnnzoo.data.bucket(songs, LABELS, LANES, **options)
    noted.clear()
    found = fit(model, data)
    return found | {"read": np.array(noted)}


def resumed(folder):
    """`stream`, broken off in the second epoch and gone on with, and saved at the end."""
    backups = rnnzoo.BackupAndResume(folder / "backups", every=2)
    try:
        stream(backups, StopAt(4))
    except Stopped:
        return stream(backups, saved=folder / "model.keras")


def refused():
    """What is said where rows do not divide, and of what one process must do."""
    model = build(vocabulary=7)
    data = rnnzoo.data.stream(TOKENS, 6, WINDOW)
    backup = rnnzoo.BackupAndResume("nowhere", datetime.timedelta(minutes=1))
    eight = rnnzoo.data.stream(TOKENS, LANES, WINDOW)
    tries = {
        "rows": lambda: model.fit(data, verbose=0),
        "arrays": lambda: model.fit(TOKENS[:30].reshape(3, 10), TOKENS[:30].reshape(3, 10)),
        "predict": lambda: model.predict(eight, verbose=0),
        "time": lambda: model.fit(eight, callbacks=[backup], steps_per_epoch=3),
    }
    texts = {}
    for name, call in tries.items():
        try:
            call()
        except ValueError as error:
            texts[name] = np.array(str(error))
    return texts


RUNS = {"stream": stream, "pack": pack, "bucket": bucket}


def main(folder):
    if "SLURM_NTASKS" in os.environ:
        keras.distribution.initialize()
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    runs = {**RUNS, "refused": refused}
    if keras.distribution.distribution().num_processes > 1:
        runs["resumed"] = lambda: resumed(folder)
    found = {f"{name}: {key}": v for name, run in runs.items() for key, v in run().items()}
    np.savez(folder / f"{keras.distribution.distribution().data_shard_id}.npz", **found)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
