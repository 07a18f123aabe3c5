"""`RecurrentLayer`: what LSTM, GRU and SimpleRNN have in common."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks, backend
from rnnzoo.backend.keras_internals import AutocastScope
from rnnzoo.layers.recurrence import Tensor, recurrence

State = dict[str, Tensor]

# What the stock layers' constructors take and an explicit state leaves no room for.
_FIXED = {"return_sequences", "return_state", "stateful", "go_backwards", "unroll"} | {
    "zero_output_for_mask",
    "implementation",
}
_ACTIVATIONS = {"activation": "tanh", "recurrent_activation": "sigmoid"}
_portable = False


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Inside, layers are traced without cuDNN, so that an export runs on any machine."""
    global _portable
    before, _portable = _portable, True
    try:
        yield
    finally:
        _portable = before


class RecurrentLayer:
    """A stock Keras recurrent layer with explicit state and per-row, per-step reset.

    Call: `layer(sequence, state, reset=None, mask=None, training=False) -> (outputs, state)`

    * sequence: `(batch, time, features)`; any number of steps, 0 and 1 included.
    * state: dict of `(batch, units)` tensors in float32 (float64 under a float64 policy),
      from `initial_state` or from the call before.
    * reset: `(batch, time)` bool; True where a step must see nothing of what came before.
    * mask: `(batch, time)` bool; False where a step is padding, which holds the state.
    * outputs: `(batch, time, units)`; the state returned is that after the last step.

    On a GPU the stock layer's cuDNN path runs when no reset falls after the first step and
    there is no mask; everywhere else the scan of `rnnzoo.layers.recurrence`.

    Args:
        units: size of the hidden state, at least 1.
        dropout: share of inputs dropped, in [0, 1); one mask per call and row.
        recurrent_dropout: share of the hidden state dropped where it meets the recurrent
            weights, in [0, 1); one mask per call and row (Gal & Ghahramani, 2016).
        learned_initial_state: whether the state that starts a sequence is trained (one
            weight per state, after the stock layer's weights) or zero.
        **kwargs: initializers, regularizers, constraints, `use_bias`, `seed`, `name`,
            `dtype`, `trainable` as in the stock layer.

    Raises:
        ValueError: units, a rate or an activation that is not allowed; an argument that an
            explicit state replaces (`stateful`, `return_state`, ...).
    """

    state_names: tuple[str, ...]

    def __init__(
        self,
        units: int,
        *,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        learned_initial_state: bool = False,
        **kwargs: Any,
    ):
        name = type(self).__name__
        units = _checks.positive_integer("units", units)
        dropout = _checks.fraction("dropout", dropout)
        recurrent_dropout = _checks.fraction("recurrent_dropout", recurrent_dropout)
        if taken := sorted(_FIXED & set(kwargs)):
            raise ValueError(
                f"{name} takes its state as an argument, returns all outputs and the last state; "
                f"arguments not allowed: {taken}. Use keras.layers.{name} for those."
            )
        for argument, allowed in _ACTIVATIONS.items():
            given = kwargs.get(argument, allowed)
            if given not in (allowed, getattr(keras.activations, allowed)):
                raise ValueError(
                    f"{argument} must be {allowed!r}, for which the gradient is written; "
                    f"received {argument}={_checks.shown(given)}"
                )
        super().__init__(
            units,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            return_sequences=True,
            return_state=True,
            autocast=False,  # the state stays in float32 under a mixed policy
            **kwargs,
        )
        self.supports_masking = True  # Keras 3.16 sets it to False for its recurrent layers
        self.learned_initial_state = bool(learned_initial_state)
        self.initial = []

    @property
    def state_dtype(self) -> str:
        """float32, or float64 where the layer computes in float64."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    def build(self, sequence_shape: tuple) -> None:
        super().build(sequence_shape)
        if self.learned_initial_state:
            self.initial = [
                self.add_weight(shape=(self.units,), initializer="zeros", name=f"initial_{name}")
                for name in self.state_names
            ]

    def initial_state(self, batch_size: int | Tensor) -> State:
        """The state that starts a sequence: dict of `(batch_size, units)` tensors."""
        shape, dtype = (batch_size, self.units), self.state_dtype
        if not self.initial:
            return {name: ops.zeros(shape, dtype) for name in self.state_names}
        with AutocastScope(None):
            return {
                name: ops.broadcast_to(ops.cast(weight, dtype), shape)
                for name, weight in zip(self.state_names, self.initial)
            }

    def call(
        self,
        sequence: Tensor,
        state: State,
        reset: Tensor | None = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> tuple[Tensor, State]:
        with AutocastScope(None):  # Keras would round biases and initial states as well
            return self._run(sequence, state, reset, mask, training)

    def _run(
        self, sequence: Tensor, state: State, reset: Any, mask: Any, training: bool
    ) -> tuple[Tensor, State]:
        sequence = ops.cast(sequence, self.compute_dtype)
        values = tuple(ops.cast(state[name], self.state_dtype) for name in self.state_names)
        batch = ops.shape(sequence)[0]
        initial = tuple(self.initial_state(batch).values()) if self.initial else None
        if training and self.dropout:
            ones = ops.ones((batch, 1, sequence.shape[-1]), self.compute_dtype)
            sequence = sequence * self._drop(ones, self.dropout)
        if self._stock_path_fits(mask, training):
            outputs, values = self._stock_or_scan(sequence, values, initial, reset, training)
        else:
            outputs, values = self._scan(sequence, values, initial, reset, mask, training)
        return ops.cast(outputs, self.compute_dtype), dict(zip(self.state_names, values))

    def compute_output_spec(
        self, sequence: Any, state: State, reset: Any = None, mask: Any = None, training: Any = None
    ) -> tuple:
        shape = (*sequence.shape[:2], self.units)
        return keras.KerasTensor(shape, self.compute_dtype), {
            name: keras.KerasTensor((sequence.shape[0], self.units), self.state_dtype)
            for name in self.state_names
        }

    def compute_mask(self, *_: Any, **__: Any) -> None:
        """None: masks are passed as an argument, never implicitly."""
        return None

    def get_config(self) -> dict:
        config = super().get_config()
        fixed = _FIXED | {"autocast", "use_cudnn"}
        config = {key: value for key, value in config.items() if key not in fixed}
        return {**config, "learned_initial_state": self.learned_initial_state}

    def recurrent_weights(self) -> tuple:
        """What the cell's `forward` takes as its weights: the recurrent kernel, then biases."""
        return (self.cell.recurrent_kernel,) + ((self.cell.bias,) if self.use_bias else ())

    def _drop(self, ones: Tensor, rate: float) -> Tensor:
        return keras.random.dropout(ones, rate, seed=self.cell.seed_generator)

    def _scan(
        self, sequence: Tensor, state: tuple, initial: Any, reset: Any, mask: Any, training: bool
    ) -> tuple[Tensor, tuple]:
        dtype, batch = self.state_dtype, ops.shape(sequence)[0]
        time_major = ops.transpose(sequence, (1, 0, 2))
        kernel = ops.cast(self.cell.kernel, self.compute_dtype)
        projected = backend.project(time_major, kernel, dtype)
        drop = None
        if training and self.recurrent_dropout:
            drop = self._drop(ops.ones((batch, self.units), dtype), self.recurrent_dropout)
        # Read here: a conversion may hand on the variables, which a custom gradient refuses.
        weights = tuple(ops.cast(w, w.dtype) for w in self.recurrent_weights())
        flags = [
            None if f is None else ops.transpose(ops.cast(f, "bool"))[..., None]
            for f in (reset, mask)
        ]
        hidden, state = recurrence(
            self.recurrent_cell(),
            projected,
            weights,
            state,
            initial,
            *flags,
            drop,
            keep=training,
            product_dtype=self.compute_dtype,
        )
        return ops.transpose(hidden, (1, 0, 2)), state

    def _stock_path_fits(self, mask: Any, training: bool) -> bool:
        return (
            not _portable
            and backend.gpu_available()
            and backend.devices() == 1  # else each would compute the rows of all
            and mask is None
            and self.use_bias
            and not (training and self.recurrent_dropout)
            and self.compute_dtype == self.variable_dtype == "float32"
            and hasattr(self, "use_cudnn")
        )

    def _stock_or_scan(
        self, sequence: Tensor, state: tuple, initial: Any, reset: Any, training: bool
    ) -> tuple[Tensor, tuple]:
        """cuDNN unless, at run time, a reset falls after the first step."""

        def stock() -> tuple:
            first = state
            if reset is not None:
                restart = ops.any(reset[:, :1], axis=1, keepdims=True)
                fresh = initial or tuple(ops.zeros_like(s) for s in state)
                first = tuple(ops.where(restart, f, s) for f, s in zip(fresh, state))
            _, outputs, last = self.inner_loop(sequence, list(first), None, False)
            return outputs, tuple(last)

        def scan() -> tuple:
            return self._scan(sequence, state, initial, reset, None, training)

        if sequence.shape[1] == 0:
            return scan()
        return stock() if reset is None else ops.cond(ops.any(reset[:, 1:]), scan, stock)
