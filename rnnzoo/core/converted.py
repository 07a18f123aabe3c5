"""A Keras model's graph as a core: recurrent layers get states and resets, all else is copied.

The model is walked three times. The first walk, with the sizes that it has, builds the copies
and finds the inputs that have a time axis. The second, with those axes open, follows time through
the graph and finds the layers that cannot stop at a step and go on. The third builds the core.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from rnnzoo.backend.keras_internals import get_keras_mask
from rnnzoo.core.cut import cut_against_whole
from rnnzoo.core.graph import (
    Copies,
    built_like,
    copied_cell,
    free_name,
    is_recurrent,
    recurrent_arguments,
    walk,
)
from rnnzoo.core.spec import CoreSpec, Input, Output, State
from rnnzoo.layers.gru import GRU
from rnnzoo.layers.lstm import LSTM
from rnnzoo.layers.masked import Masked
from rnnzoo.layers.per_step import PerStepDense
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.layers.rnn import RNN
from rnnzoo.layers.simple_rnn import SimpleRNN

# The stock layers that have a layer of rnnzoo with the same weights.
STOCK = {
    keras.layers.LSTM: LSTM,
    keras.layers.GRU: GRU,
    keras.layers.SimpleRNN: SimpleRNN,
    keras.layers.RNN: RNN,
}
# What an explicit state replaces in the configuration of a stock layer, or is set beside it.
_REPLACED = {"return_sequences", "return_state", "stateful", "unroll", "zero_output_for_mask"}
_REPLACED |= {"implementation", "activity_regularizer", "cell"}
# Layers through which the values of an output keep their meaning.
_SAME = (keras.layers.Dropout, keras.layers.Identity, keras.layers.Reshape)


def input_names(model: keras.Model) -> list[str]:
    """What the inputs of the core are called, in the order of `model.inputs`."""
    if len(model.inputs) == 1:
        return ["inputs"]
    return [tensor.name for tensor in model.inputs]


def output_names(model: keras.Model) -> list[str]:
    """What the outputs of the core are called, in the order of `model.outputs`."""
    if len(model.outputs) == 1:
        return ["outputs"]
    if isinstance(model.output, dict):
        return sorted(model.output)
    names: list[str] = []
    for name in model.output_names:
        again, count = name, 1
        while again in names:
            again, count = f"{name}_{count}", count + 1
        names.append(again)
    return names


def converted(model: keras.Model) -> tuple[keras.Model, CoreSpec]:
    """A core with copies of the layers and weights of `model`, and what it takes and gives.

    Args:
        model: a built model of which `rnnzoo.core.graph.is_graph` is true.

    Raises:
        ValueError: a layer that cannot be copied; no time axis that reaches a recurrent layer.
    """
    copies = Copies(_namesake, {"reset", "mask", *input_names(model)})
    first = _FirstWalk(model, copies)
    second = _followed(model, copies, first)
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


def _namesake(layer: Any, name: str) -> Any:
    """What takes the place of `layer` where that is no plain copy; None where it is one."""
    inner = layer.layer if type(layer) is keras.layers.TimeDistributed else layer
    if type(inner) is keras.layers.Dense:
        return built_like(layer, PerStepDense.from_config({**inner.get_config(), "name": name}))
    kind = STOCK.get(type(layer))
    if kind is None:
        return None
    config = {k: v for k, v in layer.get_config().items() if k not in _REPLACED}
    cell = (copied_cell(layer.cell),) if kind is RNN else ()
    return kind(*cell, **{**config, "name": name})


class _Walk:
    """A walk through the model, in which copies take the places of its layers.

    Attributes:
        inputs: those of the model, by name.
        states, after: the states that went in and that came out, by name.
        declared: what each of them is.
        outputs: those of the model, flat.
        makers: for each tensor's id the copy that gave it, and the first tensor that went in.
    """

    def __init__(self, model: keras.Model, copies: Copies, inputs: dict[str, Any]):
        self.copies, self.inputs = copies, inputs
        self.states: dict[str, Any] = {}
        self.after: dict[str, Any] = {}
        self.declared: dict[str, State] = {}
        self.makers: dict[int, tuple[Any, Any]] = {}
        self.taken = set(output_names(model))
        self.held: list[Any] = list(inputs.values())  # an id is a tensor's while it lives
        self.at = model.name
        found = walk(model, list(inputs.values()), self.call)
        self.outputs = keras.tree.flatten(found)

    def call(self, path: tuple, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """What takes the place of `layer(*args, **kwargs)`."""
        self.at = layer.name
        copy = self.copies.of(layer, path)
        if is_recurrent(layer):
            _check_stateless(layer, args, kwargs)
            outputs = self.recurrent(layer, copy, *recurrent_arguments(args, kwargs))
            outputs = _regularized(layer, outputs)
        else:
            if isinstance(layer, keras.layers.Bidirectional):
                sequence, named = recurrent_arguments(args, kwargs)
                sequence = self.sequence(sequence, named.pop("mask"))
                args, kwargs = (sequence,), {k: v for k, v in named.items() if v is not None}
            args, kwargs = self.arguments(copy, args, kwargs)
            outputs = copy(*args, **kwargs)
            self.seen(layer, copy, args, kwargs, outputs)
        self.copies.fill(layer)
        first = next(iter(symbols((args, kwargs))), None)
        for tensor in symbols(outputs):
            self.makers[id(tensor)] = copy, first
            self.held.append(tensor)
        return outputs

    def recurrent(self, layer: Any, copy: Any, sequence: Any, named: dict) -> Any:
        """What the stock `layer` would give, by a copy with explicit state."""
        own = isinstance(layer, RecurrentLayer)
        training = {} if named["training"] is None else {"training": named["training"]}
        sequence = self.sequence(sequence, named["mask"])
        given = _given_state(copy, named["initial_state"])
        keys = self.add_states(copy, [name for name in copy.state_names if name not in given])
        state = given | {name: self.states[key] for name, key in keys.items()}
        reset = {} if self.reset_for(sequence) is None else {"reset": self.reset_for(sequence)}
        outputs, after = copy(sequence, state, **reset, **training)
        self.after |= {key: after[name] for name, key in keys.items()}
        last = after[copy.output_state]
        if last.dtype != copy.compute_dtype:
            last = ops.cast(last, copy.compute_dtype)
        y = outputs if own or layer.return_sequences else last
        self.read(layer, sequence, bool(given), outputs, [last, *after.values()])
        if own or not layer.return_state:
            return y
        names = [name for name in copy.state_names if name != "output"]
        return [y, *(after[name] for name in names)]

    def add_states(self, copy: Any, names: list[str]) -> dict[str, str]:
        """New states of a core for those `names` of a layer's: what each is called."""
        keys = {}
        for name, spec in copy.state_spec().items():
            if name not in names:
                continue
            key = keys[name] = self.free(f"{copy.name}_{name}")
            start = (copy.name, name)
            fixed = isinstance(copy, RNN) or copy.learned_initial_state
            shape = tuple(spec.shape[1:])
            self.declared[key] = State(shape, spec.dtype, start if fixed else None)
            self.states[key] = keras.Input(shape, name=key, dtype=spec.dtype)
        return keys

    def sequence(self, sequence: Any, mask: Any) -> Any:
        """What a layer that knows masks reads, with the mask that counts for it."""
        return sequence if mask is None else Masked(name=self.free("masked"))([sequence, mask])

    def arguments(self, copy: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """What the copy of any other layer is called with."""
        if isinstance(copy, PerStepDense) and kwargs.get("mask") is not None:  # TimeDistributed
            mask, kwargs = kwargs["mask"], {k: v for k, v in kwargs.items() if k != "mask"}
            if get_keras_mask(args[0]) is None:
                args = (self.sequence(args[0], mask), *args[1:])
        return args, kwargs

    def free(self, name: str) -> str:
        """A name for a state or a layer of this walk alone."""
        found = free_name(name, self.taken | self.copies.names)
        self.taken.add(found)
        return found

    def reset_for(self, sequence: Any) -> Any:
        """The reset for a recurrent layer; None for none."""
        return None

    def read(self, layer: Any, sequence: Any, given: bool, outputs: Any, ends: list[Any]) -> None:
        """A recurrent layer was called: all its outputs, and those of its last step."""

    def seen(self, layer: Any, copy: Any, args: tuple, kwargs: dict, outputs: Any) -> None:
        """Another layer was called."""


class _FirstWalk(_Walk):
    """Which inputs have a time axis: where steps may come from that a recurrent layer reads.

    Attributes:
        timed: their names.
    """

    def __init__(self, model: keras.Model, copies: Copies):
        inputs = {
            name: keras.Input(tensor.shape[1:], name=name, dtype=tensor.dtype)
            for name, tensor in zip(input_names(model), model.inputs)
        }
        self.sources = {id(tensor): {name} for name, tensor in inputs.items()}
        self.timed = {n for n, x in inputs.items() if len(x.shape) > 1 and x.shape[1] is None}
        self.beside: list[set[str]] = []
        super().__init__(model, copies, inputs)
        for _ in self.beside:
            for names in self.beside:
                self.timed |= names if names & self.timed else set()

    def read(self, layer: Any, sequence: Any, given: bool, outputs: Any, ends: list[Any]) -> None:
        names = self.sources.get(id(sequence), set())
        self.timed |= {name for name in names if len(self.inputs[name].shape) > 1}
        self.sources[id(outputs)] = names

    def seen(self, layer: Any, copy: Any, args: tuple, kwargs: dict, outputs: Any) -> None:
        if isinstance(layer, keras.layers.RepeatVector):
            return
        for y in symbols(outputs):
            given = [x for x in symbols((args, kwargs)) if _may_share_time(x, y)]
            names = set().union(*(self.sources.get(id(x), set()) for x in given))
            self.sources[id(y)] = names
            if len(y.shape) > 2:
                self.beside.append(names)


class _SecondWalk(_Walk):
    """How time goes through the graph, and which layers cannot stop at a step and go on.

    Attributes:
        whole_only: those layers by name, and why each cannot.
        sites: for each call of a layer that knows masks, the input whose steps it reads.
        leading: the input whose steps the outputs have.
    """

    def __init__(self, model: keras.Model, copies: Copies, inputs: dict, timed: set[str]):
        self.kinds = {
            id(x): _Kind(name, True) if name in timed else _STILL for name, x in inputs.items()
        }
        self.same = {name: name for name in timed}
        self.whole_only: dict[str, str] = {}
        self.sites: list[str | None] = []
        self.reads: list[tuple[str, str]] = []
        self.blind = False
        self.tokens: dict[str, list[int]] = {}
        self.others: set[str] = set()
        super().__init__(model, copies, inputs)
        self.leading = self._leading()
        for name, time in self.reads:
            if self.root(time) != self.leading:
                self.whole_only.setdefault(name, "reads other steps than those of the outputs")

    @property
    def knows_masks(self) -> bool:
        """Whether padding, where the data have a mask for it, changes nothing in the outputs."""
        return not self.blind and self.leading in map(self.root, self.sites)

    def kind(self, tensor: Any) -> "_Kind":
        """What is known of a tensor, with the first of the inputs that share their steps."""
        found = self.kinds.get(id(tensor), _STILL)
        return found._replace(time=self.root(found.time))

    def root(self, name: str | None) -> str | None:
        """The input that stands for all whose steps are those of `name`."""
        while name is not None and self.same[name] != name:
            name = self.same[name]
        return name

    def sequence(self, sequence: Any, mask: Any) -> Any:
        masked = super().sequence(sequence, mask)
        self.kinds[id(masked)] = self.kind(sequence)
        self.sites.append(self.kind(sequence).time)
        return masked

    def read(self, layer: Any, sequence: Any, given: bool, outputs: Any, ends: list[Any]) -> None:
        time = self.kind(sequence).time
        self.kinds[id(outputs)] = self.kind(sequence)
        self.kinds |= {id(end): _Kind(None, True) for end in ends}
        if getattr(layer, "go_backwards", False):
            self.whole_only[layer.name] = "reads from the last step to the first"
        elif given:
            self.whole_only[layer.name] = "starts from a state that another layer gives"
        elif time is None:
            self.whole_only[layer.name] = "reads what are no steps of an input"
        else:
            self.reads.append((layer.name, time))

    def seen(self, layer: Any, copy: Any, args: tuple, kwargs: dict, outputs: Any) -> None:
        self._note_tokens(layer, args)
        given, made = symbols((args, kwargs)), symbols(outputs)
        kinds = [self.kind(x) for x in given]
        timed = [kind.time for kind in kinds if kind.time is not None]
        if not timed:
            rest = _Kind(None, any(kind.moves for kind in kinds))
            self.kinds |= {id(y): rest for y in made}
            return
        steps = {id(x) for x, kind in zip(given, kinds) if kind.time is not None}
        found = cut_against_whole(copy, args, kwargs, steps, outputs)
        if not found.streams:
            what = f"({type(layer).__name__}) gives other outputs for a sequence cut in two"
            self.whole_only[layer.name] = what
            self.blind = self.blind or not getattr(copy, "supports_masking", False)
        elif any(found.timed) and any(kind.moves and kind.time is None for kind in kinds):
            self.whole_only[layer.name] = "joins steps with what comes of all of them"
        else:
            self.same |= {self.root(name): self.root(timed[0]) for name in timed}
        for y, has_time in zip(made, found.timed):
            self.kinds[id(y)] = _Kind(timed[0] if has_time else None, True)

    def declared_inputs(self) -> dict[str, Input]:
        """What the core takes of the data."""
        found = {}
        for name, tensor in self.inputs.items():
            per_step = self.leading is not None and self.kind(tensor).time == self.leading
            sizes = self.tokens.get(name)
            whole = "int" in tensor.dtype or name not in self.others
            vocabulary = min(sizes) if sizes and whole else None
            dtype = tensor.dtype if vocabulary is None or "int" in tensor.dtype else "int32"
            found[name] = Input(tuple(tensor.shape[1 + per_step :]), dtype, vocabulary, per_step)
        return found

    def _note_tokens(self, layer: Any, args: tuple) -> None:
        for name, tensor in self.inputs.items():
            if any(x is tensor for x in symbols(args)):
                if isinstance(layer, keras.layers.Embedding):
                    self.tokens.setdefault(name, []).append(layer.input_dim)
                elif isinstance(layer, keras.Layer):
                    self.others.add(name)

    def _leading(self) -> str:
        """The input whose steps the first output with steps has, or else a recurrent layer."""
        times = [self.kind(y).time for y in self.outputs]
        times += [self.root(time) for time in self.sites]
        times += [self.kind(x).time for x in self.inputs.values()]
        found = next((time for time in times if time is not None), None)
        if found is None:
            shapes = {name: tuple(x.shape) for name, x in self.inputs.items()}
            raise ValueError(
                "from_keras takes a model with an input (batch, time, ...) whose steps a recurrent "
                f"layer reads; received inputs of shapes {shapes}"
            )
        return found


class _Build(_Walk):
    """The walk whose tensors become the core."""

    def __init__(
        self, model: keras.Model, copies: Copies, second: _SecondWalk, reset: Any, mask: Any
    ):
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


class _Kind(NamedTuple):
    """What is known of a tensor.

    Attributes:
        time: the input whose steps its second axis is; None where it is none.
        moves: whether it depends on steps.
    """

    time: str | None
    moves: bool


_STILL = _Kind(None, False)


def symbols(values: Any) -> list[keras.KerasTensor]:
    """The tensors in nested arguments."""
    return [t for t in keras.tree.flatten(values) if isinstance(t, keras.KerasTensor)]


def _followed(model: keras.Model, copies: Copies, first: _FirstWalk) -> _SecondWalk:
    """The second walk, with the time axes open where the layers allow it."""

    def follow(open_time: bool) -> _SecondWalk:
        inputs = {}
        for name, tensor in first.inputs.items():
            shape = tuple(tensor.shape[1:])
            if open_time and name in first.timed:
                shape = (None, *shape[1:])
            inputs[name] = keras.Input(shape, name=name, dtype=tensor.dtype)
        return _SecondWalk(model, copies, inputs, first.timed)

    if all(first.inputs[name].shape[1] is None for name in first.timed):
        return follow(open_time=False)
    try:
        return follow(open_time=True)
    except (ValueError, TypeError):
        return follow(open_time=False)  # such as a Dense layer over the steps of a Flatten


def _without_mask(x: Any) -> Any:
    """`x` as a tensor that brings no mask."""
    symbol = isinstance(x, keras.KerasTensor)
    return ops.copy(x) if symbol and get_keras_mask(x) is not None else x


def _may_share_time(x: Any, y: Any) -> bool:
    """Whether the second axis of `y` may come from that of `x`."""
    if len(x.shape) < 2 or len(y.shape) < 2:
        return False
    return x.shape[1] == y.shape[1] or min(len(x.shape), len(y.shape)) > 2


def _check_stateless(layer: Any, args: tuple, kwargs: dict) -> None:
    given = {name for name in ("state", "reset") if kwargs.get(name) is not None}
    if isinstance(layer, RecurrentLayer) and (len(args) > 1 or given):
        raise ValueError(
            f"the layer {layer.name!r} is given its state in the model already; such a model is "
            "a core, for rnnzoo.RecurrentModel with a rnnzoo.CoreSpec"
        )


def _given_state(copy: Any, initial: Any) -> dict[str, Any]:
    """The state that a stock layer's call is given, by the names of its copy."""
    flat = [] if initial is None else keras.tree.flatten(initial)
    return dict(zip(copy.state_names, flat))


def _regularized(layer: Any, outputs: Any) -> Any:
    """`outputs` with the loss that the stock `layer` adds for them, its states left out here."""
    regularizer = getattr(layer, "activity_regularizer", None)
    if regularizer is None or isinstance(layer, RecurrentLayer):
        return outputs
    return keras.tree.map_structure(
        lambda y: keras.layers.Identity(activity_regularizer=regularizer)(y), outputs
    )


def _declared_outputs(
    model: keras.Model, build: _Walk, kinds: list[_Kind], leading: str
) -> dict[str, Output]:
    found = {}
    for name, y, kind in zip(output_names(model), build.outputs, kinds):
        per_step = kind.time == leading
        shape = tuple(y.shape[1 + per_step :])
        found[name] = Output(shape, y.dtype, per_step, _activation(build, y))
    return found


def _activation(build: _Walk, y: Any) -> str:
    """The name of the activation that an output ends with; of a layer without one, its own."""
    copy, first = build.makers.get(id(y), (None, None))
    layer = copy.layer if isinstance(copy, keras.layers.TimeDistributed) else copy
    if isinstance(layer, _SAME) and first is not None:
        return _activation(build, first)
    if isinstance(layer, (keras.layers.Softmax, keras.layers.ReLU)):
        return type(layer).__name__.lower()
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None) or type(layer).__name__.lower()
