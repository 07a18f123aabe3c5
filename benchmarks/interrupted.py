"""Trains a small model on shuffled documents, with backups: what `survival` kills and resumes."""

import argparse
import hashlib
import json
from pathlib import Path

import keras
import numpy as np

import rnnzoo
from rnnzoo.training.backup import snapshot

VOCABULARY, LANES, WINDOW = 20, 4, 10


def documents() -> rnnzoo.data.epochs.EpochDataset:
    """Documents in another order in each epoch, whose ends fall into the middle of windows."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, VOCABULARY, length) for length in rng.integers(5, 300, 80)]
    return rnnzoo.data.pack(texts, LANES, WINDOW, windows_per_batch=5, shuffle=True, seed=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the backups go")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--every", type=int, default=3, help="batches from backup to backup")
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    keras.utils.set_random_seed(1)
    model = rnnzoo.one_to_one(
        vocabulary=VOCABULARY, units=[32, 32], embedding=8, dropout=0.2, recurrent_dropout=0.2
    )
    nats = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(
        keras.optimizers.Adam(0.01, global_clipnorm=1.0),
        nats,
        weighted_metrics=[rnnzoo.metrics.Perplexity()],
    )

    class Ready(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            (args.folder / "training").touch()  # compiled, and begun

    backups = rnnzoo.BackupAndResume(args.folder, args.every)
    history = model.fit(
        documents(),
        epochs=args.epochs,
        validation_data=documents(),
        verbose=0,
        callbacks=[Ready(), rnnzoo.TruncatedBPTT(WINDOW), backups],
    )
    digest = hashlib.sha256(json.dumps(history.history).encode())
    for name, variable in snapshot.variables_of(model).items():
        digest.update(name.encode() + np.array(keras.ops.convert_to_numpy(variable)).tobytes())
    print(f"end {digest.hexdigest()}")


if __name__ == "__main__":
    main()
