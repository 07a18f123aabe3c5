"""Independent references: recurrent cells step by step, with nothing taken from rnnzoo.

Every function is written from the formulas of the cells, once in NumPy for values, once in
`keras.ops` for plain automatic differentiation.
"""

import functools

import keras
import numpy as np
import pytest
from keras import ops

# (name of the layer, its options), one entry per kind of cell
CELLS = [
    ("LSTM", {}),
    ("GRU", {}),
    ("GRU", {"reset_after": False}),
    ("SimpleRNN", {}),
]
CELL_IDS = ["lstm", "gru", "gru_reset_before", "simple_rnn"]


# From Keras 3.16 on, stock recurrent layers use a mask and do not hand it on to those above.
HAND_MASKS_ON = keras.layers.GRU(1).supports_masking
masks_above = pytest.mark.skipif(
    not HAND_MASKS_ON, reason="stock layers of this Keras do not hand masks on"
)


def on_jax() -> bool:
    return keras.backend.backend() == "jax"


def without_collectives(monkeypatch):
    """Strategies made from now on use none: two strategies in a process mix up those of both."""
    import tensorflow as tf

    reduce = tf.distribute.ReductionToOneDevice()
    mirrored = functools.partial(tf.distribute.MirroredStrategy, cross_device_ops=reduce)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", mirrored)


def gradients(function, arrays):
    """Gradients of the scalar `function(*arrays)` with respect to every array, as NumPy."""
    if on_jax():
        import jax

        arrays = [jax.numpy.asarray(a) for a in arrays]
        found = jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))(*arrays)
        return [np.array(g) for g in found]
    import tensorflow as tf

    tensors = [tf.constant(a) for a in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    found = tape.gradient(value, tensors, unconnected_gradients="zero")
    return [tf.convert_to_tensor(g).numpy() for g in found]


def _math(*arrays):
    if all(isinstance(a, np.ndarray) for a in arrays):
        return np.tanh, lambda v: 1 / (1 + np.exp(-v)), np.where, np.matmul
    # keras.ops.tanh has float32 at most on JAX
    tanh = lambda v: 2 / (1 + ops.exp(-2 * v)) - 1  # noqa: E731
    return tanh, lambda v: 1 / (1 + ops.exp(-v)), ops.where, ops.matmul


def cell_step(name, options, weights, x, state, drop=None):
    """The next state (a list, h first) of one cell, for weights as the stock layer orders them."""
    tanh, sigmoid, _, matmul = _math(x, *weights, *state)
    kernel, recurrent, bias = weights
    units = recurrent.shape[0]
    h = state[0]
    s = h if drop is None else h * drop
    if name == "SimpleRNN":
        return [tanh(matmul(x, kernel) + bias + matmul(s, recurrent))]
    if name == "LSTM":
        z = matmul(x, kernel) + bias + matmul(s, recurrent)
        i, f, o = (sigmoid(z[:, k * units : (k + 1) * units]) for k in (0, 1, 3))
        c = f * state[1] + i * tanh(z[:, 2 * units : 3 * units])
        return [o * tanh(c), c]
    n = 2 * units
    if options.get("reset_after", True):
        p = matmul(x, kernel) + bias[0]
        q = matmul(s, recurrent) + bias[1]
        z, r = sigmoid(p[:, :units] + q[:, :units]), sigmoid(p[:, units:n] + q[:, units:n])
        k = tanh(p[:, n:] + r * q[:, n:])
    else:
        p = matmul(x, kernel) + bias
        z = sigmoid(p[:, :units] + matmul(s, recurrent[:, :units]))
        r = sigmoid(p[:, units:n] + matmul(s, recurrent[:, units:n]))
        k = tanh(p[:, n:] + matmul(r * s, recurrent[:, n:]))
    return [z * h + (1 - z) * k]


def run(name, options, weights, x, state, reset=None, mask=None, initial=None, drop=None):
    """Outputs of all steps (a list) and the last state, with a plain loop over steps."""
    state, outputs = list(state), []
    where = _math(x, *weights, *state)[2]
    initial = initial if initial is not None else [s * 0 for s in state]
    for t in range(x.shape[1]):
        if reset is not None:
            state = [where(reset[:, t, None], i, s) for s, i in zip(state, initial)]
        new = cell_step(name, options, weights, x[:, t], state, drop)
        if mask is not None:
            new = [where(mask[:, t, None], n, s) for n, s in zip(new, state)]
        state = new
        outputs.append(state[0])
    return outputs, state


def random_state(rng, layer, batch, dtype="float32"):
    return {name: rng.normal(size=(batch, layer.units)).astype(dtype) for name in layer.state_names}


def close(a, b, tolerance=1e-5):
    """Asserts that two arrays agree element by element, where one of 1e-4 may not be 10 % off.

    A difference may be 10 times the tolerance of the element, and a twentieth of it of the
    largest one, or of 1: what float32 leaves of a sum.
    """
    a, b = np.asarray(ops.convert_to_numpy(a)), np.asarray(ops.convert_to_numpy(b))
    assert a.shape == b.shape
    scale = max(1.0, float(np.abs(b).max(initial=0.0)))
    np.testing.assert_allclose(a, b, rtol=10 * tolerance, atol=tolerance / 20 * scale)
