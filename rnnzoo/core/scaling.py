"""Scaling by series: inputs divided by what a series is like, outputs brought back to its units.

The scale is measured on the sequence itself, as it goes by: at each step from all values since the
sequence began, that step included. So it is a state like any other: carried, reset, saved and
exported, cut = whole, and nobody has to give a number for a series. A scale measured on a whole
series would look ahead, and one that is given would have to come with every batch, step and
request.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.head import Head
from rnnzoo.heads.linear import Linear
from rnnzoo.heads.loss import full_precision
from rnnzoo.layers.rnn import RNN

Tensor = Any

KINDS = ("mean", "standard", "change")
_STATES = ("moments", "count", "past")

# The least deviation, as a part of the mean of absolute values: that of one value alone is 0.
_LEAST = 1e-3


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How series of different size are brought to one.

    At each step the scale is that of all values since the sequence began, that step included.

    Args:
        kind: 'mean' divides by the mean of absolute values (DeepAR: Salinas et al., 2020);
            'standard' takes the mean away and divides by the standard deviation; 'change' reads
            and says changes from the value `lag` steps before, divided by the mean of their
            absolute values, so that a model that has learnt nothing repeats what was there.
        lag: of 'change', the steps between the values that are compared: 1, or those of a
            season, such as 24 of hourly values. While there is none so far back, it is the first.
        shared: whether the numbers of a step have one scale, instead of one each.

    Raises:
        ValueError: another kind, or a flag that is none.

    Example:

    >>> import numpy as np, rnnzoo
    >>> hourly = rnnzoo.one_to_one(features=1, units=4, outputs=rnnzoo.heads.StudentT(),
    ...                            scaling=rnnzoo.Scaling("change", lag=24))
    >>> x = 1e6 + np.arange(72.0).reshape(1, 72, 1) % 24
    >>> np.round(hourly.generate(x, max_length=3).mean[0, :, 0]).tolist()
    [1000000.0, 1000001.0, 1000002.0]
    """

    kind: str
    lag: int = 1
    shared: bool = False

    def __post_init__(self) -> None:
        _checks.one_of("kind", self.kind, KINDS)
        if _checks.positive_integer("lag", self.lag) > 1 and self.kind != "change":
            raise ValueError(
                f"lag is for kind='change'; received lag={self.lag}, kind={self.kind!r}"
            )
        _checks.flag("shared", self.shared)


