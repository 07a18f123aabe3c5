"""Scaling by series: inputs divided by what a series is like, outputs brought back to its units.

The scale is measured on the sequence itself, as it goes by: at each step from all values since the
sequence began, that step included. So it is a state like any other: carried, reset, saved and
exported, cut = whole, and nobody has to give a number for a series. A scale measured on a whole
series would look ahead, and one that is given would have to come with every batch, step and
request.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.head import Head
from rnnzoo.heads.linear import Linear
from rnnzoo.heads.loss import full_precision
from rnnzoo.layers.rnn import RNN

Tensor = Any

KINDS = ("mean", "standard")
_STATES = ("moments", "count")

# The least deviation, as a part of the mean of absolute values: that of one value alone is 0.
_LEAST = 1e-3


@keras.saving.register_keras_serializable(package="rnnzoo")
class MomentsCell(keras.layers.Layer):
    """A cell whose output is its state: running means of what it has read, in float32.

    Args:
        features: numbers a step.
        kind: 'mean', the mean of absolute values; 'standard', beside it the mean and the variance
            (Welford, 1962), `3 * features` numbers.
    """

    state_names, output_state = _STATES, "moments"

    def __init__(self, features: int, kind: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.features, self.kind = features, kind
        self.output_size = features * (1 if kind == "mean" else 3)
        self.state_size = [self.output_size, 1]

    def call(self, inputs: Tensor, states: list[Tensor], training: bool = False) -> tuple:
        moments, count = states
        count = count + 1.0
        size = ops.split(moments, self.output_size // self.features, axis=-1)
        size[0] = size[0] + (ops.abs(inputs) - size[0]) / count
        if self.kind == "standard":
            mean = size[1] + (inputs - size[1]) / count
            spread = (inputs - size[1]) * (inputs - mean)
            size[1:] = mean, size[2] + (spread - size[2]) / count
        moments = ops.concatenate(size, axis=-1)
        return moments, [moments, count]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this cell again."""
        return {**super().get_config(), "features": self.features, "kind": self.kind}


