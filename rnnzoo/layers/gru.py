"""GRU with explicit state."""

import keras

from rnnzoo.cells.gru import GRUCell, ResetBeforeGRUCell
from rnnzoo.layers.stock import StockLayer


@keras.saving.register_keras_serializable(package="rnnzoo")
class GRU(StockLayer, keras.layers.GRU):
    """A GRU layer with explicit state: `(sequence, state, reset) -> (outputs, state)`.

    The gated recurrent unit (Cho et al., 2014). Weights, their names, shapes and gate order are
    those of `keras.layers.GRU`, of both `reset_after` kinds. See
    `rnnzoo.layers.recurrent.RecurrentLayer` for the call.

    Args:
        units: size of the hidden state, at least 1.
        dropout, recurrent_dropout, learned_initial_state, go_backwards, **kwargs: as
            `rnnzoo.layers.stock.StockLayer`, and `reset_after` as `keras.layers.GRU` (True: the
            reset gate acts after the recurrent product, with its own bias).

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

    def recurrent_weights(self) -> tuple:
        kernel, *bias = super().recurrent_weights()
        if bias and self.reset_after:  # that of the product, that of the inputs
            bias = bias[0][1], bias[0][0]
        return kernel, *bias