@keras.saving.register_keras_serializable(package="rnnzoo")
class MomentsCell(keras.layers.Layer):
    """A cell whose output is its state: running means of what it has read, in float32.

    Args:
        features: numbers a step.
        kind, lag, shared: as `Scaling` has them. The moments of 'mean' are the mean of absolute
            values; of 'standard' also the mean and the variance (Welford, 1962), and what is
            taken from the step; of 'change' the mean of absolute changes, and the values that the
            next step and this one are compared with.
    """

    output_state = "moments"

    def __init__(self, features: int, kind: str, lag: int = 1, shared: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.features, self.kind, self.lag, self.shared = features, kind, lag, shared
        self.output_size = features * {"mean": 1, "standard": 4, "change": 3}[kind]
        self.state_size = [self.output_size, 1] + [lag * features] * (kind == "change")
        self.state_names = _STATES[: len(self.state_size)]

    def call(self, inputs: Tensor, states: list[Tensor], training: bool = False) -> tuple:
        moments, count, *past = states
        size, *rest = ops.split(moments, self.output_size // self.features, axis=-1)
        if self.kind == "change":
            past = ops.where(count > 0, past[0], ops.tile(inputs, [1, self.lag]))
            before = past[:, : self.features]
            past = [ops.concatenate([past[:, self.features :], inputs], axis=-1)]
            changes = ops.maximum(count - self.lag + 1.0, 1.0)
            changed = (self._pooled(ops.abs(inputs - before)) - size) / changes
            size = ops.where(count >= self.lag, size + changed, size)
            found = [size, past[0][:, : self.features], before]
        else:
            found = [size + (self._pooled(ops.abs(inputs)) - size) / (count + 1.0)]
        if self.kind == "standard":
            mean = rest[0] + (self._pooled(inputs) - rest[0]) / (count + 1.0)
            spread = self._pooled((inputs - rest[0]) * (inputs - mean))
            found += [mean, rest[1] + (spread - rest[1]) / (count + 1.0), mean]
        moments = ops.concatenate(found, axis=-1)
        return moments, [moments, count + 1.0, *past]

    def _pooled(self, values: Tensor) -> Tensor:
        """`values`, or their mean in the place of each where they share a scale."""
        if not self.shared:
            return values
        return ops.zeros_like(values) + ops.mean(values, axis=-1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this cell again."""
        own = {name: getattr(self, name) for name in ("features", "kind", "lag", "shared")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="rnnzoo")
class GoingOnCell(MomentsCell):
    """A `MomentsCell` of a decoder, which goes on from where that of its source stopped.

    Its first step is no value of the series, but what a decoder begins with: it is not measured,
    and zeros of it stay zeros.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.state_size = [*self.state_size, 1]
        self.state_names = (*self.state_names, "begun")

    def call(self, inputs: Tensor, states: list[Tensor], training: bool = False) -> tuple:
        *old, begun = states
        new = super().call(inputs, old, training)[1]
        if self.kind != "mean":
            kept, before = ops.split(old[0], [self.output_size - self.features], axis=-1)
            old[0] = ops.concatenate([kept, ops.zeros_like(before)], axis=-1)
        after = [ops.where(begun > 0, *pair) for pair in zip(new, old)]
        return after[0], [*after, ops.ones_like(begun)]


class Measured(NamedTuple):
    """What was measured, `(batch, time, features)` each; a shift of None is 0.

    Attributes:
        before: what is taken from an input that was measured.
        shift: what is taken from another one of its scale, and given back to outputs.
        scale: what both are divided by; of zeros alone it is 1.
    """

    before: Tensor | None
    shift: Tensor | None
    scale: Tensor


def measured(kind: str, moments: Tensor, features: int) -> Measured:
    """What the `moments` of a `MomentsCell` say; no gradient runs through them."""
    moments = ops.stop_gradient(moments)
    size, *rest = ops.split(moments, moments.shape[-1] // features, axis=-1)
    before, shift, scale = None, None, size
    if kind == "standard":
        shift, variance, before = rest
        scale = ops.maximum(ops.sqrt(ops.maximum(variance, 0.0)), _LEAST * size)
    if kind == "change":
        shift, before = rest
        scale = ops.where(size > 0, size, ops.abs(shift))  # as long as there was no change
    return Measured(before, shift, ops.where(scale > 0, scale, ops.ones_like(scale)))


@keras.saving.register_keras_serializable(package="rnnzoo")
class Scaled(keras.layers.Layer):
    """A call is `[values, moments] -> values` of about 1, `(batch, time, features)`.

    Args:
        kind: that of the moments.
        own: whether they are those of the values, and not of another input.
    """

    def __init__(self, kind: str, own: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.kind, self.own = kind, own

    def call(self, inputs: list[Tensor]) -> Tensor:
        values, moments = inputs
        found = measured(self.kind, moments, values.shape[-1])
        shift = found.before if self.own else found.shift
        return (values if shift is None else values - shift) / found.scale

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this layer again."""
        return {**super().get_config(), "kind": self.kind, "own": self.own}


@keras.saving.register_keras_serializable(package="rnnzoo")
class Unscaled(keras.layers.Layer):
    """A call is `[parameters, moments] -> parameters` of a head, in the units of the series.

    Args:
        head: the head.
        kind: that of the moments.
    """

    def __init__(self, head: Head, kind: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.head, self.kind = head, kind

    def call(self, inputs: list[Tensor]) -> Tensor:
        parameters, moments = inputs
        found = measured(self.kind, moments, self.head.outputs)
        return self.head.in_units(parameters, found.shift, found.scale)

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this layer again."""
        head = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), "head": head, "kind": self.kind}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Unscaled":
        head = keras.saving.deserialize_keras_object(config["head"])
        return cls(**{**config, "head": head})


class Scales:
    """The scaling of a core: what `join` reads through it and outputs come back through.

    Args:
        scaling: as `rnnzoo.one_to_one` takes it.
        declared: the inputs; those of numbers per step can be scaled.
        ends: the outputs, by name, each a size or a head.
        whole: whether the core reads whole sequences.
        goes_on: whether it is a decoder's, which goes on from the scale of a source.

    Raises:
        ValueError: a name or kind that is none, an output that cannot come back.
    """

    def __init__(
        self,
        scaling: Any,
        declared: list,
        ends: dict[str, Any],
        whole: bool,
        goes_on: bool = False,
    ):
        self.sizes = {one.name: one.features for one in declared if one.per_step and one.features}
        self.of, self.kinds = _declared(scaling, self.sizes)
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
        self._after: dict[str, dict[str, Any]] = {}
        self._cell = GoingOnCell if goes_on else MomentsCell

    @property
    def names(self) -> list[str]:
        """The names that its layers and states have."""
        parts = ("measured", *_STATES, "begun")
        own = [f"{name}_{part}" for name in self.kinds for part in parts]
        return own + [f"{name}_scaled" for name in self.of]

    @property
    def leading(self) -> str | None:
        """The input whose units the outputs have; None where nothing is scaled."""
        return next(iter(self.kinds), None)

    def measure(self, given: dict[str, Any], reset: Any, mask: Any = None) -> None:
        """Add a layer that measures each input that has a scale of its own."""
        for name, how in self.kinds.items():
            cell = self._cell(self.sizes[name], **dataclasses.asdict(how), dtype=_dtype())
            layer = RNN(cell, name=f"{name}_measured", dtype=_dtype())
            state = {}
            for part, spec in layer.state_spec().items():
                key = f"{name}_{part}"
                state[part] = keras.Input(spec.shape[1:], name=key, dtype=spec.dtype)
                self.inputs[key] = state[part]
                self.starts.append((layer.name, part))
            self._moments[name], after = layer(given[name], state, reset=reset, mask=mask)
            self._after[name] = after
            self.states |= {f"{name}_{part}": value for part, value in after.items()}

    def handed_on(self, name: str) -> dict[str, Any]:
        """The states of the scale that outputs have, for an input `name` to go on from."""
        return {f"{name}_{part}": v for part, v in self._after.get(self.leading, {}).items()}

    def scaled(self, name: str, value: Any) -> Any:
        """The input `name` as the stack reads it."""
        if name not in self.of:
            return value
        source = self.of[name]
        layer = Scaled(
            self.kinds[source].kind, name == source, name=f"{name}_scaled", dtype=_dtype()
        )
        return layer([value, self._moments[source]])

    def unscaled(self, head: Head | None, parameters: Any, name: str) -> Any:
        """The `parameters` of an output in the units of the first input that is scaled."""
        if not self.of:
            return parameters
        head = Linear(parameters.shape[-1]) if head is None else head
        layer = Unscaled(head, self.kinds[self.leading].kind, name=name, dtype=_dtype())
        return layer([parameters, self._moments[self.leading]])

    def _check_output(self, name: str, one: Any) -> None:
        first, how = next(iter(self.kinds.items()))
        kinds = one.scalings if isinstance(one, Head) else Linear.scalings
        size = one.outputs if isinstance(one, Head) and kinds else one
        if how.kind not in kinds or size != self.sizes[first]:
            raise ValueError(
                f"with scaling every output is in the units of {first!r}, so it must have its "
                f"{self.sizes[first]} numbers a step and a head on which {how.kind!r} scaling can "
                f"be undone; received {name!r}, {_checks.shown(one)}"
            )


def _declared(scaling: Any, sizes: dict[str, int]) -> tuple[dict[str, str], dict[str, Scaling]]:
    """For each scaled input the one whose scale it has, and how those are that are measured.

    Raises:
        ValueError: a name or kind that is none.
    """
    if scaling is None:
        return {}, {}
    if isinstance(scaling, (str, Scaling)) and len(sizes) == 1:
        scaling = dict.fromkeys(sizes, scaling)
    fits = isinstance(scaling, Mapping) and bool(scaling) and set(scaling) <= set(sizes)
    given = {
        name: Scaling(one) if isinstance(one, str) and one in KINDS else one
        for name, one in (scaling.items() if fits else ())
    }
    kinds = {name: one for name, one in given.items() if isinstance(one, Scaling)}
    for name, one in given.items():
        same = isinstance(one, str) and one in kinds and sizes[one] == sizes[name]
        fits = fits and (name in kinds or same)
    if not fits:
        raise ValueError(
            f"scaling must be one of {KINDS} or a rnnzoo.Scaling for a model with one input of "
            "numbers, or a dict from names of inputs of numbers per step to one of these, or to "
            "the name of an input that has one, whose scale they then share (of the same size); "
            f"received scaling={_checks.shown(scaling)} for inputs of numbers {sizes}"
        )
    return {name: name if name in kinds else given[name] for name in given}, kinds


def _dtype() -> str:
    """Scales are kept in full precision, whatever the layers compute in."""
    return full_precision(keras.config.dtype_policy().compute_dtype)
