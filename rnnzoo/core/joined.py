"""What a core reads: its inputs, as they are declared, embedded and joined into one sequence."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras

from rnnzoo import _checks
from rnnzoo.core.scaling import Scales
from rnnzoo.core.spec import Input, input_of
from rnnzoo.layers.characters import NONE, CharacterRNN
from rnnzoo.layers.per_step import PerStepRepeat, PerStepTiedEmbedding
from rnnzoo.layers.stack import bidirectional_layers


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


@dataclasses.dataclass(frozen=True)
class Characters:
    """An input of words as the ids of their characters, `(batch, time, characters)` or, where it
    is static, `(batch, characters)`; a recurrent layer reads each word in both directions.

    After the end of a word its ids are -1. `rnnzoo.data.bucket`, `pack` and `stream` make such
    arrays of lists of words and a `rnnzoo.data.Vocabulary` of characters. The layer has the cell
    of the model; what it gives, `2 * units` numbers for each word, is joined with the other
    inputs (Ling et al., 2015; Plank et al., 2016).

    Args:
        vocabulary: number of characters, whose ids are 0 to `vocabulary - 1`.
        units: size of the layer in each direction.
        embedding: size of a character's embedding; None: `units`.

    Raises:
        ValueError: a size that is no integer of at least 1.

    Example:

    >>> import numpy as np, rnnzoo
    >>> inputs = {"words": rnnzoo.Tokens(1000), "characters": rnnzoo.Characters(26, units=4)}
    >>> model = rnnzoo.one_to_one(inputs=inputs, units=8, outputs=17, bidirectional=True)
    >>> abba_a = np.array([[[0, 1, 1, 0], [0, -1, -1, -1]]])
    >>> model.predict({"words": np.array([[7, 3]]), "characters": abba_a}, verbose=0).shape
    (1, 2, 17)
    """

    vocabulary: int
    units: int
    embedding: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary", "units"):
            size = _checks.positive_integer(name, getattr(self, name))
            object.__setattr__(self, name, size)
        width = self.units if self.embedding is None else self.embedding
        object.__setattr__(self, "embedding", _checks.positive_integer("embedding", width))


class Declared(NamedTuple):
    """An input as a factory was given it.

    Attributes:
        name: of the input.
        features: numbers of a step or row, None of tokens.
        vocabulary: how many tokens there are, None of numbers.
        embedding: size of a token's embedding.
        per_step: whether it has a time axis.
        units: size of the layer that reads the tokens of a step where it has several, or None.
    """

    name: str
    features: int | None
    vocabulary: int | None
    embedding: int
    per_step: bool
    units: int | None = None

    @property
    def width(self) -> int:
        """How much of what the stack reads it is."""
        return self.features or self.embedding

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
    per_step, still = named("inputs", inputs, True), named("static", static, True)
    if not per_step:
        raise ValueError("inputs must name at least one input per step; received inputs={}")
    for name in still:
        if name in per_step:
            raise ValueError(
                f"an input must be named in inputs or in static; received {name!r} in both"
            )
    tokens = [one for one in (per_step | still).values() if isinstance(one, Tokens)]
    if embedding is not None and all(one.embedding for one in tokens):
        raise ValueError(
            "embedding and tied are for tokens and need vocabulary, or a rnnzoo.Tokens without an "
            f"embedding of its own; received features={_checks.shown(features)}, "
            f"embedding={_checks.shown(embedding)}"
        )
    return declared(per_step, still, embedding or units)


def declared(
    per_step: Mapping[str, int | Tokens | Characters],
    static: Mapping[str, int | Tokens | Characters],
    width: int,
) -> list[Declared]:
    """Checked inputs as they are joined: those per step first, then the static ones.

    Args:
        per_step, static: sizes, tokens and characters by name.
        width: of the embeddings that have no size of their own.
    """
    return [
        Declared(name, one, None, width, timed)
        if isinstance(one, int)
        else Declared(
            name, None, one.vocabulary, one.embedding or width, timed, getattr(one, "units", None)
        )
        for inputs, timed in ((per_step, True), (static, False))
        for name, one in inputs.items()
    ]


def named(argument: str, given: Any, words: bool = False) -> dict[str, int | Tokens | Characters]:
    """A dict of sizes, tokens and, if `words`, characters, each checked; an empty one for None."""
    if given is None:
        return {}
    kinds = (Tokens, Characters) if words else (Tokens,)
    names = " or a ".join(f"rnnzoo.{kind.__name__}" for kind in kinds)
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{argument} must be a dict from names to sizes, or to a {names}; "
            f"received {argument}={_checks.shown(given)}"
        )
    found = {}
    for name, one in given.items():
        check_name(argument, name)
        whole = not isinstance(one, (bool, float)) and hasattr(one, "__index__")
        if not isinstance(one, kinds) and not (whole and int(one) >= 1):
            raise ValueError(
                f"{argument}[{name!r}] must be a size, an integer of at least 1, or a {names}; "
                f"received {_checks.shown(one)}"
            )
        found[name] = one if isinstance(one, kinds) else int(one)
    return found


def check_name(argument: str, name: Any) -> None:
    """ValueError unless `name` can name an input or output, also in an export."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"the names of {argument} must be those that a Python variable can have, as "
            f"'wind_speed'; received {_checks.shown(name)}"
        )


