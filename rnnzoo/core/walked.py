"""A walk through a Keras model in which copies take the places of its layers.

Recurrent layers become their namesakes of rnnzoo, whose states go in and come out.
"""

from typing import Any

import keras
from keras import ops

from rnnzoo.backend.keras_internals import get_keras_mask
from rnnzoo.core.graph import (
    Copies,
    built_like,
    copied_cell,
    free_name,
    is_recurrent,
    recurrent_arguments,
    walk,
)
from rnnzoo.core.spec import State
from rnnzoo.layers.gru import GRU
from rnnzoo.layers.lstm import LSTM
from rnnzoo.layers.masked import Masked
from rnnzoo.layers.per_step import PerStepDense, PerStepLayer
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.layers.rnn import RNN
from rnnzoo.layers.simple_rnn import SimpleRNN

# The stock layers that have a layer of rnnzoo with the same weights.
STOCK = {
    keras.layers.LSTM: LSTM,
    keras.layers.GRU: GRU,
    keras.layers.SimpleRNN: SimpleRNN,
    keras.layers.RNN: RNN,
}
# What an explicit state replaces in the configuration of a stock layer, or is set beside it.
_REPLACED = {"return_sequences", "return_state", "stateful", "unroll", "zero_output_for_mask"}
_REPLACED |= {"implementation", "activity_regularizer", "cell"}


def input_names(model: keras.Model) -> list[str]:
    """What the inputs of the core are called, in the order of `model.inputs`."""
    if len(model.inputs) == 1:
        return ["inputs"]
    return [tensor.name for tensor in model.inputs]


def output_names(model: keras.Model) -> list[str]:
    """What the outputs of the core are called, in the order of `model.outputs`."""
    if len(model.outputs) == 1:
        return ["outputs"]
    if isinstance(model.output, dict):
        return sorted(model.output)
    names: list[str] = []
    for name in model.output_names:
        again, count = name, 1
        while again in names:
            again, count = f"{name}_{count}", count + 1
        names.append(again)
    return names


def namesake(layer: Any, name: str) -> Any:
    """What takes the place of `layer` where that is no plain copy; None where it is one."""
    inner = layer.layer if type(layer) is keras.layers.TimeDistributed else layer
    if type(inner) is keras.layers.Dense:
        return built_like(layer, PerStepDense.from_config({**inner.get_config(), "name": name}))
    if inner is not layer:
        return built_like(layer, PerStepLayer.from_config({**layer.get_config(), "name": name}))
    kind = STOCK.get(type(layer))
    if kind is None:
        return None
    config = {k: v for k, v in layer.get_config().items() if k not in _REPLACED}
    cell = (copied_cell(layer.cell),) if kind is RNN else ()
    return kind(*cell, **{**config, "name": name})


