"""`LSTNetCell`: a linear autoregression, and beside it a GRU."""

from typing import Any

import keras
from keras import ops

from rnnzoo import _checks

Tensor = Any


@keras.saving.register_keras_serializable(package="rnnzoo")
class LSTNetCell(keras.layers.Layer):
    """A cell whose output is a linear forecast and the state of a GRU, for a linear output layer.

    The forecast, of the `ahead` values after the one just read, is this value and a linear
    function of the last `history` values, relative to it, and of the time of day. The GRU reads
    the last `period` values, relative too, and the time of day. So the linear part sees a long
    stretch of the past at once, and the recurrent part is for what is not linear in it, as in
    LSTNet (Lai et al., 2018), here without its convolution. Before a sequence began, its first
    value stands; the forecast of a cell that has learnt nothing is the value that it has read.

    A step is `(value, time)`, the time a whole number in [0, period).

    Args:
        units: size of the output: `ahead`, and the size of the GRU.
        ahead: values that are forecast.
        history: values that the linear part sees.
        period: steps in a day.
        dropout: share dropped of the GRU's state in the output, in [0, 1).
        **kwargs: `name`, `dtype`, `trainable`, as in any layer.

    Raises:
        ValueError: sizes below 1, units that leave none for the GRU, a history shorter than the
            period, a share outside [0, 1).

    Example:

    >>> import numpy as np, rnnzoo
    >>> layer = rnnzoo.layers.RNN(rnnzoo.cells.LSTNetCell(units=8, ahead=3, history=48))
    >>> outputs, state = layer(np.array([[[21.5, 0], [22.5, 1]]]), layer.initial_state(1))
    >>> np.array(outputs)[0, :, :3].tolist()
    [[21.5, 21.5, 21.5], [22.5, 22.5, 22.5]]
    """

    state_names = ("values", "begun", "h")

    def __init__(
        self,
        units: int,
        ahead: int = 24,
        history: int = 336,
        period: int = 24,
        dropout: float = 0.3,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        sizes = {"units": units, "ahead": ahead, "history": history, "period": period}
        for name, size in sizes.items():
            setattr(self, name, _checks.positive_integer(name, size))
        if units <= ahead:
            raise ValueError(f"units must be more than ahead, {ahead}; received units={units}")
        if history < period:
            raise ValueError(
                f"history must be at least the period, {period}; received history={history}"
            )
        self.dropout = _checks.fraction("dropout", dropout)
        self.state_size, self.output_size = [history, 1, units - ahead], units
        self.linear = keras.layers.Dense(
            ahead, use_bias=False, kernel_initializer="zeros", name="linear"
        )
        self.gru = keras.layers.GRUCell(units - ahead, name="gru")
        self.dropped = keras.layers.Dropout(self.dropout, name="dropped")

    def build(self, input_shape: tuple) -> None:
        """Makes the weights for steps `(batch, 2)`."""
        if input_shape[-1] != 2:
            raise ValueError(f"a step must be (value, time), 2 numbers; received {input_shape[-1]}")
        self.linear.build((None, self.history + self.period))
        self.gru.build((None, 2 * self.period))
        self.dropped.build((None, self.units - self.ahead))
        self.built = True

    def call(self, inputs: Tensor, states: list, training: bool | None = None) -> tuple:
        """`(output, states)` after a step `(batch, 2)`."""
        values, begun, h = states
        value, time = inputs[:, :1], ops.cast(inputs[:, 1], "int32")
        time = ops.one_hot(time, self.period, dtype=inputs.dtype)
        values = ops.where(begun > 0, values, value)
        values = ops.concatenate([values[:, 1:], value], axis=1)
        past = values - value
        forecast = value + self.linear(ops.concatenate([past, time], axis=1))
        h, _ = self.gru(ops.concatenate([past[:, -self.period :], time], axis=1), [h])
        output = ops.concatenate([forecast, self.dropped(h, training=training)], axis=1)
        return output, [values, ops.ones_like(begun), h]

    def get_config(self) -> dict[str, Any]:
        """The arguments, for a copy."""
        own = ("units", "ahead", "history", "period", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
