"""A Keras model's graph as a core: recurrent layers get states and resets, all else is copied.

The model is walked three times. The first walk, with the sizes that it has, builds the copies
and finds the inputs that have a time axis. The second, with those axes open, follows time through
the graph and finds the layers that cannot stop at a step and go on. The third builds the core.
"""

from typing import Any

import keras
from keras import ops

from rnnzoo.backend.keras_internals import get_keras_mask
from rnnzoo.core.graph import Copies
from rnnzoo.core.spec import CoreSpec, Output
from rnnzoo.core.time_axis import Kind, TimeAxes, TimedInputs, follow_time
from rnnzoo.core.walked import Walk, input_names, namesake, output_names

# Layers through which the values of an output keep their meaning.
_SAME = (keras.layers.Dropout, keras.layers.Identity, keras.layers.Reshape)


def converted(model: keras.Model) -> tuple[keras.Model, CoreSpec]:
    """A core with copies of the layers and weights of `model`, and what it takes and gives.

    Args:
        model: a built model of which `rnnzoo.core.graph.is_graph` is true.

    Raises:
        ValueError: a layer that cannot be copied; no time axis that reaches a recurrent layer.
    """
    copies = Copies(namesake, {"reset", "mask", *input_names(model)})
    first = TimedInputs(model, copies)
    second = follow_time(model, copies, first)
    copies.filled.clear()  # its checks have changed weights, which the last walk fills again
    outputs = [second.kind(tensor) for tensor in second.outputs]
    streams = not second.whole_only
    masked = second.knows_masks and (not streams or any(kind.time is None for kind in outputs))
    reset = keras.Input((None,), dtype="bool", name="reset") if streams else None
    mask = keras.Input((None,), dtype="bool", name="mask") if masked else None
    build = _Build(model, copies, second, reset, mask)
    spec = CoreSpec(
        form="converted",
        inputs=second.declared_inputs(),
        outputs=_declared_outputs(model, build, outputs, second.leading),
        states=build.declared,
        reset="reset" if streams else None,
        mask="mask" if masked else None,
        whole_only=second.whole_only,
    )
    flags = {t.name: t for t in (reset, mask) if t is not None}
    given = dict(zip(spec.outputs, build.outputs))
    core = keras.Model(
        {**build.inputs, **flags, **build.states}, {**given, **build.after}, name="core"
    )
    return core, spec


class _Build(Walk):
    """The walk whose tensors become the core."""

    def __init__(self, model: keras.Model, copies: Copies, second: TimeAxes, reset: Any, mask: Any):
        self.reset, self.mask, self.leading = reset, mask, second.leading
        self.sites = iter([second.root(time) for time in second.sites])
        declared = second.declared_inputs()
        inputs = {
            name: keras.Input(tensor.shape[1:], name=name, dtype=declared[name].dtype)
            for name, tensor in second.inputs.items()
        }
        super().__init__(model, copies, inputs)

    def sequence(self, sequence: Any, mask: Any) -> Any:
        if next(self.sites) == self.leading and self.mask is not None:
            own = get_keras_mask(sequence) if mask is None else mask
            mask = self.mask if own is None else ops.logical_and(own, self.mask)
        return super().sequence(sequence, mask)

    def arguments(self, copy: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        args, kwargs = super().arguments(copy, args, kwargs)
        if isinstance(copy, keras.Layer) and not copy.supports_masking:
            args = keras.tree.map_structure(_without_mask, args)  # of which Keras would warn
        return args, kwargs

    def reset_for(self, sequence: Any) -> Any:
        return self.reset


def _without_mask(x: Any) -> Any:
    """`x` as a tensor that brings no mask."""
    symbol = isinstance(x, keras.KerasTensor)
    return ops.copy(x) if symbol and get_keras_mask(x) is not None else x


def _declared_outputs(
    model: keras.Model, build: Walk, kinds: list[Kind], leading: str
) -> dict[str, Output]:
    found = {}
    for name, y, kind in zip(output_names(model), build.outputs, kinds):
        per_step = kind.time == leading
        shape = tuple(y.shape[1 + per_step :])
        found[name] = Output(shape, y.dtype, per_step, _activation(build, y))
    return found


def _activation(build: Walk, y: Any) -> str:
    """The name of the activation that an output ends with; of a layer without one, its own."""
    copy, first = build.makers.get(id(y), (None, None))
    layer = copy.layer if isinstance(copy, keras.layers.TimeDistributed) else copy
    if isinstance(layer, _SAME) and first is not None:
        return _activation(build, first)
    if isinstance(layer, (keras.layers.Softmax, keras.layers.ReLU)):
        return type(layer).__name__.lower()
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None) or type(layer).__name__.lower()
