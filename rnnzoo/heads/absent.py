"""Steps that are not there, marked in the parameters of a head that reads whole sequences.

A mask would have to be handed from the layer to the loss, to the decoder and to an export. The
mark goes where the parameters go.
"""

from typing import Any

from keras import ops

from rnnzoo import _checks

Tensor = Any

# Far below any logit; float32 holds it.
ABSENT = -1e9


def marked(parameters: Tensor, mask: Tensor | None) -> Tensor:
    """`parameters` with all of a step at -1e9 where `mask` is False.

    Args:
        parameters: `(batch, [time,] parameters)`.
        mask: None, or bool, `(batch, [time])`.
    """
    if mask is None:
        return parameters
    mask = ops.cast(_checks.tensor("mask", mask), "bool")
    if len(mask.shape) != len(parameters.shape) - 1:
        raise ValueError(
            f"mask must be {tuple(parameters.shape)[:-1]}, the shape of the steps; received "
            f"shape {tuple(mask.shape)}"
        )
    return ops.where(ops.expand_dims(mask, -1), parameters, ABSENT)


def present_steps(parameters: Tensor) -> Tensor:
    """Which steps `marked` left as they were, bool, `(batch, [time])`."""
    # A model that broke must not be taken for one of sequences without steps. (TensorFlow makes
    # of "not below" an "above", which NaN is not.)
    there = ops.logical_or(parameters > 0.5 * ABSENT, ops.isnan(parameters))
    return ops.any(there, axis=-1)
