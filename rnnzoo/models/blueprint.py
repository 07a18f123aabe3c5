"""What an encoder-decoder is built from: all its settings, checked when they are put together."""

import dataclasses
from typing import Any

import keras

from rnnzoo import _checks
from rnnzoo.core.decoder import build_decoder
from rnnzoo.core.encoder import PREFIX, build_encoder
from rnnzoo.core.joined import Declared, Tokens, declared, named
from rnnzoo.core.network import state_names
from rnnzoo.core.scaling import Scales, Scaling
from rnnzoo.core.spec import CoreSpec, Input
from rnnzoo.data.pairs import KEYS
from rnnzoo.data.tokenizer import kept
from rnnzoo.data.vocabularies import size_and_vocabulary
from rnnzoo.feed.source_target import check_end_tokens
from rnnzoo.heads.head import Head
from rnnzoo.layers.stack import (
    bidirectional_layers,
    cell_config,
    cell_from_config,
    check_cell,
    check_residual,
    check_units,
    stack_layers,
)

ATTENTION = (None, "dot", "additive")
FLAGS = ("input_feeding", "shared", "bidirectional", "tied", "residual", "layer_norm")
NAMED = ("inputs", "static", "target_inputs")

# Names of tensors that batches, cores and signatures have beside the inputs.
_TAKEN = {*KEYS, "inputs", "outputs", "mask", "first", "before", "truth", "memory", "alignment"}
_TAKEN |= {"fed", "place", "joined", "text", "steps", "max_length", "temperature", "seed", "values"}


