"""How time goes through a Keras model, and which of its layers cannot stop at a step."""

from typing import Any, NamedTuple

import keras

from rnnzoo.core.cut import cut_against_whole, gives_the_same
from rnnzoo.core.graph import Copies
from rnnzoo.core.spec import Input
from rnnzoo.core.walked import Walk, input_names, symbols


class Kind(NamedTuple):
    """What is known of a tensor.

    Attributes:
        time: the input whose steps its second axis is; None where it is none.
        moves: whether it depends on steps.
    """

    time: str | None
    moves: bool


_STILL = Kind(None, False)


class TimedInputs(Walk):
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

    def sequence(self, sequence: Any, mask: Any) -> Any:
        masked = super().sequence(sequence, mask)
        self.sources[id(masked)] = self.sources.get(id(sequence), set())
        self.beside.append(self.sources[id(masked)] | self.sources.get(id(mask), set()))
        return masked

    def read(self, layer: Any, sequence: Any, given: bool, outputs: Any, ends: list[Any]) -> None:
        self.sources[id(outputs)] = self._is_read(sequence)

    def _is_read(self, sequence: Any) -> set[str]:
        """The inputs from which the steps of `sequence` come, which have a time axis then."""
        names = self.sources.get(id(sequence), set())
        self.timed |= {name for name in names if len(self.inputs[name].shape) > 1}
        return names

    def seen(self, layer: Any, copy: Any, args: tuple, kwargs: dict, outputs: Any) -> None:
        if isinstance(layer, keras.layers.RepeatVector):
            return
        if isinstance(layer, keras.layers.Bidirectional):
            self._is_read(args[0])
        for y in symbols(outputs):
            given = [x for x in symbols((args, kwargs)) if _may_share_time(x, y)]
            names = set().union(*(self.sources.get(id(x), set()) for x in given))
            self.sources[id(y)] = names
            if len(y.shape) > 2:
                self.beside.append(names)


class TimeAxes(Walk):
    """How time goes through the graph, and which layers cannot stop at a step and go on.

    Attributes:
        whole_only: those layers by name, and why each cannot.
        sites: for each call of a layer that knows masks, the input whose steps it reads.
        leading: the input whose steps the outputs have.
    """

    def __init__(self, model: keras.Model, copies: Copies, inputs: dict, timed: set[str]):
        self.kinds = {
            id(x): Kind(name, True) if name in timed else _STILL for name, x in inputs.items()
        }
        self.same = {name: name for name in timed}
        self.whole_only: dict[str, str] = {}
        self.sites: list[str | None] = []
        self.reads: list[tuple[str, str]] = []
        self.blind = False
        self.tokens: dict[str, list[int]] = {}
        self.compared: set[int] = set()
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

    def kind(self, tensor: Any) -> Kind:
        """What is known of a tensor, with the first of the inputs that share their steps."""
        found = self.kinds.get(id(tensor), _STILL)
        return found._replace(time=self.root(found.time))

    def root(self, name: str | None) -> str | None:
        """The input that stands for all whose steps are those of `name`."""
        while name is not None and self.same[name] != name:
            name = self.same[name]
        return name

    def sequence(self, sequence: Any, mask: Any) -> Any:
        masked, times = super().sequence(sequence, mask), [self.kind(sequence).time]
        self.kinds[id(masked)] = self.kind(sequence)
        times += [] if mask is None or times[0] is None else [self.kind(mask).time]
        self.same |= {time: times[0] for time in times[1:] if time is not None}
        self.sites.append(times[0])
        return masked

    def read(self, layer: Any, sequence: Any, given: bool, outputs: Any, ends: list[Any]) -> None:
        time = self.kind(sequence).time
        self.kinds[id(outputs)] = self.kind(sequence)
        self.kinds |= {id(end): Kind(None, True) for end in ends}
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
        steps = {id(x) for x, kind in zip(given, kinds) if kind.time is not None}
        self._compare(layer, copy, args, kwargs, steps)
        if not timed:
            rest = Kind(None, any(kind.moves for kind in kinds))
            self.kinds |= {id(y): rest for y in made}
            return
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
            self.kinds[id(y)] = Kind(timed[0] if has_time else None, True)

    def _compare(self, layer: Any, copy: Any, args: tuple, kwargs: dict, timed: set[int]) -> None:
        """ValueError where a copy, whose weights are those of `layer`, gives other outputs."""
        if id(copy) in self.compared:  # the check of time has changed its weights
            return
        self.compared.add(id(copy))
        if not gives_the_same(layer, copy, args, kwargs, timed):
            raise ValueError(
                f"the layer {layer.name!r} ({type(layer).__name__}) cannot be copied: made anew by "
                "its get_config, with its weights, it gives other outputs. What they come from "
                "must be in its configuration or a weight."
            )

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


def follow_time(model: keras.Model, copies: Copies, first: TimedInputs) -> TimeAxes:
    """The second walk, with the time axes open where the layers allow it."""

    def follow(open_time: bool) -> TimeAxes:
        inputs = {}
        for name, tensor in first.inputs.items():
            shape = tuple(tensor.shape[1:])
            if open_time and name in first.timed:
                shape = (None, *shape[1:])
            inputs[name] = keras.Input(shape, name=name, dtype=tensor.dtype)
        return TimeAxes(model, copies, inputs, first.timed)

    if all(first.inputs[name].shape[1] is None for name in first.timed):
        return follow(open_time=False)
    try:
        return follow(open_time=True)
    except (ValueError, TypeError):
        return follow(open_time=False)  # such as a Dense layer over the steps of a Flatten


def _may_share_time(x: Any, y: Any) -> bool:
    """Whether the second axis of `y` may come from that of `x`."""
    if len(x.shape) < 2 or len(y.shape) < 2:
        return False
    return x.shape[1] == y.shape[1] or min(len(x.shape), len(y.shape)) > 2
