"""ETTh1: the oil temperature of a transformer, the next 24 hours at each hour."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

import rnnzoo
from rnnzoo.data import read_csv, read_text

DATA = Path(__file__).resolve().parents[1] / "data" / "ett" / "ETTh1.csv.gz"
# Rows of the table of Informer's split: 12, 4 and 4 months of 30 days.
ENDS = (0, 8640, 11520, 14400)
AHEAD, HISTORY, DAY = 24, 336, 24
ROW, STRIDE = 672, 24  # hours of a row that is trained on, and between the starts of two


def read(validate):
    """Months 1 to 12 to train; 13 to 16 validate, 17 to 20 are the test."""
    lines = read_text(DATA).splitlines()
    place = lines[0].split(",").index("OT")
    values = np.array([float(line.split(",")[place]) for line in lines[1:]])
    steps = np.stack([values, np.arange(len(values)) % DAY], axis=1)
    first, last = ENDS[1:3] if validate else ENDS[2:4]
    # What is told of the first hour of the part is told from the hours before it.
    return arranged([steps[: ENDS[1]]], [], [steps[first - HISTORY : last]])


def own(path, seed):
    """A CSV file with the columns sequence, step, value, hour: 80 % of each sequence to train."""
    train, valid, held = [], [], []
    for steps in read_csv(path).sequences:
        if steps.shape[1] != 2:
            raise ValueError(f"{path} must have a value and the hour; received {steps.shape[1]}")
        strange = steps[~np.isin(steps[:, 1], np.arange(DAY)), 1]
        if len(strange):
            raise ValueError(f"{path} must have hours from 0 to 23; received {strange[0]:g}")
        first, second = int(0.8 * len(steps)), int(0.9 * len(steps))
        if first < ROW + AHEAD or len(steps) - second <= AHEAD:
            raise ValueError(f"{path} must have {ROW * 5 // 4 + 40} steps; received {len(steps)}")
        train.append(steps[:first])
        valid.append(steps[first - HISTORY : second])
        held.append(steps[second - HISTORY :])
    if not np.ptp(np.concatenate(train)[:, 0]):
        raise ValueError(f"{path} must have values that change; received {train[0][0, 0]:g} alone")
    return arranged(train, valid, held)


def arranged(train, valid, held):
    """Series `(steps, 2)`; those to validate and to test begin with a history to read."""
    known = {"deviation": np.concatenate(train)[:, 0].std(), "labels": None, "sizes": {}}
    return SimpleNamespace(train=train, valid=valid, held=held, **known)


def windows(series, steps, stride, deviation):
    """Rows of `steps` hours, the hours after each, and which of them have a whole history."""
    starts = np.arange(0, len(series) - AHEAD - steps + 1, stride)
    at = starts[:, None] + np.arange(steps)
    x = np.stack([series[at, 0] / deviation, series[at, 1]], axis=-1)
    y = series[at[..., None] + 1 + np.arange(AHEAD), 0] / deviation
    seen = np.arange(steps) >= HISTORY - 1
    return x.astype("float32"), y.astype("float32"), np.tile(seen, (len(x), 1)).astype("float32")


def bucketed(parts, batch, **options):
    x, y, weight = (np.concatenate(part) for part in zip(*parts))
    options |= {"sample_weight": list(weight), "per_step": True}
    return rnnzoo.data.bucket(list(x), list(y), batch_size=batch, **options)


def batches(data, training, seed):
    parts = [windows(series, ROW, STRIDE, data.deviation) for series in data.train]
    return bucketed(parts, training.batch, shuffle=True, seed=seed)


def still(data, rows):
    """Each series as one row."""
    parts = [windows(series, len(series) - AHEAD, 1, data.deviation) for series in rows]
    return bucketed(parts, 1)


def begin(model, data):
    """The linear part is a ridge regression, and stays so; the output is that, and no more."""
    linear = cell_of(model).linear
    linear.set_weights([ridge(*flat(data.train, data.deviation), 1000.0)])
    linear.trainable = False
    last = model.core.get_layer("output_layer")
    kernel, bias = last.get_weights()
    last.set_weights([np.eye(*kernel.shape), bias])


def cell_of(model):
    return next(layer.cell for layer in model.core.layers if hasattr(layer, "cell"))


def flat(parts, deviation):
    """Of each hour of `parts` the past, relative to it, the time of day, and the hours after."""
    found = []
    for series in parts:
        at = np.arange(HISTORY - 1, len(series) - AHEAD)
        values, now = series[:, 0] / deviation, series[at, :1] / deviation
        past = values[at[:, None] + np.arange(1 - HISTORY, 1)] - now
        after = values[at[:, None] + np.arange(1, AHEAD + 1)] - now
        found.append((past, np.eye(DAY)[series[at, 1].astype(int)], after))
    return [np.concatenate(one) for one in zip(*found)]


def ridge(past, time, after, strength):
    """Weights of a ridge regression on the past and the time of day, if `time` is not None.

    Each row is divided by its past's deviation, or those of a season that varies most would
    outweigh all others.
    """
    scale = past.std(axis=1, keepdims=True) + 1e-3
    table = (past if time is None else np.hstack([past, time])) / scale
    gram = table.T @ table + strength * np.eye(table.shape[1])
    return np.linalg.solve(gram, table.T @ (after / scale))


def finish(model, data):
    """The model takes the values as they are: what is linear in them needs no change."""
    cell, last = cell_of(model), model.core.get_layer("output_layer")
    cell.linear.trainable = True
    (linear,), (kernel, bias) = cell.linear.get_weights(), last.get_weights()
    linear[HISTORY:] *= data.deviation
    kernel[AHEAD:] *= data.deviation
    cell.linear.set_weights([linear])
    last.set_weights([kernel, bias * data.deviation])
    read, *rest = cell.gru.get_weights()
    read[:DAY] /= data.deviation
    cell.gru.set_weights([read, *rest])


def golden(data):
    """The first seven hours of the test, and the seven after, whose outputs the preset keeps."""
    return {"inputs": np.stack([data.held[0][:7], data.held[0][7:14]])}


def measure(model, data):
    """Mean squared error over the next 24 hours, in deviations of the rows to train on."""
    told = [model.predict(series[None].astype("float32"), verbose=0)[0] for series in data.held]
    pairs = [(one[HISTORY - 1 : -AHEAD], series) for one, series in zip(told, data.held)]
    truth = [flat([series], 1.0)[2] + series[HISTORY - 1 : -AHEAD, :1] for _, series in pairs]
    errors = np.concatenate([one - right for (one, _), right in zip(pairs, truth)])
    return float(np.mean((errors / data.deviation) ** 2))


def baseline(data):
    """Ridge regressions on the past, and the last value or the last day again."""
    (past, _, after), (seen, _, right) = (
        flat(part, data.deviation) for part in (data.train, data.held)
    )
    told = {"repeat the last value": 0.0 * right, "repeat the day": seen[:, -AHEAD:]}
    for hours in (96, HISTORY):
        weights = ridge(past[:, -hours:], None, after, 300.0)
        told[f"ridge regression on {hours} hours"] = seen[:, -hours:] @ weights
    return {name: round(float(np.mean((one - right) ** 2)), 4) for name, one in told.items()}
