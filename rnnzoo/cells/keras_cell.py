"""Any cell of Keras's contract, run over time.

A cell of Keras is called with one step, `cell(inputs, states, training=) -> (output, states)`,
and has `state_size`; `output_size` and `get_initial_state(batch_size=)` where it needs them. It
may add, and rnnzoo's own cells do:

* `project(sequence)`: what a step reads, for all steps in one product, as `(batch, time, ...)`
  tensors, with `step(projected, states) -> (output, states)` for what is left of a step, and
  `step_weights`, the weights that it reads. Then the cell itself is not called.
* `state_names`, one for each state, and `output_state`, the name of the state which is the output.

Where no state is known to be the output, one more is kept, "output": what a padded step gives
back is the output of the last step that was none, also where that lay in the call before.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.backend.keras_internals import (
    AutocastScope,
    compute_output_spec,
    dropout_masks_of,
    every_layer,
)
from rnnzoo.cells.loop import Tensor, run

OUTPUT = "output"
_NAMES = (
    (keras.layers.LSTMCell, ("h", "c")),
    (keras.layers.GRUCell, ("h",)),
    (keras.layers.SimpleRNNCell, ("h",)),
)


def check(cell: Any) -> Any:
    """`cell`; ValueError unless it is of Keras's contract."""
    fits = all(hasattr(cell, name) for name in ("call", "state_size"))
    if isinstance(cell, type) or not fits or isinstance(cell, keras.layers.RNN):
        raise ValueError(
            "cell must be an object of Keras's cell contract, with `call(inputs, states)` and "
            f"`state_size`, or a list of them; received cell={_checks.shown(cell)}"
        )
    if getattr(cell, "activity_regularizer", None) is not None:
        raise ValueError(
            "a cell's activity_regularizer would add a loss at every step of the loop, which "
            "Keras cannot collect; give it to the RNN layer instead. Received "
            f"activity_regularizer={cell.activity_regularizer!r} of cell {cell!r}"
        )
    return cell


def initial_states(cell: Any, batch_size: Any) -> list:
    """The states that start a sequence, nested as the cell takes them."""
    if hasattr(cell, "get_initial_state"):
        states = cell.get_initial_state(batch_size=batch_size)
    else:
        dtype = getattr(cell, "compute_dtype", keras.config.floatx())
        states = keras.tree.map_structure(
            lambda size: ops.zeros((batch_size, size), dtype), cell.state_size
        )
    return list(states) if keras.tree.is_nested(states) else [states]


def output_size(cell: Any) -> int:
    """The number of features of a cell's output."""
    size = getattr(cell, "output_size", None)
    return int(keras.tree.flatten(cell.state_size)[0] if size is None else size)


def names(cell: Any) -> tuple[tuple[str, ...], str]:
    """What a cell's states are called, and which of them is its output, "output" for none."""
    if own := getattr(cell, "state_names", None):
        return tuple(own), getattr(cell, "output_state", OUTPUT)
    for kind, known in _NAMES:
        if isinstance(cell, kind):
            return known, known[0]
    if isinstance(cell, keras.layers.StackedRNNCells):
        parts = [names(part) for part in cell.cells]
        own = tuple(f"{name}_{i}" for i, (part, _) in enumerate(parts) for name in part)
        last = parts[-1][1]
        return own, last if last == OUTPUT else f"{last}_{len(parts) - 1}"
    count = len(keras.tree.flatten(initial_states(cell, 1)))
    return ("h",) if count == 1 else tuple(f"state_{i}" for i in range(count)), OUTPUT


def call_once(cell: keras.Layer, step: Any) -> None:
    """Call a cell on symbols, so that the layers in it have their weights before any loop."""
    rows = keras.tree.flatten(step)[0].shape[0]
    states = keras.tree.map_structure(
        lambda x: keras.KerasTensor((rows, *x.shape[1:]), x.dtype), initial_states(cell, 1)
    )
    cell(step, states)


def check_returns(cell: Any, step: Any) -> None:
    """ValueError where a built cell does not give back the states that it is given.

    What cannot be told from symbols is found when the cell runs.

    Args:
        cell: the cell.
        step: symbols of one step.
    """
    rows = keras.tree.flatten(step)[0].shape[0]
    states = keras.tree.map_structure(
        lambda x: keras.KerasTensor((rows, *x.shape[1:]), x.dtype), initial_states(cell, 1)
    )
    try:
        _, after = compute_output_spec(_call(cell, False), step, states)
    except Exception:
        return
    _check_states(keras.tree.flatten(after), keras.tree.flatten(states), cell)


