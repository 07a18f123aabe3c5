"""A new output layer on the layers of a core that is there already."""

import dataclasses
from typing import Any

import keras

from rnnzoo.core.spec import CoreSpec, output_of
from rnnzoo.heads.loss import full_precision
from rnnzoo.layers.per_step import PerStepDense

_ACTIVATIONS = (keras.layers.Activation, keras.layers.Softmax)


def with_outputs(core: keras.Model, spec: CoreSpec, outputs: int) -> tuple[keras.Model, CoreSpec]:
    """A core whose one output has `outputs` linear values, and its contract.

    All layers before the output layer are those of `core`, and share their weights with it.

    Raises:
        ValueError: a core with several outputs, or one that does not end with a layer of its
            own (`outputs=None`, `tied=True`, `scaling`), of `from_keras` with a Dense layer.
    """
    name, output = next(iter(spec.outputs.items()))
    old = core.get_layer(output.layer) if output.layer else _last_dense(core, core.output[name])
    if len(spec.outputs) > 1 or old is None:
        last = {key: one.layer for key, one in spec.outputs.items()}
        raise ValueError(
            "outputs replaces the output layer, so a model must have one output that ends with a "
            "layer of its own (not tied=True, not outputs=None, not scaling), and one of "
            f"from_keras with a Dense layer; received outputs={outputs} for a {spec.form} model "
            f"with outputs of the layers {last}"
        )
    layer = PerStepDense(outputs, name=old.name, dtype=old.dtype_policy)
    # A head of whole sequences is given a mask too.
    y = layer(keras.tree.flatten(old.input)[0])
    y = keras.layers.Activation("linear", dtype=full_precision(y.dtype), name=name)(y)
    states = {key: core.output[key] for key in spec.states}
    declared = output_of(y, keras.activations.linear, layer.name, per_step=output.per_step)
    spec = dataclasses.replace(spec, outputs={name: declared})
    return keras.Model(core.input, {name: y, **states}, name=core.name), spec


def _last_dense(core: keras.Model, tensor: Any) -> keras.Layer | None:
    """The Dense layer that `tensor` comes from, but for its activation; None for another."""
    makers = {id(layer.output): layer for layer in core.layers}
    layer = makers.get(id(tensor))
    while isinstance(layer, _ACTIVATIONS):
        layer = makers.get(id(layer.input))
    inner = layer.layer if isinstance(layer, keras.layers.TimeDistributed) else layer
    return layer if isinstance(inner, keras.layers.Dense) else None
