"""The functional core of `one_to_one` and `many_to_one`: inputs, stack, output layer."""

from typing import Any

import keras

from rnnzoo import _checks
from rnnzoo.core.spec import CoreSpec, input_of, output_of, states_of
from rnnzoo.layers.per_step import PerStepDense, PerStepTiedEmbedding
from rnnzoo.layers.rnn import RNN
from rnnzoo.layers.stack import (
    after_layers,
    check_cell,
    check_residual,
    check_units,
    recurrent_stack,
    stack_layers,
    state_key,
)


def build_core(
    *,
    many_to_one: bool,
    features: int | None,
    vocabulary: int | None,
    units: Any,
    outputs: int | None,
    cell: Any,
    embedding: int | None,
    dropout: float,
    recurrent_dropout: float,
    residual: bool,
    layer_norm: bool,
    tied: bool,
    learned_initial_state: bool,
    activation: Any,
) -> tuple[keras.Model, CoreSpec]:
    """A Functional model `{"inputs", "reset", states} -> {"outputs", states}`, and its contract.

    `many_to_one` adds the input `mask` and reads the last layer's final hidden state, which
    padding holds, so that the output is that of the last valid step. Arguments are those of
    `rnnzoo.one_to_one`; all are checked before any layer is built.
    """
    sizes, layer_class = check_units(units), check_cell(cell)
    dropout = _checks.fraction("dropout", dropout)
    recurrent_dropout = _checks.fraction("recurrent_dropout", recurrent_dropout)
    _checks.flag("residual", residual)
    _checks.flag("layer_norm", layer_norm)
    _checks.flag("tied", tied)
    _checks.flag("learned_initial_state", learned_initial_state)
    _check_sizes(features, vocabulary, embedding, outputs, tied, sizes)
    check_residual(residual, sizes)
    activation = keras.activations.get(activation)

    options = {"dropout": dropout, "recurrent_dropout": recurrent_dropout}
    options["learned_initial_state"] = learned_initial_state
    x, sequence, table = input_layers("inputs", features, vocabulary, embedding or sizes[0], tied)
    reset = keras.Input((None,), dtype="bool", name="reset")
    mask = keras.Input((None,), dtype="bool", name="mask") if many_to_one else None
    layers = stack_layers(layer_class, sizes, **options)
    hidden, state_inputs, states = recurrent_stack(
        sequence,
        layers,
        reset,
        mask,
        residual=residual,
        layer_norm=layer_norm and not many_to_one,
        residual_last=not many_to_one,
    )
    inputs = {"inputs": x, "reset": reset, **state_inputs}
    if many_to_one:
        inputs["mask"] = mask
        hidden = after_layers(
            states[state_key(layers[-1].output_state, len(sizes) - 1)], layer_norm
        )
    y, ending = output_layers(hidden, outputs, dropout, table, activation)
    spec = CoreSpec(
        form="many_to_one" if many_to_one else "one_to_one",
        inputs={"inputs": input_of(x, vocabulary)},
        outputs={"outputs": output_of(y, activation, ending, per_step=not many_to_one)},
        states=states_of(state_inputs, starts_of(layers)),
        mask="mask" if many_to_one else None,
    )
    return keras.Model(inputs, {"outputs": y, **states}, name="core"), spec


def starts_of(layers: list) -> list[tuple[str, str] | None]:
    """For each state of a stack of layers where its start comes from; None for zeros."""
    return [
        (layer.name, name) if layer.learned_initial_state or isinstance(layer, RNN) else None
        for layer in layers
        for name in layer.state_names
    ]


