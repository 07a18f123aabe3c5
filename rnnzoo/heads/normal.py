"""Normal and Student's t: numbers with a centre and a spread."""

import math
from statistics import NormalDist

import keras
import numpy as np
from keras import ops

from rnnzoo.heads.numeric import (
    Distribution,
    Tensor,
    log_positive,
    moved,
    normal_like,
    positive,
    seeds,
    stretched,
    uniform_like,
)
from rnnzoo.heads.special import halved, incomplete_beta, log_gamma_half_step

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

# From here on 1 + z**2 is z**2 in any precision that counts.
_FAR = 1e4


def normal_log_density(z: Tensor) -> Tensor:
    """The log-density of the standard normal distribution."""
    return -0.5 * z * z - HALF_LOG_TWO_PI


def normal_quantiles(p: np.ndarray) -> np.ndarray:
    """The quantiles of the standard normal distribution, float64."""
    return np.array([NormalDist().inv_cdf(float(level)) for level in p])


@keras.saving.register_keras_serializable(package="rnnzoo")
class Normal(Distribution):
    """A normal distribution of each number: `mean`, and `scale = softplus(raw)`.

    Args:
        size: numbers a step, at least 1; targets are `(batch, [time,] size)`.

    Example:

    >>> import numpy as np
    >>> head = Normal()
    >>> raw = np.array([[2.0, 0.5413249]], "float32")  # mean 2, scale 1
    >>> [round(float(q), 3) for q in head.quantile(raw, [0.5, 0.975])[0, 0]]
    [2.0, 3.96]
    """

    raw_names = ("mean", "scale")

    def natural(self, parameters: Tensor) -> dict[str, Tensor]:
        """`mean`, `scale` (the standard deviation) and its logarithm, `log_scale`.

        They are `(batch, [time,] size)` each.

        Args:
            parameters: `(batch, [time,] parameters)`, raw.
        """
        mean, scale = self._raw(parameters)
        return {"mean": mean, "scale": positive(scale), "log_scale": log_positive(scale)}

    def in_units(self, parameters: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
        """Raw parameters of `scale * target + shift` out of those of a target."""
        mean, spread = self._raw(parameters)
        return ops.concatenate([moved(mean, shift, scale), stretched(spread, scale)], axis=-1)

    def _log_prob(self, natural: dict[str, Tensor], targets: Tensor) -> Tensor:
        log_scale = natural["log_scale"]
        z = (targets - natural["mean"]) * ops.exp(-log_scale)
        return normal_log_density(z) - log_scale

    def mean(self, parameters: Tensor) -> Tensor:
        """The mean, `(batch, [time,] size)`."""
        return self._raw(parameters)[0]

    def mode(self, parameters: Tensor) -> Tensor:
        """The mean, `(batch, [time,] size)`."""
        return self.mean(parameters)

    def _quantiles(self, natural: dict[str, Tensor], p: np.ndarray) -> Tensor:
        mean, scale = natural["mean"], natural["scale"]
        return mean + scale * ops.cast(normal_quantiles(p), mean.dtype)

    def sample(self, parameters: Tensor, seed: int | keras.random.SeedGenerator | None = None):
        """Numbers drawn at random, `(batch, [time,] size)`.

        Args:
            parameters: `(batch, [time,] parameters)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
        """
        natural = self.natural(parameters)
        (seed,) = seeds(seed, 1)
        return natural["mean"] + natural["scale"] * normal_like(natural["mean"], seed)


@keras.saving.register_keras_serializable(package="rnnzoo")
class StudentT(Distribution):
    """Student's t distribution of each number, which outliers do not drag along.

    `location`, `scale = softplus(raw)`, and `degrees = 1 + softplus(raw)` of freedom, so that
    there is a mean (Lange, Little & Taylor 1989).

    Args:
        size: numbers a step, at least 1; targets are `(batch, [time,] size)`.

    Example:

    >>> import numpy as np
    >>> head = StudentT()
    >>> raw = np.array([[0.0, 0.5413249, 8.999877]], "float32")  # scale 1, 10 degrees
    >>> round(float(head.quantile(raw, 0.975)[0, 0]), 3)
    2.228
    """

    raw_names = ("location", "scale", "degrees")

    def natural(self, parameters: Tensor) -> dict[str, Tensor]:
        """`location`, `scale` and `degrees`, `(batch, [time,] size)` each.

        Args:
            parameters: `(batch, [time,] parameters)`, raw.
        """
        location, scale, degrees = self._raw(parameters)
        return {
            "location": location,
            "scale": positive(scale),
            "degrees": positive(degrees, 1.0),
        }

    def in_units(self, parameters: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
        """Raw parameters of `scale * target + shift` out of those of a target."""
        location, spread, degrees = self._raw(parameters)
        parts = [moved(location, shift, scale), stretched(spread, scale), degrees]
        return ops.concatenate(parts, axis=-1)

    def _log_prob(self, natural: dict[str, Tensor], targets: Tensor) -> Tensor:
        degrees, scale = natural["degrees"], natural["scale"]
        z = ops.abs(targets - natural["location"]) / scale / ops.sqrt(degrees)
        # log(1 + z**2), whose square would overflow far out, where a log-density is not low yet.
        near, far = ops.minimum(z, _FAR), ops.maximum(z, _FAR)
        log_square = ops.log1p(ops.square(near)) + 2.0 * ops.log(far / _FAR)
        return (
            -0.5 * (degrees + 1.0) * log_square
            + log_gamma_half_step(0.5 * degrees)
            - 0.5 * ops.log(math.pi * degrees)
            - ops.log(scale)
        )

    def mean(self, parameters: Tensor) -> Tensor:
        """The location, `(batch, [time,] size)`."""
        return self._raw(parameters)[0]

    def mode(self, parameters: Tensor) -> Tensor:
        """The location, `(batch, [time,] size)`."""
        return self.mean(parameters)

    def _quantiles(self, natural: dict[str, Tensor], p: np.ndarray) -> Tensor:
        location, scale, degrees = (ops.stop_gradient(value) for value in natural.values())
        return location + scale * student_quantiles(degrees, p)

    def sample(self, parameters: Tensor, seed: int | keras.random.SeedGenerator | None = None):
        """Numbers drawn at random, `(batch, [time,] size)`; Bailey's polar method (1994).

        Args:
            parameters: `(batch, [time,] parameters)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
        """
        natural = self.natural(parameters)
        degrees = natural["degrees"]
        radius, angle = (uniform_like(degrees, one) for one in seeds(seed, 2))
        squared = degrees * ops.expm1(-2.0 / degrees * ops.log(radius))
        drawn = ops.sqrt(squared) * ops.cos(2.0 * math.pi * angle)
        return natural["location"] + natural["scale"] * drawn


def student_quantiles(degrees: Tensor, p: np.ndarray) -> Tensor:
    """The quantiles of Student's t of at least 1 degree of freedom, to a relative 1e-5.

    They lie between those of the normal and of Cauchy's distribution, and are found there by
    halving on a logarithmic scale.

    Args:
        degrees: `(..., 1)`.
        p: `(levels,)`.

    Returns:
        `(..., levels)`.
    """
    tail = np.minimum(p, 1.0 - p)
    outer = np.maximum(tail, 1e-300)
    low = np.log(np.maximum(-normal_quantiles(outer), 1e-30))
    high = np.log(np.maximum(1.0 / np.tan(np.pi * outer), 1e-30))
    dtype = degrees.dtype
    zeros = ops.zeros_like(degrees)
    low, high = zeros + ops.cast(low, dtype), zeros + ops.cast(high, dtype)
    wanted = ops.cast(tail, dtype)
    log_t = halved(low, high, 32, lambda log_t: student_tail(ops.exp(log_t), degrees) < wanted)
    sign = np.where(p < 0.5, -1.0, np.where(p > 0.5, 1.0, 0.0))
    return ops.exp(log_t) * ops.cast(sign, dtype)


def student_tail(t: Tensor, degrees: Tensor) -> Tensor:
    """The probability of more than `t`, which is not negative."""
    # Divided through by t or not, so that neither part overflows.
    far = t > 1.0
    inverse = 1.0 / ops.maximum(t, 1.0)
    near = ops.minimum(t, 1.0)
    part = ops.where(far, degrees * inverse * inverse, degrees)
    square = ops.where(far, 1.0, near * near)
    total = part + square
    excess = ops.where(far, 1.0 - inverse * inverse, near * near - 1.0)
    half = 0.5 + ops.zeros_like(total)
    excess = 0.5 * degrees * excess / total
    lower, _ = incomplete_beta(0.5 * degrees, half, part / total, square / total, excess)
    return 0.5 * lower
