"""Accuracy over whole sequences."""

from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.metrics.batch import classes_of


@keras.saving.register_keras_serializable(package="rnnzoo")
class SequenceAccuracy(keras.metrics.Metric):
    """Share of rows whose every real step is predicted right, the end token included.

    For the share of single steps use Keras's "accuracy". Under `TruncatedBPTT` a row of a
    window counts, not a row of the batch. Before any row has counted it is 0.

    Args:
        name: name of the metric.
        dtype: dtype of the metric.

    Example:

    >>> import numpy as np
    >>> metric = SequenceAccuracy()
    >>> logits = np.eye(3, dtype="float32")[np.array([[0, 1], [2, 2]])]
    >>> metric.update_state(np.array([[0, 1], [2, 0]]), logits)
    >>> float(metric.result())
    0.5
    """

    def __init__(self, name: str = "sequence_accuracy", dtype: Any = None):
        super().__init__(name=_checks.label("name", name), dtype=_checks.dtype("dtype", dtype))
        self.right = self.add_variable((), "zeros", dtype="float32", name="right")
        self.rows = self.add_variable((), "zeros", dtype="float32", name="rows")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: `(batch, time)` integer targets; a last axis of 1 is allowed.
            y_pred: `(batch, time, classes)` logits or probabilities.
            sample_weight: None, or weights of the targets' shape or its first axis: a step of
                weight 0 need not be right, a row counts with its mean weight over real steps.

        Raises:
            ValueError: targets or weights of another shape, or that are no real numbers; weights
                below 0, where they are no tensors.
        """
        name = type(self).__name__
        y_true, y_pred, weight = classes_of((y_true, y_pred, sample_weight), name)
        if len(y_true.shape) != 2:
            raise ValueError(
                f"{name} must have y_true of shape (batch, time); received {tuple(y_true.shape)}"
            )
        counts = weight > 0
        right = ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), y_true)
        right = ops.all(ops.logical_or(right, ops.logical_not(counts)), axis=1)
        real = ops.cast(ops.count_nonzero(counts, axis=1), "float32")
        row = ops.divide_no_nan(ops.sum(weight, axis=1), real)
        self.right.assign_add(ops.sum(ops.where(right, row, 0.0)))
        self.rows.assign_add(ops.sum(row))

    def result(self) -> Any:
        """The share of right rows, a float32 scalar."""
        return ops.divide_no_nan(self.right, self.rows)
