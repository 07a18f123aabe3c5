"""Plain numbers, with the squared error as their loss."""

import keras
from keras import ops

from rnnzoo.heads.head import Tensor, hidden_where_absent
from rnnzoo.heads.numeric import NumericHead, moved


@keras.saving.register_keras_serializable(package="rnnzoo")
class Linear(NumericHead):
    """The mean of each number and nothing more; the loss is the mean squared error, as Keras's.

    Args:
        size: numbers a step, at least 1; targets are `(batch, [time,] size)`.

    Example:

    >>> import numpy as np
    >>> float(Linear(2).loss(np.array([[1.0, 1.0]]), np.array([[0.0, 1.0]])))
    0.5
    """

    raw_names = ("mean",)
    kind = "plain numbers"

    def natural(self, parameters: Tensor) -> dict[str, Tensor]:
        """The `mean`, `(batch, [time,] size)`: the parameters themselves.

        Args:
            parameters: `(batch, [time,] size)`.
        """
        return {"mean": self._checked(parameters)}

    def in_units(self, parameters: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
        """The means of `scale * target + shift` out of those of a target."""
        return moved(self._checked(parameters), shift, scale)

    def losses(self, parameters: Tensor, targets: Tensor, present: Tensor | None = None) -> Tensor:
        """The squared error of each step, its mean over `size`; 0 where a step is not `present`.

        Args:
            parameters: `(batch, [time,] size)`.
            targets: `(batch, [time,] size)`.
            present: None, or bool, `(batch, [time])`.
        """
        parameters = self._checked(parameters)
        missed = self._fitted(targets, parameters) - parameters
        return hidden_where_absent(ops.mean(ops.square(missed), axis=-1), present)

    def mean(self, parameters: Tensor) -> Tensor:
        """The mean, `(batch, [time,] size)`."""
        return self._checked(parameters)