@dataclasses.dataclass
class Blueprint:
    """The settings of `rnnzoo.encoder_decoder`, under the same names.

    Raises:
        ValueError: a setting that is missing, contradicts another or is out of range.
    """

    units: Any
    source_features: int | None = None
    source_vocabulary: Any = None
    target_features: int | None = None
    target_vocabulary: Any = None
    encoder_units: Any = None
    cell: Any = "lstm"
    embedding: int | None = None
    attention: str | None = None
    input_feeding: bool = False
    shared: bool = False
    bidirectional: bool = False
    tied: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    residual: bool = False
    layer_norm: bool = False
    activation: Any = None
    start: int | None = None
    end: int | None = None
    inputs: Any = None
    static: Any = None
    target_inputs: Any = None
    outputs: Any = None
    scaling: Any = None

    def __post_init__(self):
        self.decoder_sizes = check_units(self.units)
        self.encoder_sizes = self.decoder_sizes
        if self.encoder_units is not None:
            self.encoder_sizes = check_units(self.encoder_units, "encoder_units")
        self.layer_class = check_cell(self.cell)
        self.dropout = _checks.fraction("dropout", self.dropout)
        self.recurrent_dropout = _checks.fraction("recurrent_dropout", self.recurrent_dropout)
        _checks.one_of("attention", self.attention, ATTENTION)
        for name in FLAGS:
            _checks.flag(name, getattr(self, name))
        self.vocabularies: dict[str, Any] = {}
        self._check_head()
        source, target = self._side("source", self.inputs), self._side("target")
        beside = named("target_inputs", self.target_inputs)
        self.still = named("static", self.static)
        _check_names([*source, *self.still, *beside], {"source"} & set(source))
        self.sides = {"source": source, "target": target | beside}
        if self.embedding is not None:
            _checks.positive_integer("embedding", self.embedding)
        self.tokens = getattr(self.sides["target"]["target"], "vocabulary", None)
        if self.tokens is not None:
            self.start, self.end, self.tokens = check_end_tokens(self.start, self.end, self.tokens)
        _checks.activation("activation", self.activation)
        self._check_target()
        self._check_layers()
        self._scales("source")
        if self.shared:
            self._check_shared()

    def inputs_of(self, side: str) -> dict[str, Input]:
        """What batches bring of a side, "source", "target" or "static", as they are to be read."""
        per_step = side != "static"
        return {
            name: Input((), "int32", one.vocabulary, per_step)
            if isinstance(one, Tokens)
            else Input((one,), per_step=per_step)
            for name, one in (self.sides[side] if per_step else self.still).items()
        }

    def declared(self, side: str) -> list[Declared]:
        """What the core of a side reads; the target of the step before is its "inputs"."""
        inputs = dict(self.sides[side])
        if side == "target":
            target = inputs.pop("target")
            inputs = {"inputs": target if self.tokens is None else Tokens(self.tokens), **inputs}
        sizes = self.encoder_sizes if side == "source" else self.decoder_sizes
        return declared(inputs, self.still, self.embedding or sizes[0])

    def models(
        self, policy: Any
    ) -> tuple[tuple[keras.Model, CoreSpec], tuple[keras.Model, CoreSpec]]:
        """The functional encoder and decoder, newly built, whose layers have the dtype `policy`.

        Each stands beside what it declares.
        """
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)  # Keras keeps it by thread
        try:
            return self._models()
        finally:
            keras.config.set_dtype_policy(before)

    def _models(self) -> tuple[tuple[keras.Model, CoreSpec], tuple[keras.Model, CoreSpec]]:
        options = {"dropout": self.dropout, "recurrent_dropout": self.recurrent_dropout}
        decoder = self._layers("" if self.shared else "target_", self.decoder_sizes, options)
        encoder = decoder if self.shared else self._encoder_layers(options)
        source, target = self._scales("source"), self._scales("target")
        self._check_layer_names([*encoder, *decoder], source.names + target.names)
        width = self.decoder_sizes[-1]
        common = {"residual": self.residual, "layer_norm": self.layer_norm}
        first = build_encoder(
            encoder,
            declared=self.declared("source"),
            decoder_units=self.decoder_sizes,
            memory=self._memory(),
            scales=source,
            **common,
        )
        second = build_decoder(
            decoder,
            declared=self.declared("target"),
            attention=self.attention,
            memory_width=width,
            input_feeding=self.input_feeding,
            tied=self.tied,
            dropout=self.dropout,
            activation=keras.activations.get(self.activation),
            output=self.outputs or self.tokens or self.target_features,
            scales=target,
            **common,
        )
        return first, second

    def get_config(self) -> dict[str, Any]:
        """The settings as plain values."""
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        serialize = keras.saving.serialize_keras_object
        config["cell"] = cell_config(self.cell)
        own = None if self.tokens is None else self.inputs_of("target")["target"].vocabulary
        for side, known in self.vocabularies.items():
            if known is not None:
                config[f"{side}_vocabulary"] = kept(known, self.inputs_of(side)[side].vocabulary)
        if not isinstance(config["activation"], (str, type(None))):
            config["activation"] = serialize(config["activation"])
        if own is not None and self.start == own:
            config["start"] = config["end"] = None  # the model's own, to be added again
        for name in NAMED:
            if config[name] is not None:
                config[name] = {
                    key: dataclasses.asdict(one) if isinstance(one, Tokens) else int(one)
                    for key, one in config[name].items()
                }
        if self.outputs is not None:
            config["outputs"] = serialize(self.outputs)
        scales = self._scales("source")
        config["scaling"] = {
            key: dataclasses.asdict(scales.kinds[key]) if key in scales.kinds else other
            for key, other in scales.of.items()
        } or None
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Blueprint":
        """The blueprint that `get_config` described."""
        config = dict(config)
        for name in ("source_vocabulary", "target_vocabulary", "activation", "outputs"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        config["cell"] = cell_from_config(config["cell"])
        for name in NAMED:
            if config.get(name) is not None:
                config[name] = {
                    key: Tokens(**one) if isinstance(one, dict) else one
                    for key, one in config[name].items()
                }
        if config.get("scaling") is not None:
            config["scaling"] = {
                key: Scaling(**one) if isinstance(one, dict) else one
                for key, one in config["scaling"].items()
            }
        return cls(**config)

    def _layers(self, prefix: str, sizes: list[int], options: dict) -> list:
        return stack_layers(self.layer_class, sizes, prefix, **options)

    def _encoder_layers(self, options: dict) -> list:
        if not self.bidirectional:
            return self._layers("source_", self.encoder_sizes, options)
        return bidirectional_layers(self.layer_class, self.encoder_sizes, "source_", **options)

    def _scales(self, side: str) -> Scales:
        """The scaling of a side's core, newly made: it is measured on the source, and goes on."""
        ends = {"outputs": self.outputs or self.target_features}
        found = Scales(self.scaling, self.declared("source"), ends, self.bidirectional)
        if side == "source":
            return found
        scaling = {"inputs": found.kinds[found.leading]} if found.of else None
        return Scales(scaling, self.declared("target"), ends, False, goes_on=True)

    def _memory(self) -> str | None:
        if self.attention is None:
            return None
        width = self.encoder_sizes[-1] * (2 if self.bidirectional else 1)
        fits = self.attention == "dot" and width == self.decoder_sizes[-1]
        return "plain" if fits else "projected"

    def _side(self, side: str, inputs: Any = None) -> dict[str, int | Tokens]:
        """The sizes and tokens of a side's steps, by the names that batches have.

        Its vocabulary, None where it has none, is written down in `vocabularies`.
        """
        self.vocabularies[side] = None
        features = getattr(self, f"{side}_features")
        vocabulary = getattr(self, f"{side}_vocabulary")
        if sum(given is not None for given in (features, vocabulary, inputs)) != 1:
            more = side == "source"
            raise ValueError(
                f"exactly one of {side}_features (real-valued steps) and {side}_vocabulary "
                f"(tokens) must be given{', or instead inputs (several, by name)' * more}; "
                f"received {side}_features={_checks.shown(features)}, "
                f"{side}_vocabulary={_checks.shown(vocabulary)}"
                f"{f', inputs={_checks.shown(inputs)}' * more}"
            )
        if inputs is not None:
            found = named("inputs", inputs)
            if not found:
                raise ValueError("inputs must name at least one input; received inputs={}")
            return found
        if features is not None:
            return {side: _checks.positive_integer(f"{side}_features", features)}
        size, self.vocabularies[side] = size_and_vocabulary(f"{side}_vocabulary", vocabulary)
        return {side: Tokens(_checks.positive_integer(f"{side}_vocabulary", size))}

    def _check_layer_names(self, layers: list, others: list[str]) -> None:
        """ValueError where an input has the name of a layer or of its state, or one of `others`."""
        states = state_names(layers)
        names = {*states, *(PREFIX + name for name in states), *(layer.name for layer in layers)}
        names |= set(others)
        taken = names & {*self.sides["source"], *self.still, *self.sides["target"]}
        if taken:
            raise ValueError(
                "inputs, static and target_inputs must have names that no layer and no state of "
                f"the model has; received names that are taken: {sorted(taken)}"
            )

    def _check_head(self) -> None:
        """The size of the target where its head has it; ValueError for a head that cannot be."""
        head = self.outputs
        if head is None:
            return
        fits = isinstance(head, Head) and head.target_shape == (head.outputs,)
        if not fits or not (head.says("mean") or head.says("quantile")):
            raise _checks.refuse(
                "outputs", "None or a head of numbers, as rnnzoo.heads.StudentT()", head
            )
        if self.target_features is None and self.target_vocabulary is None:
            self.target_features = head.outputs
        if self.target_vocabulary is not None or self.target_features != head.outputs:
            raise ValueError(
                "outputs is a head of real-valued targets, whose target_features it has or which "
                f"are left out; received outputs={head}, of {head.outputs} numbers, "
                f"target_features={_checks.shown(self.target_features)}, "
                f"target_vocabulary={_checks.shown(self.target_vocabulary)}"
            )

    def _check_target(self) -> None:
        real = self.tokens is None
        if real and (self.tied or self.start is not None or self.end is not None):
            raise ValueError(
                "tied, start and end are for target tokens and need target_vocabulary; received "
                f"target_features={self.target_features}, tied={self.tied}, "
                f"start={_checks.shown(self.start)}, end={_checks.shown(self.end)}"
            )
        if not real and self.activation is not None:
            raise ValueError(
                "activation is for real-valued targets: the outputs of target tokens are logits; "
                f"received activation={_checks.shown(self.activation)}"
            )
        if self.outputs is not None and self.activation is not None:
            raise ValueError(
                "activation is for targets that are given by size: a head has its own; received "
                f"activation={_checks.shown(self.activation)}, outputs={self.outputs}"
            )
        if not real and self.scaling is not None:
            raise ValueError(
                "scaling is for real-valued targets, which are in the units of the source; "
                f"received scaling={_checks.shown(self.scaling)} for target tokens"
            )
        inputs = [one for side in (*self.sides.values(), self.still) for one in side.values()]
        if self.embedding is not None and not any(
            isinstance(one, Tokens) and one.embedding is None for one in inputs
        ):
            raise ValueError(
                "embedding is for tokens and needs source_vocabulary or target_vocabulary, or a "
                f"rnnzoo.Tokens without one of its own; received embedding={self.embedding}"
            )
        width = self.decoder_sizes[-1]
        if self.tied and (self.embedding or self.decoder_sizes[0]) != width:
            raise ValueError(
                "tied=True uses the target embedding as output weights, so embedding must equal "
                f"the last of units; received embedding={self.embedding}, units={self.units}"
            )

    def _check_layers(self) -> None:
        for sizes in (self.encoder_sizes, self.decoder_sizes):
            check_residual(self.residual, sizes)
        if self.input_feeding and self.attention is None:
            raise ValueError(
                "input_feeding feeds what was attended to and needs attention 'dot' or "
                "'additive'; received attention=None"
            )

    def _check_shared(self) -> None:
        if self.bidirectional or self.input_feeding:
            raise ValueError(
                "shared=True is one RNN for both sides: it can neither read in both directions "
                f"nor be fed more on one side; received bidirectional={self.bidirectional}, "
                f"input_feeding={self.input_feeding}"
            )
        widths = [sum(one.width for one in self.declared(side)) for side in self.sides]
        if self.encoder_sizes != self.decoder_sizes or widths[0] != widths[1]:
            raise ValueError(
                "shared=True is one RNN for both sides, so units and the size of a step must "
                f"agree; received units={self.units}, encoder_units={self.encoder_units}, source "
                f"steps of size {widths[0]}, target steps of size {widths[1]}. For tokens set "
                "embedding to the size of the other side's features."
            )


def _check_names(names: list[str], own: set[str]) -> None:
    """ValueError where two inputs have one name, or one that is taken and not its `own`."""
    taken = (_TAKEN - own) & set(names) | {name for name in names if names.count(name) > 1}
    if taken:
        raise ValueError(
            "inputs, static and target_inputs must have different names, which no other "
            f"tensor of the model has; received names that are taken: {sorted(taken)}"
        )
