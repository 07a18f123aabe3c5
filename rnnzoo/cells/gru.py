"""Gated recurrent unit (Cho et al., 2014), both ways of applying the reset gate."""

from keras import ops

from rnnzoo import backend
from rnnzoo.cells.adjoint import Tensor, biased, dot, sequence_product


class GRUCell:
    """One step with the reset gate after the product (`reset_after=True`, as cuDNN).

    With `p = projected + b_p`, `q = (h * drop) @ U + b_q`, gates in Keras's order z, r, candidate:

        z, r = sigmoid(p_z + q_z, p_r + q_r)      k = tanh(p_k + r * q_k)
        h' = z * h + (1 - z) * k

    Backward, with `e = (1 - z) (1 - k^2)`, one factor of all that does not depend on dh':

        dq = [dh', dh', dh'] * m     m = [(h - k) z (1 - z), e q_k r (1 - r), e r]
        dp = [dq_z, dq_r, dh' e]     back to h: dh' z + (dq @ U.T) * drop
        dU = sum over steps of (h * drop).T @ dq     db_p, db_q = sums of dp and dq
    """

    @staticmethod
    def forward(projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None) -> tuple:
        (h,) = state
        units = h.shape[-1]
        hidden = h if drop is None else h * drop
        q = biased(dot(hidden, weights[0], h.dtype), weights[1:2])
        p = biased(projected, weights[2:])
        gates = ops.sigmoid(p[:, : 2 * units] + q[:, : 2 * units])
        z, r = ops.split(gates, 2, axis=-1)
        q_k = q[:, 2 * units :]
        k = backend.tanh(p[:, 2 * units :] + r * q_k)
        return (z * h + (1.0 - z) * k,), (ops.concatenate([gates, k], axis=-1), q_k)

    @staticmethod
    def factors(kept: tuple, before: tuple, after: tuple, hidden: Tensor) -> tuple:
        (gates, q_k), (h,) = kept, before
        z, r, k = ops.split(gates, 3, axis=-1)
        e = (1.0 - z) * (1.0 - k * k)
        m = [(h - k) * z * (1.0 - z), e * q_k * r * (1.0 - r), e * r]
        return ops.concatenate(m, axis=-1), e, z

    @staticmethod
    def backward(factors: tuple, gradient: tuple, turned: Tensor, drop: Tensor | None) -> tuple:
        (m, e, z), (dh,) = factors, gradient
        dq = m * ops.concatenate([dh, dh, dh], axis=-1)
        through = dot(dq, turned, dh.dtype)
        through = through if drop is None else through * drop
        return (dq, dh * e), (dh * z + through,)

    @staticmethod
    def gradients(factors: tuple, hidden: Tensor, dq: Tensor, dp_k: Tensor) -> tuple:
        dp = ops.concatenate([dq[..., : 2 * dp_k.shape[-1]], dp_k], axis=-1)
        of_kernel = sequence_product(hidden, dq, hidden.dtype)
        return dp, of_kernel, ops.sum(dq, axis=(0, 1)), ops.sum(dp, axis=(0, 1))

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [3 * units, units]

    @staticmethod
    def found_widths(units: int) -> list[int]:
        return [3 * units, units]


class ResetBeforeGRUCell:
    """One step with the reset gate before the product (`reset_after=False`, Cho et al., 2014).

    With `p = projected + b`, `s = h * drop` and `U = [U_zr, U_k]`:

        z, r = sigmoid(p_zr + s @ U_zr)      k = tanh(p_k + (r * s) @ U_k)
        h' = z * h + (1 - z) * k

    Backward, with e as in `GRUCell` and `a = dh' e`, `v = a @ U_k.T`:

        dp = [dh' (h - k) z (1 - z), v s r (1 - r), a]
        back to h: dh' z + (v r + dp_zr @ U_zr.T) * drop
        dU_zr = sum of s.T @ dp_zr      dU_k = sum of (r * s).T @ a     db = sum of dp
    """

    @staticmethod
    def forward(projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None) -> tuple:
        (h,) = state
        kernel, units = weights[0], h.shape[-1]
        s = h if drop is None else h * drop
        p = biased(projected, weights[1:])
        gates = ops.sigmoid(p[:, : 2 * units] + dot(s, kernel[:, : 2 * units], h.dtype))
        z, r = ops.split(gates, 2, axis=-1)
        k = backend.tanh(p[:, 2 * units :] + dot(r * s, kernel[:, 2 * units :], h.dtype))
        return (z * h + (1.0 - z) * k,), (ops.concatenate([gates, k], axis=-1),)

    @staticmethod
    def factors(kept: tuple, before: tuple, after: tuple, hidden: Tensor) -> tuple:
        z, r, k = ops.split(kept[0], 3, axis=-1)
        e = (1.0 - z) * (1.0 - k * k)
        m = [(before[0] - k) * z * (1.0 - z), hidden * r * (1.0 - r), e]
        return ops.concatenate(m, axis=-1), z, r

    @staticmethod
    def backward(factors: tuple, gradient: tuple, turned: Tensor, drop: Tensor | None) -> tuple:
        (m, z, r), (dh,) = factors, gradient
        units = dh.shape[-1]
        a = dh * m[:, 2 * units :]
        v = dot(a, turned[2 * units :], dh.dtype)
        d_gates = m[:, : 2 * units] * ops.concatenate([dh, v], axis=-1)
        through = v * r + dot(d_gates, turned[: 2 * units], dh.dtype)
        through = through if drop is None else through * drop
        return (ops.concatenate([d_gates, a], axis=-1),), (dh * z + through,)

    @staticmethod
    def gradients(factors: tuple, hidden: Tensor, dp: Tensor) -> tuple:
        r = factors[-1]
        units, dtype = r.shape[-1], hidden.dtype
        of_gates = sequence_product(hidden, dp[..., : 2 * units], dtype)
        of_candidate = sequence_product(hidden * r, dp[..., 2 * units :], dtype)
        of_kernel = ops.concatenate([of_gates, of_candidate], axis=-1)
        return dp, of_kernel, ops.sum(dp, axis=(0, 1))

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return [3 * units]

    @staticmethod
    def found_widths(units: int) -> list[int]:
        return [3 * units]
