"""Small source-target batches and models that the tests of encoder-decoders share."""

import keras
import numpy as np
from keras import ops

import rnnzoo
from rnnzoo import backend
from tests.reference import run

VOCABULARY = {"source_vocabulary": 9, "target_vocabulary": 5}


def batch(rows=4, steps=(6, 5), seed=0, **sizes):
    """Tokens with lengths of 1 or more; padding holds ids that no model knows."""
    rng = np.random.default_rng(seed)
    x = {}
    for side, longest, tokens in zip(("source", "target"), steps, (9, 5)):
        lengths = rng.integers(1, longest + 1, rows)
        lengths[0] = longest
        values = rng.integers(0, tokens, (rows, longest))
        values[np.arange(longest) >= lengths[:, None]] = -7
        x |= {side: values, f"{side}_lengths": lengths}
    return x


def model(**options):
    """A small model, its weights far from zero so that everything has an influence."""
    built = rnnzoo.encoder_decoder(**{**VOCABULARY, "units": 6, "embedding": 4, **options})
    randomize(built)
    return built


def randomize(built, seed=1):
    rng = np.random.default_rng(seed)
    for variable in built.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.5))


def row_of(x, row):
    """One row of a batch, without its padding."""
    return {
        side: x[side][row : row + 1, : x[f"{side}_lengths"][row]] for side in ("source", "target")
    }


def forward(built, x):
    """Outputs as an array; on JAX compiled as a whole, where each op would be compiled alone."""
    if keras.backend.backend() == "jax":
        return np.array(backend.compile_call(built)(x))
    return ops.convert_to_numpy(built(x))


def layer_weights(built, prefix):
    """Weights of the recurrent layers whose names begin with `prefix`, as arrays."""
    inner = {layer.name: layer for m in (built.encoder, built.decoder) for layer in m.layers}
    names = sorted(name for name in inner if name.startswith(prefix))
    return [[np.array(ops.convert_to_numpy(w)) for w in inner[name].weights] for name in names]


def lstm_pair(weights, source, inputs):
    """Logits of a one-layer LSTM pair without attention, for one row; a plain loop over steps.

    `weights`: source table, three of the encoder, target table, three of the decoder, kernel
    and bias of the output layer.
    """
    table, encoder, target, decoder = weights[0], weights[1:4], weights[4], weights[5:8]
    units = encoder[1].shape[0]
    state = [np.zeros((1, units), "float32")] * 2
    embedded = ops.take(table, source, axis=0)[None]
    _, state = run("LSTM", {}, encoder, embedded, state)
    hidden, _ = run("LSTM", {}, decoder, ops.take(target, inputs, axis=0)[None], state)
    return ops.matmul(ops.stack(hidden, axis=1), weights[8]) + weights[9]


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
