"""Gated recurrent unit (Cho et al., 2014), both ways of applying the reset gate."""

import keras
from keras import ops

from rnnzoo.layers.recurrence import Tensor, dot, sequence_product
from rnnzoo.layers.recurrent import RecurrentLayer


class GRUCell:
    """One step with the reset gate after the product (`reset_after=True`, as cuDNN).

    With `p = projected`, `q = (h * drop) @ U + b`, and gates in Keras's order z, r, candidate:

        z, r = sigmoid(p_z + q_z, p_r + q_r)      k = tanh(p_k + r * q_k)
        h' = z * h + (1 - z) * k

    Backward, with `e = (1 - z) (1 - k^2)`, one factor of all that depends on the step alone:

        dp = [dh', dh', dh'] * m     m = [(h - k) z (1 - z), e q_k r (1 - r), e]
        dq = [dp_z, dp_r, dp_k r]    back to h: dh' z + (dq @ U.T) * drop
        dU = sum over steps of (h * drop).T @ dq        db = sum of dq
    """

    @staticmethod
    def forward(
        projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None, keep: bool
    ) -> tuple:
        (h,) = state
        kernel, bias = weights
        hidden = h if drop is None else h * drop
        q = dot(hidden, kernel, h.dtype) + ops.cast(bias, h.dtype)
        units = h.shape[-1]
        gates = ops.sigmoid(projected[:, : 2 * units] + q[:, : 2 * units])
        z, r = ops.split(gates, 2, axis=-1)
        q_k = q[:, 2 * units :]
        k = ops.tanh(projected[:, 2 * units :] + r * q_k)
        new = (z * h + (1.0 - z) * k,)
        if not keep:
            return new, ()
        e = (1.0 - z) * (1.0 - k * k)
        factors = [(h - k) * z * (1.0 - z), e * q_k * r * (1.0 - r), e]
        return new, (ops.concatenate(factors, axis=-1), z, r)

    @staticmethod
    def backward(kept: tuple, gradient: tuple, turned: Tensor, drop: Tensor | None) -> tuple:
        (m, z, r), (dh,) = kept, gradient
        units = dh.shape[-1]
        dp = m * ops.concatenate([dh, dh, dh], axis=-1)
        dq = ops.concatenate([dp[:, : 2 * units], dp[:, 2 * units :] * r], axis=-1)
        through = dot(dq, turned, dh.dtype)
        through = through if drop is None else through * drop
        return dp, dq, (dh * z + through,)

    @staticmethod
    def weight_gradients(kept: tuple, hidden: Tensor, d_recurrent: Tensor) -> tuple:
        return (
            sequence_product(hidden, d_recurrent, hidden.dtype),
            ops.sum(d_recurrent, axis=(0, 1)),
        )

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [3 * units, units, units]

    @staticmethod
    def recurrent_width(units: int) -> int:
        return 3 * units


class ResetBeforeGRUCell:
    """One step with the reset gate before the product (`reset_after=False`, Cho et al., 2014).

    With `s = h * drop` and `U = [U_zr, U_k]`:

        z, r = sigmoid(p_zr + s @ U_zr)      k = tanh(p_k + (r * s) @ U_k)
        h' = z * h + (1 - z) * k

    Backward, with e as in `GRUCell` and `a = dh' e`, `v = a @ U_k.T`:

        dp = [dh' (h - k) z (1 - z), v s r (1 - r), a]
        back to h: dh' z + (v r + dp_zr @ U_zr.T) * drop
        dU_zr = sum of s.T @ dp_zr      dU_k = sum of (r * s).T @ a
    """

    @staticmethod
    def forward(
        projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None, keep: bool
    ) -> tuple:
        (h,) = state
        (kernel,) = weights
        s = h if drop is None else h * drop
        units = h.shape[-1]
        gates = ops.sigmoid(projected[:, : 2 * units] + dot(s, kernel[:, : 2 * units], h.dtype))
        z, r = ops.split(gates, 2, axis=-1)
        k = ops.tanh(projected[:, 2 * units :] + dot(r * s, kernel[:, 2 * units :], h.dtype))
        new = (z * h + (1.0 - z) * k,)
        if not keep:
            return new, ()
        e = (1.0 - z) * (1.0 - k * k)
        return new, ((h - k) * z * (1.0 - z), s * r * (1.0 - r), e, z, r)

    @staticmethod
    def backward(kept: tuple, gradient: tuple, turned: Tensor, drop: Tensor | None) -> tuple:
        (of_z, of_r, e, z, r), (dh,) = kept, gradient
        units = dh.shape[-1]
        a = dh * e
        v = dot(a, turned[2 * units :], dh.dtype)
        d_gates = ops.concatenate([dh * of_z, v * of_r], axis=-1)
        through = v * r + dot(d_gates, turned[: 2 * units], dh.dtype)
        through = through if drop is None else through * drop
        return ops.concatenate([d_gates, a], axis=-1), None, (dh * z + through,)

    @staticmethod
    def weight_gradients(kept: tuple, hidden: Tensor, d_recurrent: Tensor) -> tuple:
        r = kept[-1]
        units, dtype = r.shape[-1], hidden.dtype
        of_gates = sequence_product(hidden, d_recurrent[..., : 2 * units], dtype)
        of_candidate = sequence_product(hidden * r, d_recurrent[..., 2 * units :], dtype)
        return (ops.concatenate([of_gates, of_candidate], axis=-1),)

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [units] * 5

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
