"""Quantiles learnt as such, by the pinball loss."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.head import Tensor, hidden_where_absent, levels_of
from rnnzoo.heads.numeric import NumericHead, moved


@keras.saving.register_keras_serializable(package="rnnzoo")
class Quantiles(NumericHead):
    """Quantiles of each number at given levels, without a distribution (Koenker & Bassett 1978).

    The loss is the pinball loss, summed over numbers and levels. The raw parameters are the
    quantiles, level after level; where they cross, `quantile` sorts them, which makes them no
    worse (Chernozhukov et al. 2010).

    Args:
        levels: numbers between 0 and 1, rising.
        size: numbers a step, at least 1; targets are `(batch, [time,] size)`.

    Example:

    >>> import numpy as np
    >>> head = Quantiles([0.1, 0.5, 0.9])
    >>> [float(q) for q in head.quantile(np.array([[1.0, 3.0, 2.0]]), [0.5, 0.9])[0, 0]]
    [2.0, 3.0]
    """

    kind = "quantiles"

    def __init__(self, levels: Sequence[float] = (0.1, 0.5, 0.9), size: int = 1):
        found = np.atleast_1d(levels_of(levels, "levels"))
        if np.any(np.diff(found) <= 0):
            raise ValueError(
                f"levels must rise, each once; received levels={_checks.shown(levels)}"
            )
        self.levels = tuple(float(level) for level in found)
        super().__init__(size)
        self.parameters = len(self.levels) * self.size

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this head again."""
        return {"levels": list(self.levels), "size": self.size}

    def natural(self, parameters: Tensor) -> dict[str, Tensor]:
        """The `quantiles` in rising order, `(batch, [time,] size, levels)`.

        Args:
            parameters: `(batch, [time,] parameters)`, raw.
        """
        return {"quantiles": ops.sort(self._by_level(parameters), axis=-1)}

    def in_units(self, parameters: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
        """The quantiles of `scale * target + shift` out of those of a target."""
        parts = ops.split(self._checked(parameters), len(self.levels), axis=-1)
        return ops.concatenate([moved(part, shift, scale) for part in parts], axis=-1)

    def losses(self, parameters: Tensor, targets: Tensor, present: Tensor | None = None) -> Tensor:
        """The pinball loss of each step, `(batch, [time])`; 0 where a step is not `present`.

        Args:
            parameters: `(batch, [time,] parameters)`.
            targets: `(batch, [time,] size)`.
            present: None, or bool, `(batch, [time])`.
        """
        given = self._by_level(parameters)
        missed = ops.expand_dims(self._fitted(targets, self._checked(parameters)), -1) - given
        level = ops.cast(np.array(self.levels), given.dtype)
        losses = ops.sum(ops.maximum(level * missed, (level - 1.0) * missed), axis=(-2, -1))
        return hidden_where_absent(losses, present)

    def quantile(self, parameters: Tensor, p: float | Sequence[float]) -> Tensor:
        """The quantiles at `p`, `(batch, [time,] size)`; ValueError unless they are levels.

        Args:
            parameters: `(batch, [time,] parameters)`.
            p: one of `levels`, or several, which become the last axis.
        """
        wanted = levels_of(p)
        places = np.abs(wanted[..., None] - self.levels).argmin(axis=-1)
        if not np.allclose(np.array(self.levels)[places], wanted):
            raise ValueError(
                f"p must be among the levels {list(self.levels)} that were trained; received "
                f"p={_checks.shown(p)}"
            )
        return ops.take(self.natural(parameters)["quantiles"], places, axis=-1)

    def says(self, method: str) -> bool:
        """As `Head.says`; a 'point' only where the median is among the levels."""
        known = method != "point" or np.isclose(self.levels, 0.5).any()
        return bool(known) and super().says(method)

    def _by_level(self, parameters: Tensor) -> Tensor:
        parameters = self._checked(parameters)
        shape = (*ops.shape(parameters)[:-1], len(self.levels), self.size)
        return ops.swapaxes(ops.reshape(parameters, shape), -1, -2)
