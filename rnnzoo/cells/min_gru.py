"""minGRU (Feng et al., "Were RNNs All We Needed?", 2024)."""

import keras
from keras import ops

from rnnzoo.cells.cell import LinearCell
from rnnzoo.cells.loop import Tensor


def positive(x: Tensor) -> Tensor:
    """The paper's g: `x + 1/2` where x is positive, else `sigmoid(x)`; always above 0."""
    return ops.where(x >= 0, x + 0.5, ops.sigmoid(x))


@keras.saving.register_keras_serializable(package="rnnzoo")
class MinGRUCell(LinearCell):
    """A GRU whose gate and candidate do not see the hidden state, so that it is linear in it.

        z = sigmoid(x @ W_z)      k = g(x @ W_k), g(v) = v + 1/2 if v >= 0 else sigmoid(v)
        h' = (1 - z) * h + z * k

    minGRU (Feng et al., 2024). One product for all steps of a sequence. A linear cell cannot
    track a state that its inputs flip, such as parity; LSTM, GRU and sLSTM can.

    Args:
        units: size of the hidden state, at least 1.
        **kwargs: as any layer.

    Example:

    >>> import numpy as np, rnnzoo
    >>> layer = rnnzoo.layers.RNN(rnnzoo.cells.MinGRUCell(4))
    >>> tuple(layer(np.zeros((2, 5, 3))).shape)
    (2, 5, 4)
    """

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 2 * self.units), initializer="glorot_uniform", name="kernel"
        )

    def project(self, sequence: Tensor) -> tuple[Tensor, Tensor]:
        z, k = ops.split(self.product(sequence, self.kernel), 2, axis=-1)
        z = ops.sigmoid(z)
        return 1.0 - z, z * positive(k)
