"""Negative binomial: counts with a mean and more spread than a Poisson distribution has."""

import math

import keras
import numpy as np
from keras import ops

from rnnzoo.heads.numeric import Distribution, Tensor, positive, seeds, stretched, uniform_like
from rnnzoo.heads.special import incomplete_beta, log_beta_kernel

# 2**24: from here on float32 does not hold every whole number.
_MOST_HALVINGS = 64


@keras.saving.register_keras_serializable(package="rnnzoo")
class NegativeBinomial(Distribution):
    """A negative binomial distribution of each count: `mean` and `dispersion`, both softplus.

    The variance is mean + dispersion * mean**2; a dispersion near 0 is a Poisson distribution
    (Salinas et al. 2017, DeepAR).

    Args:
        size: counts a step, at least 1; targets are `(batch, [time,] size)`.

    Example:

    >>> import numpy as np
    >>> head = NegativeBinomial()
    >>> raw = np.array([[10.0, 0.5413249]], "float32")  # mean 10, dispersion 1: geometric
    >>> [int(q) for q in head.quantile(raw, [0.1, 0.5, 0.9])[0, 0]]
    [1, 7, 24]
    """

    raw_names = ("mean", "dispersion")
    scalings = ("mean",)

    def natural(self, parameters: Tensor) -> dict[str, Tensor]:
        """`mean` and `dispersion`, `(batch, [time,] size)` each.

        Args:
            parameters: `(batch, [time,] parameters)`, raw.
        """
        mean, dispersion = self._raw(parameters)
        return {"mean": positive(mean), "dispersion": positive(dispersion, 1e-8)}

    def in_units(self, parameters: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
        """Raw parameters of counts `scale` times as high.

        The dispersion is divided by the root of the scale, as in DeepAR. Counts have no shift.

        Args:
            parameters: `(batch, [time,] parameters)`.
            shift: None.
            scale: `(batch, [time,] size)`.
        """
        if shift is not None:
            raise ValueError(f"the counts of {self} cannot be shifted; received shift={shift}")
        mean, dispersion = self._raw(parameters)
        parts = [stretched(mean, scale), stretched(dispersion, 1.0 / ops.sqrt(scale))]
        return ops.concatenate(parts, axis=-1)

    def _log_prob(self, natural: dict[str, Tensor], targets: Tensor) -> Tensor:
        mean, size = natural["mean"], 1.0 / natural["dispersion"]
        some = targets > 0
        count = ops.where(some, targets, 1.0)
        share = size / (size + mean)
        kernel = log_beta_kernel(size, count, share, mean / (size + mean), share * (mean - count))
        none = -size * ops.log1p(mean / size)
        found = ops.where(some, kernel - ops.log(count), none)
        possible = ops.logical_and(targets >= 0, ops.equal(ops.floor(targets), targets))
        return ops.where(possible, found, -math.inf)

    def mean(self, parameters: Tensor) -> Tensor:
        """The mean, `(batch, [time,] size)`."""
        return self.natural(parameters)["mean"]

    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable counts, `(batch, [time,] size)`; of two that are equal, the higher."""
        natural = self.natural(parameters)
        mean, dispersion = natural["mean"], natural["dispersion"]
        return ops.floor(ops.maximum(mean * (1.0 - dispersion), 0.0))

    def _quantiles(self, natural: dict[str, Tensor], p: np.ndarray) -> Tensor:
        mean, dispersion = (ops.stop_gradient(value) for value in natural.values())
        zeros = ops.zeros_like(mean)
        p, rest = ops.cast(p, mean.dtype), ops.cast(1.0 - p, mean.dtype)
        return _count_at(mean, dispersion, zeros + p, zeros + rest)

    def sample(self, parameters: Tensor, seed: int | keras.random.SeedGenerator | None = None):
        """Counts drawn at random, `(batch, [time,] size)`, as quantiles of uniform numbers.

        Args:
            parameters: `(batch, [time,] parameters)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
        """
        mean, dispersion = map(ops.stop_gradient, self.natural(parameters).values())
        (seed,) = seeds(seed, 1)
        drawn = uniform_like(mean, seed)
        return _count_at(mean, dispersion, drawn, 1.0 - drawn)

    def _allowed(self, targets: np.ndarray) -> np.ndarray:
        return np.isfinite(targets) & (targets >= 0) & (np.floor(targets) == targets)

    def _domain(self) -> str:
        return "counts, whole numbers of at least 0"


def _count_at(mean: Tensor, dispersion: Tensor, p: Tensor, rest: Tensor) -> Tensor:
    """The smallest count whose distribution function is at least `p = 1 - rest`.

    Cantelli's inequality says between which counts it lies; halving finds it there.
    """
    size = 1.0 / dispersion
    deviation = ops.sqrt(mean * (1.0 + mean * dispersion))
    low = ops.floor(ops.maximum(mean - deviation * ops.sqrt(rest / p), 0.0)) - 2.0
    high = ops.ceil(mean + deviation * ops.sqrt(p / rest)) + 1.0

    def reached(count: Tensor) -> Tensor:
        share = size / (size + mean)
        above = count + 1.0
        excess = share * (mean - above)
        lower, upper = incomplete_beta(size, above, share, mean / (size + mean), excess)
        return ops.where(p < 0.5, lower >= p, upper <= rest)

    def open_(_: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return ops.any(high - low > 1.0)

    def half(turn: Tensor, low: Tensor, high: Tensor) -> tuple:
        middle = ops.floor(0.5 * (low + high))
        hit = ops.logical_and(middle >= 0, reached(ops.maximum(middle, 0.0)))
        return turn + 1, ops.where(hit, low, middle), ops.where(hit, middle, high)

    start = (ops.convert_to_tensor(0, "int32"), low, high)
    return ops.while_loop(open_, half, start, maximum_iterations=_MOST_HALVINGS)[2]