def shift_and_scale(moments: Tensor, features: int) -> tuple[Tensor | None, Tensor]:
    """What is taken from values, None for nothing, and what they are then divided by.

    The scale of zeros alone is 1.
    """
    size, *rest = ops.split(moments, moments.shape[-1] // features, axis=-1)
    shift = rest[0] if rest else None
    scale = ops.maximum(ops.sqrt(ops.maximum(rest[1], 0.0)), _LEAST * size) if rest else size
    return shift, ops.where(scale > 0, scale, ops.ones_like(scale))


@keras.saving.register_keras_serializable(package="rnnzoo")
class Scaled(keras.layers.Layer):
    """A call is `[values, moments] -> values` of about 1, `(batch, time, features)`."""

    def call(self, inputs: list[Tensor]) -> Tensor:
        values, moments = inputs
        shift, scale = shift_and_scale(moments, values.shape[-1])
        return (values if shift is None else values - shift) / scale

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return input_shape[0]


@keras.saving.register_keras_serializable(package="rnnzoo")
class Unscaled(keras.layers.Layer):
    """A call is `[parameters, moments] -> parameters` of a head, in the units of the series.

    Args:
        head: the head.
    """

    def __init__(self, head: Head, **kwargs: Any):
        super().__init__(**kwargs)
        self.head = head

    def call(self, inputs: list[Tensor]) -> Tensor:
        parameters, moments = inputs
        return self.head.in_units(parameters, *shift_and_scale(moments, self.head.outputs))

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this layer again."""
        head = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), "head": head}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Unscaled":
        head = keras.saving.deserialize_keras_object(config["head"])
        return cls(**{**config, "head": head})


class Scaling:
    """The scaling of a core: what `join` reads through it and outputs come back through.

    Args:
        scaling: as `rnnzoo.one_to_one` takes it.
        sizes: numbers a step of each real-valued input per step, by name.
        ends: the outputs, by name, each a size or a head.
        whole: whether the core reads whole sequences.

    Raises:
        ValueError: a name or kind that is none, an output that cannot come back.
    """

    def __init__(self, scaling: Any, sizes: dict[str, int], ends: dict[str, Any], whole: bool):
        self.of, self.kinds = _declared(scaling, sizes)
        self.sizes = sizes
        if self.of and whole:
            raise ValueError(
                "scaling is measured as a sequence goes by, so it is for models that can go on "
                "from a state: not bidirectional, no head of whole sequences; received "
                f"scaling={_checks.shown(scaling)}"
            )
        for name, one in ends.items() if self.of else ():
            self._check_output(name, one)
        self.inputs: dict[str, Any] = {}
        self.states: dict[str, Any] = {}
        self.starts: list[tuple[str, str]] = []
        self._moments: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """The names that its layers and states have."""
        own = [f"{name}_{part}" for name in self.kinds for part in ("measured", *_STATES)]
        return own + [f"{name}_scaled" for name in self.of]

    def measure(self, given: dict[str, Any], reset: Any) -> None:
        """Add a layer that measures each input that has a scale of its own."""
        for name, kind in self.kinds.items():
            cell = MomentsCell(self.sizes[name], kind, dtype=_dtype())
            layer = RNN(cell, name=f"{name}_measured", dtype=_dtype())
            state = {}
            for part, spec in layer.state_spec().items():
                key = f"{name}_{part}"
                state[part] = keras.Input(spec.shape[1:], name=key, dtype=spec.dtype)
                self.inputs[key] = state[part]
                self.starts.append((layer.name, part))
            self._moments[name], after = layer(given[name], state, reset=reset)
            self.states |= {f"{name}_{part}": value for part, value in after.items()}

    def scaled(self, name: str, value: Any) -> Any:
        """The input `name` as the stack reads it."""
        if name not in self.of:
            return value
        moments = self._moments[self.of[name]]
        return Scaled(name=f"{name}_scaled", dtype=_dtype())([value, moments])

    def unscaled(self, head: Head | None, parameters: Any, name: str) -> Any:
        """The `parameters` of an output in the units of the first input that is scaled."""
        if not self.of:
            return parameters
        head = Linear(parameters.shape[-1]) if head is None else head
        moments = self._moments[next(iter(self.kinds))]
        return Unscaled(head, name=name, dtype=_dtype())([parameters, moments])

    def _check_output(self, name: str, one: Any) -> None:
        first, kind = next(iter(self.kinds.items()))
        kinds = one.scalings if isinstance(one, Head) else KINDS
        size = one.outputs if isinstance(one, Head) and kinds else one
        if kind not in kinds or size != self.sizes[first]:
            raise ValueError(
                f"with scaling every output is in the units of {first!r}, so it must have its "
                f"{self.sizes[first]} numbers a step and a head that {kind!r} scaling can be undone "
                f"on; received {name!r}, {_checks.shown(one)}"
            )


def _declared(scaling: Any, sizes: dict[str, int]) -> tuple[dict[str, str], dict[str, str]]:
    """For each scaled input the one whose scale it has, and the kinds of those that are measured.

    Raises:
        ValueError: a name or kind that is none.
    """
    if scaling is None:
        return {}, {}
    if isinstance(scaling, str) and len(sizes) == 1:
        scaling = dict.fromkeys(sizes, scaling)
    fits = isinstance(scaling, Mapping) and scaling and set(scaling) <= set(sizes)
    kinds = {name: kind for name, kind in scaling.items() if kind in KINDS} if fits else {}
    for name, kind in scaling.items() if fits else ():
        same = kind in kinds and sizes[kind] == sizes[name]
        fits = fits and (name in kinds or same)
    if not fits:
        raise ValueError(
            f"scaling must be one of {KINDS} for a model with one input of numbers, or a dict from "
            "names of inputs of numbers per step to one of these, or to the name of an input that "
            f"has one, whose scale they then share (of the same size); received "
            f"scaling={_checks.shown(scaling)} for inputs of numbers {sizes}"
        )
    return {name: name if name in kinds else scaling[name] for name in scaling}, kinds


def _dtype() -> str:
    """Scales are kept in full precision, whatever the layers compute in."""
    return full_precision(keras.config.dtype_policy().compute_dtype)
