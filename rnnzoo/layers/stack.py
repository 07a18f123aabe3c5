"""The stack of recurrent layers that all forms share, as part of a Functional model."""

from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo.layers.gru import GRU
from rnnzoo.layers.lstm import LSTM
from rnnzoo.layers.recurrent import RecurrentLayer, State
from rnnzoo.layers.simple_rnn import SimpleRNN

CELLS: dict[str, type[RecurrentLayer]] = {"gru": GRU, "lstm": LSTM, "simple_rnn": SimpleRNN}


def check_units(units: Any) -> list[int]:
    """`units` as a list with one size per layer; ValueError where it is empty or not positive."""
    if isinstance(units, (list, tuple)):
        if not units:
            raise ValueError("units must name at least one layer; received units=[]")
        return [_checks.positive_integer(f"units[{i}]", u) for i, u in enumerate(units)]
    return [_checks.positive_integer("units", units)]


def check_cell(cell: Any) -> type[RecurrentLayer]:
    """The layer class for `cell`, a name or a class; ValueError for any other value."""
    if isinstance(cell, type) and issubclass(cell, RecurrentLayer):
        return cell
    if isinstance(cell, str) and cell in CELLS:
        return CELLS[cell]
    listed = ", ".join(repr(name) for name in CELLS)
    raise ValueError(
        f"cell must be one of {listed} or a layer class of rnnzoo.layers; "
        f"received cell={_checks.shown(cell)}"
    )


def state_key(name: str, index: int, prefix: str = "") -> str:
    """The name of a state in a core: `h_0` is the hidden state of the first layer."""
    return f"{prefix}{name}_{index}"


def stack_layers(
    cell: type[RecurrentLayer], units: list[int], prefix: str = "", **options: Any
) -> list[RecurrentLayer]:
    """One layer of class `cell` for each of `units`, named after `prefix` and its place."""
    return [
        cell(size, name=f"{prefix}{cell.__name__.lower()}_{index}", **options)
        for index, size in enumerate(units)
    ]


def recurrent_stack(
    sequence: Any,
    layers: list[RecurrentLayer],
    reset: Any = None,
    mask: Any = None,
    *,
    residual: bool = False,
    layer_norm: bool = False,
    residual_last: bool = True,
    prefix: str = "",
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The outputs of a stack of recurrent layers, its state inputs, and its state outputs.

    Args:
        sequence: `(batch, time, features)` KerasTensor.
        layers: the layers, the lowest first; they may be part of another stack too.
        reset: `(batch, time)` bool KerasTensor, or None.
        mask: `(batch, time)` bool KerasTensor, or None.
        residual: add each layer's inputs to its outputs, from the second layer on.
        layer_norm: normalise the inputs of each layer but the first, and the last outputs.
        residual_last: whether the last layer has its residual connection.
        prefix: goes before the names of states and norms.
    """
    inputs, outputs = {}, {}
    for index, layer in enumerate(layers):
        state = {}
        for name in layer.state_names:
            key = state_key(name, index, prefix)
            state[name] = inputs[key] = keras.Input(
                (layer.units,), name=key, dtype=layer.state_dtype
            )
        below = sequence
        sequence = between_layers(sequence, index, layer_norm, prefix)
        sequence, state = layer(sequence, state, reset=reset, mask=mask)
        if residual and index and (residual_last or index < len(layers) - 1):
            sequence = keras.layers.Add(name=f"{prefix}residual_{index}")([below, sequence])
        outputs |= {state_key(name, index, prefix): value for name, value in state.items()}
    return after_layers(sequence, layer_norm, prefix), inputs, outputs


def between_layers(sequence: Any, index: int, layer_norm: bool, prefix: str) -> Any:
    """What layer `index` reads of the outputs below it: normalised, if so, from the second on."""
    if not (layer_norm and index):
        return sequence
    return keras.layers.LayerNormalization(name=f"{prefix}norm_{index}")(sequence)


def after_layers(sequence: Any, layer_norm: bool, prefix: str = "") -> Any:
    """The outputs of a whole stack, normalised where `layer_norm`."""
    if not layer_norm:
        return sequence
    return keras.layers.LayerNormalization(name=f"{prefix}norm_outputs")(sequence)


def check_residual(residual: bool, units: list[int]) -> None:
    """ValueError where layers differ in size, which residual connections do not allow."""
    if residual and len(set(units)) > 1:
        raise ValueError(
            f"residual=True needs layers of one size, since it adds a layer's inputs to its "
            f"outputs; received units={units}"
        )


def initial_state(core: keras.Model, batch_size: Any, prefix: str = "") -> State:
    """The state that starts a sequence in every recurrent layer of `core`."""
    whole = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
    if not keras.ops.is_tensor(batch_size) and not (whole and batch_size >= 0):
        raise ValueError(
            "batch_size must be an integer of at least 0; "
            f"received batch_size={_checks.shown(batch_size)}"
        )
    state = {}
    layers = [layer for layer in core.layers if isinstance(layer, RecurrentLayer)]
    for index, layer in enumerate(layers):
        for name, value in layer.initial_state(batch_size).items():
            state[state_key(name, index, prefix)] = value
    return state
