"""Peak memory of training against the length of the sequences, at a fixed window.

Every figure comes from a process of its own: rnnzoo trained by truncated BPTT (window 50), and
a stock Keras LSTM trained by full back-propagation, as `fit` does when it is given the whole
sequence. `python benchmarks/memory.py --help`
"""

import argparse
import os
import platform
import resource
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

LANES, FEATURES, UNITS, WINDOW = 8, 3, 64, 50


def peak() -> float:
    """The largest resident memory of this process so far, in MiB."""
    value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return value / (2**20 if platform.system() == "Darwin" else 2**10)


def measure(contestant: str, steps: int) -> None:
    """Trains for two batches; prints the peak before and after in MiB."""
    import keras
    import numpy as np

    import rnnzoo

    x = np.random.default_rng(0).normal(size=(LANES, steps, FEATURES)).astype("float32")
    callbacks = []
    if contestant == "rnnzoo":
        model = rnnzoo.one_to_one(features=FEATURES, units=UNITS, outputs=FEATURES)
        callbacks = [rnnzoo.TruncatedBPTT(WINDOW)]
    else:
        layers = [keras.layers.LSTM(UNITS, return_sequences=True), keras.layers.Dense(FEATURES)]
        model = keras.Sequential([keras.Input((None, FEATURES)), *layers])
    model.compile("adam", "mse")
    before = peak()
    model.fit(x, x, batch_size=LANES, epochs=2, verbose=0, callbacks=callbacks)
    print(before, peak())


def run(contestant: str, steps: int) -> float:
    """The peak in MiB of a new process that trains `contestant` on sequences of `steps`."""
    command = [sys.executable, __file__, "--one", contestant, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000, 100_000])
parser.add_argument("--stock-steps", type=int, nargs="+", default=[1_000, 10_000])
parser.add_argument("--one", nargs=2, metavar=("CONTESTANT", "STEPS"), help=argparse.SUPPRESS)
args = parser.parse_args()
if args.one:
    measure(args.one[0], int(args.one[1]))
    sys.exit()
backend = os.environ.get("KERAS_BACKEND", "tensorflow")
print(f"{LANES} lanes, {UNITS} units, window {WINDOW}, Keras on {backend}, {platform.machine()}")
print(f"{'contestant':12} {'steps':>8} {'peak MiB':>10} {'against first':>14}")
for contestant, lengths in (("rnnzoo", args.steps), ("stock LSTM", args.stock_steps)):
    first = None
    for steps in lengths:
        value = run(contestant.split()[0], steps)
        first = first or value
        print(f"{contestant:12} {steps:8,} {value:10.0f} {value / first:14.2f}", flush=True)
