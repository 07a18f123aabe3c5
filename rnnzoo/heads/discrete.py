"""Logits and Bernoulli: one of several classes a step, and yes or no."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.head import Head, Tensor
from rnnzoo.heads.numeric import Distribution, chosen, seeds


class ClassHead(Head):
    """Targets that are class ids, 0 to `classes - 1`.

    Args:
        classes: number of classes, at least 2.
    """

    kind = "classes"

    def __init__(self, classes: int):
        self.classes = _checks.positive_integer("classes", classes)
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2; received classes={classes}")
        self.parameters, self.outputs, self.target_shape = self.classes, self.classes, ()

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this head again."""
        return {"classes": self.classes}

    def _labels(self, targets: Tensor, axes: tuple) -> tuple[Tensor, Tensor]:
        """Class ids of shape `axes`, int32, and whether each is one."""
        targets = _checks.tensor("targets", targets)
        if keras.backend.standardize_dtype(targets.dtype) == "bool":
            targets = ops.cast(targets, "int32")
        given = tuple(targets.shape)
        if len(given) == len(axes) + 1 and given[-1] == 1:
            targets = ops.squeeze(targets, -1)
        if not _checks.alike(tuple(targets.shape), axes):
            raise ValueError(
                f"targets of {self} must be class ids of shape {axes}; received shape {given}"
            )
        labels = ops.cast(targets, "int32")
        whole = ops.equal(ops.cast(labels, targets.dtype), targets)
        known = ops.logical_and(whole, ops.logical_and(labels >= 0, labels < self.classes))
        return ops.clip(labels, 0, self.classes - 1), known

    def _allowed(self, targets: np.ndarray) -> np.ndarray:
        return np.isin(targets, np.arange(self.classes))

    def _domain(self) -> str:
        return f"class ids, 0 to {self.classes - 1}"


@keras.saving.register_keras_serializable(package="rnnzoo")
class Logits(ClassHead):
    """One of several classes; the parameters are unnormalised log-probabilities.

    Args:
        classes: number of classes, at least 2; targets are ids `(batch, [time])`.

    Example:

    >>> import numpy as np
    >>> round(float(Logits(4).log_prob(np.zeros((1, 4)), np.array([3]))[0]), 4)  # log(1/4)
    -1.3863
    """

    def log_prob(self, parameters: Tensor, targets: Tensor) -> Tensor:
        """The log-probability in nats, `(batch, [time])`, -inf where a target is no class id.

        Args:
            parameters: `(batch, [time,] classes)`.
            targets: `(batch, [time])` ids.
        """
        parameters = self._checked(parameters)
        labels, known = self._labels(targets, tuple(parameters.shape)[:-1])
        logs = ops.log_softmax(parameters, axis=-1)
        found = ops.take_along_axis(logs, ops.expand_dims(labels, -1), axis=-1)
        return ops.where(known, ops.squeeze(found, -1), -math.inf)

    def mean(self, parameters: Tensor) -> Tensor:
        """The probability of each class, `(batch, [time,] classes)`."""
        return ops.softmax(self._checked(parameters), axis=-1)

    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable class, `(batch, [time])` int32; of equals, the lowest."""
        return ops.cast(ops.argmax(self._checked(parameters), axis=-1), "int32")

    def sample(self, parameters: Tensor, seed: int | keras.random.SeedGenerator | None = None):
        """Classes drawn at random, `(batch, [time])` int32.

        Args:
            parameters: `(batch, [time,] classes)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
        """
        (seed,) = seeds(seed, 1)
        return ops.cast(chosen(self._checked(parameters), seed), "int32")


@keras.saving.register_keras_serializable(package="rnnzoo")
class Bernoulli(Distribution):
    """Yes or no, 1 or 0, for each of `size` questions; the parameters are logits.

    Args:
        size: questions a step, at least 1; targets are `(batch, [time,] size)`.

    Example:

    >>> import numpy as np
    >>> float(Bernoulli().mean(np.zeros((1, 1)))[0, 0])
    0.5
    """

    raw_names = ("logit",)
    scalings = ()

    def natural(self, parameters: Tensor) -> dict[str, Tensor]:
        """The `logit` of a 1, `(batch, [time,] size)`.

        Args:
            parameters: `(batch, [time,] parameters)`, raw.
        """
        return {"logit": self._checked(parameters)}

    def _log_prob(self, natural: dict[str, Tensor], targets: Tensor) -> Tensor:
        logit = natural["logit"]
        one, zero = ops.equal(targets, 1.0), ops.equal(targets, 0.0)
        found = -ops.softplus(ops.where(one, -logit, logit))
        return ops.where(ops.logical_or(one, zero), found, -math.inf)

    def mean(self, parameters: Tensor) -> Tensor:
        """The probability of a 1, `(batch, [time,] size)`."""
        return ops.sigmoid(self._checked(parameters))

    def mode(self, parameters: Tensor) -> Tensor:
        """1 where it is more probable than 0, `(batch, [time,] size)` int32."""
        return ops.cast(self._checked(parameters) > 0, "int32")

    def _quantiles(self, natural: dict[str, Tensor], p: np.ndarray) -> Tensor:
        logit = natural["logit"]
        # 0 as long as the probability of a 0, sigmoid(-logit), is at least p.
        return ops.cast(-logit < ops.cast(np.log(p) - np.log1p(-p), logit.dtype), logit.dtype)

    def sample(self, parameters: Tensor, seed: int | keras.random.SeedGenerator | None = None):
        """0 or 1 drawn at random, `(batch, [time,] size)` int32.

        Args:
            parameters: `(batch, [time,] parameters)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
        """
        logit = self._checked(parameters)
        (seed,) = seeds(seed, 1)
        two = ops.stack([ops.zeros_like(logit), logit], axis=-1)
        return ops.cast(chosen(two, seed), "int32")

    def _allowed(self, targets: np.ndarray) -> np.ndarray:
        return (targets == 0) | (targets == 1)

    def _domain(self) -> str:
        return "0 or 1"
