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


def recurrent_stack(
    sequence: Any,
    reset: Any,
    mask: Any = None,
    *,
    cell: type[RecurrentLayer],
    units: list[int],
    residual: bool = False,
    layer_norm: bool = False,
    residual_last: bool = True,
    prefix: str = "",
    **layer_options: Any,
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The outputs of a stack of recurrent layers, its state inputs, and its state outputs.

    Args:
        sequence: `(batch, time, features)` KerasTensor.
        reset: `(batch, time)` bool KerasTensor.
        mask: `(batch, time)` bool KerasTensor, or None.
        cell: the layer class.
        units: one size per layer.
        residual: add each layer's inputs to its outputs, from the second layer on.
        layer_norm: normalise the inputs of each layer but the first, and the last outputs.
        residual_last: whether the last layer has its residual connection.
        prefix: goes before the names of states and layers.
        **layer_options: for every layer.

    Raises:
        ValueError: residual connections between layers of different size.
    """
    if residual and len(set(units)) > 1:
        raise ValueError(
            f"residual=True needs layers of one size, since it adds a layer's inputs to its "
            f"outputs; received units={units}"
        )
    inputs, outputs = {}, {}
    for index, size in enumerate(units):
        layer = cell(size, name=f"{prefix}{cell.__name__.lower()}_{index}", **layer_options)
        state = {}
        for name in cell.state_names:
            key = state_key(name, index, prefix)
            state[name] = inputs[key] = keras.Input((size,), name=key, dtype=layer.state_dtype)
        below = sequence
        if layer_norm and index:
            sequence = keras.layers.LayerNormalization(name=f"{prefix}norm_{index}")(sequence)
        sequence, state = layer(sequence, state, reset=reset, mask=mask)
        if residual and index and (residual_last or index < len(units) - 1):
            sequence = keras.layers.Add(name=f"{prefix}residual_{index}")([below, sequence])
        outputs |= {state_key(name, index, prefix): value for name, value in state.items()}
    if layer_norm:
        sequence = keras.layers.LayerNormalization(name=f"{prefix}norm_outputs")(sequence)
    return sequence, inputs, outputs


def initial_state(core: keras.Model, batch_size: Any) -> State:
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
            state[state_key(name, index)] = value
    return state
