"""`backtest`: forecasts of a past that is known, and how good they were."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from rnnzoo import _checks
from rnnzoo.core.spec import CoreSpec
from rnnzoo.feed.inputs import CoreInputs
from rnnzoo.generation.forecaster import Forecaster
from rnnzoo.generation.forecasts import Forecast, checked_paths, feed_of, series_of
from rnnzoo.generation.paths import Feed
from rnnzoo.generation.translation import fed_numbers, write_values
from rnnzoo.metrics.forecast_errors import coverage, crps, seasonal_scale, smape

# Of the middle interval, where none is given.
_LEVEL = 0.8


@dataclasses.dataclass(frozen=True, eq=False)
class Backtest:
    """Forecasts from several origins in the past, and how good they were.

    Attributes:
        metrics: by name the mean over all series and origins: `MASE` and `sMAPE` of the median of
            the samples, or of the mean where there are none; with samples `CRPS`, in units of the
            series, `scaled_CRPS`, divided as MASE is, and `coverage` of the middle interval.
        by_series: the same for each, `(series, origins)`; NaN, left out of the mean, where a
            history never changes and so has no scale.
        forecasts: one for each origin, of all series.
        truth: what came, `(series, origins, horizon, size)`.
    """

    metrics: dict[str, float]
    by_series: dict[str, np.ndarray]
    forecasts: list[Forecast]
    truth: np.ndarray


def backtest(
    model: Any,
    series: Any,
    horizon: int,
    stride: int | None = None,
    *,
    windows: int = 1,
    samples: int | None = 100,
    season: int = 1,
    level: float | None = None,
    seed: int | None = None,
    feed: str | None = None,
    history: int | None = None,
) -> Backtest:
    """How well `model` forecasts the last `windows` stretches of `horizon` steps of each series.

    The last stretch ends with the series, each other `stride` steps before the next. A one-to-one
    model reads history once: from origin to origin it only observes what came since. An
    encoder-decoder reads its source anew at each.

    Args:
        model: a one-to-one model on numbers, whose output is the next value of an input; or an
            encoder-decoder to numbers, whose target goes on from an input of its source.
        series: a list with one array `(time, size)`, or dict of arrays by the names of inputs, for
            each series; or a batch as `fit` takes it, with `lengths` where some are shorter. All
            inputs reach to the end, so that those known ahead are read from there. Of an
            encoder-decoder its source or `inputs`, what is `static`, and the `target_inputs`,
            all at the steps of the series.
        horizon: steps of a forecast.
        stride: steps from one origin to the next; `horizon` by default.
        windows: how many origins.
        samples: paths drawn for each; None for a head that draws none, and then MASE and sMAPE.
        season: steps of a season, for MASE: 24 of hourly values.
        level: of the middle interval whose coverage is told; 0.8, that from 10 to 90 %, by default.
        seed: as `model.generate` takes it; the origins draw differently.
        feed: the input whose next value the output is, where several could be.
        history: of an encoder-decoder, the steps of its source before each origin, as it was
            trained with; None: all that there are.

    Raises:
        ValueError: an argument out of its range or for the other kind of model, a series that is
            too short.

    Example:

    >>> import numpy as np, rnnzoo
    >>> model = rnnzoo.one_to_one(features=1, units=4, outputs=rnnzoo.heads.Normal())
    >>> series = [np.sin(np.arange(n))[:, None] for n in (50, 60)]
    >>> found = rnnzoo.backtest(model, series, horizon=6, windows=3, samples=20, seed=1)
    >>> sorted(found.metrics), found.truth.shape
    (['CRPS', 'MASE', 'coverage', 'sMAPE', 'scaled_CRPS'], (2, 3, 6, 1))
    """
    pair = getattr(model, "decodes", False)
    read, how = _read_by_pair(model, feed) if pair else (model, feed_of(model, feed, "backtest"))
    history = _checks.optional_count("history", history)
    if history is not None and not pair:
        raise ValueError(
            "history is for encoder-decoders: a one-to-one model reads all that there is; received "
            f"history={history}"
        )
    horizon, samples, seed = checked_paths(how.head, horizon, samples, seed, "horizon")
    stride = horizon if stride is None else _checks.positive_integer("stride", stride)
    windows, season = (
        _checks.positive_integer(name, value)
        for name, value in (("windows", windows), ("season", season))
    )
    if samples is None and level is not None:
        raise ValueError(f"level is for samples=n; received level={_checks.shown(level)} without")
    level = _LEVEL if level is None else level
    level = _checks.number("level", level, "in (0, 1)", lambda v: 0 < v < 1)
    batch = _batch(read, series) if isinstance(series, (list, tuple)) else series
    values, lengths, still = series_of(read, batch, {}, "series")
    first = lengths - horizon - (windows - 1) * stride
    least = max(season + 1, history or 0)
    if first.min() < least:
        raise ValueError(
            f"every series must have more than {season} steps (a season) before its first origin, "
            f"{'' if history is None else f'and the {history} of history, '}"
            f"so at least {least + horizon + (windows - 1) * stride}; received "
            f"{lengths.min()} for series {int(first.argmin())}"
        )
    known = (model, how, values, still)
    forecast = _of_pair(*known, history) if pair else _of_one_to_one(*known)
    seed = int(np.random.randint(2**30)) if seed is None else seed
    forecasts, truth, rows = [], [], {}
    for place in range(windows):
        origin = first + place * stride
        own = None if samples is None else (seed + place) % (_checks.LARGEST + 1)
        forecasts.append(forecast(origin, horizon, samples, own))
        truth.append(_taken(values[how.name], origin, horizon))
        histories = [v[:n] for v, n in zip(values[how.name], origin)]
        for name, found in _measured(forecasts[-1], truth[-1], histories, season, level).items():
            rows.setdefault(name, []).append(found)
    by_series = {name: np.stack(found, axis=1) for name, found in rows.items()}
    means = {name: float(np.nanmean(found)) for name, found in by_series.items()}
    return Backtest(means, by_series, forecasts, np.stack(truth, axis=1))


def _of_one_to_one(model: Any, how: Feed, values: dict, still: dict) -> Callable:
    """`(origin, horizon, samples, seed) -> Forecast`, of origins one after the other."""
    forecaster = Forecaster(model, {name: still[name] for name in how.still}, how.name)
    read = None

    def forecast(origin: np.ndarray, horizon: int, samples: int | None, seed: int | None) -> Any:
        nonlocal read
        if read is None:
            forecaster.observe({**values, "lengths": origin})
        else:
            steps = int(origin[0] - read[0])
            forecaster.observe({name: _taken(v, read, steps) for name, v in values.items()})
        read = origin
        future = {name: _taken(values[name], origin, horizon - 1) for name in how.others}
        return forecaster.forecast(horizon, samples, future or None, seed)

    return forecast


def _of_pair(model: Any, how: Feed, values: dict, still: dict, history: int | None) -> Callable:
    """The same of an encoder-decoder, which reads its source at each origin."""
    names = model.reader.sides["source"]

    def forecast(origin: np.ndarray, horizon: int, samples: int | None, seed: int | None) -> Any:
        if history is None:
            read = {name: values[name][:, : origin.max()] for name in names}
            read["source_lengths"] = origin
        else:
            read = {name: _taken(values[name], origin - history, history) for name in names}
        read |= {name: _taken(values[name], origin, horizon) for name in how.others}
        return write_values(model, {**read, **still}, horizon, samples, seed, batch_size=32)

    return forecast


class _Read(NamedTuple):
    """What an encoder-decoder reads of series, as a one-to-one model would.

    Attributes:
        spec: its inputs, of both sides.
        reader: what checks them.
    """

    spec: CoreSpec
    reader: CoreInputs


def _read_by_pair(model: Any, feed: str | None) -> tuple[_Read, Feed]:
    """What an encoder-decoder reads of series, and how; ValueError where it goes on from none."""
    if model.start is not None:
        raise ValueError(
            "backtest must be called on a model on numbers; received an encoder-decoder to tokens"
        )
    _checks.optional_text("feed", feed)
    reader, target = model.reader, model.reader.sides["target"]
    source = reader.sides["source"]
    spec = CoreSpec(
        "series",
        source | reader.static | {name: target[name] for name in reader.beside},
        model.spec.outputs,
        {},
        reset=None,
    )
    fits = [
        name
        for name, one in source.items()
        if one.vocabulary is None and one.shape == target["target"].shape
    ]
    if not fits or feed is None and len(fits) > 1 or feed is not None and feed not in fits:
        raise ValueError(
            "feed must name the input of the source that the target goes on from, one of "
            f"{fits}; received feed={_checks.shown(feed)}"
        )
    own = fed_numbers(model)
    chosen = fits[0] if feed is None else feed
    return _Read(spec, CoreInputs(spec)), Feed(chosen, own.head, own.others, [*reader.static])


def _measured(
    forecast: Forecast, truth: np.ndarray, histories: list, season: int, level: float
) -> dict[str, np.ndarray]:
    """Each metric of each series, the mean over the numbers of a step."""
    point = forecast.mean if forecast.samples is None else forecast.quantile(0.5)
    y, f = np.swapaxes(truth, 1, 2), np.swapaxes(point, 1, 2)  # (series, size, steps)
    scale = np.stack([seasonal_scale(history.T, season) for history in histories])
    scale = np.where(scale > 0, scale, np.nan)
    found = {"MASE": np.mean(np.abs(y - f), axis=-1) / scale, "sMAPE": smape(y, f)}
    if forecast.samples is not None:
        tail = (1 - level) / 2
        low, high = np.moveaxis(forecast.quantile([tail, 1 - tail]), -1, 0)
        score = crps(y, np.moveaxis(forecast.samples, 3, 1))
        inside = coverage(y, np.swapaxes(low, 1, 2), np.swapaxes(high, 1, 2))
        found |= {"CRPS": score, "scaled_CRPS": score / scale, "coverage": inside}
    return {name: value.mean(axis=1) for name, value in found.items()}


def _batch(read: Any, series: list | tuple) -> dict[str, Any]:
    """A list of series as one batch, padded at their ends, with their lengths."""
    inputs = read.spec.inputs
    named = [one if isinstance(one, Mapping) else {read.spec.leading: one} for one in series]
    for place, one in enumerate(named):
        if set(one) != set(inputs):
            raise ValueError(
                f"every series must be {'an array or ' if len(inputs) == 1 else ''}a dict with the "
                f"inputs {list(inputs)}; received {_checks.shown(series[place])} as series {place}"
            )
    if not named:
        raise ValueError("series must have at least one series; received none")
    found = {}
    for name, spec in inputs.items():
        arrays = [_checks.array(f"{name} in series", one[name]) for one in named]
        if not spec.per_step:
            found[name] = np.stack(arrays)
            continue
        arrays = [a[:, None] if a.ndim == 1 and spec.shape == (1,) else a for a in arrays]
        if any(a.ndim != 1 + len(spec.shape) for a in arrays):
            wanted = ("time", *spec.shape)
            shapes = sorted({a.shape for a in arrays if a.ndim != len(wanted)})
            raise ValueError(f"{name} of a series must be {wanted}; received shapes {shapes}")
        lengths = [len(a) for a in arrays]
        if found.setdefault("lengths", lengths) != lengths:
            raise ValueError(f"all inputs of a series must have its steps; {name} has others")
        found[name] = np.zeros((len(arrays), max(lengths), *arrays[0].shape[1:]), arrays[0].dtype)
        for row, a in zip(found[name], arrays):
            row[: len(a)] = a
    return {**found, "lengths": np.array(found["lengths"])}


def _taken(values: np.ndarray, first: np.ndarray, steps: int) -> np.ndarray:
    """`steps` of each row of `values` from step `first` of it on."""
    return np.stack([row[begin : begin + steps] for row, begin in zip(values, first)])
