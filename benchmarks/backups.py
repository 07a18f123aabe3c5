"""What backups cost: the share of training that `BackupAndResume` takes at its default interval.

Trains the models of the training benchmark for some minutes with the callback as it is by
default, and adds up the time in which backups are made (training waits for them) and in which
the data are noted (a thread that reads ahead does this on TensorFlow).
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import rnnzoo
from benchmarks.cases import CASES, CLIP, RATE, Case, data
from benchmarks.turns import RESULTS, machine
from rnnzoo.training.backup import run, sources

WINDOWS = 64  # in an epoch


def timed(holder: Any, name: str, times: list[float]) -> None:
    """Notes in `times` the seconds of every call of `holder.name`."""
    function: Callable = getattr(holder, name)

    def call(*given: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*given)
        finally:
            times.append(time.perf_counter() - begin)

    setattr(holder, name, call)


class Clock(keras.callbacks.Callback):
    """Ends training after so many seconds, counted from the end of the first batch."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.begin, self.passed, self.batches = seconds, None, 0.0, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.begin = self.begin or time.perf_counter()
        self.passed, self.batches = time.perf_counter() - self.begin, self.batches + 1
        if self.passed > self.seconds:
            self.model.stop_training = True


def measure(case: Case, seconds: float) -> dict:
    """Seconds of training, of each backup and of noting the data, and the bytes of a backup."""
    kind = {"features": case.features}
    if case.vocabulary:
        kind = {"vocabulary": case.vocabulary, "embedding": case.embedding}
    model = rnnzoo.one_to_one(units=case.units, outputs=case.outputs, **kind)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(RATE, global_clipnorm=CLIP)
    model.compile(optimizer, loss if case.vocabulary else "mse")
    x, y = (a.reshape(-1, *a.shape[2:]) for a in data(case, WINDOWS))
    sizes = {"batch_size": case.lanes, "window": case.window, "windows_per_batch": 8}
    batches = rnnzoo.data.stream(x, targets=y, **sizes)
    saves, notes, clock = [], [], Clock(seconds)
    timed(run.Run, "_save", saves)
    timed(sources, "_checksum", notes)
    with tempfile.TemporaryDirectory() as folder:
        called = [rnnzoo.TruncatedBPTT(case.window), rnnzoo.BackupAndResume(folder), clock]
        model.fit(batches, epochs=10**6, verbose=0, callbacks=called)
        newest = max(Path(folder).iterdir(), key=lambda path: int(path.name))
        size = sum(path.stat().st_size for path in newest.iterdir())
    return {"seconds": clock.passed, "saves": saves, "noting": sum(notes), "bytes": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.5, help="for each model")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    args = parser.parse_args()
    found = {}
    print(f"{keras.backend.backend()}: {args.minutes} minutes each, a backup after each minute")
    for name in args.cases:
        row = found[name] = measure(CASES[name], 60 * args.minutes)
        spent = sum(row["saves"]) + row["noting"]
        print(
            f"{name:12} {len(row['saves'])} backups of {row['bytes'] / 2**20:6.1f} MiB, "
            f"{max(row['saves']) * 1e3:6.0f} ms at most, "
            f"data noted in {row['noting'] * 1e3:5.0f} ms: "
            f"{spent / row['seconds']:.2%} of the time",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"backups_{keras.backend.backend()}.json"
    file.write_text(json.dumps({"machine": machine(), "found": found}, indent=1) + "\n")
    print(file)


if __name__ == "__main__":
    main()
