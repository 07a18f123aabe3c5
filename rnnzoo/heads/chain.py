"""The loops over a linear chain of labels: forward sums, best and random paths, marginals.

The log-potential of a step is that of every label after every label before it; before the first
step there is one more, "none", the last. Sums are taken to 0 at each step, so that they stay
exact however long the chain is. A step that is not there hands on what came before it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import backend
from rnnzoo.heads.absent import present_steps

Tensor = Any

# A log-potential of what cannot be; its exponential is 0 in any precision.
_NEVER = -1e9


class Chain:
    """The log-potentials of all steps of a batch, and the loops over them.

    Args:
        classes: number of labels.
        potentials: `(batch, [time,] (classes + 1) * classes)`; steps may be marked as absent.
    """

    def __init__(self, classes: int, potentials: Tensor):
        self.classes, self.single = classes, len(potentials.shape) == 2
        self.potentials = self.stepped(potentials)
        self.present = present_steps(self.potentials)
        self.rows = ops.shape(self.potentials)[0]
        self.dtype = self.potentials.dtype
        present = ops.expand_dims(ops.cast(self.present, self.dtype), -1)
        self.xs = [ops.swapaxes(x, 0, 1) for x in (self.potentials, present)]

    def stepped(self, x: Tensor) -> Tensor:
        """`x` with an axis of time, of one step where it had none."""
        return ops.expand_dims(x, 1) if self.single else x

    def unstepped(self, x: Tensor) -> Tensor:
        """`x` without the axis that `stepped` gave it."""
        return ops.squeeze(x, 1) if self.single else x

    def forward(self, total: Callable) -> tuple[Tensor, Tensor]:
        """For each step the log-weights of its labels, and the log of what they sum up to.

        Args:
            total: how the paths to a label are put together, `ops.logsumexp` or `ops.max`.

        Returns:
            `(batch, time, classes + 1)`, which `total` takes to 0, and `(batch, time)`.
        """
        start = np.full((1, self.classes + 1), _NEVER)
        start[0, -1] = 0.0
        start = ops.broadcast_to(ops.cast(start, self.dtype), (self.rows, self.classes + 1))

        def step(carry: tuple, x: list) -> tuple:
            (before,), (potentials, present) = carry, x
            now = total(ops.expand_dims(before, -1) + self._square(potentials), axis=1)
            sum_ = total(now, axis=-1, keepdims=True)
            now = ops.pad(now - sum_, ((0, 0), (0, 1)), constant_values=_NEVER)
            now = ops.where(present > 0, now, before)
            return (now,), (now, sum_)

        _, (weights, sums) = backend.scan(step, (start,), self.xs, (self.classes + 1, 1))
        return ops.swapaxes(weights, 0, 1), ops.swapaxes(sums, 0, 1)[..., 0]

    def label_before(self, labels: Tensor) -> Tensor:
        """For each step the label of the last step before it that is there, `(batch, time)`."""
        none = ops.zeros((self.rows, 1), self.dtype) + self.classes

        def step(carry: tuple, x: list) -> tuple:
            (before,), (label, present) = carry, x
            return (ops.where(present > 0, label, before),), (before,)

        steps = ops.swapaxes(ops.cast(labels, self.dtype), 0, 1)[..., None]
        _, (before,) = backend.scan(step, (none,), [steps, self.xs[1]], (1,))
        return ops.cast(ops.swapaxes(before, 0, 1)[..., 0], "int32")

    def path(self, weights: Tensor, noise: Tensor) -> Tensor:
        """Labels `(batch, time)` chosen from the last step to the first by `forward`'s weights.

        Args:
            weights: `(batch, time, classes + 1)`.
            noise: of that shape; Gumbel's makes of the choice a draw.
        """
        after = ops.zeros((self.rows, self.classes + 1), self.dtype)
        scores = ops.swapaxes(weights + noise, 0, 1)

        def step(carry: tuple, x: list) -> tuple:
            (after,), (potentials, present, score) = carry, x
            label = ops.argmax((score + after)[:, : self.classes], axis=-1)
            taken = ops.one_hot(label, self.classes, dtype=self.dtype)
            leading = ops.sum(self._square(potentials) * taken[:, None], axis=-1)
            shown = ops.where(present > 0, ops.cast(label, self.dtype)[:, None], -1.0)
            return (ops.where(present > 0, leading, after),), (shown,)

        _, (labels,) = backend.scan(step, (after,), [*self.xs, scores], (1,), reverse=True)
        return ops.cast(ops.swapaxes(labels, 0, 1)[..., 0], "int32")

    def marginals(self) -> Tensor:
        """The probability of each label at each step, `(batch, time, classes)`."""
        weights, _ = self.forward(ops.logsumexp)
        after = ops.zeros((self.rows, self.classes + 1), self.dtype)

        def step(carry: tuple, x: list) -> tuple:
            (after,), (potentials, present, weight) = carry, x
            found = ops.softmax((weight + after)[:, : self.classes], axis=-1)
            beyond = self._square(potentials) + after[:, None, : self.classes]
            before = ops.logsumexp(beyond, axis=-1)
            before = before - ops.max(before, axis=-1, keepdims=True)
            return (ops.where(present > 0, before, after),), (found * present,)

        xs = [*self.xs, ops.swapaxes(weights, 0, 1)]
        _, (found,) = backend.scan(step, (after,), xs, (self.classes,), reverse=True)
        return ops.swapaxes(found, 0, 1)

    def _square(self, potentials: Tensor) -> Tensor:
        return ops.reshape(potentials, (-1, self.classes + 1, self.classes))
