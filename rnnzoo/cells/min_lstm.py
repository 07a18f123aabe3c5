"""minLSTM (Feng et al., "Were RNNs All We Needed?", 2024)."""

import keras
from keras import ops

from rnnzoo.cells.cell import LinearCell
from rnnzoo.cells.loop import Tensor
from rnnzoo.cells.min_gru import positive


@keras.saving.register_keras_serializable(package="rnnzoo")
class MinLSTMCell(LinearCell):
    """An LSTM without output gate whose gates see the inputs alone, and add up to 1.

    minLSTM (Feng et al., 2024).

        f, i = sigmoid(x @ W_f), sigmoid(x @ W_i)      k = g(x @ W_k), as in `MinGRUCell`
        h' = f / (f + i) * h + i / (f + i) * k

    Args:
        units: size of the hidden state, at least 1.
        **kwargs: as any layer.
    """

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 3 * self.units), initializer="glorot_uniform", name="kernel"
        )

    def project(self, sequence: Tensor) -> tuple[Tensor, Tensor]:
        f, i, k = ops.split(self.product(sequence, self.kernel), 3, axis=-1)
        # f / (f + i) by logarithms: both gates may be 0 in float32.
        share = ops.log_sigmoid(f) - ops.log_sigmoid(i)
        return ops.sigmoid(share), ops.sigmoid(-share) * positive(k)
