"""Training runs whose end must not depend on how many devices and processes share them.

As a program, `spread_runs.py FOLDER`, each process makes all runs and saves what it found in
`FOLDER/<process>.npz`; the launcher's variables say how many processes there are.
"""

import os
import pathlib
import sys

import keras
import numpy as np

import rnnzoo

LANES, WINDOW, UNITS = 8, 4, 5
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 7, 8 * 25 - 2).astype("int32")
SONGS = [RNG.normal(size=(n, 2)).astype("float32") for n in RNG.integers(5, 30, 24)]
LABELS = RNG.normal(size=(24, 1)).astype("float32")


class Watched(np.ndarray):
    """An array that notes which slices of it are read."""

    def __getitem__(self, index):
        if isinstance(index, slice):
            self.read.append((index.start, index.stop))
        return super().__getitem__(index)


def watched(array):
    array = array.view(Watched)
    array.read = []
    return array


def build(form=rnnzoo.one_to_one, loss=None, **kind):
    keras.utils.set_random_seed(3)
    model = form(units=UNITS, **kind)
    mean = "mean_with_sample_weight"
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=mean)
    rate = keras.optimizers.Adam(0.02, global_clipnorm=1.0)
    model.compile(rate, loss, weighted_metrics=[])
    return model


def squares():
    return keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")


def fit(model, data, *callbacks, **options):
    """What a run ends with, by name."""
    history = model.fit(data, epochs=2, verbose=0, callbacks=list(callbacks), **options).history
    found = {f"weight {i}": w.numpy() for i, w in enumerate(model.trainable_weights)}
    found |= {f"state {name}": value for name, value in model.states.items()}
    return found | {name: np.array(values) for name, values in history.items()}


def stream():
    """Whole windows in one loop, a short last batch, one step of padding, dropout, validation."""
    model = build(vocabulary=7, embedding=3, dropout=0.2)
    tokens, options = watched(TOKENS), {"batch_size": LANES, "window": WINDOW}
    data = rnnzoo.data.stream(tokens, windows_per_batch=3, **options)
    checks = rnnzoo.data.stream(TOKENS[:100], **options)
    found = fit(model, data, rnnzoo.TruncatedBPTT(WINDOW), validation_data=checks)
    return found | {"read": np.array(sorted(set(tokens.read)))}


def pack():
    """Windows that overlap, sequences that end within them, lanes that end in padding."""
    model = build(features=2, outputs=2, loss=squares(), cell="gru")
    options = {"batch_size": LANES, "window": WINDOW, "windows_per_batch": 3}
    data = rnnzoo.data.pack(SONGS, shuffle=True, seed=1, **options)
    return fit(model, data, rnnzoo.TruncatedBPTT(WINDOW, stride=2))


def bucket():
    """Whole sequences, without a state from batch to batch."""
    model = build(rnnzoo.many_to_one, features=2, outputs=1, loss=squares())
    return fit(model, rnnzoo.data.bucket(SONGS, LABELS, LANES, shuffle=True, seed=1))


RUNS = {"stream": stream, "pack": pack, "bucket": bucket}


def main():
    if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ or "SLURM_NTASKS" in os.environ:
        keras.distribution.initialize()
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    found = {f"{name}: {key}": v for name, run in RUNS.items() for key, v in run().items()}
    spread = keras.distribution.distribution()
    print(spread.num_processes, spread.num_model_replicas, flush=True)
    np.savez(pathlib.Path(sys.argv[1]) / f"{spread.data_shard_id}.npz", **found)


if __name__ == "__main__":
    main()
