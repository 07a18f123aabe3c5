"""NVIDIA's own LSTM (cuDNN) on JAX, for rows of different length too.

Layers call it one by one, as each has its own place in a model's graph; what one call for a whole
stack of equal layers would save on a GPU, `benchmarks/gpu/layers.py` measures.

`jax.experimental.rnn` has the operation and its gradient, in float32. It allows TF32 in the
products unless `jax_default_matmul_precision` asks for more ("highest"). It knows no reset within a
sequence; rows of different length it knows, so that padding at the end costs nothing.
"""

from collections.abc import Sequence

import jax
from jax import numpy as jnp
from jax.experimental import rnn

State = tuple[jax.Array, jax.Array]
Weights = tuple[jax.Array, jax.Array, jax.Array | None]


def lstm_stack(
    x: jax.Array,
    states: Sequence[State],
    weights: Sequence[Weights],
    lengths: jax.Array | None = None,
) -> tuple[jax.Array, list[State]]:
    """The outputs of the last layer and the last states of all, as layers run one by one give them.

    Args:
        x: `(batch, time, features)` float32; at least one step.
        states: for each layer, the lowest first, `(h, c)`, each `(batch, units)`.
        weights: for each layer `(kernel, recurrent_kernel, bias)` as `keras.layers.LSTM` has them:
            `(features, 4 * units)`, `(units, 4 * units)`, `(4 * units,)` or None; gates i, f, c, o.
        lengths: `(batch,)` integers, the real steps of each row, 0 to `time`; None for all. Later
            steps hold the state, as under a mask.

    Returns:
        `(batch, time, units)`, and `(h, c)` for each layer.

    Raises:
        ValueError: no layer, layers of different size, shapes that do not fit each other, no step,
            another dtype than float32.
    """
    units = _check(x, states, weights, lengths)
    steps = x.shape[1]
    h, c = (jnp.stack([state[i] for state in states]) for i in (0, 1))
    # cuDNN runs one step of every row at least; what it makes of rows without any is not used.
    given = jnp.full(x.shape[:1], steps) if lengths is None else lengths
    y, last_h, last_c = rnn.lstm(
        x,
        h,
        c,
        packed(weights),
        jnp.maximum(given, 1).astype("int32"),
        input_size=x.shape[2],
        hidden_size=units,
        num_layers=len(weights),
        dropout=0.0,
        bidirectional=False,
    )
    if lengths is not None:
        read = (lengths > 0)[None, :, None]
        last_h, last_c = jnp.where(read, last_h, h), jnp.where(read, last_c, c)
        real = jnp.arange(steps)[None, :, None] < lengths[:, None, None]
        y = jnp.where(real, y, last_h[-1][:, None])
    return y, list(zip(last_h, last_c))


def packed(weights: Sequence[Weights]) -> jax.Array:
    """All weights in one vector, as cuDNN reads them: the kernels of all layers, then the biases.

    cuDNN multiplies from the left, so kernels are transposed, and it adds two biases to each gate,
    of which Keras has the sum: the second is 0.
    """
    kernels, biases = [], []
    for kernel, recurrent_kernel, bias in weights:
        none = jnp.zeros(kernel.shape[1:], kernel.dtype)
        kernels += [kernel.T.ravel(), recurrent_kernel.T.ravel()]
        biases += [none if bias is None else bias, none]
    return jnp.concatenate([*kernels, *biases])


def _check(x: jax.Array, states: Sequence, weights: Sequence, lengths: jax.Array | None) -> int:
    """The units of every layer; ValueError where the arguments do not fit each other."""
    if not weights or len(states) != len(weights):
        raise ValueError(
            "states and weights must have one entry for each of one or more layers; received "
            f"{len(states)} states and {len(weights)} weights"
        )
    if x.ndim != 3 or x.shape[1] == 0:
        raise ValueError(
            "x must be (batch, time, features) with at least one step; "
            f"received an array of shape {tuple(x.shape)}"
        )
    batch, units, features = x.shape[0], weights[0][1].shape[0], x.shape[2]
    for index, (state, layer) in enumerate(zip(states, weights)):
        expected = [(features, 4 * units), (units, 4 * units), (4 * units,), *[(batch, units)] * 2]
        found = [None if array is None else tuple(array.shape) for array in (*layer, *state)]
        if any(f not in (e, None) for f, e in zip(found, expected)):
            raise ValueError(
                f"kernel, recurrent_kernel, bias, h and c of layer {index} must be of shapes "
                f"{expected}, as all layers have as many units as the first; received {found}"
            )
        features = units
    if lengths is not None and tuple(lengths.shape) != (batch,):
        raise ValueError(
            f"lengths must have one number for each of {batch} rows; "
            f"received an array of shape {tuple(lengths.shape)}"
        )
    arrays = [x, *(a for parts in (*states, *weights) for a in parts if a is not None)]
    if other := sorted({str(array.dtype) for array in arrays} - {"float32"}):
        raise ValueError(
            f"cuDNN's LSTM on JAX computes in float32 only; received arrays of {', '.join(other)}"
        )
    return units
