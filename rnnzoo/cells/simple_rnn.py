"""The plain recurrent layer (Elman, 1990)."""

from keras import ops

from rnnzoo import backend
from rnnzoo.cells.adjoint import Tensor, biased, dot, sequence_product


class SimpleRNNCell:
    """One step: `h' = tanh(projected + (h * drop) @ U + b)`.

    Backward: `dz = dh' * k` with `k = 1 - h'^2`, to h `(dz @ U.T) * drop`,
    `dU = sum over steps of (h * drop).T @ dz`, `db = sum of dz`.
    """

    @staticmethod
    def forward(projected: Tensor, state: tuple, weights: tuple, drop: Tensor | None) -> tuple:
        (h,) = state
        hidden = h if drop is None else h * drop
        z = projected + biased(dot(hidden, weights[0], h.dtype), weights[1:])
        return (backend.tanh(z),), ()

    @staticmethod
    def factors(kept: tuple, before: tuple, after: tuple, hidden: Tensor) -> tuple:
        return (1.0 - after[0] * after[0],)

    @staticmethod
    def backward(factors: tuple, gradient: tuple, turned: Tensor, drop: Tensor | None) -> tuple:
        dz = gradient[0] * factors[0]
        dh = dot(dz, turned, dz.dtype)
        return (dz,), (dh if drop is None else dh * drop,)

    @staticmethod
    def gradients(factors: tuple, hidden: Tensor, dz: Tensor) -> tuple:
        return dz, sequence_product(hidden, dz, hidden.dtype), ops.sum(dz, axis=(0, 1))

    @staticmethod
    def kept_widths(units: int) -> list[int]:
        return []

    @staticmethod
    def found_widths(units: int) -> list[int]:
        return [units]
