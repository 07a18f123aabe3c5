"""`CoreSpec`: what a functional core takes and gives, declared once and read by all else."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.head import Head
from rnnzoo.layers.recurrent import check_batch_size

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Input:
    """An input that the data bring.

    Attributes:
        shape: of one step `(features,)`, `()` for tokens; of an input per sequence, of one row.
        dtype: what the core computes from.
        vocabulary: of tokens, how many there are: ids lie in `[0, vocabulary)`. None otherwise.
        per_step: whether it has a time axis, `(batch, time, *shape)`, or none, `(batch, *shape)`.
        padding: of tokens of which a step has several, -1, the id that stands for none; None
            where every step has all of them.
    """

    shape: tuple[int | None, ...] = ()
    dtype: str = "float32"
    vocabulary: int | None = None
    per_step: bool = True
    padding: int | None = None

    def __post_init__(self) -> None:
        _checks.shape("shape", self.shape)
        _checks.dtype_name("dtype", self.dtype)
        _checks.optional_count("vocabulary", self.vocabulary)
        _checks.flag("per_step", self.per_step)
        _checks.one_of("padding", self.padding, (None, -1))

    @property
    def rank(self) -> int:
        """Axes of a batch of it."""
        return 1 + self.per_step + len(self.shape)

    @property
    def open_axes(self) -> int:
        """Axes after that of the rows up to the last of no fixed size, that of time included."""
        sizes = (None,) * self.per_step + self.shape
        return max((i for i, size in enumerate(sizes, 1) if size is None), default=0)


@dataclasses.dataclass(frozen=True)
class Output:
    """An output that losses see.

    Attributes:
        shape: of one step, or of one row where it is not per step.
        dtype: of its values.
        per_step: whether it has a time axis. One that has none belongs to the last valid step.
        activation: its name, "linear" where the values are logits or means.
        layer: name of the layer whose bias it ends with, None where there is no such layer.
        head: one of `rnnzoo.heads`, of which it holds the raw parameters; None for plain numbers.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    per_step: bool = True
    activation: str = "linear"
    layer: str | None = None
    head: Head | None = None

    def __post_init__(self) -> None:
        _checks.shape("shape", self.shape)
        _checks.dtype_name("dtype", self.dtype)
        _checks.flag("per_step", self.per_step)
        _checks.text("activation", self.activation)
        _checks.optional_text("layer", self.layer)
        if self.head is not None:
            _checks.instance("head", self.head, Head, "None or a head of rnnzoo.heads")

    @property
    def judged_per_step(self) -> bool:
        """Whether each step has a target and a loss: not where a head judges whole sequences."""
        return self.per_step and (self.head is None or self.head.per_step)


