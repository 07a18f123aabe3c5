"""LSTM with explicit state."""

import keras

from rnnzoo.cells.lstm import LSTMCell
from rnnzoo.layers.stock import StockLayer


@keras.saving.register_keras_serializable(package="rnnzoo")
class LSTM(StockLayer, keras.layers.LSTM):
    """An LSTM layer with explicit state: `(sequence, state, reset) -> (outputs, state)`.

    Long short-term memory (Hochreiter & Schmidhuber, 1997; forget gate: Gers et al., 2000).
    Weights, their names, shapes and gate order are those of `keras.layers.LSTM`, so
    `get_weights` and `set_weights` move them both ways. See
    `rnnzoo.layers.recurrent.RecurrentLayer` for the call.

    Args:
        units: size of the hidden state, at least 1.
        dropout, recurrent_dropout, learned_initial_state, go_backwards, **kwargs: as
            `rnnzoo.layers.stock.StockLayer`, and `unit_forget_bias` as `keras.layers.LSTM`.

    Example:

    >>> import numpy as np, rnnzoo
    >>> layer = rnnzoo.layers.LSTM(4)
    >>> outputs, state = layer(np.zeros((2, 5, 3)), layer.initial_state(2))
    >>> tuple(outputs.shape), sorted(state)
    ((2, 5, 4), ['c', 'h'])
    """

    state_names = ("h", "c")

    def recurrent_cell(self) -> type:
        return LSTMCell
