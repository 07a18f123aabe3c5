"""Forecast many series with intervals: one autoregressive network for all of them (DeepAR).

Each step reads the value of now, the one of a week before the next, its hour, and which series it
is; a Student's t says what comes next. All is in units of how much a series changes from one day
to the next, measured on the way. Paths drawn from it are fed back for the hours to come.
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
from rnnzoo.curves import picture
from rnnzoo.data import read_csv, read_text

HERE = Path(__file__).resolve().parent
M4 = HERE.parent.parent / "shared" / "data" / "m4-hourly"
OPTIONS = (
    ("ahead", 48, "steps to forecast, of each series the last: the test"),
    ("season", 24, "steps of a season"),
    ("cycle", 168, "steps of the long season; at least --ahead"),
    ("units", 64, "size of the layer"),
    ("identity", 8, "numbers that stand for a series"),
    ("dropout", 0.0, "share dropped"),
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
        found = [sequence[:, 0] for sequence in read_csv(path).sequences]
        if not found:
            raise ValueError(f"{path} has no series")
        return [one.astype("float64") for one in found]
    parts = []
    for part in ("train", "test"):
        rows = list(csv.reader(io.StringIO(read_text(path / f"Hourly-{part}.csv.gz"))))[1:]
        parts.append([np.array([value for value in row[1:] if value], "float64") for row in rows])
    return [np.concatenate(pair) for pair in zip(*parts, strict=True)]


def inputs(series: np.ndarray, identity: int) -> dict[str, np.ndarray]:
    """What the model reads of a series; all but its value is of the step that comes next."""
    coming = np.arange(len(series)) + 1
    return {
        "value": series[:, None].astype("float32"),
        "before": series[np.where(coming < args.cycle, coming - 1, coming - args.cycle), None],
        "hour": coming % args.season,
        "series": np.array(identity),
    }


def ridge(series: list[np.ndarray], changes: bool, strength: float) -> np.ndarray:
    """Forecasts by a linear map of two cycles, of values or of changes from season to season."""
    past, ahead, season = 2 * args.cycle, args.ahead, args.season
    pairs, now = [], []
    for one in series:
        spread = np.abs(one[season:] - one[:-season]).mean() + 1e-9
        for end in [*range(past, len(one) - ahead + 1, 6), len(one)]:
            read = one[end - past : end]
            base = np.resize(read[-season:], past + ahead) * changes
            size = spread if changes else np.abs(read).mean() + 1e-9
            read = (read - base[:past]) / size
            if end < len(one):
                pairs.append((read, (one[end : end + ahead] - base[:ahead]) / size))
        now.append((read, size, base[:ahead]))
    x, y = (np.array(part) for part in zip(*pairs))
    weights = np.linalg.solve(x.T @ x + strength * np.eye(past), x.T @ y)
    return np.array([read @ weights * size + base for read, size, base in now])


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
    absent = "M4 is not bundled: fetch Hourly-train.csv and Hourly-test.csv from the GitHub "
    absent += "repository Mcompetitions/M4-methods, gzip them, and give --data FOLDER"
    parser.error(absent if args.data == M4 and not M4.exists() else f"--data: {error}")
known = [one[: -args.ahead] for one in series]
truth = np.array([one[-args.ahead :] for one in series])
keras.utils.set_random_seed(0)
learnt = [inputs(one[:-1], place) for place, one in enumerate(known)]
data = rnnzoo.data.bucket(
    {name: [one[name] for one in learnt] for name in ("value", "before", "hour")},
    [one[1:, None] for one in known],
    args.batch,
    static={"series": np.arange(len(known))},
    sample_weight=[np.arange(1, len(one)) > args.cycle for one in known],  # the first warms up
    per_step=True,
    shuffle=True,
    seed=0,
)
updates = args.epochs * len(data) * -(-max(map(len, known)) // args.window)
rate = keras.optimizers.schedules.CosineDecay(args.rate, updates)
with scope:
    model = rnnzoo.one_to_one(
        inputs={"value": 1, "before": 1, "hour": rnnzoo.Tokens(args.season, 8)},
        static={"series": rnnzoo.Tokens(len(known), args.identity)},
        units=args.units,
        dropout=args.dropout,
        outputs=rnnzoo.heads.StudentT(),
        scaling={"value": rnnzoo.Scaling("change", lag=args.season), "before": "value"},
    )
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0))
begin = time.time()
called = [rnnzoo.TruncatedBPTT(args.window), *safeguards(args)]
model.fit(data, epochs=args.epochs, callbacks=called, verbose=2)
trained = time.time()
rows = [inputs(one, place) for place, one in enumerate(series)]
options = {"samples": args.samples, "season": args.season, "seed": 1, "feed": "value"}
found = rnnzoo.backtest(model, rows, args.ahead, **options)
middle = found.forecasts[0].quantile([0.1, 0.5, 0.9])[..., 0, :]
forecasts = {
    "network": middle[..., 1],
    "repeat the season": np.array([np.resize(one[-args.season :], args.ahead) for one in known]),
    "ridge on values": ridge(known, False, 1e3),
    "ridge on changes": ridge(known, True, 1e5),
}


def draw(figure) -> None:
    """Some forecasts, with their intervals, against the truth."""
    steps = np.arange(args.ahead)
    for place, i in enumerate(np.linspace(0, len(series) - 1, 4).astype(int)):
        axes = figure.add_subplot(4, 1, place + 1, ylabel=f"series {i + 1}")
        axes.plot(np.arange(-args.cycle, 0), known[i][-args.cycle :], color="gray", label="before")
        axes.plot(steps, truth[i], color="black", label="truth")
        axes.plot(steps, middle[i, :, 1], label="median")
        axes.fill_between(steps, middle[i, :, 0], middle[i, :, 2], alpha=0.3, label="80 %")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(ncols=4)
    figure.axes[-1].set_xlabel("steps from now")


print(f"\nforecasts          {picture(draw, HERE / 'output' / 'intervals.png', size=(10, 10))}")
print(f"training           {(trained - begin) / 60:.1f} minutes, {model.count_params():,} parameters")
print(f"forecasting        {time.time() - trained:.0f} seconds, {args.samples} paths a series")
print(f"data               {len(series)} series, the last {args.ahead} steps of each to test")
print("\n                     MASE    sMAPE")
for name, points in forecasts.items():
    errors = [metrics.mase(*each, args.season) for each in zip(truth, points, known)]
    print(f"{name:19} {np.nanmean(errors):6.3f}   {metrics.smape(truth, points).mean():6.3f}")
said = found.metrics
print(f"\n80 % intervals      {said['coverage']:.1%} of the truth within")
print(f"scaled CRPS         {said['scaled_CRPS']:.3f}")
