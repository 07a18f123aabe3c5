"""`RNN`: any cell, with explicit state and reset."""

from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.backend.keras_internals import every_layer
from rnnzoo.cells import keras_cell
from rnnzoo.cells.loop import Tensor
from rnnzoo.layers.recurrent import RecurrentLayer, State, check_arguments

_FIXED = {"return_sequences", "return_state", "stateful", "unroll", "zero_output_for_mask"}


@keras.saving.register_keras_serializable(package="rnnzoo")
class RNN(RecurrentLayer, keras.layers.Layer):
    """A layer of any cell with explicit state: `(sequence, state, reset) -> (outputs, state)`.

    The cell is one of Keras's contract: `call(inputs, states)`, with `training` where it wants
    it, `state_size`, and `output_size` and `get_initial_state` where it needs them; a stock
    cell, one of `rnnzoo.cells`, or a layer of your own. What such a cell may add is in
    `rnnzoo.cells.keras_cell`. See `rnnzoo.layers.recurrent.RecurrentLayer` for the call. A cell
    that takes time gaps, such as those of `ncps`, reads `[sequence, gaps]`, with gaps
    `(batch, time)` or `(batch, time, 1)`.

    Dropout is the cell's own, one mask for all steps of a call, as in `keras.layers.RNN`; layers
    in a cell draw theirs at every step. The state is in float32 whatever the cell computes in.

    Args:
        cell: the cell, or a list of cells that each read the outputs of the one before.
        dropout: share of inputs dropped before the cell, in [0, 1); one mask per call and row.
        learned_initial_state: whether the state that starts a sequence is trained, from the
            cell's own on.
        go_backwards: read from the last step to the first; the outputs come in that order.
        **kwargs: `name`, `dtype`, `trainable`, `activity_regularizer`, as in any layer.

    Raises:
        ValueError: a cell that is none; an argument that an explicit state replaces.

    Example:

    >>> import keras, numpy as np, rnnzoo
    >>> layer = rnnzoo.layers.RNN(keras.layers.LSTMCell(4))
    >>> outputs, state = layer(np.zeros((2, 5, 3)), layer.initial_state(2))
    >>> tuple(outputs.shape), sorted(state)
    ((2, 5, 4), ['c', 'h'])
    """

    def __init__(
        self,
        cell: Any,
        *,
        dropout: float = 0.0,
        learned_initial_state: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ):
        check_arguments(kwargs, _FIXED, "RNN")
        if isinstance(cell, (list, tuple)) and cell:
            cell = keras.layers.StackedRNNCells([keras_cell.check(part) for part in cell])
        keras_cell.check(cell)
        dropout = _checks.fraction("dropout", dropout)
        seed = kwargs.pop("seed", None)
        super().__init__(autocast=False, **kwargs)
        self.cell, self.dropout, self.seed = cell, dropout, seed
        self.learned_initial_state = _checks.flag("learned_initial_state", learned_initial_state)
        self.go_backwards = _checks.flag("go_backwards", go_backwards)
        self.seed_generator = keras.random.SeedGenerator(seed) if dropout else None
        self.units = keras_cell.output_size(cell)
        self.cell_states, self._output_state = keras_cell.names(cell)
        self.initial = []
        self.supports_masking = True

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the cell's states, and "output" where none of them is its output."""
        own, output = self.cell_states, self._output_state
        return own if output in own else (*own, output)

    @property
    def output_state(self) -> str:
        return self._output_state

    def state_spec(self, batch_size: Any = None) -> State:
        return {
            name: keras.KerasTensor((batch_size, *value.shape[1:]), value.dtype)
            for name, value in self.fresh_state(1).items()
        }

    def fresh_state(self, batch_size: int | Tensor) -> State:
        """The state that starts a sequence where none is learned: the cell's own."""
        flat = keras.tree.flatten(keras_cell.initial_states(self.cell, batch_size))
        if len(self.cell_states) != len(flat):
            raise ValueError(
                "state_names of a cell must have one name for each of its states; received "
                f"{self.cell_states} for {len(flat)} states of {self.cell!r}"
            )
        state = {name: self._full(value) for name, value in zip(self.cell_states, flat)}
        if self._output_state not in state:
            state[self._output_state] = ops.zeros((batch_size, self.units), self.state_dtype)
        return state

    def restored_state(self, batch_size: int | Tensor) -> State:
        """What a reset restores, which a cell may say for itself."""
        return self.initial_state(batch_size)

    def build(self, sequence_shape: Any) -> None:
        """Build the cell as `keras.layers.RNN` does, and what only a call of it would build."""
        nested = isinstance(sequence_shape[0], (tuple, list))
        shapes = [tuple(s) for s in (sequence_shape if nested else [sequence_shape])]
        if any(len(shape) < 2 for shape in shapes):
            raise ValueError(
                f"every input of {self.name!r} must have shape (batch, time, ...); received "
                f"{', '.join(map(str, shapes))}"
            )
        steps = [(shape[0], *shape[2:]) for shape in shapes]
        given = [keras.KerasTensor(step, self.compute_dtype) for step in steps]
        given = given if nested else given[0]
        if isinstance(self.cell, keras.Layer):
            if not self.cell.built and type(self.cell).build is not keras.Layer.build:
                self.cell.build(steps if nested else steps[0])
                self.cell.built = True
            if not all(layer.built for layer in every_layer(self.cell)):
                keras_cell.call_once(self.cell, given)
        if not type(self.cell).__module__.startswith(("keras.", "rnnzoo.")):
            keras_cell.check_returns(self.cell, given)
        self.add_initial()
        self.built = True

    def run(
        self,
        sequence: Any,
        state: tuple[Tensor, ...],
        initial: tuple[Tensor | None, ...],
        reset: Tensor | None,
        mask: Tensor | None,
        training: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if training and self.dropout:
            sequence = self._dropped(sequence)
        output = self.state_names.index(self._output_state)
        flags = (None if f is None else ops.transpose(f)[..., None] for f in (reset, mask))
        return keras_cell.run_cell(
            self.cell, sequence, state, initial, *flags, training=training, output=output
        )

    def learnable_states(self) -> list[str]:
        own = getattr(self.cell, "learnable_states", self.cell_states)
        spec = self.state_spec()
        return [name for name in own if "float" in spec[name].dtype]

    def _full(self, value: Tensor) -> Tensor:
        """A state in the layer's precision; one that is no float, as it is."""
        floating = "float" in keras.backend.standardize_dtype(value.dtype)
        return ops.cast(value, self.state_dtype) if floating else value

    def _dropped(self, sequence: Any) -> Any:
        """The sequence with dropout; time gaps beside it are no inputs to drop."""
        first, *rest = keras.tree.flatten(sequence)
        ones = ops.ones((ops.shape(first)[0], 1, *first.shape[2:]), first.dtype)
        first = first * keras.random.dropout(ones, self.dropout, seed=self.seed_generator)
        return keras.tree.pack_sequence_as(sequence, [first, *rest])

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("autocast", None)
        config |= {
            name: getattr(self, name)
            for name in ("dropout", "seed", "learned_initial_state", "go_backwards")
        }
        return {**config, "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "RNN":
        cell = keras.saving.deserialize_keras_object(config["cell"], custom_objects)
        return cls(**{**config, "cell": cell})
