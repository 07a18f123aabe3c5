"""Long short-term memory (Hochreiter & Schmidhuber, 1997; forget gate: Gers et al., 2000)."""

import keras
from keras import ops

from rnnzoo.layers.recurrence import Tensor, dot, sequence_product
from rnnzoo.layers.recurrent import RecurrentLayer


class LSTMCell:
    """One step, forward and backward, with gates in Keras's order: input, forget, cell, output.

    With `z = projected + (h * drop) @ U` and `i, f, o = sigmoid(z_i, z_f, z_o)`, `g = tanh(z_g)`:

        c' = f * c + i * g          h' = o * t,  t = tanh(c')

    Given `dh` and `dc` of h' and c', all that depends on the step alone is one factor:

        dc += dh * a                a = o * (1 - t^2)
        dz = [dc, dc, dc, dh] * k   k = [g i (1 - i), c f (1 - f), i (1 - g^2), t o (1 - o)]
        back to c: dc * f           back to h: (dz @ U.T) * drop
        dU = sum over steps of (h * drop).T @ dz

    The way forward keeps k, a and f: there the gates are at hand, and the way back is short.
    sigmoid(z) is computed as tanh(z / 2) / 2 + 1 / 2, so that one tanh serves all gates.
    """

    @staticmethod
    def forward(
        projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None, keep: bool
    ) -> tuple:
        h, c = state
        units = h.shape[-1]
        hidden = h if drop is None else h * drop
        z = projected + dot(hidden, weights[0], h.dtype)
        half, ones = [0.5] * units, [1.0] * units
        scale = ops.convert_to_tensor(half + half + ones + half, dtype=h.dtype)
        i, f, g, o = ops.split(ops.tanh(z * scale) * scale + (1.0 - scale), 4, axis=-1)
        new_c = f * c + i * g
        t = ops.tanh(new_c)
        if not keep:
            return (o * t, new_c), ()
        factors = [g * i * (1.0 - i), c * f * (1.0 - f), i * (1.0 - g * g), t * o * (1.0 - o)]
        return (o * t, new_c), (ops.concatenate(factors, axis=-1), o * (1.0 - t * t), f)

    @staticmethod
    def backward(kept: tuple, gradient: tuple, turned: Tensor, drop: Tensor | None) -> tuple:
        (k, a, f), (dh, dc) = kept, gradient
        dc = dc + dh * a
        dz = k * ops.concatenate([dc, dc, dc, dh], axis=-1)
        dh = dot(dz, turned, dz.dtype)
        return dz, None, (dh if drop is None else dh * drop, dc * f)

    @staticmethod
    def weight_gradients(kept: tuple, hidden: Tensor, d_recurrent: Tensor) -> tuple:
        return (sequence_product(hidden, d_recurrent, hidden.dtype),)

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [4 * units, units, units]

    @staticmethod
    def recurrent_width(units: int) -> int:
        return 0


@keras.saving.register_keras_serializable(package="rnnzoo")
class LSTM(RecurrentLayer, keras.layers.LSTM):
    """An LSTM layer with explicit state: `(sequence, state, reset) -> (outputs, state)`.

    Weights, their names, shapes and gate order are those of `keras.layers.LSTM`, so
    `get_weights` and `set_weights` move them both ways. See `RecurrentLayer` for the call.

    Args:
        units: size of the hidden state, at least 1.
        **kwargs: as `RecurrentLayer`, and `unit_forget_bias` as `keras.layers.LSTM`.

    Example:

    >>> import numpy as np, rnnzoo
    >>> layer = rnnzoo.layers.LSTM(4)
    >>> outputs, state = layer(np.zeros((2, 5, 3)), layer.initial_state(2))
    >>> tuple(outputs.shape), sorted(state)
    ((2, 5, 4), ['c', 'h'])
    """

    state_names = ("h", "c")

    def recurrent_cell(self) -> type:
        return LSTMCell

    def projection_bias(self) -> Tensor | None:
        return self.cell.bias if self.use_bias else None

    def recurrent_weights(self) -> tuple:
        return (self.cell.recurrent_kernel,)
