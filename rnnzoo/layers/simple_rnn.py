"""The plain recurrent layer (Elman, 1990)."""

import keras
from keras import ops

from rnnzoo.layers.recurrence import Tensor, dot, sequence_product
from rnnzoo.layers.recurrent import RecurrentLayer


class SimpleRNNCell:
    """One step: `h' = tanh(projected + (h * drop) @ U)`.

    Backward: `dz = dh' * k` with the factor `k = 1 - h'^2` that is kept, to h
    `(dz @ U.T) * drop`, and `dU = sum over steps of (h * drop).T @ dz`.
    """

    @staticmethod
    def forward(
        projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None, keep: bool
    ) -> tuple:
        (h,) = state
        hidden = h if drop is None else h * drop
        h = ops.tanh(projected + dot(hidden, weights[0], h.dtype))
        return (h,), ((1.0 - h * h,) if keep else ())

    @staticmethod
    def backward(kept: tuple, gradient: tuple, turned: Tensor, drop: Tensor | None) -> tuple:
        dz = gradient[0] * kept[0]
        dh = dot(dz, turned, dz.dtype)
        return dz, None, (dh if drop is None else dh * drop,)

    @staticmethod
    def weight_gradients(kept: tuple, hidden: Tensor, d_recurrent: Tensor) -> tuple:
        return (sequence_product(hidden, d_recurrent, hidden.dtype),)

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [units]

    @staticmethod
    def recurrent_width(units: int) -> int:
        return 0


@keras.saving.register_keras_serializable(package="rnnzoo")
class SimpleRNN(RecurrentLayer, keras.layers.SimpleRNN):
    """A plain recurrent layer with explicit state: `(sequence, state, reset) -> (outputs, state)`.

    Weights, their names and shapes are those of `keras.layers.SimpleRNN`. See `RecurrentLayer`
    for the call.

    Args:
        units: size of the hidden state, at least 1.
        **kwargs: as `RecurrentLayer`.

    Example:

    >>> import numpy as np, rnnzoo
    >>> layer = rnnzoo.layers.SimpleRNN(4)
    >>> outputs, state = layer(np.zeros((2, 5, 3)), layer.initial_state(2))
    >>> tuple(outputs.shape), sorted(state)
    ((2, 5, 4), ['h'])
    """

    state_names = ("h",)

    def recurrent_cell(self) -> type:
        return SimpleRNNCell

    def projection_bias(self) -> Tensor | None:
        return self.cell.bias if self.use_bias else None

    def recurrent_weights(self) -> tuple:
        return (self.cell.recurrent_kernel,)