def join(
    declared: list[Declared],
    cell: Callable | None = None,
    tied: bool = False,
    scales: Scales | None = None,
    reset: Any = None,
    steps: int | None = None,
    mask: Any = None,
) -> tuple[dict[str, Any], dict[str, Input], Any, Any]:
    """Input tensors and their declarations by name, what the stack reads, and a tied embedding.

    Embeddings and numbers, these through `scales`, stand side by side in the order of `declared`;
    what is static stands beside every step.

    Args:
        declared: the inputs, the first of them per step.
        cell: from `check_cell`, what reads the characters of words.
        tied: whether the embedding of "inputs" is that of the outputs too.
        scales: what divides numbers, and is told where they are; None for numbers as they come.
        reset: first steps of sequences, for `scales`.
        steps: of every call; None for any number.
        mask: True on the steps that are measured, for `scales`; None for all.
    """
    tensors, kept, parts, table = {}, {}, [], None
    for one in declared:
        own = padding = None
        if one.units is None:
            x, value, own = input_layers(
                one.name,
                one.features,
                one.vocabulary,
                one.embedding,
                tied and one.name == "inputs",
                steps,
                per_step=one.per_step,
            )
        else:
            x, value = _characters(one, cell)
            padding = NONE
        if not one.per_step:
            value = PerStepRepeat(name=f"{one.name}_steps")([value, parts[0]])
        tensors[one.name] = x
        kept[one.name] = input_of(x, one.vocabulary, one.per_step, padding)
        parts.append(value)
        table = table or own
    if scales is not None:
        scales.measure(tensors, reset, mask)
        parts = [scales.scaled(one.name, part) for one, part in zip(declared, parts)]
    joined = parts[0] if len(parts) == 1 else keras.layers.Concatenate(name="joined")(parts)
    return tensors, kept, joined, table


def _characters(one: Declared, cell: Callable) -> tuple[Any, Any]:
    """An input of words by their characters, and what is read of it."""
    x = keras.Input((None, None) if one.per_step else (None,), dtype="int32", name=one.name)
    (reader,) = bidirectional_layers(cell, [one.units], f"{one.name}_")
    return x, CharacterRNN(one.vocabulary, one.embedding, reader, name=one.embedding_name)(x)


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
    label = Declared(name, None, vocabulary, embedding, per_step).embedding_name
    if not tied:
        return x, keras.layers.Embedding(vocabulary, embedding, name=label)(x), None
    # As an output layer begins. Keras's own start of an embedding, within 0.05, lets logits and
    # gradients of so little through that some models take three times as long.
    table = PerStepTiedEmbedding(
        vocabulary, embedding, embeddings_initializer="glorot_uniform", name=label
    )
    return x, table(x), table
