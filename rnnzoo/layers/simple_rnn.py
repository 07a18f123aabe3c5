"""The plain recurrent layer with explicit state."""

import keras

from rnnzoo.cells.simple_rnn import SimpleRNNCell
from rnnzoo.layers.stock import StockLayer


@keras.saving.register_keras_serializable(package="rnnzoo")
class SimpleRNN(StockLayer, keras.layers.SimpleRNN):
    """A plain recurrent layer with explicit state: `(sequence, state, reset) -> (outputs, state)`.

    That of simple recurrent networks (Elman, 1990). Weights, their names and shapes are those of
    `keras.layers.SimpleRNN`. See `rnnzoo.layers.recurrent.RecurrentLayer` for the call.

    Args:
        units: size of the hidden state, at least 1.
        dropout, recurrent_dropout, learned_initial_state, go_backwards, **kwargs: as
            `rnnzoo.layers.stock.StockLayer`.

    Example:

    >>> import numpy as np, rnnzoo
    >>> layer = rnnzoo.layers.SimpleRNN(4)
    >>> outputs, state = layer(np.zeros((2, 5, 3)), layer.initial_state(2))
    >>> tuple(outputs.shape), sorted(state)
    ((2, 5, 4), ['h'])
    """

    state_names = ("h",)

    def recurrent_cell(self) -> type:
        return SimpleRNNCell
