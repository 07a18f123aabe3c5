"""How good forecasts of many series are: of points, of intervals, of whole distributions.

Each takes NumPy arrays whose last axis is that of the steps, and gives one number for each series.
"""

from typing import Any

import numpy as np

from rnnzoo import _checks


def smape(truth: Any, forecast: Any) -> np.ndarray:
    """The symmetric mean absolute percentage error, 0 to 200, `(...)`; 0 of 0 for 0 counts as 0.

    The mean of 200 |y - f| / (|y| + |f|), as the M4 competition has it (Makridakis et al., 2020).

    Args:
        truth, forecast: `(..., steps)`.

    Example:

    >>> float(smape([1.0, 3.0], [1.0, 1.0]))
    50.0
    """
    y, f = _alike(truth, forecast)
    sums = np.abs(y) + np.abs(f)
    return np.mean(200 * np.abs(y - f) / np.where(sums > 0, sums, 1.0), axis=-1)


def mase(truth: Any, forecast: Any, history: Any, season: int = 1) -> np.ndarray:
    """The mean absolute error divided by that of repeating the season before, `(...)`.

    The divisor is the mean of |y_t - y_(t - season)| over the history (Hyndman & Koehler, 2006).
    A history that never changes has none, and the result is NaN.

    Args:
        truth, forecast: `(..., steps)`.
        history: `(..., time)`, all that was known, more steps than a season.
        season: steps of a season.

    Raises:
        ValueError: shapes that do not fit, a history of a season or less.

    Example:

    >>> float(mase([5.0, 7.0], [5.0, 6.0], [1.0, 2.0, 3.0]))
    0.5
    """
    y, f = _alike(truth, forecast)
    scale = seasonal_scale(history, season)
    if scale.shape not in ((), y.shape[:-1]):
        raise ValueError(
            f"history must be (time,), or have the series of the truth, {y.shape[:-1]}; received "
            f"shape {np.shape(history)}"
        )
    return np.mean(np.abs(y - f), axis=-1) / np.where(scale > 0, scale, np.nan)


def seasonal_scale(history: Any, season: int) -> np.ndarray:
    """The divisor of `mase`, `(...)`; arguments as there."""
    season = _checks.positive_integer("season", season)
    history = _checks.numbers("history", history)
    if history.ndim < 1 or history.shape[-1] <= season:
        raise ValueError(
            f"history must have more steps than a season, {season}; received shape {history.shape}"
        )
    return np.mean(np.abs(history[..., season:] - history[..., :-season]), axis=-1)


def crps(truth: Any, samples: Any) -> np.ndarray:
    """The continuous ranked probability score of samples, in units of the series, `(...)`.

    The mean over steps of E|X - y| - E|X - X'| / 2 (Gneiting & Raftery, 2007); of one sample, the
    absolute error. Less is better.

    Args:
        truth: `(..., steps)`.
        samples: `(..., samples, steps)`.

    Example:

    >>> float(crps([1.0], [[0.0], [2.0]]))
    0.5
    """
    samples = _checks.numbers("samples", samples)
    y = _checks.numbers("truth", truth)
    fits = samples.ndim > 1 and (*samples.shape[:-2], samples.shape[-1]) == y.shape
    if not fits or not samples.size:
        raise ValueError(
            "samples must be (..., samples, steps), at least one, for a truth of (..., steps); "
            f"received shapes {samples.shape} and {y.shape}"
        )
    count = samples.shape[-2]
    missed = np.abs(samples - y[..., None, :]).mean(axis=-2)
    # Of sorted samples the differences of all pairs are one weighted sum.
    weights = (2 * np.arange(1, count + 1) - count - 1) / count**2
    spread = np.einsum("...ns,n->...s", np.sort(samples, axis=-2), weights)
    return np.mean(missed - spread, axis=-1)


def coverage(truth: Any, low: Any, high: Any) -> np.ndarray:
    """The share of steps at which the truth lies from `low` to `high`, ends included, `(...)`.

    Args:
        truth, low, high: `(..., steps)`.

    Example:

    >>> float(coverage([1.0, 2.0], [0.0, 0.0], [1.0, 1.0]))
    0.5
    """
    y, low = _alike(truth, low, "low")
    y, high = _alike(truth, high, "high")
    return np.mean((y >= low) & (y <= high), axis=-1)


def _alike(truth: Any, other: Any, name: str = "forecast") -> tuple[np.ndarray, np.ndarray]:
    y, f = _checks.numbers("truth", truth), _checks.numbers(name, other)
    if y.shape != f.shape or not y.ndim or not y.shape[-1]:
        raise ValueError(
            f"truth and {name} must have one shape, (..., steps), of at least one step; received "
            f"{y.shape}, {f.shape}"
        )
    return y, f
