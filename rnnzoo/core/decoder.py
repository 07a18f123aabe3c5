"""The functional decoder of `encoder_decoder`: target steps in, outputs and states out."""

from typing import Any

import keras

from rnnzoo.core.joined import Declared, join
from rnnzoo.core.network import output_layers
from rnnzoo.core.scaling import Scales
from rnnzoo.core.spec import CoreSpec, input_of, output_of, states_of
from rnnzoo.heads.head import Head
from rnnzoo.heads.loss import full_precision
from rnnzoo.layers.per_step import PerStepDense
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.layers.stack import recurrent_stack

# The state by which input feeding hands the attended output on to the next step.
FED = "fed"


def build_decoder(
    layers: list[RecurrentLayer],
    *,
    declared: list[Declared],
    attention: str | None,
    memory_width: int | None,
    input_feeding: bool,
    tied: bool,
    dropout: float,
    residual: bool,
    layer_norm: bool,
    activation: Any,
    output: int | Head,
    scales: Scales,
) -> tuple[keras.Model, CoreSpec]:
    """A Functional model `{"inputs", states, ...} -> {"outputs", states, ...}`, and its contract.

    Beside "inputs", the target of the step before, stand what is known of each step, and what is
    static. With attention, `memory` `(batch, source time, width)` and `source_mask` go in as
    well, and `alignment` `(batch, time, source time)` comes out. With input feeding, whose state
    is `fed`, the model takes one step at a time.

    Args:
        layers: the recurrent layers, the lowest first.
        declared: what is read: "inputs" first, which has the size of the outputs.
        attention, input_feeding, tied, dropout, residual, layer_norm, activation: as in
            `rnnzoo.encoder_decoder`.
        memory_width: size of a step of the memory.
        output: what it ends with.
        scales: its scaling, which goes on from that of the encoder.
    """
    steps = 1 if input_feeding else None
    inputs, kept, sequence, table = join(declared, tied=tied, steps=steps, scales=scales)
    width = layers[-1].units
    if input_feeding:
        fed = keras.Input((width,), name=FED, dtype=layers[-1].state_dtype)
        inputs[FED] = fed
        sequence = keras.layers.Concatenate(name="feeding")(
            [sequence, keras.layers.Reshape((1, width), name="fed_step")(fed)]
        )
    hidden, state_inputs, states = recurrent_stack(
        sequence, layers, residual=residual, layer_norm=layer_norm
    )
    state_inputs, states = scales.inputs | state_inputs, scales.states | states
    inputs |= state_inputs
    outputs, constants, seen = dict(states), {}, {}
    if attention is not None:
        memory = keras.Input(
            (None, memory_width), name="memory", dtype=full_precision(hidden.dtype)
        )
        mask = keras.Input((None,), dtype="bool", name="source_mask")
        constants = {"memory": memory, "source_mask": mask}
        hidden, alignment = _attend(hidden, memory, mask, attention)
        outputs["alignment"] = alignment
        seen = {"alignment": output_of(alignment, None, None)}
    if input_feeding:
        outputs[FED] = keras.layers.Reshape((width,), dtype=fed.dtype, name="fed_on")(hidden)
    ends = {"outputs": output}
    found, shown = output_layers(hidden, ends, dropout, table, activation, scales=scales)
    carried = {**({FED: fed} if input_feeding else {}), **state_inputs}
    spec = CoreSpec(
        form="decoder",
        inputs=kept
        | {name: input_of(tensor, per_step=False) for name, tensor in constants.items()},
        outputs=shown | seen,
        states=states_of(carried, None),
        reset=None,
    )
    return keras.Model(inputs | constants, outputs | found, name="decoder"), spec


def _attend(hidden: Any, memory: Any, mask: Any, attention: str) -> tuple[Any, Any]:
    """The attended outputs, tanh(W [context; hidden]) of Luong et al. (2015), and alignment."""
    # Its softmax is over all steps of the source, too many to be summed in half precision.
    width, dtype = hidden.shape[-1], memory.dtype
    if attention == "dot":
        layer, query = keras.layers.Attention(dtype=dtype, name="attention"), hidden
    else:
        layer = keras.layers.AdditiveAttention(dtype=dtype, name="attention")
        query = PerStepDense(width, use_bias=False, name="query_layer")(hidden)
    context, alignment = layer([query, memory], mask=[None, mask], return_attention_scores=True)
    joined = keras.layers.Concatenate(name="attending")([context, hidden])
    attended = PerStepDense(width, activation="tanh", use_bias=False, name="attention_layer")(
        joined
    )
    return attended, alignment
