"""`StockLayer`: what LSTM, GRU and SimpleRNN have in common, built on their stock namesakes."""

import functools
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks, backend
from rnnzoo.cells.adjoint import recurrence
from rnnzoo.cells.keras_cell import run_cell
from rnnzoo.cells.loop import Tensor
from rnnzoo.layers.recurrent import RecurrentLayer, check_arguments

# What the stock layers' constructors take and an explicit state leaves no room for.
_FIXED = {"return_sequences", "return_state", "stateful", "unroll", "zero_output_for_mask"}
_FIXED |= {"implementation"}
_BY_HAND = {
    "activation": keras.activations.tanh,
    "recurrent_activation": keras.activations.sigmoid,
}


class StockLayer(RecurrentLayer):
    """A stock Keras recurrent layer with explicit state and per-row, per-step reset.

    See `RecurrentLayer` for the call. With the activations that the stock layer has by default
    the loop is that of `rnnzoo.cells.adjoint`, whose gradient is written by hand; with others it
    runs the stock cell, differentiated step by step (`rnnzoo.cells.loop`). On a GPU the stock
    layer's cuDNN path runs where there is one (LSTM and GRU on TensorFlow, LSTM on JAX), when
    activations are the default, no reset falls after the first step and there is no mask; on JAX
    also with a mask of padding that follows each row's real steps.

    Args:
        units: size of the hidden state, at least 1.
        dropout: share of inputs dropped, in [0, 1); one mask per call and row.
        recurrent_dropout: share of the hidden state dropped where it meets the recurrent
            weights, in [0, 1); one mask per call and row (Gal & Ghahramani, 2016), with other
            activations than the default one per gate, as in the stock layer.
        learned_initial_state: whether the state that starts a sequence is trained (one
            weight per state, after the stock layer's weights) or zero.
        go_backwards: read from the last step to the first; the outputs come in that order.
        **kwargs: activations, initializers, regularizers, constraints, `use_bias`, `seed`,
            `name`, `dtype`, `trainable` as in the stock layer.

    Raises:
        ValueError: units, a rate or an activation that is not allowed; an argument that an
            explicit state replaces (`stateful`, `return_state`, ...).
    """

    def __init__(
        self,
        units: int,
        *,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        learned_initial_state: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ):
        units = _checks.positive_integer("units", units)
        dropout = _checks.fraction("dropout", dropout)
        recurrent_dropout = _checks.fraction("recurrent_dropout", recurrent_dropout)
        go_backwards = _checks.flag("go_backwards", go_backwards)
        learned = _checks.flag("learned_initial_state", learned_initial_state)
        check_arguments(kwargs, _FIXED, type(self).__name__)
        super().__init__(
            units,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            return_sequences=True,
            return_state=True,
            go_backwards=go_backwards,
            autocast=False,  # the state stays in float32 under a mixed policy
            **kwargs,
        )
        # Which the SimpleRNN of Keras takes, and takes no notice of.
        self.activity_regularizer = keras.regularizers.get(kwargs.get("activity_regularizer"))
        self.learned_initial_state = learned
        self.initial = []
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, sequence_shape: tuple) -> None:
        super().build(sequence_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: sequence_shape[-1]})
        self.add_initial()

    def recurrent_cell(self) -> type:
        """The cell class with the hand-written gradient."""
        raise NotImplementedError

    def recurrent_weights(self) -> tuple:
        """What the cell's `forward` takes as its weights: the recurrent kernel, then biases."""
        return (self.cell.recurrent_kernel,) + ((self.cell.bias,) if self.use_bias else ())

    @property
    def by_hand(self) -> bool:
        """Whether the activations are those for which the gradient is written."""
        return all(getattr(self.cell, name, right) is right for name, right in _BY_HAND.items())

    def run(
        self,
        sequence: Tensor,
        state: tuple[Tensor, ...],
        initial: tuple[Tensor | None, ...],
        reset: Tensor | None,
        mask: Tensor | None,
        training: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not self.by_hand:
            flags = _by_time(reset), _by_time(mask)
            return run_cell(self.cell, sequence, state, initial, *flags, training, output=0)
        sequence = ops.cast(sequence, self.compute_dtype)
        if training and self.dropout:
            ones = ops.ones((ops.shape(sequence)[0], 1, sequence.shape[-1]), self.compute_dtype)
            sequence = sequence * self._drop(ones, self.dropout)
        if self._stock_path_fits(training, mask is not None) and sequence.shape[1] != 0:
            return self._stock_or_scan(sequence, state, initial, reset, training, mask)
        return self._scan(sequence, state, initial, reset, mask, training)

    def get_config(self) -> dict:
        config = super().get_config()
        fixed = _FIXED | {"autocast", "use_cudnn"}
        config = {key: value for key, value in config.items() if key not in fixed}
        return {**config, "learned_initial_state": self.learned_initial_state}

    def _drop(self, ones: Tensor, rate: float) -> Tensor:
        return keras.random.dropout(ones, rate, seed=self.cell.seed_generator)

    def _scan(
        self, sequence: Tensor, state: tuple, initial: tuple, reset: Any, mask: Any, training: bool
    ) -> tuple[Tensor, tuple]:
        dtype, batch = self.state_dtype, ops.shape(sequence)[0]
        time_major = ops.transpose(sequence, (1, 0, 2))
        kernel = ops.cast(self.cell.kernel, self.compute_dtype)
        projected = backend.project(time_major, kernel, dtype)
        drop = None
        if training and self.recurrent_dropout:
            drop = self._drop(ops.ones((batch, self.units), dtype), self.recurrent_dropout)
        # Read here: a conversion may hand on the variables, which a custom gradient refuses.
        weights = tuple(ops.cast(w, self.variable_dtype) for w in self.recurrent_weights())
        hidden, state = recurrence(
            self.recurrent_cell(),
            projected,
            weights,
            state,
            initial,
            _by_time(reset),
            _by_time(mask),
            drop,
            keep=training,
            product_dtype=self.compute_dtype,
        )
        return ops.transpose(hidden, (1, 0, 2)), state

    def _stock_path_fits(self, training: bool, padded: bool) -> bool:
        return (
            any(backend.cudnn_runs(kind.__name__, padded) for kind in type(self).__mro__)
            and self.use_bias
            and not (training and self.recurrent_dropout)
            and not self.go_backwards
            and self.compute_dtype == self.variable_dtype == "float32"
        )

    def _stock_or_scan(
        self, sequence: Tensor, state: tuple, initial: tuple, reset: Any, training: bool, mask: Any
    ) -> tuple[Tensor, tuple]:
        """cuDNN unless, at run time, a reset or a real step after padding falls inside."""

        def stock() -> tuple:
            first = state
            if reset is not None:
                restart = ops.any(reset[:, :1], axis=1, keepdims=True)
                fresh = [ops.zeros_like(s) if i is None else i for s, i in zip(state, initial)]
                first = tuple(ops.where(restart, f, s) for f, s in zip(fresh, state))
            if mask is None:
                _, outputs, last = self.inner_loop(sequence, list(first), None, False)
                return outputs, tuple(last)
            weights = [ops.cast(w, self.variable_dtype) for w in (self.cell.kernel, *recurrent)]
            lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
            outputs, (last,) = backend.padded_lstm(sequence, [first], [tuple(weights)], lengths)
            return outputs, last

        def scan() -> tuple:
            return self._scan(sequence, state, initial, reset, mask, training)

        recurrent = self.recurrent_weights()
        inside = [] if reset is None else [ops.any(reset[:, 1:])]
        if mask is not None:
            inside.append(ops.any(ops.logical_and(mask[:, 1:], ops.logical_not(mask[:, :-1]))))
        return (
            ops.cond(functools.reduce(ops.logical_or, inside), scan, stock) if inside else stock()
        )


def _by_time(flags: Tensor | None) -> Tensor | None:
    """`(batch, time)` flags as `(time, batch, 1)`."""
    return None if flags is None else ops.transpose(flags)[..., None]
