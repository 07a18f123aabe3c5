"""Forecast a day of hourly readings: encoder-decoder on real values.

The encoder reads the last hours, the decoder writes the next ones and is fed what it wrote, in
training (ScheduledSampling) as in use. Values are taken relative to the last one that is known.
"""

import argparse
import csv
import io
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import rnnzoo
from rnnzoo.curves import picture
from rnnzoo.data import read_text

HERE = Path(__file__).resolve().parent
MONTH = 30 * 24
COLORS = (("encoder-decoder", "tab:red"), ("ridge regression", "tab:blue"))


def arguments() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser and the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, default=HERE / "data" / "ett" / "ETTh1.csv.gz", help="a CSV file")
    add("--column", default="OT", help="the column to forecast (default: OT)")
    months, names = [12 * MONTH, 4 * MONTH, 4 * MONTH], ("TRAIN", "VALIDATE", "TEST")
    add("--rows", type=int, nargs=3, default=months, metavar=names, help="rows of each part")
    add("--history", type=int, default=96, help="steps that are read")
    add("--ahead", type=int, default=24, help="steps that are forecast; also a day's length")
    add("--units", type=int, default=32)
    add("--dropout", type=float, default=0.1)
    add("--epochs", type=int, default=10)
    add("--rate", type=float, default=2e-3, help="highest learning rate")
    add("--batch", type=int, default=32)
    add("--seeds", type=int, default=3, help="models whose forecasts are averaged")
    return parser, parser.parse_args()


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


def windows(values: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """All histories and futures whose futures lie in rows `first` to `last - 1`."""
    starts = np.arange(max(first, args.history), last - args.ahead + 1)
    past = values[starts[:, None] + np.arange(-args.history, 0)]
    return past, values[starts[:, None] + np.arange(args.ahead)]


def ridge(past: np.ndarray, future: np.ndarray, strength: float = 10.0) -> np.ndarray:
    """Weights of a ridge regression of the future on the past, both relative to the last value."""
    gram = past.T @ past + strength * np.eye(past.shape[1])
    return np.linalg.solve(gram, past.T @ future)


parser, args = arguments()
try:
    values = column(args.data, args.column)
    ends = np.cumsum(args.rows)
    if ends[-1] > len(values) or args.rows[0] < args.history + args.ahead:
        raise ValueError(
            f"--rows must fit the {len(values)} rows of the file; received {args.rows}"
        )
except (OSError, ValueError) as error:
    parser.error(f"--data: {error}")
values = (values - values[: ends[0]].mean()) / values[: ends[0]].std()
parts = [windows(values, *part) for part in zip([0, *ends[:2]], ends)]
relative = [(past - past[:, -1:], future - past[:, -1:]) for past, future in parts]

fed = rnnzoo.ScheduledSampling(1.0, validation=1.0)
forecasts, histories, begin = [], [], time.time()
for seed in range(args.seeds):
    keras.utils.set_random_seed(seed)
    model = rnnzoo.encoder_decoder(
        source_features=1, target_features=1, units=args.units, cell="gru", dropout=args.dropout
    )
    updates = args.epochs * -(-len(parts[0][0]) // args.batch)
    rate = keras.optimizers.schedules.CosineDecay(args.rate, updates)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), "mse")
    x, valid = ({"source": p[..., None], "target": f[..., None]} for p, f in relative[:2])
    best = keras.callbacks.EarlyStopping(patience=args.epochs, restore_best_weights=True)
    histories.append(
        model.fit(
            x,
            batch_size=args.batch,
            epochs=args.epochs,
            validation_data=(valid,),
            validation_batch_size=512,
            callbacks=[fed, best],
            verbose=2,
        ).history
    )
    written = model.generate(relative[2][0][..., None], steps=args.ahead, batch_size=512)
    forecasts.append(written[..., 0] + parts[2][0][:, -1:])
minutes = (time.time() - begin) / 60

past, future = parts[2]
day = past[:, -args.ahead :]
linear = relative[2][0] @ ridge(*relative[0]) + past[:, -1:]
errors = {
    "encoder-decoder": np.mean(forecasts, axis=0),
    **{f"  seed {seed}": forecast for seed, forecast in enumerate(forecasts)},
    "ridge regression": linear,
    "repeat last value": np.repeat(past[:, -1:], args.ahead, axis=1),
    "repeat yesterday": day,
}


def draw(figure) -> None:
    """Some forecasts against the truth."""
    for place, i in enumerate(np.linspace(0, len(past) - 1, 5).astype(int)[1:4]):
        axes = figure.add_subplot(3, 1, place + 1, ylabel=f"{args.column}, scaled")
        axes.plot(np.arange(-args.history, 0), past[i], color="gray", label="read")
        for name, color in (("truth", "black"), *COLORS):
            values = future if name == "truth" else errors[name]
            axes.plot(np.arange(args.ahead), values[i], color=color, label=name)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(ncols=4)
    figure.axes[-1].set_xlabel("steps from now")


print(f"\nforecasts          {picture(draw, HERE / 'output' / 'forecast.png', size=(10, 8))}")
print(
    f"training           {minutes:.1f} minutes, {args.seeds} models of "
    f"{model.count_params():,} parameters"
)
print(f"data               {len(relative[0][0]):,} windows to train, {len(past):,} to test")
print(f"\nmean squared error over {args.ahead} steps, test rows, in deviations of training rows")
for name, forecast in errors.items():
    print(f"{name:18} {np.mean((forecast - future) ** 2):.4f}")
