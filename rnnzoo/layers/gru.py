"""Gated recurrent unit (Cho et al., 2014), both ways of applying the reset gate."""

import keras
from keras import ops

from rnnzoo.layers.recurrence import Tensor, dot, sequence_product
from rnnzoo.layers.recurrent import RecurrentLayer


def _mix_gradient(z: Tensor, candidate: Tensor, h: Tensor, dh: Tensor) -> tuple:
    """Gradients of `h' = z * h + (1 - z) * tanh(a)` with respect to a and to z's sum."""
    d_candidate = dh * (1.0 - z) * (1.0 - candidate * candidate)
    d_update = dh * (h - candidate) * z * (1.0 - z)
    return d_candidate, d_update


class GRUCell:
    """One step with the reset gate after the product (`reset_after=True`, as cuDNN).

    With `p = projected`, `q = (h * drop) @ U + b`, and gates in Keras's order z, r, candidate:

        z, r = sigmoid(p_z + q_z, p_r + q_r)      k = tanh(p_k + r * q_k)
        h' = z * h + (1 - z) * k

    Backward, with `a = dh' (1 - z) (1 - k^2)` and `dz = dh' (h - k) z (1 - z)`:

        dr = a q_k r (1 - r)      dp = [dz, dr, a]      dq = [dz, dr, a r]
        back to h: dh' z + (dq @ U.T) * drop
        dU = sum over steps of (h * drop).T @ dq        db = sum of dq
    """

    @staticmethod
    def forward(projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None) -> tuple:
        (h,) = state
        kernel, bias = weights
        hidden = h if drop is None else h * drop
        q = dot(hidden, kernel, h.dtype) + ops.cast(bias, h.dtype)
        units = h.shape[-1]
        gates = ops.sigmoid(projected[:, : 2 * units] + q[:, : 2 * units])
        z, r = ops.split(gates, 2, axis=-1)
        q_k = q[:, 2 * units :]
        k = ops.tanh(projected[:, 2 * units :] + r * q_k)
        return (z * h + (1.0 - z) * k,), (gates, k, q_k)

    @staticmethod
    def backward(
        kept: tuple, state: tuple, new: tuple, gradient: tuple, weights: tuple, drop: Tensor | None
    ) -> tuple:
        (gates, k, q_k), (h,), (dh,) = kept, state, gradient
        z, r = ops.split(gates, 2, axis=-1)
        a, dz = _mix_gradient(z, k, h, dh)
        dr = a * q_k * r * (1.0 - r)
        dq = ops.concatenate([dz, dr, a * r], axis=-1)
        through = dot(dq, ops.transpose(weights[0]), dh.dtype)
        through = through if drop is None else through * drop
        return ops.concatenate([dz, dr, a], axis=-1), dq, (dh * z + through,)

    @staticmethod
    def weight_gradients(kept: tuple, hidden: Tensor, d_recurrent: Tensor) -> tuple:
        return (
            sequence_product(hidden, d_recurrent, hidden.dtype),
            ops.sum(d_recurrent, axis=(0, 1)),
        )

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [2 * units, units, units]

    @staticmethod
    def recurrent_width(units: int) -> int:
        return 3 * units


class ResetBeforeGRUCell:
    """One step with the reset gate before the product (`reset_after=False`, Cho et al., 2014).

    With `s = h * drop` and `U = [U_zr, U_k]`:

        z, r = sigmoid(p_zr + s @ U_zr)      k = tanh(p_k + (r * s) @ U_k)
        h' = z * h + (1 - z) * k

    Backward, with a and dz as in `GRUCell`, `e = a @ U_k.T`, and `dr = e s r (1 - r)`:

        dp = [dz, dr, a]      back to h: dh' z + (e r + [dz, dr] @ U_zr.T) * drop
        dU_zr = sum of s.T @ [dz, dr]      dU_k = sum of (r * s).T @ a
    """

    @staticmethod
    def forward(projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None) -> tuple:
        (h,) = state
        (kernel,) = weights
        s = h if drop is None else h * drop
        units = h.shape[-1]
        gates = ops.sigmoid(projected[:, : 2 * units] + dot(s, kernel[:, : 2 * units], h.dtype))
        z, r = ops.split(gates, 2, axis=-1)
        k = ops.tanh(projected[:, 2 * units :] + dot(r * s, kernel[:, 2 * units :], h.dtype))
        return (z * h + (1.0 - z) * k,), (gates, k)

    @staticmethod
    def backward(
        kept: tuple, state: tuple, new: tuple, gradient: tuple, weights: tuple, drop: Tensor | None
    ) -> tuple:
        (gates, k), (h,), (dh,) = kept, state, gradient
        units = h.shape[-1]
        kernel = ops.transpose(weights[0])
        s = h if drop is None else h * drop
        z, r = ops.split(gates, 2, axis=-1)
        a, dz = _mix_gradient(z, k, h, dh)
        e = dot(a, kernel[2 * units :], dh.dtype)
        d_gates = ops.concatenate([dz, e * s * r * (1.0 - r)], axis=-1)
        through = e * r + dot(d_gates, kernel[: 2 * units], dh.dtype)
        through = through if drop is None else through * drop
        return ops.concatenate([d_gates, a], axis=-1), None, (dh * z + through,)

    @staticmethod
    def weight_gradients(kept: tuple, hidden: Tensor, d_recurrent: Tensor) -> tuple:
        gates, k = kept
        units = k.shape[-1]
        dtype = hidden.dtype
        of_gates = sequence_product(hidden, d_recurrent[..., : 2 * units], dtype)
        r = gates[..., units:]
        of_candidate = sequence_product(hidden * r, d_recurrent[..., 2 * units :], dtype)
        return (ops.concatenate([of_gates, of_candidate], axis=-1),)

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [2 * units, units]

    @staticmethod
    def recurrent_width(units: int) -> int:
        return 0


@keras.saving.register_keras_serializable(package="rnnzoo")
class GRU(RecurrentLayer, keras.layers.GRU):
    """A GRU layer with explicit state: `(sequence, state, reset) -> (outputs, state)`.

    Weights, their names, shapes and gate order are those of `keras.layers.GRU`, of both
    `reset_after` kinds. See `RecurrentLayer` for the call.

    Args:
        units: size of the hidden state, at least 1.
        **kwargs: as `RecurrentLayer`, and `reset_after` as `keras.layers.GRU` (True: the reset
            gate acts after the recurrent product, with its own bias).

    Example:

    >>> import numpy as np, rnnzoo
    >>> layer = rnnzoo.layers.GRU(4, reset_after=False)
    >>> outputs, state = layer(np.zeros((2, 5, 3)), layer.initial_state(2))
    >>> tuple(outputs.shape), sorted(state)
    ((2, 5, 4), ['h'])
    """

    state_names = ("h",)

    def recurrent_cell(self) -> type:
        return GRUCell if self.reset_after else ResetBeforeGRUCell

    def projection_bias(self) -> Tensor | None:
        if not self.use_bias:
            return None
        return self.cell.bias[0] if self.reset_after else self.cell.bias

    def recurrent_weights(self) -> tuple:
        kernel = self.cell.recurrent_kernel
        if not self.reset_after:
            return (kernel,)
        bias = self.cell.bias[1] if self.use_bias else ops.zeros((3 * self.units,), kernel.dtype)
        return kernel, bias
