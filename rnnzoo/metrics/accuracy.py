"""Accuracy over whole sequences."""

from typing import Any

import keras
from keras import ops

from rnnzoo.backend.keras_internals import get_keras_mask
from rnnzoo.metrics.weights import step_weights


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
        super().__init__(name=name, dtype=dtype)
        self.right = self.add_variable((), "zeros", dtype="float32", name="right")
        self.rows = self.add_variable((), "zeros", dtype="float32", name="rows")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: `(batch, time)` integer targets.
            y_pred: `(batch, time, classes)` logits or probabilities.
            sample_weight: None, or weights of the targets' shape or its first axis: a step of
                weight 0 need not be right, a row counts with its mean weight over real steps.
        """
        mask = get_keras_mask(y_pred)
        y_true = ops.cast(ops.convert_to_tensor(y_true), "int32")
        weight = step_weights(sample_weight, y_true)
        if mask is not None:
            weight = weight * step_weights(mask, y_true)
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
