"""How tokens are chosen: the contract of a sampler, the greedy one, and that of beam search."""

import copy
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo._checks import positive_integer
from rnnzoo.decoding.random import Tensor

# Values that are told apart by type and text, so that equal ones act alike.
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class Sampler:
    """A way of choosing tokens; one of your own overrides `choose`.

    Attributes:
        copies: rows that `step` sees for each row of the batch, next to each other: 1, but of a
            `Beam`.
        varying: names of attributes that `values` gives to a compiled function at each call.
    """

    copies = 1
    varying: tuple[str, ...] = ()

    @property
    def key(self) -> tuple | None:
        """What a function compiled with this sampler depends on, hashable.

        The class, and all attributes but the `varying` ones. None where one of them is neither a
        number, a text, an array nor a nest of these: nothing that was compiled can then be used
        again, unless a class of your own says its key.
        """
        slots = any(getattr(kind, "__slots__", ()) for kind in type(self).__mro__)
        fixed = {name: v for name, v in vars(self).items() if name not in self.varying}
        try:
            return None if slots else (type(self), _frozen(fixed))
        except TypeError:
            return None

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

    >>> Greedy()
    Greedy()
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
        length_penalty: 0 ranks by probability alone; above 0, up to 10, favours longer ones.
        n_best: how many to return, at most `width`.

    Raises:
        ValueError: a setting out of its range.

    >>> Beam(4).copies
    4
    """

    def __init__(self, width: int, length_penalty: float = 0.0, n_best: int = 1):
        self.width = positive_integer("width", width)
        self.length_penalty = _checks.number(
            "length_penalty", length_penalty, "a number from 0 to 10", lambda v: 0 <= v <= 10
        )
        self.n_best = positive_integer("n_best", n_best)
        if self.n_best > self.width:
            raise ValueError(
                f"n_best must be at most width={self.width}; received n_best={self.n_best}"
            )

    @property
    def copies(self) -> int:
        """The width: each hypothesis has a row of the state."""
        return self.width


def _frozen(value: Any) -> tuple:
    """`value` as something hashable, equal for values that act alike; TypeError where unknown."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return (type(value), value.dtype.str, value.shape, value.tobytes())
    if type(value) in _PLAIN or isinstance(value, np.generic):
        return (type(value), repr(value))
    if type(value) in (list, tuple):
        return (type(value), *map(_frozen, value))
    if type(value) is dict:
        return (dict, *((_frozen(name), _frozen(one)) for name, one in value.items()))
    raise TypeError(f"a {type(value).__name__} may change unseen")
