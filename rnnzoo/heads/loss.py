"""The loss of a head, as Keras takes it."""

from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.backend.keras_internals import get_keras_mask

Tensor = Any

_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


def full_precision(dtype: str) -> str:
    """The dtype in which what is of `dtype` is computed: float32, or float64 where it is that."""
    return "float64" if dtype == "float64" else "float32"


@keras.saving.register_keras_serializable(package="rnnzoo")
class HeadLoss(keras.losses.Loss):
    """The loss of a head: negative log-likelihood in nats a step, or the pinball loss.

    It is summed over the dimensions of a target (of `Linear` it is their mean); `CTC` has one
    loss for each sequence. Sample weights are `(batch,)`, `(batch, 1)` or `(batch, time)`. What
    has weight 0, or is masked by Keras, does not count at all: its target may be anything, NaN as
    well, and for `CRF` the step is not there, in which case the chain goes from the step before
    to the step after.

    Args:
        head: the head.
        reduction: as in `keras.losses.Loss`; the mean over all steps by default.
        name: name of the loss.
        dtype: dtype of the loss; `keras.config.floatx()` by default. In the place of half
            precision, which holds neither class ids nor counts, it is float32.

    Example:

    >>> import numpy as np
    >>> from rnnzoo.heads import Bernoulli, HeadLoss
    >>> loss = HeadLoss(Bernoulli(), reduction="sum")
    >>> round(float(loss(np.array([[1.0], [0.0]]), np.zeros((2, 1)))), 4)  # 2 log 2
    1.3863
    """

    def __init__(
        self,
        head: Any,
        reduction: str | None = "sum_over_batch_size",
        name: str = "head_loss",
        dtype: Any = None,
    ):
        if not callable(getattr(head, "losses", None)) or isinstance(head, type):
            raise _checks.refuse("head", "one of rnnzoo.heads", head)
        _checks.one_of("reduction", reduction, _REDUCTIONS)
        policy = keras.dtype_policies.get(_checks.dtype("dtype", dtype) or keras.config.floatx())
        super().__init__(
            name=_checks.label("name", name),
            reduction=reduction,
            dtype=full_precision(policy.compute_dtype),
        )
        self.head = head

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None):
        """The reduced loss of targets `y_true` and raw parameters `y_pred`."""
        present, weight = get_keras_mask(y_pred), None
        if present is not None and not self.head.per_step:
            # Of steps, while losses are of sequences; and the new tensor has no mask of Keras.
            y_pred = ops.where(ops.expand_dims(present, -1), y_pred, self.head.absent)
            present = None
        if sample_weight is not None:
            weight = self._fitted(ops.convert_to_tensor(sample_weight, self.dtype), y_pred)
            counts = ops.not_equal(weight, 0)
            present = counts if present is None else ops.logical_and(present, counts)
        if present is not None:
            y_true = {"targets": y_true, "present": present}
        return super().__call__(y_true, y_pred, weight)

    def call(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """The loss of each step, not reduced."""
        if not isinstance(y_true, dict):
            return self.head.losses(y_pred, y_true)
        targets, present = y_true["targets"], ops.cast(y_true["present"], "bool")
        axes, given = tuple(present.shape), tuple(targets.shape)
        if _checks.alike(given[: len(axes)], axes):  # else the head refuses them
            shown = ops.reshape(present, (*ops.shape(present), *[1] * (len(given) - len(axes))))
            # 0 is in every head's domain, so that no gradient is lost on what does not count.
            targets = ops.where(shown, targets, ops.zeros_like(targets))
        return self.head.losses(y_pred, targets, present)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this loss again."""
        head = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), "dtype": self.dtype, "head": head}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "HeadLoss":
        """The loss of `get_config`."""
        head = keras.saving.deserialize_keras_object(config["head"])
        return cls(**{**config, "head": head})

    def _fitted(self, weight: Tensor, parameters: Tensor) -> Tensor:
        """`weight` of the rank of the losses; Keras would lay `(batch,)` along the steps."""
        axes = len(parameters.shape) - 1 if self.head.per_step else 1
        shape = tuple(parameters.shape)[:axes]
        given = tuple(weight.shape)
        if len(given) == len(shape) + 1 and given[-1] == 1:
            weight = ops.squeeze(weight, -1)
        if not _checks.leads(tuple(weight.shape), shape):
            raise ValueError(
                f"sample_weight must have the shape {shape}, that of the losses of {self.head}, "
                f"or that of its first axes; received shape {given}"
            )
        missing = [1] * (axes - len(weight.shape))
        weight = ops.reshape(weight, (*ops.shape(weight), *missing))
        return ops.broadcast_to(weight, ops.shape(parameters)[:axes])
