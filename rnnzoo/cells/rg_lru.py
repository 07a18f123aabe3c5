"""The real-gated linear recurrent unit of Hawk and Griffin (De et al., 2024)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from rnnzoo import backend
from rnnzoo.cells.cell import Cell, blocks, check_blocks
from rnnzoo.cells.loop import Tensor

_SHARPNESS = 8.0  # c of the paper
_STEEPEST = 1000.0  # the derivative of the square root, which has none at 0


@keras.saving.register_keras_serializable(package="rnnzoo")
class RGLRUCell(Cell):
    """A linear cell whose decay is gated by the inputs, tested at scale.

    RG-LRU, of Hawk and Griffin (De et al., 2024).

        u = x @ W      r, i = sigmoid(u @ W_r + b_r), sigmoid(u @ W_i + b_i)
        log a = -8 r softplus(A)      h' = a * h + sqrt(1 - a^2) * (i * u)

    At the first step of a sequence the factor of the input is 1, as in the authors' code: there
    is nothing to share with. The state `begun` tells whether there was a step since the last
    reset. The causal convolution that goes before it in Griffin is a layer of its own.

    Args:
        units: size of the hidden state, at least 1.
        heads: number of blocks of the gates' matrices, which divides `units`.
        **kwargs: as any layer.

    Raises:
        ValueError: a number of heads that does not divide `units`.
    """

    state_names = ("h", "begun")

    def __init__(self, units: int, heads: int = 1, **kwargs: Any):
        super().__init__(units, **kwargs)
        self.heads = check_blocks("heads", heads, self.units)

    @property
    def state_size(self) -> list[int]:
        return [self.units, 1]

    def get_initial_state(self, batch_size: Any = None) -> list[Tensor]:
        h, begun = super().get_initial_state(batch_size)
        return [h, ops.cast(begun, "int32")]

    def build(self, input_shape: tuple) -> None:
        width = self.units // self.heads
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel"
        )
        self.gate_kernel = self.add_weight(
            shape=(2 * self.heads, width, width),
            initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
            name="gate_kernel",
        )
        self.gate_bias = self.add_weight(
            shape=(2 * self.units,), initializer="zeros", name="gate_bias"
        )
        self.decay = self.add_weight(shape=(self.units,), initializer=_on_ring, name="decay")

    def project(self, sequence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u = self.product(sequence, self.kernel)
        gates = blocks(self, ops.concatenate([u, u], axis=-1), self.gate_kernel)
        r, i = ops.split(ops.sigmoid(gates + self.read(self.gate_bias)), 2, axis=-1)
        log_a = -_SHARPNESS * r * ops.softplus(self.read(self.decay))
        t = backend.tanh(-log_a)  # so that 1 - a^2 keeps its digits where a is near 1
        return ops.exp(log_a), _root(2.0 * t / (1.0 + t)), i * u

    def step(self, projected: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Tensor, list]:
        (a, share, x), (h, begun) = projected, states
        h = a * h + ops.where(begun > 0, share, ops.ones_like(share)) * x
        return h, [h, ops.ones_like(begun)]

    def get_config(self) -> dict:
        return {**super().get_config(), "heads": self.heads}


def _on_ring(shape: tuple, dtype: Any = None) -> Tensor:
    """Decays such that exp(-softplus(A)) is spread evenly over the ring from 0.9 to 0.999."""
    area = keras.random.uniform(shape, 0.9**2, 0.999**2)
    return ops.cast(ops.log(ops.expm1(-0.5 * ops.log(area))), dtype or area.dtype)


def _root(x: Tensor) -> Tensor:
    """The square root of `x`, whose derivative is at most `_STEEPEST`."""
    root = ops.stop_gradient(ops.sqrt(x))
    bound = 0.25 / _STEEPEST**2
    slope = 0.5 / ops.sqrt(ops.stop_gradient(ops.maximum(x, bound)))
    return root + (x - ops.stop_gradient(x)) * slope