def spec_of_old(core: keras.Model) -> CoreSpec:
    """What a core declares that was saved before cores did: one of `build_core`, by its names."""
    masked, y = "mask" in core.input, core.output["outputs"]
    x = core.input["inputs"]
    vocabulary = core.get_layer("embedding").input_dim if len(x.shape) == 2 else None
    layers = [layer for layer in core.layers if hasattr(layer, "state_names")]
    names = [state_key(name, i) for i, layer in enumerate(layers) for name in layer.state_names]
    ends = any(layer.name == "output_layer" for layer in core.layers)
    activation = getattr(core.get_layer("outputs"), "activation", keras.activations.linear)
    output = output_of(y, activation, "output_layer" if ends else None, per_step=not masked)
    return CoreSpec(
        form="many_to_one" if masked else "one_to_one",
        inputs={"inputs": input_of(x, vocabulary)},
        outputs={"outputs": output},
        states=states_of({name: core.input[name] for name in names}, starts_of(layers)),
        mask="mask" if masked else None,
    )


def _check_sizes(
    features: Any, vocabulary: Any, embedding: Any, outputs: Any, tied: bool, sizes: list[int]
) -> None:
    _check_inputs(features, vocabulary, embedding, tied)
    if outputs is not None:
        _checks.positive_integer("outputs", outputs)
    if tied:
        _check_tied(sizes, vocabulary, outputs, embedding or sizes[0])


def _check_inputs(features: Any, vocabulary: Any, embedding: Any, tied: bool) -> None:
    if (features is None) == (vocabulary is None):
        raise ValueError(
            "exactly one of features (real-valued inputs) and vocabulary (tokens) must be given; "
            f"received features={features!r}, vocabulary={vocabulary!r}"
        )
    if features is not None:
        _checks.positive_integer("features", features)
        if embedding is not None or tied:
            raise ValueError(
                "embedding and tied are for tokens and need vocabulary; "
                f"received features={features}, embedding={embedding!r}, tied={tied!r}"
            )
        return
    _checks.positive_integer("vocabulary", vocabulary)
    if embedding is not None:
        _checks.positive_integer("embedding", embedding)


def _check_tied(sizes: list[int], vocabulary: int, outputs: Any, embedding: int) -> None:
    if outputs != vocabulary or embedding != sizes[-1]:
        raise ValueError(
            "tied=True uses the embedding as output weights, so outputs must equal vocabulary "
            "and embedding must equal the last of units; received "
            f"outputs={outputs}, vocabulary={vocabulary}, embedding={embedding}, units={sizes}"
        )


def input_layers(
    name: str, features: Any, vocabulary: Any, embedding: int, tied: bool = False, steps: Any = None
) -> tuple[Any, Any, Any]:
    """The input `name`, what the stack reads, and the embedding layer of a tied model."""
    if vocabulary is None:
        x = keras.Input((steps, features), name=name)
        return x, x, None
    x = keras.Input((steps,), dtype="int32", name=name)
    layer = PerStepTiedEmbedding if tied else keras.layers.Embedding
    label = "embedding" if name == "inputs" else f"{name}_embedding"
    table = layer(vocabulary, embedding, name=label)
    return x, table(x), table if tied else None


def output_layers(
    hidden: Any, outputs: int | None, dropout: float, table: Any, activation: Any
) -> tuple[Any, str | None]:
    """The outputs of `hidden`, through the embedding `table` where the model is tied.

    Beside them stands the name of the layer whose bias they end with.
    """
    if outputs is None:
        identity = keras.layers.Identity(dtype=full_precision(hidden.dtype), name="outputs")
        return identity(hidden), None
    if dropout:
        shape = (None, 1, None) if len(hidden.shape) == 3 else None
        hidden = keras.layers.Dropout(dropout, noise_shape=shape, name="dropout")(hidden)
    if table is not None:
        y, ending = table(hidden, reverse=True), None
    else:
        layer = PerStepDense(outputs, name="output_layer")
        y, ending = layer(hidden), layer.name
    # Losses want full precision, whatever the layers compute in.
    last = keras.layers.Activation(activation, dtype=full_precision(y.dtype), name="outputs")
    return last(y), ending


def full_precision(dtype: str) -> str:
    """The dtype of what leaves a model that computes in `dtype`: float32 for half precision."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype
