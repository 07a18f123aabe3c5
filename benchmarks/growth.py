"""Growth: time and memory of training against steps, units, lanes and windows in a batch.

Each point is a process of its own that trains one LSTM layer by truncated BPTT. One size
changes, all others stay as `BASE` has them. The rate of its products is given as a fraction of
what the machine reaches in one large matrix product, measured in the same process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks.layer_contestant import product_rate
from benchmarks.turns import HERE, RESULTS, machine

BASE = {"steps": 3_200, "units": 256, "lanes": 32, "windows": 8}
SWEEPS = {
    "steps": [100, 1_000, 10_000, 100_000],
    "units": [64, 128, 256, 512, 1024],
    "lanes": [1, 8, 32, 128],
    "windows": [1, 2, 4, 8, 32],
}
FEATURES, WINDOW, LEAST = 16, 50, 4.0


def measure(steps: int, units: int, lanes: int, windows: int) -> dict:
    """Seconds for a step of all lanes, peak memory in MiB, and the rate of the products."""
    import keras

    import rnnzoo

    limit = product_rate("keras") * 1e9
    model = rnnzoo.one_to_one(features=FEATURES, units=units, outputs=FEATURES)
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0), "mse")
    x = np.random.default_rng(0).normal(size=(lanes * steps, FEATURES)).astype("float32")
    sizes = {"window": min(WINDOW, steps), "windows_per_batch": min(windows, -(-steps // WINDOW))}
    data = rnnzoo.data.stream(x, lanes, targets=x, **sizes)

    class Clock(keras.callbacks.Callback):
        seconds, epochs = 0.0, 0

        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            self.begin = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            if epoch:  # the first compiles
                self.seconds += time.perf_counter() - self.begin
                self.epochs += 1
            if self.seconds > LEAST:
                self.model.stop_training = True

    clock = Clock()
    model.fit(data, epochs=10**6, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(WINDOW), clock])
    step = clock.seconds / clock.epochs / steps
    flops = 3 * 2 * lanes * (4 * units * (FEATURES + units) + units * FEATURES)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"microseconds": step * 1e6, "peak": peak, "share": flops / step / limit, "limit": limit}


def run(sizes: dict[str, int]) -> dict:
    """`measure(**sizes)` in a new process."""
    command = [sys.executable, "-m", "benchmarks.growth", "--one", json.dumps(sizes)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def chart(found: dict[str, list[dict]], name: str) -> Any:
    """The path of a picture: time for a lane's step and peak memory in each sweep."""
    from rnnzoo.curves import picture

    def draw(figure: Any) -> None:
        for place, (size, rows) in enumerate(found.items()):
            axes = figure.add_subplot(1, len(found), place + 1, xlabel=size, xscale="log")
            times = [row["microseconds"] / row["lanes"] for row in rows]
            axes.plot([row[size] for row in rows], times, "o-", color="tab:blue")
            axes.set_ylim(0, 1.1 * max(times))
            axes.set_ylabel("microseconds a step and lane" if place == 0 else "", color="tab:blue")
            other = axes.twinx()
            peaks = [row["peak"] for row in rows]
            other.plot([row[size] for row in rows], peaks, "s--", color="0.5")
            other.set_ylim(0, 1.1 * max(peaks))
            other.set_ylabel("peak MiB" if place == len(found) - 1 else "", color="0.4")

    return picture(draw, RESULTS / f"growth_{name}.png", (16, 3.2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(**args.one)))
        return
    name = os.environ.get("KERAS_BACKEND", "tensorflow")
    found = {}
    print(f"{name}: one LSTM layer, {FEATURES} features, window {WINDOW}; else {BASE}")
    for sweep in args.sweeps:
        print(
            f"\n{sweep:>10} {'us a step':>12} {'us a step, lane':>16} {'peak MiB':>10} "
            f"{'of product':>11}"
        )
        found[sweep] = []
        for value in SWEEPS[sweep]:
            sizes = {**BASE, sweep: value}
            row = sizes | run(sizes)
            found[sweep].append(row)
            alone = row["microseconds"] / row["lanes"]
            print(
                f"{value:10,} {row['microseconds']:12.1f} {alone:16.2f} {row['peak']:10.0f} "
                f"{row['share']:11.1%}",
                flush=True,
            )
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"growth_{name}.json"
    file.write_text(json.dumps({"machine": machine(), "found": found}, indent=1) + "\n")
    print(f"\n{file}\n{chart(found, name)}")


if __name__ == "__main__":
    main()
