"""Long short-term memory (Hochreiter & Schmidhuber, 1997; forget gate: Gers et al., 2000)."""

from keras import ops

from rnnzoo import backend
from rnnzoo.cells.adjoint import Tensor, biased, dot, sequence_product


class LSTMCell:
    """One step, forward and backward, with gates in Keras's order: input, forget, cell, output.

    With `z = projected + (h * drop) @ U + b`, `i, f, o = sigmoid(z_i, z_f, z_o)`, `g = tanh(z_g)`:

        c' = f * c + i * g          h' = o * t,  t = tanh(c')

    Given `dh` and `dc` of h' and c', all that does not depend on them is one factor each:

        dc += dh * a                a = o * (1 - t^2)
        dz = [dc, dc, dc, dh] * k   k = [g i (1 - i), c f (1 - f), i (1 - g^2), t o (1 - o)]
        back to c: dc * f           back to h: (dz @ U.T) * drop
        dU = sum over steps of (h * drop).T @ dz        db = sum of dz

    sigmoid(z) is computed as tanh(z / 2) / 2 + 1 / 2, so that one tanh serves all gates.
    """

    @staticmethod
    def forward(projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None) -> tuple:
        h, c = state
        units = h.shape[-1]
        hidden = h if drop is None else h * drop
        z = projected + biased(dot(hidden, weights[0], h.dtype), weights[1:])
        half, ones = [0.5] * units, [1.0] * units
        scale = ops.convert_to_tensor(half + half + ones + half, dtype=h.dtype)
        gates = backend.tanh(z * scale) * scale + (1.0 - scale)
        i, f, g, o = ops.split(gates, 4, axis=-1)
        new_c = f * c + i * g
        return (o * backend.tanh(new_c), new_c), (gates,)

    @staticmethod
    def factors(kept: tuple, before: tuple, after: tuple, hidden: Tensor) -> tuple:
        i, f, g, o = ops.split(kept[0], 4, axis=-1)
        c, t = before[1], backend.tanh(after[1])
        factors = [g * i * (1.0 - i), c * f * (1.0 - f), i * (1.0 - g * g), t * o * (1.0 - o)]
        return ops.concatenate(factors, axis=-1), o * (1.0 - t * t), f

    @staticmethod
    def backward(factors: tuple, gradient: tuple, turned: Tensor, drop: Tensor | None) -> tuple:
        (k, a, f), (dh, dc) = factors, gradient
        dc = dc + dh * a
        dz = k * ops.concatenate([dc, dc, dc, dh], axis=-1)
        dh = dot(dz, turned, dz.dtype)
        return (dz,), (dh if drop is None else dh * drop, dc * f)

    @staticmethod
    def gradients(factors: tuple, hidden: Tensor, dz: Tensor) -> tuple:
        return dz, sequence_product(hidden, dz, hidden.dtype), ops.sum(dz, axis=(0, 1))

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [4 * units]

    @staticmethod
    def found_widths(units: int) -> list[int]:
        return [4 * units]
