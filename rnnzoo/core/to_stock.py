"""The way back: a core as a stock Keras model, where one can hold it."""

from typing import Any

import keras

from rnnzoo.backend.keras_internals import set_keras_mask
from rnnzoo.core.graph import Copies, built_like, copied_cell, walk
from rnnzoo.core.spec import CoreSpec
from rnnzoo.core.walked import STOCK
from rnnzoo.layers.bidirectional import Bidirectional
from rnnzoo.layers.masked import Masked
from rnnzoo.layers.per_step import PerStepDense, PerStepLayer, PerStepTiedEmbedding
from rnnzoo.layers.recurrent import RecurrentLayer

_NAMESAKES = {ours: theirs for theirs, ours in STOCK.items()}
_NAMESAKES |= {
    PerStepDense: keras.layers.Dense,
    PerStepLayer: keras.layers.TimeDistributed,
    PerStepTiedEmbedding: keras.layers.ReversibleEmbedding,
}


def stock_model(core: keras.Model, spec: CoreSpec, name: str) -> keras.Model:
    """A Functional model of stock layers with the weights of `core`, from inputs to outputs.

    Args:
        core: a functional core.
        spec: what it takes and gives. States, reset and the mask of the data are left out.
        name: of the result.

    Raises:
        ValueError: a layer that no stock layer can hold.
    """
    copies = Copies(_stock)

    def call(path: tuple, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, Masked):
            return _masked(*args[0])
        values = keras.tree.flatten((args, kwargs))
        if type(layer).__name__ == "LogicalAnd" and any(x is None for x in args):
            return next((x for x in args if x is not None), None)  # of masks, the one left
        if isinstance(layer, RecurrentLayer):
            outputs = _recurrent(layer, copies.of(layer, path), args, kwargs)
        elif isinstance(layer, Bidirectional):
            outputs = _both_ways(layer, copies.of(layer, path), *args, **kwargs)
        elif values and values[0] is None:
            raise ValueError(
                f"to_keras cannot keep the layer {layer.name!r}, which reads a state, a reset or "
                "a mask"
            )
        else:
            outputs = copies.of(layer, path)(*args, **kwargs)
        copies.fill(layer)
        return outputs

    names = [tensor.name for tensor in core.inputs]
    inputs = {
        key: keras.Input(core.input[key].shape[1:], name=key, dtype=core.input[key].dtype)
        for key in spec.inputs
    }
    found = walk(core, [inputs.get(key) for key in names], call)
    outputs = {key: found[key] for key in spec.outputs}
    return keras.Model(
        inputs if len(inputs) > 1 else inputs[spec.leading], spec.bare(outputs), name=name
    )


def _masked(sequence: Any, flags: Any) -> Any:
    """`sequence` with the mask that its stock layers will find."""
    if flags is None:
        return sequence
    marked = keras.layers.Identity()(sequence)
    set_keras_mask(marked, flags)
    return marked


def _stock(layer: Any, name: str, backward: bool = False) -> Any:
    """The stock layer for one of rnnzoo; None for any other."""
    kind = _NAMESAKES.get(type(layer))
    if isinstance(layer, Bidirectional):
        ahead, back = _stock(layer.forward, name), _stock(layer.backward, name, backward=True)
        return keras.layers.Bidirectional(ahead, backward_layer=back, name=name)
    if isinstance(layer, RecurrentLayer):
        if (
            kind is None
            or layer.learned_initial_state
            or (kind is keras.layers.RNN and layer.dropout)
        ):
            raise ValueError(
                "a stock model can hold LSTM, GRU, SimpleRNN and RNN of rnnzoo.layers that start "
                "from zeros, with dropout in the cell; received "
                f"{layer.name!r} of class {type(layer).__name__}, "
                f"learned_initial_state={layer.learned_initial_state}"
            )
        config = {**layer.get_config(), "name": name, "return_sequences": True}
        config |= {"return_state": True, "go_backwards": backward or layer.go_backwards}
        for key in ("learned_initial_state", "cell"):
            config.pop(key, None)
        if kind is not keras.layers.RNN:
            return kind(**config)
        for key in ("dropout", "seed"):
            config.pop(key)
        return keras.layers.RNN(copied_cell(layer.cell), **config)
    if kind is None:
        return None
    return built_like(layer, kind.from_config({**layer.get_config(), "name": name}))


def _recurrent(layer: Any, stock: Any, args: tuple, kwargs: dict) -> Any:
    """What `layer` gives, its outputs and states by name, by the stock layer."""
    named = dict(zip(("sequence", "state", "reset", "mask", "training"), args)) | kwargs
    state = named.get("state") or {}
    given = [state[key] for key in layer.state_names if state.get(key) is not None]
    options = {key: named[key] for key in ("mask", "training") if named.get(key) is not None}
    if given:
        options["initial_state"] = given
    outputs, *after = stock(named["sequence"], **options)
    names = [key for key in layer.state_names if key != "output"]
    states = dict(zip(names, keras.tree.flatten(after)))
    if "output" in layer.state_names:
        states["output"] = outputs[:, -1]
    return outputs if named.get("state") is None else (outputs, states)


def _both_ways(
    layer: Bidirectional, stock: Any, sequence: Any, mask: Any = None, training: Any = None
) -> tuple[Any, dict]:
    """What `layer` gives, its outputs and states by name, by the stock layer."""
    options = {"mask": mask, "training": training}
    given = {key: value for key, value in options.items() if value is not None}
    outputs, *after = stock(sequence, **given)
    names = [key for key in layer.forward.state_names if key != "output"]
    after = keras.tree.flatten(after)
    pairs = zip(names, after, after[len(names) :])
    states = {name: keras.ops.concatenate(pair, axis=-1) for name, *pair in pairs}
    if "output" in layer.forward.state_names:
        units = layer.forward.units
        ends = outputs[:, -1, :units], outputs[:, 0, units:]
        states["output"] = keras.ops.concatenate(ends, axis=-1)
    return outputs, states
