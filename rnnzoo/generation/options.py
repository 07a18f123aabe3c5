"""What `generate` of all forms shares: its settings, its result, and compiled decoding."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks, backend, decoding
from rnnzoo.decoding.rules import length_rules, token_rules
from rnnzoo.layers.recurrent import State, Tensor

# Compiled functions that a model keeps, those used last.
_KEPT = 16
_LOCK = threading.Lock()

# The name under which the limit of each row goes among the values of a sampler.
_LIMITS = "limits of rows"

# What options have that were not given; None but for these.
_UNSET = {"sampler": "greedy", "min_length": 0, "forbidden": ()}


class Generated(NamedTuple):
    """What a model wrote, as NumPy arrays; with `Beam`, the best `n_best` of each row.

    Attributes:
        tokens: `(batch, [n_best,] max_length)` int32; after the end token, that token (0 where
            there is none).
        lengths: `(batch, [n_best])` int32, tokens before the end token.
        scores: `(batch, [n_best])` float32, log-probability in nats, the end token's included;
            with `Beam`, divided by the length penalty.
        text: strings, one per row, or a list of `n_best` for each where that is above 1; None
            where the model has no vocabulary.
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
    forbidden: tuple[int, ...]
    min_length: int

    def values(self, batch: int) -> dict[str, Tensor]:
        """What may change from call to call of one compiled function, `(batch, ...)` by name."""
        limits = ops.full((batch,), self.max_length, dtype="int32")
        return {**self.sampler.values(batch), _LIMITS: limits}

    def decode(self, step: Callable, state: Any, tokens: Tensor, values: dict) -> Any:
        """Traced: the tokens after `tokens`, in room for more; `values` as `values` gave them."""
        values = dict(values)
        limits = values.pop(_LIMITS)
        return decoding.decode(
            step,
            state,
            tokens,
            self.sampler.with_values(values),
            max_length=room(self.max_length),
            limits=limits,
            end=self.end,
            min_length=self.min_length,
            forbidden=self.forbidden,
        )

    @property
    def key(self) -> tuple | None:
        """What a compiled function depends on; None where nobody knows."""
        if self.sampler.key is None:
            return None
        own = (type(self.sampler), self.sampler.key)
        return (*own, room(self.max_length), self.end, self.min_length, self.forbidden)


def options(
    sampler: Any, max_length: Any, end: Any, min_length: Any, forbidden: Iterable[int]
) -> Options:
    """Checked `Options`; ValueError for lengths, tokens or samplers that can be none."""
    max_length, min_length = length_rules(max_length, min_length)
    return Options(decoding.get(sampler), max_length, *token_rules(end, forbidden), min_length)


def refuse_given(options: dict[str, Any], wanted: str, has: str) -> None:
    """ValueError where one of `options`, which are for models on `wanted`, was given."""
    for name, value in options.items():
        unset = _UNSET.get(name)
        if not (type(value) is type(unset) and value == unset):
            raise ValueError(
                f"{name} is for models on {wanted}; received {name}={_checks.shown(value)} for "
                f"one on {has}"
            )


def room(length: int, parts: int = 1) -> int:
    """`length` rounded up to the next power of two, or to one of `parts` lengths up to that.

    What is compiled for it serves all lengths up to it.
    """
    unit = max(1, (1 << (length - 1).bit_length()) // (2 * parts))
    return -(-length // unit) * unit


def compiled(model: Any, key: tuple | None, build: Callable[[], Callable]) -> Callable:
    """`build()`, a function of a dict of tensors, compiled once for each `key` and `model`.

    The model keeps those used last, and none that failed. A `key` of None is like no other.
    """
    kept = model.generators
    function = kept.get(key) or backend.compile_call(model, build(), through=model.call_with_values)

    def call(inputs: dict) -> dict:
        found = function(inputs)
        if key is not None:
            with _LOCK:
                kept.pop(key, None)
                kept[key] = function
                while len(kept) > _KEPT:
                    del kept[next(iter(kept))]
        return found

    return call


def as_numpy(value: Any) -> Any:
    """`value` with its tensors as NumPy arrays."""
    return keras.tree.map_structure(lambda t: np.array(ops.convert_to_numpy(t)), value)


def texts(vocabulary: Any, tokens: np.ndarray, lengths: np.ndarray) -> list | None:
    """The strings of `tokens`, lists of them where a row has several; None without vocabulary."""
    if vocabulary is None:
        return None
    if tokens.ndim == 3 and tokens.shape[1] == 1:
        tokens, lengths = tokens[:, 0], lengths[:, 0]
    if tokens.ndim == 3:
        return [texts(vocabulary, *row) for row in zip(tokens, lengths)]
    return [vocabulary.decode(row[:length]) for row, length in zip(tokens, lengths)]
