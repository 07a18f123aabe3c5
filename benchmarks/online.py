"""Online: what one more observation costs a forecaster, after histories of any length.

Series are observed step by step, each step one call, as they come. A step must take the same time
however many came before it, and a forecast from there too: no history is read again.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import rnnzoo

HORIZON, SAMPLES = 24, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--series", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1_000, help="observed one by one")
    parser.add_argument("--histories", type=int, nargs="*", default=[0, 1_000, 10_000, 100_000])
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = rnnzoo.one_to_one(
        features=1, units=args.units, outputs=rnnzoo.heads.StudentT(), scaling="mean"
    )
    rng = np.random.default_rng(0)
    warm = model.forecaster()  # compiles what all of them run
    for steps in (1, 1):
        warm.observe(rng.normal(5.0, 1.0, (args.series, steps, 1)))
    warm.forecast(HORIZON, SAMPLES)
    print(
        f"{keras.backend.backend()}, 1x{args.units} LSTM, {args.series} series, {args.steps:,} "
        f"steps one by one, then {SAMPLES} paths of {HORIZON} steps"
    )
    found = []
    for history in args.histories:
        forecaster = model.forecaster()
        x = rng.normal(5.0, 1.0, (args.series, history + args.steps, 1)).astype("float32")
        if history:
            forecaster.observe(x[:, :history])
        times = []
        for t in range(history, history + args.steps):
            begin = time.perf_counter()
            forecaster.observe(x[:, t : t + 1])
            forecaster.state  # waits until the step has been made
            times.append(1e6 * (time.perf_counter() - begin))
        forecasts = []
        for _ in range(5):
            begin = time.perf_counter()
            forecaster.forecast(HORIZON, SAMPLES, seed=1)
            forecasts.append(1e3 * (time.perf_counter() - begin))
        part = max(1, args.steps // 10)
        row = {"history": history, "us": np.median(times), "us_99": np.quantile(times, 0.99)}
        row |= {"first_us": np.median(times[:part]), "last_us": np.median(times[-part:])}
        row["forecast_ms"] = np.median(forecasts)
        found.append({name: round(float(value), 1) for name, value in row.items()})
        print(
            f"after {history:7,} steps: {row['us']:5.0f} us a step (99 %: {row['us_99']:5.0f}; "
            f"first {part}: {row['first_us']:.0f}, last {part}: {row['last_us']:.0f}), "
            f"{row['forecast_ms']:.1f} ms a forecast"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
