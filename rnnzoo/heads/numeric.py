"""What the heads of numbers share, of which each step has `size`."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.decoding.random import RowSeeds
from rnnzoo.heads.head import Head, Tensor, levels_of

# Kept off 0 so that logarithms and quotients, and their gradients, stay finite in float32.
TINY = 1e-10


class NumericHead(Head):
    """Something said of `size` numbers a step.

    Args:
        size: numbers a step, at least 1. Targets are `(batch, [time,] size)`; with a size of 1
            they may also lack their last axis.
    """

    raw_names: tuple[str, ...] = ()
    scalings = ("mean", "standard", "change")

    def __init__(self, size: int = 1):
        self.size = _checks.positive_integer("size", size)
        self.parameters = len(self.raw_names) * self.size
        self.target_shape, self.outputs = (self.size,), self.size

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this head again."""
        return {"size": self.size}

    def natural(self, parameters: Tensor) -> dict[str, Tensor]:
        """The parameters of the distribution by name, `(batch, [time,] size)` each.

        Args:
            parameters: `(batch, [time,] parameters)`, raw.
        """
        raise NotImplementedError(f"{type(self).__name__} must define natural(parameters)")

    def _raw(self, parameters: Tensor) -> list[Tensor]:
        """The raw parameters in the order of `raw_names`, `(batch, [time,] size)` each."""
        return ops.split(self._checked(parameters), len(self.raw_names), axis=-1)

    def _fitted(self, targets: Tensor, parameters: Tensor) -> Tensor:
        """`targets` as `(batch, [time,] size)` in the dtype of `parameters`."""
        targets = ops.cast(_checks.tensor("targets", targets), parameters.dtype)
        given, axes = tuple(targets.shape), tuple(parameters.shape)[:-1]
        if len(given) == len(axes) and self.size == 1:
            targets = ops.expand_dims(targets, -1)
        wanted = (*axes, self.size)
        if not _checks.alike(tuple(targets.shape), wanted):
            raise ValueError(
                f"targets of {self} must be {wanted} for parameters of shape "
                f"{tuple(parameters.shape)}; received shape {given}"
            )
        return targets

    def check_targets(self, targets: Any, sample_weight: Any = None) -> None:
        """ValueError that names the first target out of the head's domain, or a wrong last axis.

        Args:
            targets: array, `(batch, [time,] size)`.
            sample_weight: None, or weights of the first axes; what has weight 0 may be anything.
        """
        targets = _checks.array("targets", targets)
        shape = targets.shape
        if self.size > 1 and shape[-1:] != (self.size,):
            raise ValueError(
                f"targets of {self} must be (batch, [time,] {self.size}); received shape {shape}"
            )
        super().check_targets(targets, sample_weight)


class Distribution(NumericHead):
    """Distributions of `size` numbers a step, each by itself given the parameters."""

    def log_prob(self, parameters: Tensor, targets: Tensor) -> Tensor:
        """The log-density or log-probability in nats, `(batch, [time])`, -inf where impossible.

        Args:
            parameters: `(batch, [time,] parameters)`.
            targets: `(batch, [time,] size)`; summed over `size`.
        """
        parameters = self._checked(parameters)
        targets = self._fitted(targets, parameters)
        return ops.sum(self._log_prob(self.natural(parameters), targets), axis=-1)

    def quantile(self, parameters: Tensor, p: float | Sequence[float]) -> Tensor:
        """The quantiles of each of the numbers by itself, `(batch, [time,] size)`.

        No gradient runs through those that are found by search.

        Args:
            parameters: `(batch, [time,] parameters)`.
            p: a number between 0 and 1, or several, which become the last axis.
        """
        levels = levels_of(p)
        natural = self.natural(self._checked(parameters))
        by_level = {name: ops.expand_dims(value, -1) for name, value in natural.items()}
        found = self._quantiles(by_level, np.atleast_1d(levels))
        return found if levels.ndim else ops.squeeze(found, -1)

    def _log_prob(self, natural: dict[str, Tensor], targets: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define _log_prob")

    def _quantiles(self, natural: dict[str, Tensor], p: np.ndarray) -> Tensor:
        """`(..., size, levels)` out of parameters `(..., size, 1)` and levels `(levels,)`."""
        raise NotImplementedError(f"{type(self).__name__} must define _quantiles")


def positive(raw: Tensor, least: float = TINY) -> Tensor:
    """softplus of `raw`, kept off 0."""
    return ops.softplus(raw) + least


def log_positive(raw: Tensor) -> Tensor:
    """The logarithm of `positive(raw)`, whose gradient is at most 1.

    That of `log(positive(raw))` is so too, but on its way back it is divided by what is tiny
    and overflows.
    """
    small = raw < -15.0
    low, high = ops.where(small, raw, -15.0), ops.where(small, -15.0, raw)
    # log(softplus(x)) = x - exp(x) / 2 + O(exp(2x))
    tail = ops.logaddexp(low - 0.5 * ops.exp(low), ops.full_like(low, math.log(TINY)))
    return ops.where(small, tail, ops.log(positive(high)))


def moved(values: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
    """`scale * values + shift`."""
    values = values * scale
    return values if shift is None else values + shift


def stretched(raw: Tensor, factor: Tensor) -> Tensor:
    """The number whose softplus is `factor` times that of `raw`, kept off 0."""
    wanted = ops.maximum(ops.softplus(raw) * factor, TINY)
    return wanted + ops.log(-ops.expm1(-wanted))


def seeds(seed: Any, count: int) -> list[Any]:
    """`count` seeds for draws that must not depend on each other; of an int, always the same."""
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return [seed] * count
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ValueError(
            "seed must be None, an integer or a keras.random.SeedGenerator; received "
            f"seed={_checks.shown(seed)}"
        )
    state = np.random.SeedSequence(abs(int(seed)), spawn_key=(int(seed < 0),))
    return [int(number >> 1) for number in state.generate_state(count)]


def uniform_like(x: Tensor, seed: Any) -> Tensor:
    """Numbers of the shape and dtype of `x` in (0, 1), both ends left out."""
    if isinstance(seed, RowSeeds):
        drawn = seed.uniform(x.shape, x.dtype)
    else:
        drawn = keras.random.uniform(ops.shape(x), dtype=x.dtype, seed=seed)
    return drawn * (1.0 - 2.0**-23) + 2.0**-24  # in float32 they are multiples of 2**-23


def normal_like(x: Tensor, seed: Any) -> Tensor:
    """Standard normal numbers of the shape and dtype of `x`."""
    if isinstance(seed, RowSeeds):
        return math.sqrt(2.0) * ops.erfinv(2.0 * uniform_like(x, seed) - 1.0)
    return keras.random.normal(ops.shape(x), dtype=x.dtype, seed=seed)


def chosen(log_weights: Tensor, seed: Any) -> Tensor:
    """Indices drawn by the last axis of unnormalised log-probabilities (Gumbel's trick)."""
    noise = -ops.log(-ops.log(uniform_like(log_weights, seed)))
    return ops.argmax(log_weights + noise, axis=-1)
