"""Training on an endless stream: whether memory and time per update stay what they were.

Trains a model on a signal that is made while it is read, by truncated BPTT, with backups by
the clock, for as long as asked. Notes resident memory and the processor's time after each epoch,
and the time of a fixed piece of work beside it, since other work slows the machine down. At the
end fits lines through memory and relative time, the first quarter left out.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import rnnzoo
from benchmarks.turns import RESULTS, machine

LANES, STEPS, UNITS, WINDOW, BATCHES = 16, 200, 64, 50, 100


def signal() -> Iterator[tuple]:
    """Batches of a noisy sum of two waves, of new frequencies from time to time, for ever."""
    rng = np.random.default_rng(0)
    phase, speed = np.zeros((LANES, 2)), rng.uniform(0.02, 0.5, (LANES, 2))
    while True:
        begin = rng.random(LANES) < 0.1
        speed[begin] = rng.uniform(0.02, 0.5, (begin.sum(), 2))
        angles = phase[:, None] + speed[:, None] * np.arange(STEPS + 1)[:, None]
        phase = angles[:, -1] % (2 * np.pi)
        values = np.sin(angles).sum(-1, keepdims=True) + rng.normal(0, 0.05, (LANES, STEPS + 1, 1))
        reset = np.zeros((LANES, STEPS), bool)
        reset[:, 0] = begin
        values = values.astype("float32")
        yield {"inputs": values[:, :-1], "reset": reset}, values[:, 1:]


def resident() -> float:
    """The memory that this process holds now, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this benchmark reads /proc, which only Linux has")


def fixed_work() -> float:
    """Seconds of the processor for some matrix products, always the same."""
    values = np.full((256, 256), 1 / 256, "float32")
    begin = time.process_time()
    for _ in range(30):
        values = values @ values
    return time.process_time() - begin


class Watch(keras.callbacks.Callback):
    """Notes memory and time of each epoch, and ends training when the time is over."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.begin, self.rows = seconds, time.monotonic(), []
        self.processor = time.process_time()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        used = (time.process_time() - self.processor) / BATCHES * 1e3
        passed, work = time.monotonic() - self.begin, fixed_work() * 1e3
        self.rows.append((passed, resident(), used, used / work, logs["loss"]))
        self.processor = time.process_time()
        if passed > self.seconds:
            self.model.stop_training = True


def line(name: str, unit: str, hours: np.ndarray, values: np.ndarray) -> dict:
    """Prints and returns the line through `values` and how sure its slope is."""
    (slope, start), covariance = np.polyfit(hours, values, 1, cov=True)
    error = float(np.sqrt(covariance[0, 0]))
    print(
        f"{name:14} {np.median(values[: len(values) // 4]):9.3f} {unit} at first, "
        f"{np.median(values[-len(values) // 4 :]):9.3f} at last, "
        f"slope {slope:+8.3f} an hour, standard error {error:.3f}"
    )
    return {"slope": float(slope), "error": error, "start": float(start)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = rnnzoo.one_to_one(features=1, units=UNITS, outputs=1, dropout=0.1)
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0), "mse")
    watch = Watch(60 * args.minutes)
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [rnnzoo.TruncatedBPTT(WINDOW), rnnzoo.BackupAndResume(folder), watch]
        endless = {"epochs": 10**9, "steps_per_epoch": BATCHES, "verbose": 0}
        model.fit(signal(), callbacks=callbacks, **endless)
    rows = np.array(watch.rows)
    settled = rows[rows[:, 0] > rows[-1, 0] / 4]
    hours = settled[:, 0] / 3600
    name = keras.backend.backend()
    print(f"{name}: {len(rows) * BATCHES * STEPS // WINDOW:,} updates, {rows[-1, 0] / 60:.0f} min")
    lines = {
        "memory": line("memory", "MiB", hours, settled[:, 1]),
        "time": line("time", "ms a batch", hours, settled[:, 2]),
        "relative": line("relative time", "", hours, settled[:, 3]),
    }
    print(f"{'loss':14} {rows[0, 4]:9.4f} at first, {rows[-1, 4]:9.4f} at last")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"endless_{name}.json"
    found = {"machine": machine(), "rows": rows.tolist(), "lines": lines}
    file.write_text(json.dumps(found) + "\n")
    print(file)


if __name__ == "__main__":
    main()