class Walk:
    """A walk through the model, in which copies take the places of its layers.

    Attributes:
        inputs: those of the model, by name.
        states, after: the states that went in and that came out, by name.
        declared: what each of them is.
        outputs: those of the model, flat.
        makers: for each tensor's id the copy that gave it, and the first tensor that went in.
    """

    def __init__(self, model: keras.Model, copies: Copies, inputs: dict[str, Any]):
        self.copies, self.inputs = copies, inputs
        self.states: dict[str, Any] = {}
        self.after: dict[str, Any] = {}
        self.declared: dict[str, State] = {}
        self.makers: dict[int, tuple[Any, Any]] = {}
        self.taken = set(output_names(model))
        self.held: list[Any] = list(inputs.values())  # an id is a tensor's while it lives
        found = walk(model, list(inputs.values()), self.call)
        self.outputs = keras.tree.flatten(found)

    def call(self, path: tuple, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """What takes the place of `layer(*args, **kwargs)`."""
        copy = self.copies.of(layer, path)
        if is_recurrent(layer):
            _check_stateless(layer, args, kwargs)
            outputs = self.recurrent(layer, copy, *recurrent_arguments(args, kwargs))
            outputs = _regularized(layer, outputs)
        else:
            if isinstance(layer, keras.layers.Bidirectional):
                sequence, named = recurrent_arguments(args, kwargs)
                sequence = self.sequence(sequence, named.pop("mask"))
                args, kwargs = (sequence,), {k: v for k, v in named.items() if v is not None}
            args, kwargs = self.arguments(copy, args, kwargs)
            outputs = copy(*args, **kwargs)
            self.seen(layer, copy, args, kwargs, outputs)
        self.copies.fill(layer)
        first = next(iter(symbols((args, kwargs))), None)
        for tensor in symbols(outputs):
            self.makers[id(tensor)] = copy, first
            self.held.append(tensor)
        return outputs

    def recurrent(self, layer: Any, copy: Any, sequence: Any, named: dict) -> Any:
        """What the stock `layer` would give, by a copy with explicit state."""
        own = isinstance(layer, RecurrentLayer)
        training = {} if named["training"] is None else {"training": named["training"]}
        sequence = self.sequence(sequence, named["mask"])
        given = _given_state(copy, named["initial_state"])
        keys = self.add_states(copy, [name for name in copy.state_names if name not in given])
        state = given | {name: self.states[key] for name, key in keys.items()}
        reset = {} if self.reset_for(sequence) is None else {"reset": self.reset_for(sequence)}
        outputs, after = copy(sequence, state, **reset, **training)
        self.after |= {key: after[name] for name, key in keys.items()}
        last = after[copy.output_state]
        if last.dtype != copy.compute_dtype:
            last = ops.cast(last, copy.compute_dtype)
        y = outputs if own or layer.return_sequences else last
        ends = [last, *after.values()]
        self.held += [outputs, *ends]
        self.read(layer, sequence, bool(given), outputs, ends)
        if own or not layer.return_state:
            return y
        names = [name for name in copy.state_names if name != "output"]
        return [y, *(after[name] for name in names)]

    def add_states(self, copy: Any, names: list[str]) -> dict[str, str]:
        """New states of a core for those `names` of a layer's: what each is called."""
        keys = {}
        for name, spec in copy.state_spec().items():
            if name not in names:
                continue
            key = keys[name] = self.free(f"{copy.name}_{name}")
            start = (copy.name, name)
            fixed = isinstance(copy, RNN) or copy.learned_initial_state
            shape = tuple(spec.shape[1:])
            self.declared[key] = State(shape, spec.dtype, start if fixed else None)
            self.states[key] = keras.Input(shape, name=key, dtype=spec.dtype)
        return keys

    def sequence(self, sequence: Any, mask: Any) -> Any:
        """What a layer that knows masks reads, with the mask that counts for it."""
        if mask is None:
            return sequence
        masked = Masked(name=self.free("masked"))([sequence, mask])
        self.held.append(masked)
        return masked

    def arguments(self, copy: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """What the copy of any other layer is called with."""
        if isinstance(copy, PerStepDense) and kwargs.get("mask") is not None:  # TimeDistributed
            mask, kwargs = kwargs["mask"], {k: v for k, v in kwargs.items() if k != "mask"}
            if get_keras_mask(args[0]) is None:
                args = (self.sequence(args[0], mask), *args[1:])
        return args, kwargs

    def free(self, name: str) -> str:
        """A name for a state or a layer of this walk alone."""
        found = free_name(name, self.taken | self.copies.names)
        self.taken.add(found)
        return found

    def reset_for(self, sequence: Any) -> Any:
        """The reset for a recurrent layer; None for none."""
        return None

    def read(self, layer: Any, sequence: Any, given: bool, outputs: Any, ends: list[Any]) -> None:
        """A recurrent layer was called: all its outputs, and those of its last step."""

    def seen(self, layer: Any, copy: Any, args: tuple, kwargs: dict, outputs: Any) -> None:
        """Another layer was called."""


def symbols(values: Any) -> list[keras.KerasTensor]:
    """The tensors in nested arguments."""
    return [t for t in keras.tree.flatten(values) if isinstance(t, keras.KerasTensor)]


def _check_stateless(layer: Any, args: tuple, kwargs: dict) -> None:
    given = {name for name in ("state", "reset") if kwargs.get(name) is not None}
    if isinstance(layer, RecurrentLayer) and (len(args) > 1 or given):
        raise ValueError(
            f"the layer {layer.name!r} is given its state in the model already; such a model is "
            "a core, for rnnzoo.RecurrentModel with a rnnzoo.CoreSpec"
        )


def _given_state(copy: Any, initial: Any) -> dict[str, Any]:
    """The state that a stock layer's call is given, by the names of its copy."""
    flat = [] if initial is None else keras.tree.flatten(initial)
    return dict(zip(copy.state_names, flat))


def _regularized(layer: Any, outputs: Any) -> Any:
    """`outputs` with the loss that the stock `layer` adds for them, its states left out here."""
    regularizer = getattr(layer, "activity_regularizer", None)
    if regularizer is None or isinstance(layer, RecurrentLayer):
        return outputs
    return keras.tree.map_structure(
        lambda y: keras.layers.Identity(activity_regularizer=regularizer)(y), outputs
    )
