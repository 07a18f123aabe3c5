"""`Forecaster`: observes series as they go by, and forecasts from now."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.decoding.stepper import by_rows
from rnnzoo.feed.inputs import lanes_of
from rnnzoo.generation.forecasts import (
    NEXT,
    Forecast,
    checked_paths,
    feed_of,
    forecast_from,
    planned_steps,
    series_of,
)
from rnnzoo.generation.read_steps import read_steps
from rnnzoo.layers.recurrent import State


class Forecaster:
    """Series that are observed step by step, and can be forecast at any time.

    It keeps the state that the steps have left, so that neither `observe` nor `forecast` reads
    history again: a step takes the same time however many came before. Made by
    `model.forecaster()`; the model is not changed, and may have many.

    Args:
        model: a one-to-one model on numbers, whose output is the next value of an input.
        static: its inputs per sequence, `(batch, ...)` by name.
        feed: the input whose next value the output is, where several could be.

    Raises:
        ValueError: a model that cannot be fed what it says, names that are none.

    Example:

    >>> import numpy as np, rnnzoo
    >>> model = rnnzoo.one_to_one(features=1, units=4, outputs=rnnzoo.heads.Normal())
    >>> forecaster = model.forecaster()
    >>> forecaster.observe(np.zeros((2, 100, 1)))  # 100 steps of two series
    >>> forecaster.observe(np.ones((2, 1, 1)))  # and one more
    >>> forecaster.forecast(24, samples=50, seed=1).quantile(0.9).shape
    (2, 24, 1)
    """

    def __init__(self, model: Any, static: Mapping[str, Any] | None = None, feed: Any = None):
        self._how = feed_of(model, feed, "forecaster")
        self._still = _checks.by_name("static", static)
        if sorted(self._still) != sorted(self._how.still):
            raise ValueError(
                f"static must be a dict with the inputs per sequence, {self._how.still}; received "
                f"{None if static is None else sorted(static)}"
            )
        self.model = model
        self._state: State | None = None
        self._said: Any = None
        self._seen = np.zeros(0, "bool")

    @property
    def state(self) -> State:
        """The state of now as `generate` takes it: arrays `(batch, ...)` by name, a copy."""
        self._check_seen()
        found = {**self._state, NEXT: self._said, **self._still}
        return {name: np.array(ops.convert_to_numpy(value)) for name, value in found.items()}

    def observe(self, x: Any) -> None:
        """Goes on by the steps of `x`, of which there may be any number.

        Args:
            x: inputs per step as `fit` takes them, `(batch, time, features)` or a dict by name,
                with `lengths` where some rows have fewer new steps, at least one.

        Raises:
            ValueError: inputs that are not those of the model, or another number of rows.
        """
        inputs = self.model.spec.inputs
        if isinstance(x, Mapping) and set(x) & set(self._still):
            raise ValueError(
                f"inputs per sequence were given to the forecaster; received them again: "
                f"{sorted(set(x) & set(self._still))}"
            )
        if self._still and not isinstance(x, Mapping):
            raise ValueError(
                f"x must be a dict with {[n for n in inputs if n not in self._still]}; received "
                f"{type(x).__name__}"
            )
        values, lengths, still = series_of(self.model, x, self._still, "x")
        rows = len(lengths)
        if self._state is not None and rows != len(self._seen):
            raise ValueError(
                f"every call of observe must have the rows of the first, {len(self._seen)}; "
                f"received {rows}"
            )
        state = self.model.initial_state(rows) if self._state is None else self._state
        self._said, self._state = read_steps(self.model, values, lengths, still, state)
        self._still, self._seen = still, np.ones(rows, "bool")

    def reset(self, rows: Any = None) -> None:
        """Forgets what was observed, of all rows or of `rows`, which then begin anew.

        Args:
            rows: integers; None for all.

        Raises:
            ValueError: a row that does not exist.
        """
        count = len(self._seen)
        rows = lanes_of(np.arange(count) if rows is None else rows, count)
        if not count:
            return
        fresh = self.model.initial_state(count)
        on = np.isin(np.arange(count), rows)
        for name, old in self._state.items():
            self._state[name] = by_rows(on, fresh[name], old)
        self._seen = self._seen & ~on

    def forecast(
        self,
        horizon: int,
        samples: int | None = None,
        future: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> Forecast:
        """What the model says of the next `horizon` steps; nothing here changes.

        Args:
            horizon: steps, at least 1.
            samples: paths drawn for each row; None feeds means.
            future: the other inputs per step at the steps to come, as `model.generate` takes them.
            seed: as `model.generate` takes it.

        Raises:
            ValueError: an argument out of its range, a row that was not observed.
        """
        self._check_seen()
        horizon, samples, seed = checked_paths(self._how.head, horizon, samples, seed, "horizon")
        planned = planned_steps(self.model, self._how, future, horizon, len(self._seen))
        now = (self._said, self._state, self._still)
        return forecast_from(self.model, self._how, *now, planned, horizon, samples, seed)

    def _check_seen(self) -> None:
        if self._state is None or not self._seen.all():
            rows = np.flatnonzero(~self._seen).tolist()
            raise ValueError(
                "a forecast needs at least one observed step of every row: call observe first; "
                f"received {f'none of rows {rows}' if rows else 'no steps'}"
            )
