"""Functions of statistics that `keras.ops` lacks, safe in float32 also for arguments of 1e8.

Differences of log-gamma functions lose all digits there (log Γ(1e6) is 1e7). So everything is
written with what is left of Stirling's formula, and with deviances, whose small differences
the caller gives as he knows them best (Loader 2000, "Fast and accurate computation of binomial
probabilities").
"""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

Tensor = Any

# Enough for float32 where both parameters of an incomplete beta function are 1e8.
_MOST_TERMS = 5_000
_SHIFT = 8


def stirling_error(x: Tensor) -> Tensor:
    """log Γ(x) - ((x - 1/2) log x - x + log(2π)/2) for x > 0, to an absolute 2e-6 in float32.

    Its asymptotic series at x + 8, brought down by S(x) = S(x + 1) + (x + 1/2) log(1 + 1/x) - 1.
    """
    found = 0.0
    for shift in range(_SHIFT):
        y = x + shift
        found = found + ((y + 0.5) * ops.log1p(1.0 / y) - 1.0)
    inverse = 1.0 / (x + _SHIFT)
    square = inverse * inverse
    series = 1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260 - square / 1680))
    return found + inverse * series


def log_gamma_half_step(x: Tensor) -> Tensor:
    """log Γ(x + 1/2) - log Γ(x) for x > 0."""
    half = x * ops.log1p(0.5 / x) - 0.5 + 0.5 * ops.log(x)
    return half + stirling_error(x + 0.5) - stirling_error(x)


def deviance(value: Tensor, expected: Tensor, difference: Tensor) -> Tensor:
    """value log(value / expected) - (value - expected), for positive values.

    Args:
        value: x > 0.
        expected: M > 0.
        difference: x - M, which the caller may know better than the two.
    """
    total = value + expected
    near = ops.less(ops.abs(difference), 0.1 * total)
    # Each branch is kept finite where the other counts, for its gradient.
    v = ops.where(near, difference / total, 0.0)
    square = v * v
    series = 1.0 / 3 + square * (1.0 / 5 + square * (1.0 / 7 + square / 9))
    close = ops.where(near, difference, 0.0) * v + 2.0 * value * v * square * series
    ratio = ops.where(near, 1.0, value / expected)
    return ops.where(near, close, value * ops.log(ratio) - difference)


def log_beta_kernel(a: Tensor, b: Tensor, x: Tensor, y: Tensor, excess: Tensor) -> Tensor:
    """log(x**a * y**b / B(a, b)), of which densities of the beta family are made.

    Args:
        a, b: positive parameters.
        x, y: positive, x + y = 1, each as exact as it can be.
        excess: a*y - b*x, likewise.
    """
    total = a + b
    found = stirling_error(total) - stirling_error(a) - stirling_error(b)
    found = found - deviance(a, total * x, excess) - deviance(b, total * y, -excess)
    return found + 0.5 * (ops.log(a) + ops.log(b / total) - math.log(2 * math.pi))


def incomplete_beta(
    a: Tensor, b: Tensor, x: Tensor, y: Tensor, excess: Tensor
) -> tuple[Tensor, Tensor]:
    """The regularised I_x(a, b) and 1 - I_x(a, b), the smaller of them to a relative 1e-5.

    By the continued fraction (9) of Didonato & Morris (1992), ACM Algorithm 708. Arguments are
    those of `log_beta_kernel`. It is a loop, and no gradient is meant to run through it.
    """
    lower = ops.greater(excess, 0)
    a, b = ops.where(lower, a, b), ops.where(lower, b, a)
    x, y = ops.where(lower, x, y), ops.where(lower, y, x)
    excess = ops.abs(excess)
    tail = ops.exp(log_beta_kernel(a, b, x, y, excess)) / _fraction(a, b, x, excess)
    tail = ops.clip(tail, 0.0, 1.0)
    return ops.where(lower, tail, 1.0 - tail), ops.where(lower, 1.0 - tail, tail)


def _fraction(a: Tensor, b: Tensor, x: Tensor, excess: Tensor) -> Tensor:
    """The continued fraction by Lentz's method, for x below a / (a + b)."""
    dtype, tiny = x.dtype, 1e-30
    precision = 3e-7 if ops.dtype(x) == "float32" else 1e-14

    def going(m: Tensor, found: Tensor, c: Tensor, d: Tensor, change: Tensor) -> Tensor:
        return ops.logical_and(ops.any(ops.abs(change) > precision), m < _MOST_TERMS)

    def term(m: Tensor, found: Tensor, c: Tensor, d: Tensor, change: Tensor) -> tuple:
        n = ops.cast(m, dtype)
        before, after = a + 2.0 * n - 1.0, a + 2.0 * n + 1.0
        up = (n / before) * ((a + n - 1.0) / before) * x * ((a + b + n - 1.0) * x) * (b - n)
        down = n + n * (b - n) * x / before
        down = down + ((a + n) / after) * (excess + 1.0 + n * (2.0 - x))
        d = 1.0 / _not_zero(down + up * d, tiny)
        c = _not_zero(down + up / c, tiny)
        return m + 1, found * c * d, c, d, c * d - 1.0

    first = a * ((excess + 1.0) / (a + 1.0)) + ops.zeros_like(x)
    start = (ops.convert_to_tensor(1, "int32"), first, first, ops.zeros_like(first))
    return ops.while_loop(going, term, (*start, ops.ones_like(first)))[1]


def _not_zero(x: Tensor, tiny: float) -> Tensor:
    return ops.where(ops.abs(x) < tiny, tiny, x)


def halved(low: Tensor, high: Tensor, steps: int, above: Callable[[Tensor], Tensor]) -> Tensor:
    """Where `above` turns from False to True between `low` and `high`, after `steps` halvings."""

    def half(_: Tensor, bracket: tuple) -> tuple:
        low, high = bracket
        middle = 0.5 * (low + high)
        hit = above(middle)
        return ops.where(hit, low, middle), ops.where(hit, middle, high)

    low, high = ops.fori_loop(0, steps, half, (low, high))
    return 0.5 * (low + high)
