"""What an encoder-decoder is built from: all its settings, checked when they are put together."""

import dataclasses
from typing import Any

import keras

from rnnzoo import _checks
from rnnzoo.core.decoder import build_decoder
from rnnzoo.core.encoder import build_encoder
from rnnzoo.core.spec import CoreSpec
from rnnzoo.data.tokens import size_and_vocabulary
from rnnzoo.feed.source_target import Steps, check_end_tokens
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
        self.steps = {side: self._steps(side) for side in ("source", "target")}
        if self.embedding is not None:
            _checks.positive_integer("embedding", self.embedding)
        self.tokens = self.steps["target"].vocabulary
        if self.tokens is not None:
            self.start, self.end, self.tokens = check_end_tokens(self.start, self.end, self.tokens)
        _checks.activation("activation", self.activation)
        self._check_target()
        self._check_layers()
        if self.shared:
            self._check_shared()

    @property
    def vocabularies(self) -> dict[str, Any]:
        """The `Vocabulary` of each side, None where a side has none."""
        return {
            side: size_and_vocabulary(side, getattr(self, f"{side}_vocabulary"))[1]
            for side in ("source", "target")
        }

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
        width = self.decoder_sizes[-1]
        common = {"residual": self.residual, "layer_norm": self.layer_norm}
        first = build_encoder(
            encoder,
            **self.steps["source"]._asdict(),
            embedding=self.embedding or self.encoder_sizes[0],
            decoder_units=self.decoder_sizes,
            memory=self._memory(),
            **common,
        )
        second = build_decoder(
            decoder,
            features=self.target_features,
            vocabulary=self.tokens,
            embedding=self.embedding or self.decoder_sizes[0],
            attention=self.attention,
            memory_width=width,
            input_feeding=self.input_feeding,
            tied=self.tied,
            dropout=self.dropout,
            activation=keras.activations.get(self.activation),
            **common,
        )
        return first, second

    def get_config(self) -> dict[str, Any]:
        """The settings as plain values."""
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        serialize = keras.saving.serialize_keras_object
        config["cell"] = cell_config(self.cell)
        for name in ("source_vocabulary", "target_vocabulary", "activation"):
            if not isinstance(config[name], (str, int, type(None))):
                config[name] = serialize(config[name])
        if self.target_vocabulary is not None and self.start == self.steps["target"].vocabulary:
            config["start"] = config["end"] = None  # the model's own, to be added again
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Blueprint":
        """The blueprint that `get_config` described."""
        config = dict(config)
        for name in ("source_vocabulary", "target_vocabulary", "activation"):
            if isinstance(config[name], dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        config["cell"] = cell_from_config(config["cell"])
        return cls(**config)

    def _layers(self, prefix: str, sizes: list[int], options: dict) -> list:
        return stack_layers(self.layer_class, sizes, prefix, **options)

    def _encoder_layers(self, options: dict) -> list:
        if not self.bidirectional:
            return self._layers("source_", self.encoder_sizes, options)
        return bidirectional_layers(self.layer_class, self.encoder_sizes, "source_", **options)

    def _memory(self) -> str | None:
        if self.attention is None:
            return None
        width = self.encoder_sizes[-1] * (2 if self.bidirectional else 1)
        fits = self.attention == "dot" and width == self.decoder_sizes[-1]
        return "plain" if fits else "projected"

    def _steps(self, side: str) -> Steps:
        features = getattr(self, f"{side}_features")
        vocabulary = getattr(self, f"{side}_vocabulary")
        if (features is None) == (vocabulary is None):
            raise ValueError(
                f"exactly one of {side}_features (real-valued steps) and {side}_vocabulary "
                f"(tokens) must be given; received {side}_features={_checks.shown(features)}, "
                f"{side}_vocabulary={_checks.shown(vocabulary)}"
            )
        if features is not None:
            return Steps(_checks.positive_integer(f"{side}_features", features), None)
        size, _ = size_and_vocabulary(f"{side}_vocabulary", vocabulary)
        return Steps(None, _checks.positive_integer(f"{side}_vocabulary", size))

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
        if self.embedding is not None and self.steps["source"].vocabulary is None and real:
            raise ValueError(
                "embedding is for tokens and needs source_vocabulary or target_vocabulary; "
                f"received embedding={self.embedding}"
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
        widths = [
            steps.features or self.embedding or self.decoder_sizes[0]
            for steps in self.steps.values()
        ]
        if self.encoder_sizes != self.decoder_sizes or widths[0] != widths[1]:
            raise ValueError(
                "shared=True is one RNN for both sides, so units and the size of a step must "
                f"agree; received units={self.units}, encoder_units={self.encoder_units}, source "
                f"steps of size {widths[0]}, target steps of size {widths[1]}. For tokens set "
                "embedding to the size of the other side's features."
            )
