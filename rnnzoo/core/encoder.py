"""The functional encoder of `encoder_decoder`: source steps in, memory and first states out."""

from typing import Any

import keras
from keras.layers import Identity

from rnnzoo.core.joined import Declared, join
from rnnzoo.core.network import starts_of
from rnnzoo.core.scaling import Scales
from rnnzoo.core.spec import CoreSpec, output_of, states_of
from rnnzoo.heads.loss import full_precision
from rnnzoo.layers.bidirectional import Bidirectional
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.layers.stack import recurrent_stack, state_key

# Names of the encoder's own states begin with this; the decoder's have no prefix.
PREFIX = "source_"


def build_encoder(
    layers: list[RecurrentLayer] | list[Bidirectional],
    *,
    declared: list[Declared],
    decoder_units: list[int],
    memory: str | None,
    residual: bool,
    layer_norm: bool,
    scales: Scales,
) -> tuple[keras.Model, CoreSpec]:
    """A Functional model `{inputs, "source_mask", states} -> {"memory", states, first}`.

    Beside it stands its contract, of which `first` and `memory` are the outputs.

    `states` are the encoder's own, named `source_h_0` and so on, none where it reads in both
    directions; `first` are the states that start the decoder, `h_0` and so on. Padding
    (`source_mask` False) holds the state. There is a `memory` only for attention.

    Args:
        layers: the recurrent layers, the lowest first.
        declared: what is read: the source, and what is static.
        decoder_units: sizes of the decoder's layers.
        memory: None, "plain" (outputs as they are), or "projected".
        residual, layer_norm: as in `rnnzoo.encoder_decoder`.
        scales: its scaling, which the decoder goes on from.
    """
    mask = keras.Input((None,), dtype="bool", name="source_mask")
    given, kept, sequence, _ = join(declared, scales=scales, mask=mask)
    inputs = {**given, "source_mask": mask}
    hidden, state_inputs, ends = recurrent_stack(
        sequence, layers, mask=mask, residual=residual, layer_norm=layer_norm, prefix=PREFIX
    )
    own = {key: ends[key] for key in state_inputs}  # none where it reads both ways
    state_inputs, own = scales.inputs | state_inputs, scales.states | own
    inputs |= state_inputs
    states = {key.removeprefix(PREFIX): value for key, value in ends.items()}
    outputs = _bridge(states, layers[0], decoder_units) | scales.handed_on("inputs")
    if memory == "projected":
        size = decoder_units[-1]
        hidden = keras.layers.Dense(size, use_bias=False, name="memory_layer")(hidden)
    if memory is not None:
        dtype = full_precision(hidden.dtype)
        same = dtype == hidden.dtype
        outputs["memory"] = hidden if same else Identity(dtype=dtype, name="memory")(hidden)
    spec = CoreSpec(
        form="encoder",
        inputs=kept,
        outputs={
            name: output_of(tensor, None, None, per_step=name == "memory")
            for name, tensor in outputs.items()
        },
        states=states_of(state_inputs, scales.starts + starts_of(layers) if state_inputs else None),
        reset=None,
        mask="source_mask",
    )
    return keras.Model(inputs, {**own, **outputs}, name="encoder"), spec


def _bridge(states: dict[str, Any], layer: Any, units: list[int]) -> dict[str, Any]:
    """The states that start the decoder: the encoder's last ones, mapped where sizes differ."""
    layer = getattr(layer, "forward", layer)
    names = layer.state_names
    depth = len(states) // len(names)
    sizes = [states[state_key(names[0], index)].shape[-1] for index in range(depth)]
    if sizes == units:
        return states
    first = {}
    # Other states of a cell, as counters and normalisers, start as they always do.
    for name in (name for name in names if name in (layer.output_state, "h", "c")):
        ends = [states[state_key(name, index)] for index in range(depth)]
        joined = ends[0] if depth == 1 else keras.layers.Concatenate(name=f"ends_{name}")(ends)
        for index, size in enumerate(units):
            key = state_key(name, index)
            # A hidden state lies in (-1, 1); the LSTM's cell state has no bounds.
            first[key] = keras.layers.Dense(
                size,
                activation="tanh" if name == "h" else None,
                dtype=ends[0].dtype,
                name=f"bridge_{key}",
            )(joined)
    return first
