"""The stack of recurrent layers that all forms share, as part of a Functional model."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import keras

from rnnzoo import _checks
from rnnzoo.cells import CELLS as BY_STEP
from rnnzoo.layers.bidirectional import Bidirectional
from rnnzoo.layers.gru import GRU
from rnnzoo.layers.lstm import LSTM
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.layers.rnn import RNN
from rnnzoo.layers.simple_rnn import SimpleRNN

# What `cell=` may name: layers of their own, and cells that `RNN` runs.
CELLS = {"gru": GRU, "lstm": LSTM, "simple_rnn": SimpleRNN, **BY_STEP}


def check_units(units: Any, name: str = "units") -> list[int]:
    """`units` as a list with one size per layer; ValueError where it is empty or not positive."""
    if isinstance(units, (list, tuple)):
        if not units:
            raise ValueError(f"{name} must name at least one layer; received {name}={units}")
        return [_checks.positive_integer(f"{name}[{i}]", u) for i, u in enumerate(units)]
    return [_checks.positive_integer(name, units)]


def check_cell(cell: Any) -> Callable[..., RecurrentLayer]:
    """What makes a layer of `cell`: `(units, *, name, dropout, ...) -> layer`.

    Args:
        cell: a name of `CELLS`; a layer class of rnnzoo.layers; a cell of Keras's contract, of
            which each layer gets one of its own, made from its configuration; or a class or
            function that makes a cell of a number of units.

    Raises:
        ValueError: any other value; a cell that has weights already.
    """
    made = CELLS.get(cell) if isinstance(cell, str) else cell
    whole = isinstance(made, type) and issubclass(made, (keras.layers.RNN, RecurrentLayer))
    if whole and issubclass(made, RecurrentLayer) and not issubclass(made, RNN):
        return made
    whole = whole or isinstance(made, (keras.layers.RNN, RecurrentLayer))
    is_cell = hasattr(made, "call") and hasattr(made, "state_size")
    if whole or not (callable(made) or is_cell):
        listed = ", ".join(repr(name) for name in CELLS)
        raise ValueError(
            f"cell must be one of {listed}, a layer class of rnnzoo.layers, a cell, or a class or "
            f"function that makes a cell of a number of units; received cell={_checks.shown(cell)}"
        )
    return _Cells(made)


class _Cells:
    """Makes `RNN` layers of a cell, or of what makes cells."""

    def __init__(self, source: Any):
        self.source = source
        self.given = not isinstance(source, type) and hasattr(source, "state_size")
        if self.given and getattr(source, "weights", None):
            raise ValueError(
                "cell must be a cell that has no weights yet, since each layer gets its own; "
                f"received {source!r}. Give its class, or use rnnzoo.layers.RNN(cell)."
            )

    def __call__(
        self,
        units: int,
        *,
        name: str | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        learned_initial_state: bool = False,
    ) -> RNN:
        rates = {"dropout": dropout, "recurrent_dropout": recurrent_dropout}
        cell, taken = self._copy(units) if self.given else self._made(units, rates)
        left = {key: rate for key, rate in rates.items() if rate and key not in taken}
        if "recurrent_dropout" in left:
            raise ValueError(
                "recurrent_dropout is for cells that take it, such as 'lstm'; received "
                f"recurrent_dropout={recurrent_dropout} with cell={_checks.shown(self.source)}. "
                "Set it in the cell itself."
            )
        layer = RNN(cell, name=name, learned_initial_state=learned_initial_state, **left)
        if layer.units != units:
            raise ValueError(
                f"units must be the size of what the cell gives out; received units={units} for "
                f"a cell of {layer.units}"
            )
        return layer

    def _made(self, units: int, rates: dict[str, float]) -> tuple[Any, set[str]]:
        """A new cell of `units`, and the rates that its class has taken."""
        parameters = inspect.signature(self.source).parameters
        taken = {key for key in rates if key in parameters and isinstance(self.source, type)}
        return self.source(units, **{key: rates[key] for key in taken}), taken

    def _copy(self, units: int) -> tuple[Any, set[str]]:
        """A cell with the configuration of the one given, which has its own dropout."""
        try:
            return type(self.source).from_config(self.source.get_config()), set()
        except (AttributeError, NotImplementedError, TypeError) as error:
            raise ValueError(
                "a cell is copied for each layer, for which it needs get_config and from_config; "
                f"{self.source!r} has them not ({error}). Give a function units -> cell instead."
            ) from error


def cell_config(cell: Any) -> str | dict:
    """What `cell=` of a factory was, as a configuration can hold it.

    Raises:
        ValueError: a class that is neither Keras's nor registered, which no file could find again.
    """
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, type):
        return keras.saving.serialize_keras_object(cell)
    name = keras.saving.get_registered_name(cell)
    if _class_of(name) is not cell:
        raise ValueError(
            "a cell class that is saved must be registered, with "
            f"keras.saving.register_keras_serializable(); received cell={cell!r}"
        )
    return {"cell_class": name}


def cell_from_config(config: str | dict) -> Any:
    """The `cell=` that `cell_config` described."""
    if isinstance(config, dict) and "cell_class" in config:
        return _class_of(config["cell_class"])
    return config if isinstance(config, str) else keras.saving.deserialize_keras_object(config)


def _class_of(name: str) -> type | None:
    return keras.saving.get_registered_object(name) or getattr(keras.layers, name, None)


def layer_name(cell: Any) -> str:
    """The name of a layer of `cell`, from `check_cell`, without its place: `simple_rnn`."""
    kind = cell.source if isinstance(cell, _Cells) else cell
    kind = kind if isinstance(kind, type) else type(kind) if cell.given else RNN
    for name, known in CELLS.items():
        if kind is known:
            return name
    words = kind.__name__.removesuffix("Cell")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", words).lower()


def state_key(name: str, index: int, prefix: str = "") -> str:
    """The name of a state in a core: `h_0` is the hidden state of the first layer."""
    return f"{prefix}{name}_{index}"


def stack_layers(
    cell: Callable[..., RecurrentLayer], units: list[int], prefix: str = "", **options: Any
) -> list[RecurrentLayer]:
    """One layer of `cell`, from `check_cell`, for each of `units`, named after its place."""
    return [
        cell(size, name=f"{prefix}{layer_name(cell)}_{index}", **options)
        for index, size in enumerate(units)
    ]


def bidirectional_layers(
    cell: Callable[..., RecurrentLayer], units: list[int], prefix: str = "", **options: Any
) -> list[Bidirectional]:
    """One layer in both directions for each of `units`; arguments as in `stack_layers`."""
    ahead = stack_layers(cell, units, f"{prefix}forward_", **options)
    back = stack_layers(cell, units, f"{prefix}backward_", **options)
    return [
        Bidirectional(*pair, name=f"{prefix}both_{index}")
        for index, pair in enumerate(zip(ahead, back))
    ]


def recurrent_stack(
    sequence: Any,
    layers: list[RecurrentLayer] | list[Bidirectional],
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
        layers: the layers, the lowest first; they may be part of another stack too. Those that
            read in both directions have no state inputs, and take no reset.
        reset: `(batch, time)` bool KerasTensor, or None.
        mask: `(batch, time)` bool KerasTensor, or None.
        residual: add each layer's inputs to its outputs, from the second layer on.
        layer_norm: normalise the inputs of each layer but the first, and the last outputs.
        residual_last: whether the last layer has its residual connection.
        prefix: goes before the names of states and norms.
    """
    inputs, outputs = {}, {}
    for index, layer in enumerate(layers):
        below = sequence
        if layer_norm and index:
            sequence = keras.layers.LayerNormalization(name=f"{prefix}norm_{index}")(sequence)
        if isinstance(layer, Bidirectional):
            sequence, state = layer(sequence, mask)
        else:
            state = {}
            for name, spec in layer.state_spec().items():
                key = state_key(name, index, prefix)
                state[name] = inputs[key] = keras.Input(spec.shape[1:], name=key, dtype=spec.dtype)
            sequence, state = layer(sequence, state, reset=reset, mask=mask)
        if residual and index and (residual_last or index < len(layers) - 1):
            sequence = keras.layers.Add(name=f"{prefix}residual_{index}")([below, sequence])
        outputs |= {state_key(name, index, prefix): value for name, value in state.items()}
    return after_layers(sequence, layer_norm, prefix), inputs, outputs


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
