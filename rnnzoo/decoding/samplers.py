"""How tokens are chosen: the contract of a sampler, the greedy one, and that of beam search."""

import copy
import math
from typing import Any

import numpy as np
from keras import ops

from rnnzoo._checks import positive_integer, shown
from rnnzoo.decoding.random import Tensor


class Sampler:
    """A way of choosing tokens; one of your own overrides `choose`.

    Attributes:
        copies: rows that `step` sees for each row of the batch, next to each other.
    """

    copies = 1

    @property
    def key(self) -> tuple:
        """What a compiled function depends on, hashable; what `values` holds is not in it."""
        return (type(self).__name__,)

    def values(self, batch: Any) -> dict[str, Tensor]:
        """Settings that may change from call to call, as `(batch,)` tensors by name."""
        del batch
        return {}

    def with_values(self, values: dict[str, Tensor]) -> "Sampler":
        """A copy that uses `values`, as `values(batch)` gave them."""
        changed = copy.copy(self)
        vars(changed).update(values)
        return changed

    def choose(self, logits: Tensor, index: Tensor) -> Tensor:
        """The tokens `(rows,)` int32 of one step.

        Args:
            logits: `(rows, vocabulary)` float32, -inf where a token is not allowed.
            index: int32 scalar, the step, from 0.
        """
        raise NotImplementedError(f"{type(self).__name__} must define choose(logits, index)")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class Greedy(Sampler):
    """The most probable token at each step; of equals, the lowest.

    >>> Greedy().key
    ('Greedy',)
    """

    def choose(self, logits: Tensor, index: Tensor) -> Tensor:
        """The tokens `(rows,)` int32 with the largest logit of each row."""
        del index
        return ops.cast(ops.argmax(logits, axis=-1), "int32")


class Beam(Sampler):
    """The best hypotheses of a beam search (Graves 2012).

    Hypotheses are ranked by the sum of their log-probabilities divided by ((5 + n) / 6) **
    length_penalty (Wu et al. 2016), where n counts their tokens, the end token included. One
    that has ended keeps its score. Of equals, the lower beam comes first, then the lower token.

    Args:
        width: hypotheses kept at each step.
        length_penalty: 0 ranks by probability alone; above 0 favours longer ones.
        n_best: how many to return, at most `width`.

    Raises:
        ValueError: a setting out of its range.

    >>> Beam(4).copies
    4
    """

    def __init__(self, width: int, length_penalty: float = 0.0, n_best: int = 1):
        self.width = positive_integer("width", width)
        if not (is_number(length_penalty) and 0 <= length_penalty < math.inf):
            raise ValueError(
                "length_penalty must be a number of at least 0; "
                f"received length_penalty={shown(length_penalty)}"
            )
        self.length_penalty = float(length_penalty)
        self.n_best = positive_integer("n_best", n_best)
        if self.n_best > self.width:
            raise ValueError(
                f"n_best must be at most width={self.width}; received n_best={self.n_best}"
            )

    @property
    def copies(self) -> int:
        """The width: each hypothesis has a row of the state."""
        return self.width

    @property
    def key(self) -> tuple:
        """All settings."""
        return (*super().key, self.width, self.length_penalty, self.n_best)


def is_number(value: Any) -> bool:
    """Whether `value` is a Python or NumPy number."""
    number = isinstance(value, (int, float, np.integer, np.floating))
    return number and not isinstance(value, bool)