def run_cell(
    cell: Any,
    sequence: Any,
    state: tuple[Tensor, ...],
    initial: tuple[Tensor | None, ...],
    reset: Tensor | None,
    mask: Tensor | None,
    training: bool,
    output: int,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The outputs of all steps, `(batch, time, features)`, and the last state.

    Args:
        cell: the cell, built.
        sequence: what it reads, `(batch, time, ...)` tensors, nested as a step of it is.
        state: its states, flat; the output of the step before as well, where `output` is the
            number of the states.
        initial: what a reset restores, for each of `state`; None for zeros.
        reset, mask: `(time, batch, 1)` bool.
        training: as a layer's.
        output: the place of the output among the states.
    """
    call = (cell, sequence, state, initial, reset, mask, training, output)
    if not training:  # an export holds no random seeds, unless a cell cannot do without
        try:
            return _run_with_seeds(call, seeds=[])
        except _Draws:
            pass
    return _run_with_seeds(call, seeds=_seeds(cell))


class _Draws(Exception):
    """A step has drawn a random number, whose seed must go from step to step."""


def _run_with_seeds(call: tuple, seeds: list[keras.Variable]) -> tuple[Tensor, tuple]:
    """`run_cell`, in which these random seeds go from step to step."""
    cell, sequence, state, initial, reset, mask, training, output = call
    trained, count = _weights(cell), len(state)
    nesting, projects = initial_states(cell, 1), hasattr(cell, "project")
    read = cell.project(sequence) if projects else sequence
    masks = _dropout_masks(cell, read, state, nesting, training)

    def step(weights: Sequence, x: list, state: tuple) -> tuple:
        before = keras.tree.pack_sequence_as(nesting, state[: len(keras.tree.flatten(nesting))])
        given = keras.tree.pack_sequence_as(read, x)
        pairs = [*zip(trained, weights), *zip(seeds, state[count:])]
        with full_precision(cell), keras.StatelessScope(pairs) as scope, dropout_masks_of(masks):
            held = [scope.get_current_value(w) for w in trained]
            y, after = (cell.step if projects else _call(cell, training))(given, before)
            moved = [scope.get_current_value(seed) for seed in seeds]
            if not seeds and any(scope.get_current_value(s) is not None for s in _seeds(cell)):
                raise _Draws
            _check_stay(trained, held, scope)
        after = keras.tree.flatten(after)
        after += [y] if output == len(after) else []
        _check_states(after, state[:count], cell)
        return (*after, *moved)

    now = [ops.convert_to_tensor(v.value) for v in (*trained, *seeds)]
    weights, moving = now[: len(trained)], now[len(trained) :]
    hidden, last = run(
        step,
        weights,
        [_swapped(x) for x in keras.tree.flatten(read)],
        (*state, *moving),
        initial,
        reset,
        mask,
        output,
        keep=training,
    )
    for seed, value in zip(seeds, last[count:]):
        seed.assign(value)
    return _swapped(hidden), last[:count]


def full_precision(layer: Any) -> AutocastScope:
    """Inside, the weights of `layer` are read as they are, also within a model that rounds."""
    return AutocastScope(getattr(layer, "variable_dtype", None))


def _call(cell: Any, training: bool) -> Callable:
    """The cell as a function of `(inputs, states)`."""
    call = cell if callable(cell) else cell.call
    takes = isinstance(cell, keras.Layer) or "training" in inspect.signature(cell.call).parameters
    return lambda inputs, states: call(inputs, states, **({"training": training} if takes else {}))


def _weights(cell: Any) -> list[keras.Variable]:
    """The variables that a step reads."""
    return list(getattr(cell, "step_weights", getattr(cell, "weights", ())))


def _seeds(cell: Any) -> list[keras.Variable]:
    """The variables that a step may change: its random seeds."""
    known = {id(v) for v in getattr(cell, "weights", ())}
    return [v for v in getattr(cell, "variables", ()) if id(v) not in known]


def _check_states(after: list, before: Sequence, cell: Any) -> None:
    found, wanted = ([tuple(s.shape)[1:] for s in states] for states in (after, before))
    if found != wanted:
        raise ValueError(
            f"a cell must give back the states that it is given, of state_size (and an output of "
            f"output_size); {cell!r} was given states of shapes {wanted} a row and gave {found}"
        )


def _check_stay(weights: Sequence, before: Sequence, scope: keras.StatelessScope) -> None:
    for weight, value in zip(weights, before):
        if scope.get_current_value(weight) is not value:
            raise ValueError(
                "a cell must not change its weights from step to step, as batch normalization "
                "does; what a step leaves for the next must be among its states. Changed: "
                f"{weight.path}"
            )


def _dropout_masks(cell: Any, read: Any, state: Sequence, nesting: list, training: bool) -> list:
    """The dropout masks of a call, the same at every step, as in `keras.layers.RNN`.

    Keras's cells draw theirs at the first step and keep it. Here a step outside of the loop is
    the first.
    """
    layers = every_layer(cell) if isinstance(cell, keras.Layer) else ()
    dropping = [layer for layer in layers if hasattr(layer, "reset_dropout_mask")]
    if not training or not any(layer.dropout or layer.recurrent_dropout for layer in dropping):
        return []
    first = keras.tree.map_structure(_first_step, read)
    before = keras.tree.pack_sequence_as(nesting, state[: len(keras.tree.flatten(nesting))])
    with full_precision(cell), dropout_masks_of([(layer, ()) for layer in dropping]) as drawn:
        _call(cell, training)(first, before)
        return drawn()


def _first_step(x: Tensor) -> Tensor:
    """A step in the shape of those of `x`, of which there may be none."""
    return ops.ones((ops.shape(x)[0], *x.shape[2:]), x.dtype)


def _swapped(x: Tensor) -> Tensor:
    """Batch and time change places."""
    return ops.swapaxes(x, 0, 1)
