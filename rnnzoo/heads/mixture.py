"""Mixtures of normal distributions, of one number or of two that go together."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.normal import normal_log_density, normal_quantiles
from rnnzoo.heads.numeric import (
    Distribution,
    Tensor,
    chosen,
    log_positive,
    moved,
    normal_like,
    positive,
    seeds,
    stretched,
)
from rnnzoo.heads.special import halved

# The strongest correlation: beyond it float32 cannot tell two numbers apart.
_STRONGEST = 0.999


@keras.saving.register_keras_serializable(package="rnnzoo")
class Mixture(Distribution):
    """A mixture of normal distributions (Bishop 1994), in two dimensions with correlation.

    In two dimensions it is the one of Graves (2013, "Generating sequences with recurrent neural
    networks"), for the strokes of a pen. Raw are, one after the other: a logit of the weight,
    `size` means, `size` scales (softplus) and, with a size of 2, a correlation
    (0.999 tanh), each for all components.

    Args:
        components: normal distributions in the mixture, at least 1.
        size: numbers a step, 1 or 2; targets are `(batch, [time,] size)`.

    Example:

    >>> import numpy as np
    >>> head = Mixture(2)
    >>> raw = np.array([[0.0, 0.0, -1.0, 1.0, -9.0, -9.0]], "float32")
    >>> [round(float(q), 2) for q in head.quantile(raw, [0.25, 0.75])[0, 0]]
    [-1.0, 1.0]
    """

    def __init__(self, components: int, size: int = 1):
        self.components = _checks.positive_integer("components", components)
        super().__init__(size)
        _checks.one_of("size", self.size, (1, 2))
        self.parameters = self.components * (1 + 2 * self.size + (self.size == 2))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this head again."""
        return {"components": self.components, "size": self.size}

    def natural(self, parameters: Tensor) -> dict[str, Tensor]:
        """`log_weight`, `(batch, [time,] 1, components)`, and `mean`, `scale` and `log_scale`.

        These are `(batch, [time,] size, components)`. With a size of 2 there is `correlation`,
        shaped as `log_weight`, and `unexplained`, which is 1 - correlation**2.

        Args:
            parameters: `(batch, [time,] parameters)`, raw.
        """
        parameters = self._checked(parameters)
        axes = ops.shape(parameters)[:-1]
        rows = ops.reshape(parameters, (*axes, self.parameters // self.components, self.components))
        size = self.size
        natural = {
            "log_weight": ops.log_softmax(rows[..., :1, :], axis=-1),
            "mean": rows[..., 1 : 1 + size, :],
            "scale": positive(rows[..., 1 + size : 1 + 2 * size, :]),
            "log_scale": log_positive(rows[..., 1 + size : 1 + 2 * size, :]),
        }
        if size == 2:
            raw = rows[..., -1:, :]
            decay = ops.exp(-2.0 * ops.abs(raw))
            steep = 4.0 * decay / ops.square(1.0 + decay)  # 1 - tanh(raw)**2, with all its digits
            natural["correlation"] = _STRONGEST * ops.tanh(raw)
            natural["unexplained"] = (1.0 - _STRONGEST**2) + _STRONGEST**2 * steep
        return natural

    def in_units(self, parameters: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
        """Raw parameters of `scale * target + shift` out of those of a target."""
        parameters, size = self._checked(parameters), self.size
        rows, *means = ops.split(parameters, self.parameters // self.components, axis=-1)
        means, spreads, rest = means[:size], means[size : 2 * size], means[2 * size :]
        shifts = [None] * size if shift is None else ops.split(shift, size, axis=-1)
        scales = ops.split(scale, size, axis=-1)
        means = [moved(*each) for each in zip(means, shifts, scales)]
        spreads = [stretched(*each) for each in zip(spreads, scales)]
        return ops.concatenate([rows, *means, *spreads, *rest], axis=-1)

    def _log_prob(self, natural: dict[str, Tensor], targets: Tensor) -> Tensor:
        log_scale = natural["log_scale"]
        z = (ops.expand_dims(targets, -1) - natural["mean"]) * ops.exp(-log_scale)
        logs = normal_log_density(z[..., :1, :]) - ops.sum(log_scale, axis=-2, keepdims=True)
        if self.size == 2:
            unexplained = natural["unexplained"]
            rest = z[..., 1:, :] - natural["correlation"] * z[..., :1, :]
            logs = logs + normal_log_density(rest / ops.sqrt(unexplained))
            logs = logs - 0.5 * ops.log(unexplained)
        return ops.logsumexp(natural["log_weight"] + logs, axis=-1)

    def mean(self, parameters: Tensor) -> Tensor:
        """The mean of the mixture, `(batch, [time,] size)`."""
        natural = self.natural(parameters)
        return ops.sum(ops.exp(natural["log_weight"]) * natural["mean"], axis=-1)

    def _quantiles(self, natural: dict[str, Tensor], p: np.ndarray) -> Tensor:
        natural = {name: ops.stop_gradient(value) for name, value in natural.items()}
        # Components last, levels before them.
        weight, mean, scale = (
            ops.swapaxes(natural[name], -1, -2) for name in ("log_weight", "mean", "scale")
        )
        weight, dtype = ops.exp(weight), mean.dtype
        ends = mean + scale * ops.cast(normal_quantiles(p)[:, None], dtype)
        low, high = ops.min(ends, axis=-1), ops.max(ends, axis=-1)
        # By the smaller tail, which keeps its digits.
        side = ops.cast(np.where(p < 0.5, 1.0, -1.0), dtype)
        tail = ops.cast(np.minimum(p, 1.0 - p), dtype)

        def above(x: Tensor) -> Tensor:
            z = (ops.expand_dims(x, -1) - mean) / scale
            parts = 0.5 * weight * ops.erfc(-ops.expand_dims(side, -1) * z / math.sqrt(2.0))
            return side * (ops.sum(parts, axis=-1) - tail) > 0

        return halved(low, high, 40, above)

    def sample(self, parameters: Tensor, seed: int | keras.random.SeedGenerator | None = None):
        """Numbers drawn at random, `(batch, [time,] size)`.

        Args:
            parameters: `(batch, [time,] parameters)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
        """
        natural = self.natural(parameters)
        which, spread = seeds(seed, 2)
        component = chosen(natural["log_weight"], which)
        taken = ops.one_hot(component, self.components, dtype=natural["mean"].dtype)
        mean, scale = (ops.sum(natural[n] * taken, axis=-1) for n in ("mean", "scale"))
        z = normal_like(mean, spread)
        if self.size == 2:
            turned = ops.sum(natural["correlation"] * taken, axis=-1) * z[..., :1]
            rest = ops.sqrt(ops.sum(natural["unexplained"] * taken, axis=-1)) * z[..., 1:]
            z = ops.concatenate([z[..., :1], turned + rest], axis=-1)
        return mean + scale * z
