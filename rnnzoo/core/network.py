"""The functional core of `one_to_one` and `many_to_one`: inputs, stack, output layers."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras

from rnnzoo import _checks
from rnnzoo.core.joined import Declared, check_name, declared_inputs, join
from rnnzoo.core.scaling import Scales
from rnnzoo.core.spec import CoreSpec, Output, input_of, output_of, states_of
from rnnzoo.heads.head import Head
from rnnzoo.heads.loss import full_precision
from rnnzoo.layers.per_step import PerStepDense
from rnnzoo.layers.rnn import RNN
from rnnzoo.layers.stack import (
    after_layers,
    bidirectional_layers,
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
    outputs: Any,
    cell: Any,
    embedding: int | None,
    dropout: float,
    recurrent_dropout: float,
    residual: bool,
    layer_norm: bool,
    tied: bool,
    learned_initial_state: bool,
    activation: Any,
    inputs: Any = None,
    static: Any = None,
    bidirectional: bool = False,
    scaling: Any = None,
) -> tuple[keras.Model, CoreSpec]:
    """A Functional model `{inputs, "reset", states} -> {outputs, states}`, and its contract.

    `many_to_one` adds the input `mask` and reads the last layer's final hidden state, which
    padding holds, so that the output is that of the last valid step. A core that reads whole
    sequences only, `bidirectional` or with a head that does, takes a mask and no reset.
    Arguments are those of `rnnzoo.one_to_one`; all are checked before any layer is built.
    """
    sizes, layer_class = check_units(units), check_cell(cell)
    options = _layer_options(dropout, recurrent_dropout, learned_initial_state)
    flags = {"residual": residual, "layer_norm": layer_norm, "tied": tied}
    for name, flag in {**flags, "bidirectional": bidirectional}.items():
        _checks.flag(name, flag)
    declared = declared_inputs(features, vocabulary, inputs, static, embedding, sizes[0])
    ends = declared_outputs(outputs, many_to_one)
    if tied:
        _check_tied(sizes, vocabulary, outputs, declared[0].embedding, bidirectional)
    _check_activation(activation, ends)
    check_residual(residual, sizes)
    whole = bidirectional or any(getattr(one, "whole_sequences", False) for one in ends.values())
    scales = Scales(scaling, declared, ends, whole)
    make = bidirectional_layers if bidirectional else stack_layers
    layers = make(layer_class, sizes, **options)
    _check_names(declared, ends, layers, state_names(layers), scales.names)

    reset = None if whole else keras.Input((None,), dtype="bool", name="reset")
    given, kept, sequence, table = join(declared, layer_class, tied, scales, reset)
    masked = many_to_one or whole
    mask = keras.Input((None,), dtype="bool", name="mask") if masked else None
    hidden, state_inputs, states, starts = _read(
        sequence, layers, reset, mask, many_to_one, residual, layer_norm
    )
    state_inputs, states = scales.inputs | state_inputs, scales.states | states
    found, shown = output_layers(hidden, ends, options["dropout"], table, activation, mask, scales)
    spec = CoreSpec(
        form="many_to_one" if many_to_one else "one_to_one",
        inputs=kept,
        outputs=shown,
        states=states_of(state_inputs, scales.starts + starts),
        reset=None if whole else "reset",
        mask="mask" if masked else None,
    )
    given |= {} if whole else {"reset": reset}
    given |= {"mask": mask} if masked else {}
    return keras.Model({**given, **state_inputs}, {**found, **states}, name="core"), spec


def _layer_options(dropout: Any, recurrent_dropout: Any, learned_initial_state: Any) -> dict:
    """What every layer of the stack is made with, checked."""
    return {
        "dropout": _checks.fraction("dropout", dropout),
        "recurrent_dropout": _checks.fraction("recurrent_dropout", recurrent_dropout),
        "learned_initial_state": _checks.flag("learned_initial_state", learned_initial_state),
    }


def _read(
    sequence: Any,
    layers: list,
    reset: Any,
    mask: Any,
    many_to_one: bool,
    residual: bool,
    layer_norm: bool,
) -> tuple[Any, dict, dict, list]:
    """What a stack makes of `sequence`, its state inputs and outputs, and where states start."""
    hidden, inputs, states = recurrent_stack(
        sequence,
        layers,
        reset,
        mask,
        residual=residual,
        layer_norm=layer_norm and not many_to_one,
        residual_last=not many_to_one,
    )
    if many_to_one:
        top = getattr(layers[-1], "forward", layers[-1])
        last = states[state_key(top.output_state, len(layers) - 1)]
        hidden = after_layers(last, layer_norm)
    # Layers that read in both directions have no state to go on from.
    states = {name: states[name] for name in inputs}
    return hidden, inputs, states, starts_of(layers) if inputs else []


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


def declared_outputs(outputs: Any, many_to_one: bool) -> dict[str, int | Head | None]:
    """`outputs` of a factory by name, each a size, a head, or None for none.

    Raises:
        ValueError: what is no size and no head; a head of whole sequences without steps.
    """
    several = isinstance(outputs, Mapping)
    if several and not outputs:
        raise ValueError("outputs must name at least one output; received outputs={}")
    found = dict(outputs) if several else {"outputs": outputs}
    for name, one in found.items():
        label = f"outputs[{name!r}]" if several else "outputs"
        check_name("outputs", name)
        if isinstance(one, Head):
            if many_to_one and one.whole_sequences:
                raise ValueError(
                    f"{label} must be a head of single steps, since many_to_one has one output a "
                    f"sequence; received {one}. Use one_to_one."
                )
        elif isinstance(one, type):
            raise _checks.refuse(label, "a size or a head, as rnnzoo.heads.Normal()", one)
        elif several or one is not None:
            found[name] = _checks.positive_integer(label, one)
    return found


def _check_activation(activation: Any, ends: dict) -> None:
    if activation is not None and not any(isinstance(one, int) for one in ends.values()):
        raise ValueError(
            "activation is for outputs that are given as sizes: a head has its own; received "
            f"activation={_checks.shown(activation)}, outputs={_checks.shown(ends)}"
        )
    _checks.activation("activation", activation)


def _check_tied(
    sizes: list[int], vocabulary: Any, outputs: Any, embedding: int, bidirectional: bool
) -> None:
    if vocabulary is None:
        raise ValueError(
            "embedding and tied are for tokens and need vocabulary; received vocabulary=None, "
            "tied=True"
        )
    width = sizes[-1] * (2 if bidirectional else 1)
    if isinstance(outputs, (Head, Mapping)) or outputs != vocabulary or embedding != width:
        raise ValueError(
            "tied=True uses the embedding as output weights, so outputs must equal vocabulary "
            "and embedding must equal the last of units"
            f"{', twice for two directions' if bidirectional else ''}; received "
            f"outputs={outputs}, vocabulary={vocabulary}, embedding={embedding}, units={sizes}"
        )


def state_names(layers: list) -> list[str]:
    """The names that the states of a stack of layers have in a core."""
    return [
        state_key(name, index)
        for index, layer in enumerate(layers)
        for name in getattr(layer, "state_names", ())
    ]


def _check_names(
    declared: list[Declared],
    ends: dict[str, Any],
    layers: list,
    states: list[str],
    others: list[str],
) -> None:
    """ValueError where two layers, or an output and a state, would have one name."""
    ours = ["reset", "mask", "lengths", "joined", "dropout", "norm_outputs", *states, *others]
    for index, layer in enumerate(layers):
        ours += [layer.name, f"norm_{index}", f"residual_{index}"]
    for one in declared:
        ours += [one.embedding_name] if one.vocabulary else []
        ours += [] if one.per_step else [f"{one.name}_steps"]
    for name in ends:
        ours += output_names(name)
    names = [*ours, *(one.name for one in declared)]
    taken = {name for name in names if names.count(name) > 1} | set(states) & set(ends)
    if taken:
        raise ValueError(
            "inputs and outputs must have names that no layer, state or mask of the model has; "
            f"received names that are taken: {sorted(taken)}"
        )


def output_names(name: str) -> tuple[str, str]:
    """The names of the layer that makes an output and of the last one before it leaves."""
    return ("output_layer", "outputs") if name == "outputs" else (f"{name}_layer", f"{name}_output")


def output_layers(
    hidden: Any,
    ends: dict[str, int | Head | None],
    dropout: float,
    table: Any,
    activation: Any,
    mask: Any = None,
    scales: Scales | None = None,
) -> tuple[dict[str, Any], dict[str, Output]]:
    """The outputs of `hidden` and their declarations, by name.

    Args:
        hidden: `(batch, [time,] units)`.
        ends: for each output its size, its head, or None: `hidden` as it is.
        dropout: share of `hidden` dropped.
        table: the embedding through which the outputs of a tied model go, or None.
        activation: of outputs that are given by size.
        mask: `(batch, time)` bool, which heads of whole sequences read.
        scales: what brings outputs back to the units of a series.
    """
    per_step = len(hidden.shape) == 3
    if dropout and any(one is not None for one in ends.values()):
        shape = (None, 1, None) if per_step else None
        hidden = keras.layers.Dropout(dropout, noise_shape=shape, name="dropout")(hidden)
    found, shown = {}, {}
    for name, one in ends.items():
        head = one if isinstance(one, Head) else None
        label, last = output_names(name)
        y, ending = hidden, None if one is None or table is not None else label
        if head is not None:
            masks = {"mask": mask} if head.whole_sequences and mask is not None else {}
            y = head.layer(name=label)(hidden, **masks)
        elif one is not None:
            y = PerStepDense(one, name=label)(y) if table is None else table(y, reverse=True)
        own = keras.activations.get(activation if head is None else None)
        # Losses want full precision, whatever the layers compute in.
        options = {"dtype": full_precision(y.dtype), "name": last}
        identity = one is None
        layer = keras.layers.Identity if identity else partial(keras.layers.Activation, own)
        if scales is not None and scales.of:
            # It ends with no layer's bias then, but in the units of the series.
            y, ending = layer(dtype=options["dtype"])(y), None
            found[name] = scales.unscaled(head, y, last)
        else:
            found[name] = layer(**options)(y)
        shown[name] = output_of(found[name], own, ending, per_step, head)
    return found, shown
