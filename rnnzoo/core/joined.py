"""What a core reads: its inputs, as they are declared, embedded and joined into one sequence."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras

from rnnzoo import _checks
from rnnzoo.core.spec import Input, input_of
from rnnzoo.layers.per_step import PerStepRepeat, PerStepTiedEmbedding


@dataclasses.dataclass(frozen=True)
class Tokens:
    """An input of token ids, `(batch, time)` or, where it is static, `(batch,)`, to be embedded.

    Args:
        vocabulary: number of tokens, whose ids are 0 to `vocabulary - 1`.
        embedding: size of a token's embedding; None: the `embedding` of the model, which is the
            first layer's units by default.

    Raises:
        ValueError: a size that is no integer of at least 1.

    Example:

    >>> import rnnzoo
    >>> inputs = {"load": 1, "hour": rnnzoo.Tokens(24, embedding=4)}
    >>> model = rnnzoo.one_to_one(inputs=inputs, units=8, outputs=1)
    >>> model.spec.inputs["hour"].vocabulary, model.core.get_layer("hour_embedding").output_dim
    (24, 4)
    """

    vocabulary: int
    embedding: int | None = None

    def __post_init__(self) -> None:
        size = _checks.positive_integer("vocabulary", self.vocabulary)
        object.__setattr__(self, "vocabulary", size)
        if self.embedding is not None:
            width = _checks.positive_integer("embedding", self.embedding)
            object.__setattr__(self, "embedding", width)


class Declared(NamedTuple):
    """An input as a factory was given it.

    Attributes:
        name: of the input.
        features: numbers of a step or row, None of tokens.
        vocabulary: how many tokens there are, None of numbers.
        embedding: size of a token's embedding.
        per_step: whether it has a time axis.
    """

    name: str
    features: int | None
    vocabulary: int | None
    embedding: int
    per_step: bool

    @property
    def embedding_name(self) -> str:
        """The name of the layer that embeds it."""
        return "embedding" if self.name == "inputs" else f"{self.name}_embedding"


def declared_inputs(
    features: Any, vocabulary: Any, inputs: Any, static: Any, embedding: Any, units: int
) -> list[Declared]:
    """The inputs of a factory, those per step first; arguments as in `rnnzoo.one_to_one`.

    Args:
        features, vocabulary, inputs, static, embedding: as they were given.
        units: size of an embedding where nothing says another.

    Raises:
        ValueError: not exactly one of the first three; a size, name or embedding that is none.
    """
    short = {"features": features, "vocabulary": vocabulary, "inputs": inputs}
    if sum(value is not None for value in short.values()) != 1:
        raise ValueError(
            "exactly one of features (real-valued inputs) and vocabulary (tokens) must be given, "
            "or instead of both inputs (several, by name); received "
            + ", ".join(f"{name}={_checks.shown(value)}" for name, value in short.items())
        )
    if features is not None:
        inputs = {"inputs": _checks.positive_integer("features", features)}
    elif vocabulary is not None:
        inputs = {"inputs": Tokens(_checks.positive_integer("vocabulary", vocabulary))}
    if embedding is not None:
        _checks.positive_integer("embedding", embedding)
    named = {name: (one, True) for name, one in _named("inputs", inputs).items()}
    if not named:
        raise ValueError("inputs must name at least one input per step; received inputs={}")
    for name, one in _named("static", {} if static is None else static).items():
        if name in named:
            raise ValueError(
                f"an input must be named in inputs or in static; received {name!r} in both"
            )
        named[name] = (one, False)
    tokens = [one for one, _ in named.values() if isinstance(one, Tokens)]
    if embedding is not None and all(one.embedding for one in tokens):
        raise ValueError(
            "embedding and tied are for tokens and need vocabulary, or a rnnzoo.Tokens without an "
            f"embedding of its own; received features={_checks.shown(features)}, "
            f"embedding={_checks.shown(embedding)}"
        )
    width = embedding or units
    return [
        Declared(name, None, one.vocabulary, one.embedding or width, per_step)
        if isinstance(one, Tokens)
        else Declared(name, one, None, width, per_step)
        for name, (one, per_step) in named.items()
    ]


def _named(argument: str, given: Any) -> dict[str, int | Tokens]:
    """A dict of sizes and tokens, each checked."""
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{argument} must be a dict from names to sizes or rnnzoo.Tokens; received "
            f"{argument}={_checks.shown(given)}"
        )
    for name, one in given.items():
        check_name(argument, name)
        whole = not isinstance(one, (bool, float)) and hasattr(one, "__index__")
        if not isinstance(one, Tokens) and not (whole and int(one) >= 1):
            raise ValueError(
                f"{argument}[{name!r}] must be a size, an integer of at least 1, or a "
                f"rnnzoo.Tokens; received {_checks.shown(one)}"
            )
    return {name: one if isinstance(one, Tokens) else int(one) for name, one in given.items()}


def check_name(argument: str, name: Any) -> None:
    """ValueError unless `name` can name an input or output, also in an export."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"the names of {argument} must be those that a Python variable can have, as "
            f"'wind_speed'; received {_checks.shown(name)}"
        )


def join(
    declared: list[Declared], tied: bool = False
) -> tuple[dict[str, Any], dict[str, Input], Any, Any]:
    """Input tensors and their declarations by name, what the stack reads, and a tied embedding.

    Embeddings and numbers stand side by side in the order of `declared`; what is static stands
    beside every step.
    """
    tensors, kept, parts, table = {}, {}, [], None
    for one in declared:
        x, value, own = input_layers(
            one.name,
            one.features,
            one.vocabulary,
            one.embedding,
            tied and one.name == "inputs",
            per_step=one.per_step,
        )
        if not one.per_step:
            value = PerStepRepeat(name=f"{one.name}_steps")([value, parts[0]])
        tensors[one.name], kept[one.name] = x, input_of(x, one.vocabulary, one.per_step)
        parts.append(value)
        table = table or own
    joined = parts[0] if len(parts) == 1 else keras.layers.Concatenate(name="joined")(parts)
    return tensors, kept, joined, table


def input_layers(
    name: str,
    features: Any,
    vocabulary: Any,
    embedding: int,
    tied: bool = False,
    steps: Any = None,
    per_step: bool = True,
) -> tuple[Any, Any, Any]:
    """The input `name`, what the stack reads of it, and the embedding layer of a tied model."""
    time = (steps,) if per_step else ()
    if vocabulary is None:
        x = keras.Input((*time, features), name=name)
        return x, x, None
    x = keras.Input(time, dtype="int32", name=name)
    layer = PerStepTiedEmbedding if tied else keras.layers.Embedding
    label = Declared(name, None, vocabulary, embedding, per_step).embedding_name
    table = layer(vocabulary, embedding, name=label)
    return x, table(x), table if tied else None
