"""Which tokens may come, and when a row ends."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo._checks import shown
from rnnzoo.decoding.random import Tensor

# Not the lowest float32: that is where TensorFlow's argmax starts from, and sees nothing above.
_LOWEST = -1e38


class Rules:
    """Which tokens may come at which step, and when a row ends.

    Args:
        vocabulary: number of tokens.
        max_length: steps at most, an int or an int32 scalar.
        limits: None or `(batch,)`, steps at most for each row.
        batch: number of rows.
        end: the token that ends a row, or None.
        min_length: steps before `end` may come.
        forbidden: tokens that never come.

    Raises:
        ValueError: tokens outside the vocabulary, or no token left to choose.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        max_length: Any,
        limits: Any,
        batch: Any,
        end: int | None,
        min_length: int,
        forbidden: Iterable[int],
    ):
        forbidden = sorted({_token("forbidden", token, vocabulary) for token in forbidden})
        self.max_length, self.min_length = max_length, min_length
        self.end = None if end is None else _token("end", end, vocabulary)
        self.fill = 0 if end is None else self.end
        early = {*forbidden} | ({self.end} if min_length and end is not None else set())
        if len(early) == vocabulary:
            raise ValueError(
                f"forbidden must leave a token of the {vocabulary} to choose, besides end where "
                f"min_length is above 0; received forbidden={shown(forbidden)}, end={end}, "
                f"min_length={min_length}"
            )
        self._forbidden = _mask(forbidden, vocabulary)
        self._early = _mask(early, vocabulary)
        limits = max_length if limits is None else ops.cast(limits, "int32")
        limits = ops.minimum(limits, ops.cast(max_length, "int32"))
        self.limits = ops.broadcast_to(limits, (batch,))

    def allow(self, logits: Tensor, index: Tensor) -> Tensor:
        """`logits` with -inf for the tokens that may not come at step `index`."""
        if not self._early.any():
            return logits
        blocked = ops.where(index < self.min_length, self._early, self._forbidden)
        # A model's own -inf must stay above that of a token that may not come.
        logits = ops.maximum(logits, _LOWEST)
        return ops.where(blocked, -np.inf, logits)

    def ends(self, tokens: Tensor) -> Tensor:
        """Where `tokens` are the end token, bool."""
        if self.end is None:
            return ops.zeros_like(tokens, dtype="bool")
        return ops.equal(tokens, self.end)


def length_rules(max_length: Any, min_length: Any) -> tuple[int, int]:
    """`max_length` and `min_length`; ValueError for what can be no lengths."""
    max_length = _checks.positive_integer("max_length", max_length)
    min_length = _checks.integer("min_length", min_length, 0)
    if min_length > max_length:
        raise ValueError(
            f"min_length must be at most max_length={max_length}; received min_length={min_length}"
        )
    return max_length, min_length


def token_rules(end: Any, forbidden: Any) -> tuple[int | None, tuple[int, ...]]:
    """`end` and `forbidden`, tokens of some vocabulary; ValueError for what can be no token."""
    if end is not None:
        end = _checks.integer("end", end, 0)
    forbidden = _checks.items("forbidden", forbidden, "tokens")
    return end, tuple(_checks.integer("each token of forbidden", one, 0) for one in forbidden)


def _token(name: str, value: int, vocabulary: int) -> int:
    if value >= vocabulary:
        raise ValueError(
            f"{name} must be integers in [0, {vocabulary}), the vocabulary; received {value}"
        )
    return value


def _mask(tokens: Iterable[int], vocabulary: int) -> np.ndarray:
    mask = np.zeros(vocabulary, "bool")
    mask[list(tokens)] = True
    return mask
