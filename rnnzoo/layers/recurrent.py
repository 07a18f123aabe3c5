"""`RecurrentLayer`: what every recurrent layer of rnnzoo takes, checks and gives back."""

from typing import Any

import keras
from keras import ops

from rnnzoo import _checks, backend
from rnnzoo.backend.keras_internals import get_keras_mask
from rnnzoo.cells.keras_cell import full_precision
from rnnzoo.cells.loop import Tensor

State = dict[str, Tensor]


class RecurrentLayer:
    """A recurrent layer with explicit state and per-row, per-step reset.

    `layer(sequence)` gives the outputs of all steps, as its namesake in Keras does with
    `return_sequences=True`. `layer(sequence, state, reset=None, mask=None, training=False)`
    gives `(outputs, state)`:

    * sequence: `(batch, time, features)`; any number of steps, 0 and 1 included.
    * state: dict of tensors by `state_names`, `(batch, ...)`, in float32 (float64 under a
      float64 policy), from `initial_state` or from the call before.
    * reset: `(batch, time)` bool; True where a step must see nothing of what came before.
    * mask: `(batch, time)` bool; False where a step is padding, which holds the state, and
      may hold anything, NaN included. Without one, the mask that `sequence` has from a Keras
      layer (`Masking`, `Embedding(mask_zero=True)`) counts, and is passed on.
    * outputs: `(batch, time, units)`; the state returned is that after the last step.

    Raises:
        ValueError: shapes that do not agree, wherever they are known.
    """

    units: int
    state_names: tuple[str, ...]
    learned_initial_state: bool
    go_backwards: bool

    @property
    def state_dtype(self) -> str:
        """float32, or float64 where the layer computes in float64."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    @property
    def output_state(self) -> str:
        """The name of the state that is the output of the last step."""
        return self.state_names[0]

    def state_spec(self, batch_size: Any = None) -> State:
        """Shape and dtype of each state, as a dict of `keras.KerasTensor`."""
        shape = (batch_size, self.units)
        return {name: keras.KerasTensor(shape, self.state_dtype) for name in self.state_names}

    def initial_state(self, batch_size: int | Tensor) -> State:
        """The state that starts a sequence: dict of `(batch_size, ...)` tensors."""
        check_batch_size(batch_size)
        state = self.fresh_state(batch_size)
        with full_precision(self):
            for name, weight in self.learned_start().items():
                value = ops.cast(weight, state[name].dtype)
                state[name] = ops.broadcast_to(value, (batch_size, *weight.shape))
        return state

    def fresh_state(self, batch_size: int | Tensor) -> State:
        """The state that starts a sequence where none is learned: zeros."""
        shape = (batch_size, self.units)
        return {name: ops.zeros(shape, self.state_dtype) for name in self.state_names}

    def restored_state(self, batch_size: int | Tensor) -> State:
        """What a reset restores; zeros where a state is not named."""
        return self.initial_state(batch_size) if self.learned_initial_state else {}

    def learned_start(self) -> dict[str, keras.Variable]:
        """The weights that start a sequence, by the names of their states."""
        return dict(zip(self.learnable_states(), self.initial))

    def learnable_states(self) -> list[str]:
        """The names of the states that a learned initial state has weights for."""
        return list(self.state_names)

    def add_initial(self) -> None:
        """Add the weights of a learned initial state, which begin where it would be fixed."""
        if self.learned_initial_state:
            fresh = {name: ops.convert_to_numpy(v[0]) for name, v in self.fresh_state(1).items()}
            self.initial = [
                self.add_weight(
                    shape=fresh[name].shape,
                    initializer=lambda *_, value=fresh[name], **__: ops.convert_to_tensor(value),
                    name=f"initial_{name}",
                )
                for name in self.learnable_states()
            ]

    def run(
        self,
        sequence: Any,
        state: tuple[Tensor, ...],
        initial: tuple[Tensor | None, ...],
        reset: Tensor | None,
        mask: Tensor | None,
        training: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The outputs of all steps and the last state; reset and mask are `(batch, time)` bool."""
        raise NotImplementedError

    def call(
        self,
        sequence: Any,
        state: State | None = None,
        reset: Tensor | None = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> Any:
        mask = _first(keras.tree.map_structure(get_keras_mask, sequence) if mask is None else mask)
        self.check(sequence, state, reset, mask)
        reset, mask = (None if flag is None else ops.cast(flag, "bool") for flag in (reset, mask))
        if mask is not None:
            sequence = _without_padding(sequence, mask)
        if self.go_backwards:
            sequence = keras.tree.map_structure(lambda x: ops.flip(x, axis=1), sequence)
            mask = None if mask is None else ops.flip(mask, axis=1)
        batch = ops.shape(_first(sequence))[0]
        given = self.initial_state(batch) if state is None else state
        kinds, restored = self.state_spec(), self.restored_state(batch)
        values = tuple(ops.cast(given[name], kinds[name].dtype) for name in self.state_names)
        initial = tuple(restored.get(name) for name in self.state_names)
        with full_precision(self):
            outputs, values = self.run(sequence, values, initial, reset, mask, bool(training))
        outputs = ops.cast(outputs, self.compute_dtype)
        return outputs if state is None else (outputs, dict(zip(self.state_names, values)))

    def compute_output_spec(
        self,
        sequence: Any,
        state: State | None = None,
        reset: Any = None,
        mask: Any = None,
        training: Any = None,
    ) -> Any:
        self.check(sequence, state, reset, _first(mask))
        batch, time = _first(sequence).shape[:2]
        outputs = keras.KerasTensor((batch, time, self.units), self.compute_dtype)
        return outputs if state is None else (outputs, self.state_spec(batch))

    def compute_output_shape(
        self,
        sequence_shape: Any,
        state_shape: dict[str, tuple] | None = None,
        reset_shape: Any = None,
    ) -> Any:
        """`(batch, time, units)`, and the shape of each state where the call takes a state."""
        batch, time = _flat_shapes(sequence_shape)[0][:2]
        outputs = (batch, time, self.units)
        if state_shape is None:
            return outputs
        return outputs, {name: spec.shape for name, spec in self.state_spec(batch).items()}

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask that the sequence has from a Keras layer; one given as `mask` ends here."""
        own = _first(keras.tree.map_structure(get_keras_mask, inputs))
        return own if own is None or not self.go_backwards else ops.flip(own, axis=1)

    def check(self, sequence: Any, state: Any, reset: Any, mask: Any) -> None:
        """ValueError where the shapes of a call do not agree, as far as they are known."""
        steps = [_shape(x) for x in keras.tree.flatten(sequence)]
        if any(len(shape) < 2 or not _agree(shape[:2], steps[0][:2]) for shape in steps):
            raise ValueError(
                f"every input of {self.name!r} must have shape (batch, time, ...), of one batch "
                f"and time; received {', '.join(map(str, steps))}"
            )
        for name, flags in (("reset", reset), ("mask", mask)):
            if flags is not None and not _agree(_shape(flags), steps[0][:2]):
                raise ValueError(
                    f"{name} of {self.name!r} must have shape (batch, time) of its sequence, "
                    f"{steps[0][:2]}; received {name} of shape {_shape(flags)}"
                )
        if reset is not None and self.go_backwards:
            raise ValueError(
                "go_backwards=True reads whole sequences from their last step, where a reset has "
                f"no meaning; received a reset for {self.name!r}"
            )
        if state is not None:
            self._check_state(state, steps[0][0])

    def _check_state(self, state: Any, batch: Any) -> None:
        found = sorted(state) if isinstance(state, dict) else _checks.shown(state)
        if found != sorted(self.state_names):
            raise ValueError(
                f"the state of {self.name!r} must be a dict of {sorted(self.state_names)}, as "
                f"initial_state gives; received {found}"
            )
        for name, spec in self.state_spec(batch).items():
            shape = _shape(state[name])
            if not _agree(shape, spec.shape):
                raise ValueError(
                    f"state {name!r} of {self.name!r} must have shape {spec.shape}, with the rows "
                    f"of the sequence; received shape {shape}. Start with "
                    "layer.initial_state(batch)"
                )


def check_batch_size(batch_size: Any) -> None:
    """ValueError unless `batch_size` is a number of rows, known or not."""
    if ops.is_tensor(batch_size) or backend.is_open(batch_size):
        return
    _checks.integer("batch_size", batch_size, 0)


def check_arguments(options: dict, taken: set[str], name: str) -> None:
    """ValueError where `options` has what an explicit state replaces."""
    if found := sorted(taken & set(options)):
        raise ValueError(
            f"{name} takes its state as an argument, returns all outputs and the last state; "
            f"arguments not allowed: {found}. Use keras.layers.{name} for those."
        )


def _shape(value: Any) -> tuple:
    return tuple(getattr(value, "shape", ()))


def _agree(shape: tuple, wanted: tuple) -> bool:
    """Whether two shapes can be the same; a dimension that is not a number may be any."""
    return len(shape) == len(wanted) and all(
        a == b for a, b in zip(shape, wanted) if isinstance(a, int) and isinstance(b, int)
    )


def _first(values: Any) -> Any:
    """The first of nested tensors that is none of None."""
    return next((v for v in keras.tree.flatten(values) if v is not None), None)


def _flat_shapes(shape: Any) -> list[tuple]:
    """The shapes of one or several inputs, as a list."""
    nested = any(isinstance(part, (tuple, list)) for part in shape)
    return [tuple(part) for part in shape] if nested else [tuple(shape)]


def _without_padding(sequence: Any, mask: Tensor) -> Any:
    """`sequence` with zeros at padded steps, by a select: 0 * NaN would not be 0 in a gradient.

    Time gaps beside it are 1 there, since a cell may divide by them.
    """

    def filled(x: Tensor, fill: int) -> Tensor:
        real = ops.expand_dims(mask, tuple(range(2, len(x.shape))))
        return ops.where(real, x, ops.full_like(x, fill))

    first, *rest = keras.tree.flatten(sequence)
    whole = [filled(first, 0), *(filled(x, 1) for x in rest)]
    return keras.tree.pack_sequence_as(sequence, whole)
