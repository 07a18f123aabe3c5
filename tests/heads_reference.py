"""Log-densities of heads by SciPy in float64, from raw parameters, and how heads are run."""

import keras
import numpy as np
from scipy import special, stats

TINY = 1e-10


def softplus(x):
    return np.logaddexp(0.0, x)


def unsoftplus(y):
    """The raw parameter whose softplus is `y`."""
    y = np.asarray(y, "float64")
    return y + np.log(-np.expm1(-y))


def normal(raw, y):
    mean, scale = np.split(raw, 2, -1)
    return stats.norm.logpdf(y, mean, softplus(scale) + TINY).sum(-1)


def student_t(raw, y):
    location, scale, degrees = np.split(raw, 3, -1)
    return stats.t.logpdf(y, 1 + softplus(degrees), location, softplus(scale) + TINY).sum(-1)


def negative_binomial(raw, y):
    mean, dispersion = np.split(raw, 2, -1)
    mean, size = softplus(mean) + TINY, 1 / (softplus(dispersion) + 1e-8)
    # `stats.nbinom` takes the probability of success, which loses a small mean.
    ways = special.gammaln(y + size) - special.gammaln(size) - special.gammaln(y + 1)
    return (ways - size * np.log1p(mean / size) + y * np.log(mean / (size + mean))).sum(-1)


def bernoulli(raw, y):
    return (y * special.log_expit(raw) + (1 - y) * special.log_expit(-raw)).sum(-1)


def mixture(raw, y, components):
    size = y.shape[-1]
    rows = raw.reshape(*raw.shape[:-1], -1, components)
    logs = special.log_softmax(rows[..., 0, :], -1)
    z = y[..., None] - rows[..., 1 : 1 + size, :]
    scale = softplus(rows[..., 1 + size : 1 + 2 * size, :]) + TINY
    if size == 1:
        return special.logsumexp(logs + stats.norm.logpdf(z, 0, scale)[..., 0, :], -1)
    correlation = 0.999 * np.tanh(rows[..., -1, :])
    variance = scale**2
    mixed = scale[..., 0, :] * scale[..., 1, :] * correlation
    one, two = z[..., 0, :], z[..., 1, :]
    determinant = variance[..., 0, :] * variance[..., 1, :] - mixed**2
    square = variance[..., 1, :] * one**2 - 2 * mixed * one * two + variance[..., 0, :] * two**2
    density = -0.5 * (square + determinant * np.log(determinant)) / determinant
    return special.logsumexp(logs + density - np.log(2 * np.pi), -1)


def numerical_gradient(reference, raw, y):
    """The derivatives of a sum over rows, by central differences of the fourth order."""
    found = np.zeros_like(raw)
    for i in range(raw.shape[-1]):
        step = np.zeros_like(raw)
        step[..., i] = 1e-3 * np.maximum(1.0, np.abs(raw[..., i]))
        two, one = (reference(raw + k * step, y) - reference(raw - k * step, y) for k in (2, 1))
        found[..., i] = (8 * one - two) / (12 * step[..., i])
    return found


def compiled(function):
    """`function` of arrays, compiled by XLA; what it returns are arrays."""
    if keras.backend.backend() == "jax":
        import jax

        run = jax.jit(function)
    else:
        import tensorflow as tf

        run = tf.function(function, jit_compile=True)
    convert = keras.ops.convert_to_tensor

    def call(*arrays):
        found = run(*[convert(array) for array in arrays])
        return keras.tree.map_structure(np.asarray, found)

    return call


def value_and_gradient(function):
    """`function`, which gives `(batch,)`, and the gradient of its sum by the first argument."""
    if keras.backend.backend() == "jax":
        import jax

        def both(x, *rest):
            found, back = jax.vjp(lambda x: function(x, *rest), x)
            return found, back(keras.ops.ones_like(found))[0]
    else:
        import tensorflow as tf

        def both(x, *rest):
            with tf.GradientTape() as tape:
                tape.watch(x)
                found = function(x, *rest)
            return found, tape.gradient(found, x)

    return compiled(both)
