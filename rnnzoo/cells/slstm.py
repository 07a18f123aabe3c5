"""sLSTM, the scalar cell of xLSTM (Beck et al., 2024)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from rnnzoo import backend
from rnnzoo.cells.cell import Cell, blocks, check_blocks
from rnnzoo.cells.loop import Tensor


@keras.saving.register_keras_serializable(package="rnnzoo")
class SLSTMCell(Cell):
    """An LSTM with exponential gates, a normaliser n and a stabiliser m.

    sLSTM, of xLSTM (Beck et al., 2024).

        i, f, z, o = x @ W + h @ R + b, R block-diagonal
        m' = max(log sigmoid(f) + m, i), or i at the first step, where n is 0
        e = exp(log sigmoid(f) + m - m')      j = exp(i - m')
        c' = e c + j tanh(z)      n' = e n + j      h' = sigmoid(o) c' / n'

    It can track a state that its inputs flip, which linear cells cannot.

    Args:
        units: size of the hidden state, at least 1.
        heads: number of blocks of R, which divides `units`.
        **kwargs: as any layer.

    Raises:
        ValueError: a number of heads that does not divide `units`.
    """

    state_names = ("h", "c", "n", "m")
    learnable_states = ("h",)

    def __init__(self, units: int, heads: int = 1, **kwargs: Any):
        super().__init__(units, **kwargs)
        self.heads = check_blocks("heads", heads, self.units)

    def build(self, input_shape: tuple) -> None:
        width = self.units // self.heads
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 4 * self.units), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.heads, width, 4 * width), initializer="zeros", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(4 * self.units,), initializer=self._bias, name="bias")

    @property
    def step_weights(self) -> Sequence[keras.Variable]:
        return (self.recurrent_kernel,)

    def project(self, sequence: Tensor) -> tuple[Tensor]:
        return (self.product(sequence, self.kernel) + self.read(self.bias),)

    def step(self, projected: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Tensor, list]:
        h, c, n, m = states
        gates = projected[0] + blocks(self, h, self.recurrent_kernel)
        # Of each block i, f, z and o in turn, as its product gives them.
        shape = (*ops.shape(gates)[:-1], self.heads, 4, self.units // self.heads)
        i, f, z, o = (
            ops.reshape(gate, ops.shape(h))
            for gate in ops.unstack(ops.reshape(gates, shape), 4, axis=-2)
        )
        kept = ops.log_sigmoid(f) + m
        new_m = ops.where(n == 0, i, ops.maximum(kept, i))
        e, j = ops.exp(ops.where(n == 0, ops.zeros_like(kept), kept - new_m)), ops.exp(i - new_m)
        new_c, new_n = e * c + j * backend.tanh(z), e * n + j
        h = ops.sigmoid(o) * new_c / new_n
        return h, [h, new_c, new_n, new_m]

    def get_config(self) -> dict:
        return {**super().get_config(), "heads": self.heads}

    def _bias(self, shape: tuple, dtype: Any = None) -> Tensor:
        """Zeros, but for the forget gates from 5 down to -7, so that some forget late."""
        width = self.units // self.heads
        place = ops.arange(width, dtype=dtype) / max(width - 1, 1)
        forget, zero = 5.0 - 12.0 * place**0.3, ops.zeros((width,), dtype)
        return ops.tile(ops.concatenate([zero, forget, zero, zero]), self.heads)
