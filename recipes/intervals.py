"""Forecast many series with intervals: one autoregressive network for all of them (DeepAR).

Each step reads the value of now, the one of a week before the next, its hour, and which series it
is; a Student's t says what comes next, in units of how much the series changes from day to day.
"""

import argparse
import csv
import io
import time
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import keras
import numpy as np
from running import parse, safeguards

import rnnzoo
from rnnzoo import metrics
from rnnzoo.data import read_csv, read_text

HERE = Path(__file__).resolve().parent
M4 = HERE.parent.parent / "shared" / "data" / "m4-hourly"
OPTIONS = (
    ("ahead", 48, "steps to forecast, of each series the last: the test"),
    ("season", 24, "steps of a season"),
    ("cycle", 168, "steps of the long season; at least --ahead"),
    ("units", 64, "size of the layer"),
    ("epochs", 30, "passes over the data"),
    ("rate", 3e-3, "highest learning rate"),
    ("batch", 32, "series in a batch"),
    ("window", 168, "steps that are back-propagated through"),
    ("samples", 200, "paths drawn of each series"),
)


def arguments() -> tuple:
    """The parser, the options, and the scope for the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    text = "a CSV file with the columns sequence, step and one of values, or a folder with the "
    add("--data", type=Path, default=M4, help=text + "hourly files of the M4 competition")
    add("--validate", action="store_true", help="leave the test out: forecast what is before it")
    for name, default, text in OPTIONS:
        add(f"--{name}", type=type(default), default=default, help=text)
    return parser, *parse(parser)


def read(path: Path) -> list[np.ndarray]:
    """The series, of M4 with their test part."""
    if not path.is_dir():
        return [sequence[:, 0].astype("float64") for sequence in read_csv(path).sequences]
    texts = [read_text(path / f"Hourly-{part}.csv.gz") for part in ("train", "test")]
    rows = zip(*(list(csv.reader(io.StringIO(text)))[1:] for text in texts), strict=True)
    return [np.array([v for v in (*one[1:], *two[1:]) if v], "float64") for one, two in rows]


def inputs(series: np.ndarray, identity: int) -> dict[str, np.ndarray]:
    """What the model reads of a series; all but its value is of the step that comes next."""
    coming = np.arange(len(series)) + 1
    return {
        "value": series[:, None].astype("float32"),
        "before": series[np.where(coming < args.cycle, coming - 1, coming - args.cycle), None],
        "hour": coming % args.season,
        "series": np.array(identity),
    }


def padded(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays of different length as one, with zeros after their ends."""
    steps = max(map(len, arrays))
    room = [[(0, steps - len(one))] + [(0, 0)] * (one.ndim - 1) for one in arrays]
    return np.stack([np.pad(one, pad) for one, pad in zip(arrays, room)])


def ridge(series: list[np.ndarray], changes: bool, strength: float) -> np.ndarray:
    """Forecasts by a linear map of two cycles, of values or of changes from the last season."""
    past, ahead = 2 * args.cycle, args.ahead
    x, y, now = [], [], []
    for one in series:
        spread = np.abs(one[args.season :] - one[: -args.season]).mean() + 1e-9
        for end in [*range(past, len(one) - ahead + 1, 6), len(one)]:
            read, coming = one[end - past : end], np.resize(one[end : end + ahead], ahead)
            base = np.resize(read[-args.season :], past + ahead) * changes
            size = spread if changes else np.abs(read).mean() + 1e-9
            x.append((read - base[:past]) / size)
            y.append((coming - base[:ahead]) / size)
        now.append((x.pop(), y.pop(), size, base[:ahead]))
    x, y = np.array(x), np.array(y)
    weights = np.linalg.solve(x.T @ x + strength * np.eye(past), x.T @ y)
    return np.array([read @ weights * size + base for read, _, size, base in now])


parser, args, scope = arguments()
try:
    series = [one[: len(one) - args.ahead * args.validate] for one in read(args.data)]
    shortest = 2 * (args.cycle + args.ahead)
    if min(map(len, series)) < shortest or args.ahead > args.cycle:
        raise ValueError(
            f"every series must have {shortest} steps, and --ahead must be at most --cycle; "
            f"received a series of {min(map(len, series))} steps, --ahead {args.ahead}"
        )
except (OSError, ValueError) as error:
    absent = "M4 is not bundled: give --data FOLDER, see recipes/README.md"
    parser.error(absent if args.data == M4 and not M4.exists() else f"--data: {error}")
known = [one[: -args.ahead] for one in series]
truth = np.array([one[-args.ahead :] for one in series])
keras.utils.set_random_seed(0)
learnt = [inputs(one[:-1], place) for place, one in enumerate(known)]
x = {name: padded([one[name] for one in learnt]) for name in ("value", "before", "hour")}
x["series"] = np.arange(len(known))
y = padded([one[1:, None] for one in known])
weight = padded([np.arange(1, len(one)) > args.cycle for one in known])  # the first warms up
updates = args.epochs * -(-len(known) // args.batch) * -(-y.shape[1] // args.window)
rate = keras.optimizers.schedules.CosineDecay(args.rate, updates)
with scope:
    model = rnnzoo.one_to_one(
        inputs={"value": 1, "before": 1, "hour": rnnzoo.Tokens(args.season, 8)},
        static={"series": rnnzoo.Tokens(len(known), 8)},
        units=args.units,
        outputs=rnnzoo.heads.StudentT(),
        scaling={"value": rnnzoo.Scaling("change", lag=args.season), "before": "value"},
    )
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0))
begin = time.time()
called = [rnnzoo.TruncatedBPTT(args.window), *safeguards(args)]
options = {"batch_size": args.batch, "epochs": args.epochs, "verbose": 2}
model.fit(x, y, sample_weight=weight, callbacks=called, **options)
minutes = (time.time() - begin) / 60
options = {"samples": args.samples, "season": args.season, "seed": 1, "feed": "value"}
rows = [inputs(one, place) for place, one in enumerate(series)]
found = rnnzoo.backtest(model, rows, args.ahead, **options)
forecasts = {
    "network": found.forecasts[0].quantile(0.5)[..., 0],
    "repeat the season": np.array([np.resize(one[-args.season :], args.ahead) for one in known]),
    "ridge on values": ridge(known, False, 1e3),
    "ridge on changes": ridge(known, True, 1e5),
}
print(f"\ntraining           {minutes:.1f} minutes, {model.count_params():,} parameters")
print(f"data               {len(series)} series, the last {args.ahead} steps of each to test")
print("\n                     MASE    sMAPE")
for name, points in forecasts.items():
    errors = [metrics.mase(*each, args.season) for each in zip(truth, points, known)]
    print(f"{name:19} {np.nanmean(errors):6.3f}   {metrics.smape(truth, points).mean():6.3f}")
text = "\n80 % intervals      {coverage:.1%} of the truth\nscaled CRPS         {scaled_CRPS:.3f}"
print(text.format(**found.metrics))
