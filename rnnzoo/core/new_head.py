"""A new output layer on the layers of a core that is there already."""

import dataclasses

import keras

from rnnzoo.core.spec import CoreSpec, output_of
from rnnzoo.heads.loss import full_precision
from rnnzoo.layers.per_step import PerStepDense


def with_outputs(core: keras.Model, spec: CoreSpec, outputs: int) -> tuple[keras.Model, CoreSpec]:
    """A core whose one output has `outputs` linear values, and its contract.

    All layers before the output layer are those of `core`, and share their weights with it.

    Raises:
        ValueError: a core with several outputs, or one that does not end with a layer of its
            own (`outputs=None`, or `tied=True`).
    """
    name, output = next(iter(spec.outputs.items()))
    if len(spec.outputs) > 1 or output.layer is None:
        raise ValueError(
            "outputs replaces the output layer, so a model must have one output that ends with a "
            f"layer of its own (not tied=True, not outputs=None); received outputs={outputs} for "
            f"a model with the outputs {list(spec.outputs)}, output layer {output.layer}"
        )
    old = core.get_layer(output.layer)
    layer = PerStepDense(outputs, name=old.name, dtype=old.dtype_policy)
    y = layer(old.input)
    y = keras.layers.Activation("linear", dtype=full_precision(y.dtype), name=name)(y)
    states = {key: core.output[key] for key in spec.states}
    declared = output_of(y, keras.activations.linear, layer.name, per_step=output.per_step)
    spec = dataclasses.replace(spec, outputs={name: declared})
    return keras.Model(core.input, {name: y, **states}, name=core.name), spec
