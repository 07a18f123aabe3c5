"""Forecast a day of hourly readings: encoder-decoder on real values.

The encoder reads the last two weeks, the decoder writes the hours to come. One step of either is
a day of values (segments: Lin et al., 2023), relative to the last value that is known and in
deviations of what was read. The decoder is fed what it wrote, in training as in use.
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
from rnnzoo.curves import picture
from rnnzoo.data import read_text

HERE = Path(__file__).resolve().parent
OPTIONS = (
    ("history", 336, "rows that are read"),
    ("ahead", 24, "rows that are forecast"),
    ("segment", 24, "rows in one step; also the length of a day"),
    ("units", 64, "size of both layers"),
    ("dropout", 0.4, "share dropped"),
    ("epochs", 5, "passes over the data"),
    ("rate", 2e-3, "highest learning rate"),
    ("batch", 64, "windows in a batch"),
    ("seeds", 3, "models whose forecasts are averaged"),
)


def arguments() -> tuple:
    """The parser, the options, and the scope for the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, default=HERE / "data" / "ett" / "ETTh1.csv.gz", help="a CSV file")
    add("--column", default="OT", help="the column to forecast (default: OT)")
    months, names = [30 * 24 * n for n in (12, 4, 4)], ("TRAIN", "VALIDATE", "TEST")
    add("--rows", type=int, nargs=3, default=months, metavar=names, help="rows of each part")
    for name, default, text in OPTIONS:
        add(f"--{name}", type=type(default), default=default, help=text)
    return parser, *parse(parser)


def column(path: Path, name: str) -> np.ndarray:
    """One column of a CSV file as numbers."""
    rows = csv.reader(io.StringIO(read_text(path)))
    header = next(rows, [])
    if name not in header:
        raise ValueError(f"--column must be one of {header}; received {name!r}")
    place, values = header.index(name), []
    for number, row in enumerate(rows, 2):
        try:
            values.append(float(row[place]))
        except (IndexError, ValueError):
            raise ValueError(f"{path}, line {number}: {name} must be a number") from None
    return np.array(values, "float64")


def windows(values: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histories, futures that lie in rows `first` to `last - 1`, and where the futures start."""
    starts = np.arange(max(first, args.history), last - args.ahead + 1)
    past = values[starts[:, None] + np.arange(-args.history, 0)]
    return past, values[starts[:, None] + np.arange(args.ahead)], starts


def source(past: np.ndarray, scale: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """What the encoder reads: segments, and the time of day at which they begin."""
    times = 2 * np.pi * (starts[:, None] + np.arange(-args.history, 0, args.segment)) / args.segment
    values = ((past - past[:, -1:]) / scale).reshape(*times.shape, args.segment)
    return np.dstack([values, np.sin(times), np.cos(times)])


def ridge(past: np.ndarray, future: np.ndarray, strength: float = 10.0) -> np.ndarray:
    """Weights of a ridge regression of the future on the past."""
    return np.linalg.solve(past.T @ past + strength * np.eye(past.shape[1]), past.T @ future)


parser, args, scope = arguments()
try:
    values = column(args.data, args.column)
    ends = np.cumsum(args.rows)
    if ends[-1] > len(values) or args.rows[0] < args.history + args.ahead:
        raise ValueError(f"--rows must fit the {len(values)} rows; received {args.rows}")
    if max(args.history % args.segment, args.ahead % args.segment):
        raise ValueError("--history and --ahead must be multiples of --segment")
except (OSError, ValueError) as error:
    parser.error(f"--data: {error}")
values = (values - values[: ends[0]].mean()) / values[: ends[0]].std()
parts = [windows(values, *part) for part in zip([0, *ends[:2]], ends)]
relative = [(past - past[:, -1:], future - past[:, -1:]) for past, future, _ in parts]
scales = [past.std(axis=1, keepdims=True) + 1e-3 for past, _, _ in parts]
sources = [source(past, scale, at) for (past, _, at), scale in zip(parts, scales)]
shape = (-1, args.ahead // args.segment, args.segment)
targets = [(future / scale).reshape(shape) for (_, future), scale in zip(relative, scales)]
forecasts, begin = [], time.time()
for seed in range(args.seeds):
    keras.utils.set_random_seed(seed)
    sizes = {"source_features": args.segment + 2, "target_features": args.segment}
    updates = args.epochs * (len(targets[0]) // args.batch + 1)
    rate = keras.optimizers.schedules.CosineDecay(args.rate, updates)
    with scope:
        model = rnnzoo.encoder_decoder(**sizes, units=args.units, cell="gru", dropout=args.dropout)
        model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), "mse")
    train, valid = ({"source": x, "target": y} for x, y in zip(sources[:2], targets))
    called = [rnnzoo.ScheduledSampling(1.0, validation=1.0), *safeguards(args, f"seed {seed}")]
    options = {"epochs": args.epochs, "callbacks": called, "verbose": 2}
    model.fit(train, batch_size=args.batch, validation_data=(valid,), **options)
    written = model.generate(sources[2], steps=args.ahead // args.segment, batch_size=512)
    forecasts.append(written.reshape(len(written), -1) * scales[2] + parts[2][0][:, -1:])
minutes = (time.time() - begin) / 60
(past, future, _), read = parts[2], slice(-min(96, args.history), None)
linear = relative[2][0][:, read] @ ridge(relative[0][0][:, read], relative[0][1]) + past[:, -1:]
errors = {
    "encoder-decoder": np.mean(forecasts, axis=0),
    **{f"  seed {seed}": forecast for seed, forecast in enumerate(forecasts)},
    "ridge regression": linear,
    "repeat last value": np.repeat(past[:, -1:], args.ahead, axis=1),
    "repeat yesterday": past[:, -args.ahead :],
}


def draw(figure) -> None:
    """Some forecasts against the truth."""
    for place, i in enumerate(np.linspace(0, len(past) - 1, 5).astype(int)[1:4]):
        axes = figure.add_subplot(3, 1, place + 1, ylabel=f"{args.column}, scaled")
        axes.plot(np.arange(-len(past[i, read]), 0), past[i, read], color="gray", label="before")
        axes.plot(np.arange(args.ahead), future[i], color="black", label="truth")
        for name in ("encoder-decoder", "ridge regression"):
            axes.plot(np.arange(args.ahead), errors[name][i], label=name)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(ncols=4)
    figure.axes[-1].set_xlabel("steps from now")


print(f"\nforecasts          {picture(draw, HERE / 'output' / 'forecast.png', size=(10, 8))}")
print(f"training           {minutes:.1f} minutes, {model.count_params():,} parameters a model")
print(f"data               {len(relative[0][0]):,} windows to train, {len(past):,} to test")
print(f"\nmean squared error over {args.ahead} steps, test rows, in deviations of training rows")
for name, forecast in errors.items():
    print(f"{name:18} {np.mean((forecast - future) ** 2):.4f}")
