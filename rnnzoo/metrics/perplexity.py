"""Perplexity and bits per symbol, exact over a whole evaluation."""

import math
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.metrics.batch import classes_of

# Smallest normal float32: a probability that underflowed to 0 counts as this one.
_TINY = 1.1754944e-38


class _MeanNats(keras.metrics.Metric):
    """Weighted mean of the negative log-likelihood of integer targets, in nats.

    Sums of nats and of weights over all updates, in float32 with the rounding error of each
    addition carried along (Kahan 1965), so that millions of updates lose nothing.
    """

    def __init__(
        self,
        name: str | None = None,
        from_logits: bool = True,
        ignore_class: int | None = None,
        dtype: Any = None,
    ):
        from_logits = _checks.flag("from_logits", from_logits)
        if ignore_class is not None:
            ignore_class = _checks.integer("ignore_class", ignore_class, -_checks.LARGEST)
        name = _checks.label("name", name)
        super().__init__(name=name, dtype=_checks.dtype("dtype", dtype))
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self._direction = "down"
        self.nats = self._sum("nats")
        self.nats_error = self._sum("nats_error")
        self.weight = self._sum("weight")
        self.weight_error = self._sum("weight_error")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: integer targets, `(batch,)` or `(batch, time)`; a last axis of 1 is allowed.
                One that is no class, and counts, makes the result NaN.
            y_pred: logits or probabilities, `(*targets, classes)`.
            sample_weight: None or weights of the targets' shape or its first axes.

        Raises:
            ValueError: targets or weights of another shape, or that are no real numbers; weights
                below 0, where they are no tensors.
        """
        batch = (y_true, y_pred, sample_weight)
        y_true, y_pred, weight = classes_of(batch, type(self).__name__)
        y_pred = ops.cast(y_pred, "float32")
        if self.ignore_class is not None:
            ignored = ops.equal(y_true, self.ignore_class)
            weight = ops.where(ignored, 0.0, weight)
            y_true = ops.where(ignored, 0, y_true)
        if self.from_logits:
            y_pred = ops.log_softmax(y_pred, axis=-1)
        known = ops.logical_and(y_true >= 0, y_true < y_pred.shape[-1])
        index = ops.expand_dims(ops.where(known, y_true, 0), -1)
        found = ops.squeeze(ops.take_along_axis(y_pred, index, axis=-1), axis=-1)
        nats = -found if self.from_logits else -ops.log(ops.maximum(found, _TINY))
        nats = ops.where(known, nats, math.nan)
        # A step that does not count must not count even where its nats are NaN.
        nats = ops.where(ops.equal(weight, 0.0), 0.0, nats * weight)
        _add(self.nats, self.nats_error, ops.sum(nats))
        _add(self.weight, self.weight_error, ops.sum(weight))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this metric again."""
        config = super().get_config()
        return {**config, "from_logits": self.from_logits, "ignore_class": self.ignore_class}

    def _sum(self, name: str):
        return self.add_variable((), "zeros", dtype="float32", name=name)

    def _mean(self):
        return ops.divide_no_nan(self.nats - self.nats_error, self.weight - self.weight_error)


@keras.saving.register_keras_serializable(package="rnnzoo")
class Perplexity(_MeanNats):
    """exp of the mean negative log-likelihood per step, over all steps since the last reset.

    It is the ratio of two sums, taken to the exponent at the end, so it depends neither on
    the cutting into batches and windows nor on padding of weight 0. Give it to
    `compile(weighted_metrics=[...])` where batches carry `sample_weight`. Before any step has
    counted it is 1.

    Args:
        name: name of the metric.
        from_logits: whether predictions are logits (else probabilities that sum to 1).
        ignore_class: steps with this target do not count, as with weight 0.
        dtype: dtype of the metric; sums are float32 in any case.

    Example:

    >>> import numpy as np
    >>> metric = Perplexity(from_logits=False)
    >>> metric.update_state(np.array([0, 1]), np.array([[0.5, 0.5], [0.875, 0.125]]))
    >>> round(float(metric.result()), 4)  # 1 / sqrt(0.5 * 0.125)
    4.0
    """

    def __init__(
        self,
        name: str = "perplexity",
        from_logits: bool = True,
        ignore_class: int | None = None,
        dtype: Any = None,
    ):
        super().__init__(name, from_logits, ignore_class, dtype)

    def result(self):
        """The perplexity, a float32 scalar."""
        return ops.exp(self._mean())


@keras.saving.register_keras_serializable(package="rnnzoo")
class BitsPerSymbol(_MeanNats):
    """Mean negative log-likelihood per step in bits; bits per character for characters.

    It is `log2` of `Perplexity`, exact in the same way. Before any step has counted it is 0.

    Args:
        name: name of the metric.
        from_logits: whether predictions are logits (else probabilities that sum to 1).
        ignore_class: steps with this target do not count, as with weight 0.
        dtype: dtype of the metric; sums are float32 in any case.

    Example:

    >>> import numpy as np
    >>> metric = BitsPerSymbol()
    >>> metric.update_state(np.array([[2, 0]]), np.zeros((1, 2, 4)))
    >>> round(float(metric.result()), 4)
    2.0
    """

    def __init__(
        self,
        name: str = "bits_per_symbol",
        from_logits: bool = True,
        ignore_class: int | None = None,
        dtype: Any = None,
    ):
        super().__init__(name, from_logits, ignore_class, dtype)

    def result(self):
        """The bits per symbol, a float32 scalar."""
        return self._mean() / math.log(2.0)


def _add(total, error, value) -> None:
    """Kahan's sum: `error` is what `total` has too much."""
    value = value - error
    new = total + value
    error.assign((new - total) - value)
    total.assign(new)
