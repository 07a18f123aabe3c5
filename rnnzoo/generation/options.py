"""What `generate` of all forms shares: its settings, its result, and compiled decoding."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks, backend, decoding
from rnnzoo.layers.recurrent import State, Tensor


class Generated(NamedTuple):
    """What a model wrote, as NumPy arrays; with `Beam`, the best `n_best` of each row.

    Attributes:
        tokens: `(batch, [n_best,] max_length)` int32; after the end token, that token (0 where
            there is none).
        lengths: `(batch, [n_best])` int32, tokens before the end token.
        scores: `(batch, [n_best])` float32, log-probability in nats, the end token's included;
            with `Beam`, divided by the length penalty.
        text: strings, one per row or `n_best` of them; None where the model has no vocabulary.
        alignment: `(batch, [n_best,] max_length, source steps)` float32, 0 after the end; None
            without attention.
        state: one-to-one: give it to the next `generate` to go on. None otherwise.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray
    text: list | None = None
    alignment: np.ndarray | None = None
    state: State | None = None


class Options(NamedTuple):
    """How tokens are decoded; the settings of `rnnzoo.decoding.decode`."""

    sampler: decoding.Sampler
    max_length: int
    end: int | None
    min_length: int
    forbidden: tuple[int, ...]

    def decode(self, step: Callable, state: Any, tokens: Tensor, values: dict) -> Any:
        """Traced: the tokens after `tokens`; `values` are what the sampler may change."""
        return decoding.decode(
            step,
            state,
            tokens,
            self.sampler.with_values(values),
            max_length=self.max_length,
            end=self.end,
            min_length=self.min_length,
            forbidden=self.forbidden,
        )

    @property
    def key(self) -> tuple:
        """What a compiled function depends on."""
        return (self.sampler.key, *self[1:])


def options(
    sampler: Any, max_length: Any, end: Any, min_length: Any, forbidden: Iterable[int]
) -> Options:
    """Checked `Options`; ValueError for a length that is no integer of at least 1."""
    max_length = _checks.positive_integer("max_length", max_length)
    return Options(decoding.get(sampler), max_length, end, min_length, tuple(forbidden))


def compiled(model: Any, key: tuple, build: Callable[[], Callable]) -> Callable:
    """`build()`, a function of a dict of tensors, compiled once for each `key` and `model`."""
    if key not in model.generators:
        model.generators[key] = backend.compile_call(model, build(), through=model.call_with_values)
    return model.generators[key]


def as_numpy(value: Any) -> Any:
    """`value` with its tensors as NumPy arrays."""
    return keras.tree.map_structure(lambda t: np.array(ops.convert_to_numpy(t)), value)


def texts(vocabulary: Any, tokens: np.ndarray, lengths: np.ndarray) -> list | None:
    """The strings of `tokens`, nested as `lengths`; None without vocabulary."""
    if vocabulary is None:
        return None
    if tokens.ndim == 3:
        return [texts(vocabulary, *row) for row in zip(tokens, lengths)]
    return [vocabulary.decode(row[:length]) for row, length in zip(tokens, lengths)]


def as_rows(name: str, given: Any, vocabulary: Any) -> list[np.ndarray]:
    """Strings, lists of tokens or an array `(batch, time)` as one array of tokens per row."""
    rows = [given] if isinstance(given, str) else list(given)
    if any(isinstance(row, str) for row in rows):
        if vocabulary is None:
            raise ValueError(
                f"{name} may be strings where the model has a vocabulary; received strings for "
                "a model that was made with a number of tokens. Make it with a "
                "rnnzoo.data.Vocabulary, or encode the strings."
            )
        return [vocabulary.encode(row) for row in rows]
    return [np.asarray(row) for row in rows]