@dataclasses.dataclass(frozen=True)
class State:
    """A state that goes in and comes out.

    Attributes:
        shape: of one row.
        dtype: of its values.
        start: where its value at the start of a sequence comes from: None for zeros, or
            `(layer, name)`, an entry of the dict that `initial_state(rows)` of that layer gives.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    start: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        _checks.shape("shape", self.shape, sized=True)
        _checks.dtype_name("dtype", self.dtype)
        pair = isinstance(self.start, tuple) and len(self.start) == 2
        if self.start is not None and not (pair and all(isinstance(s, str) for s in self.start)):
            raise _checks.refuse("start", "None or the names (layer, state)", self.start)


@dataclasses.dataclass(frozen=True)
class CoreSpec:
    """The contract of a core, a Functional model from inputs and states to outputs and states.

    Attributes:
        form: what kind of core it is, for people and manifests; nothing is decided by it. The
            names of our forms are for cores that are such: 'one_to_one' has an output per step,
            'many_to_one' none; 'encoder_decoder' is not one core.
        inputs: those that the data bring, by name; at least one per step.
        outputs: by name.
        states: by name, the same going in and coming out.
        reset: name of the input `(batch, time)` bool that is True where a sequence begins; None
            where the core has none, and then it cannot carry state from batch to batch.
        mask: name of the input `(batch, time)` bool that is False on padding; None for none.
        whole_only: layers of the core that read whole sequences, by name, and why each does.
            Where there is one, nothing can go on from a state: no reset, step or window.

    Raises:
        ValueError: names that meet, no input per step, or no output; the name of a form that it
            is not.

    Example:

    >>> import rnnzoo
    >>> spec = rnnzoo.one_to_one(features=3, units=4, outputs=2).spec
    >>> spec.outputs["outputs"].shape, sorted(spec.states), spec.reset
    ((2,), ['c_0', 'h_0'], 'reset')
    """

    form: str
    inputs: dict[str, Input]
    outputs: dict[str, Output]
    states: dict[str, State]
    reset: str | None = "reset"
    mask: str | None = None
    whole_only: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _checks.text("form", self.form)
        _checks.named("inputs", self.inputs, Input, "rnnzoo.core.Input")
        _checks.named("outputs", self.outputs, Output, "rnnzoo.core.Output")
        _checks.named("states", self.states, State, "rnnzoo.core.State")
        _checks.optional_text("reset", self.reset)
        _checks.optional_text("mask", self.mask)
        _checks.named("whole_only", self.whole_only, str, "reasons, each a str")
        flags = [name for name in (self.reset, self.mask) if name is not None]
        names = [*self.inputs, *self.states, *flags]
        if len(set(names)) < len(names) or set(self.outputs) & set(self.states):
            raise ValueError(
                "inputs, states, reset and mask of a CoreSpec must have different names, and so "
                f"must outputs and states; received {names} and outputs {list(self.outputs)}"
            )
        if not self.step_inputs or not self.outputs:
            raise ValueError(
                "a CoreSpec must have at least one input per step and one output; received "
                f"inputs {self.inputs}, outputs {list(self.outputs)}"
            )
        timeless = self.of_last_step
        fits = {"one_to_one": not timeless, "many_to_one": timeless, "encoder_decoder": False}
        if not fits.get(self.form, True):
            raise ValueError(
                "form must be 'one_to_one' of a core with an output per step, 'many_to_one' of one "
                f"without, or a name of your own; received form={self.form!r}, of outputs "
                f"per_step={[one.per_step for one in self.outputs.values()]}"
            )
        if self.whole_only and self.reset is not None:
            raise ValueError(
                "a core with layers that read whole sequences takes no reset; received "
                f"reset={self.reset!r}, whole_only={sorted(self.whole_only)}"
            )

    @property
    def step_inputs(self) -> list[str]:
        """Names of the inputs that have a time axis."""
        return [name for name, one in self.inputs.items() if one.per_step]

    @property
    def leading(self) -> str:
        """The input that says how many rows and steps a batch has: the first per step."""
        return self.step_inputs[0]

    @property
    def per_step(self) -> bool:
        """Whether every output has a time axis."""
        return all(output.per_step for output in self.outputs.values())

    @property
    def of_last_step(self) -> bool:
        """Whether no output has a time axis, so that all belong to the last valid step."""
        return not any(output.per_step for output in self.outputs.values())

    def refuse_streams(self, what: str) -> None:
        """ValueError, in which `what` needs a state to go on from, where a layer allows none."""
        if self.whole_only:
            raise ValueError(
                f"{what} needs a model that can stop at any step and go on from its state; this "
                f"one reads whole sequences only: {self.uncut}. Give it whole sequences, without "
                "resets or windows, or leave those layers out."
            )

    @property
    def heads(self) -> dict[str, Head]:
        """The heads of the outputs that have one, by name."""
        return {name: one.head for name, one in self.outputs.items() if one.head is not None}

    @property
    def uncut(self) -> str | None:
        """Why its sequences must never be cut, in words; None where they may be."""
        if self.whole_only:
            return "; ".join(f"{name!r} {why}" for name, why in self.whole_only.items())
        for name, head in self.heads.items():
            if head.whole_sequences:
                return f"the head {head} of {name!r} judges whole sequences"
        return None if self.states else "the model has no state to go on from"

    def check(self, core: keras.Model) -> None:
        """ValueError unless `core` takes and gives what is declared here."""
        flags = [name for name in (self.reset, self.mask) if name is not None]
        for what, declared, found in (
            ("inputs", {*self.inputs, *self.states, *flags}, core.input),
            ("outputs", {*self.outputs, *self.states}, core.output),
        ):
            if not isinstance(found, dict) or set(found) != declared:
                got = sorted(found) if isinstance(found, dict) else type(found).__name__
                raise ValueError(
                    f"a core must be a Functional model whose {what} are a dict with the names "
                    f"that its CoreSpec declares, {sorted(declared)}; received {got}"
                )
        for name, one in self.inputs.items():
            self._compare("input", name, core.input[name], one.rank, one.shape)
        for name, one in self.outputs.items():
            rank = 1 + one.per_step + len(one.shape)
            self._compare("output", name, core.output[name], rank, one.shape)
        for name, one in self.states.items():
            for tensor in (core.input[name], core.output[name]):
                self._compare("state", name, tensor, 1 + len(one.shape), one.shape)
                if tensor.dtype != one.dtype:
                    raise ValueError(
                        f"the state {name!r} of a core must go in and come out in the dtype that "
                        f"its CoreSpec says, {one.dtype!r}; received one of {tensor.dtype!r}"
                    )
        self._check_layers(core)

    def _check_layers(self, core: keras.Model) -> None:
        """ValueError for the name of a layer that `core` has not, or that starts nothing."""
        known = {layer.name: layer for layer in core.layers}
        for name, one in self.outputs.items():
            if one.layer is not None and one.layer not in known:
                raise ValueError(
                    f"the layer of the output {name!r} must be one of the core, {sorted(known)}; "
                    f"received layer={one.layer!r}"
                )
        for name, one in self.states.items():
            layer = None if one.start is None else known.get(one.start[0])
            if one.start is not None and not hasattr(layer, "initial_state"):
                raise ValueError(
                    f"the start of the state {name!r} must name a layer of the core that has "
                    f"initial_state(rows); received start={one.start}, of the layers "
                    f"{sorted(known)}"
                )

    def _compare(self, kind: str, name: str, tensor: Any, rank: int, shape: tuple) -> None:
        given = tuple(tensor.shape)
        if len(given) != rank or given[rank - len(shape) :] != tuple(shape):
            raise ValueError(
                f"the {kind} {name!r} of a core must have {rank} axes that end in {tuple(shape)}, "
                f"as its CoreSpec says; received shape {given}"
            )

    def initial_state(self, core: keras.Model, rows: Any) -> dict[str, Tensor]:
        """The states with which `rows` sequences start, by name."""
        check_batch_size(rows)
        started: dict[str, dict] = {}
        states = {}
        for name, state in self.states.items():
            if state.start is None:
                states[name] = ops.zeros((rows, *state.shape), state.dtype)
                continue
            layer, key = state.start
            if layer not in started:
                started[layer] = core.get_layer(layer).initial_state(rows)
            if key not in started[layer]:
                raise ValueError(
                    f"the start of the state {name!r} must be an entry of what the layer's "
                    f"initial_state gives, one of {sorted(started[layer])}; received "
                    f"start={state.start}"
                )
            states[name] = started[layer][key]
        return states

    def split(self, outputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a core gave, as outputs and states."""
        return (
            {name: outputs[name] for name in self.outputs},
            {name: outputs[name] for name in self.states},
        )

    def bare(self, outputs: dict[str, Tensor]) -> Any:
        """What users see of `outputs`: a dict, or the only one by itself."""
        return outputs if len(self.outputs) > 1 else outputs[next(iter(self.outputs))]

    def get_config(self) -> dict[str, Any]:
        """The declaration as plain values."""
        config = dataclasses.asdict(self)
        for one in config["outputs"].values():
            one["head"] = keras.saving.serialize_keras_object(one["head"])
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CoreSpec":
        """The declaration that `get_config` described."""
        config = dict(config)
        deserialize = keras.saving.deserialize_keras_object
        config["outputs"] = {
            name: {**one, "head": deserialize(one.get("head"))}
            for name, one in config["outputs"].items()
        }
        for field, kind in (("inputs", Input), ("outputs", Output), ("states", State)):
            config[field] = {
                name: kind(**{key: _frozen(value) for key, value in one.items()})
                for name, one in config[field].items()
            }
        return cls(**config)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def input_of(
    tensor: Any,
    vocabulary: int | None = None,
    per_step: bool = True,
    padding: int | None = None,
) -> Input:
    """The declaration of a Functional model's input."""
    shape = tuple(tensor.shape[1 + per_step :])
    return Input(shape, tensor.dtype, vocabulary, per_step, padding)


def output_of(
    tensor: Any,
    activation: Any,
    layer: str | None,
    per_step: bool = True,
    head: Head | None = None,
) -> Output:
    """The declaration of a Functional model's output."""
    shape = tuple(tensor.shape[1 + per_step :])
    name = getattr(activation, "__name__", type(activation).__name__)
    return Output(shape, tensor.dtype, per_step, name, layer, head)


def states_of(tensors: dict[str, Any], starts: Iterable[tuple[str, str]] | None) -> dict:
    """The declarations of states, each with its start (None: zeros for all)."""
    starts = [None] * len(tensors) if starts is None else list(starts)
    return {
        name: State(tuple(tensor.shape[1:]), tensor.dtype, start)
        for (name, tensor), start in zip(tensors.items(), starts, strict=True)
    }
