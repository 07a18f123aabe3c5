"""One layer alone in a process of its own: prints one JSON object.

A contestant returns two functions without arguments, forward and forward with backward, of a layer
with fixed weights and inputs; each returns what can be turned into a number once it is done.
"""

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

# (batch, time, inputs, units)
SIZES = {
    "20x35x650x650": (20, 35, 650, 650),
    "64x50x512x512": (64, 50, 512, 512),
    "32x100x64x128": (32, 100, 64, 128),
    "256x100x128x256": (256, 100, 128, 256),
}
GATES = {"LSTM": 4, "GRU": 3}


def operations(cell: str, size: tuple) -> int:
    """Floating-point operations of the matrix products of one forward pass."""
    batch, steps, inputs, units = size
    return 2 * batch * steps * (inputs + units) * GATES[cell] * units


def keras_layer(stock: bool) -> Callable:
    def make(cell: str, x: np.ndarray, units: int) -> tuple:
        import keras

        import rnnzoo

        if stock:
            layer = getattr(keras.layers, cell)(units, return_sequences=True)
        else:
            layer = getattr(rnnzoo.layers, cell)(units)
        layer.build(x.shape)

        def outputs(weights: list, x):
            state = () if stock else (layer.initial_state(len(x)),)
            fixed = [v.value for v in layer.non_trainable_variables]
            found, _ = layer.stateless_call(weights, fixed, x, *state, training=True)
            return found if stock else found[0]

        return _compiled(
            outputs, [v.value for v in layer.trainable_variables], x, upstream(x, units)
        )

    return make


def upstream(x: np.ndarray, units: int) -> np.ndarray:
    """A gradient of all outputs, so that no loss is part of what is measured."""
    return np.random.default_rng(1).normal(size=(*x.shape[:2], units)).astype("float32")


def _compiled(outputs: Callable, weights: list, x: np.ndarray, d: np.ndarray) -> tuple:
    """Forward, and forward with the gradients of weights and inputs, of `outputs(weights, x)`."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        x, d = jax.numpy.asarray(x), jax.numpy.asarray(d)
        forward = jax.jit(outputs)
        both = jax.jit(lambda weights, x, d: jax.vjp(outputs, weights, x)[1](d))
        return lambda: forward(weights, x)[0, 0, 0], lambda: both(weights, x, d)[1][0, 0, 0]
    import tensorflow as tf

    x, d, weights = tf.constant(x), tf.constant(d), [tf.convert_to_tensor(w) for w in weights]
    forward = tf.function(outputs, jit_compile=True)

    @tf.function(jit_compile=True)
    def both(weights: list, x: tf.Tensor, d: tf.Tensor) -> list:
        with tf.GradientTape() as tape:
            tape.watch([weights, x])
            y = outputs(weights, x)
        return tape.gradient(y, [weights, x], output_gradients=d)

    return lambda: forward(weights, x)[0, 0, 0], lambda: both(weights, x, d)[1][0, 0, 0]


def torch_layer(cell: str, x: np.ndarray, units: int) -> tuple:
    import torch

    torch.set_num_threads(os.cpu_count())
    layer = getattr(torch.nn, cell)(x.shape[-1], units, batch_first=True)
    d = torch.tensor(upstream(x, units))
    x = torch.tensor(x, requires_grad=True)

    def forward():
        with torch.no_grad():
            return layer(x)[0][0, 0, 0]

    def both():
        x.grad = None
        layer.zero_grad()
        layer(x)[0].backward(d)
        return x.grad[0, 0, 0]

    return forward, both


CONTESTANTS = {"rnnzoo": keras_layer(False), "stock": keras_layer(True), "torch": torch_layer}


def milliseconds(call: Callable, least: float) -> float:
    """Median over calls that take `least` seconds together, after two that warm up."""
    for _ in range(2):
        float(call())
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < least or len(times) < 5:
        start = time.perf_counter()
        float(call())
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def product_rate(library: str) -> float:
    """GFLOP/s of a large product in float32 by "keras" or "torch", the best of a second."""
    size, best = 2048, 0.0
    a = np.random.default_rng(0).normal(size=(size, size)).astype("float32")
    if library == "torch":
        import torch

        a = torch.tensor(a)
    else:
        import keras

        a = keras.ops.convert_to_tensor(a)
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        begin = time.perf_counter()
        float((a @ a)[0, 0])
        best = max(best, 2 * size**3 / (time.perf_counter() - begin) / 1e9)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("case", help="such as LSTM/64x50x512x512")
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    cell, _, name = args.case.partition("/")
    batch, steps, inputs, units = size = SIZES[name]
    x = np.random.default_rng(0).normal(size=(batch, steps, inputs)).astype("float32")
    forward, both = CONTESTANTS[args.contestant](cell, x, units)
    found = {"forward ms": milliseconds(forward, args.seconds)}
    found["both ms"] = milliseconds(both, args.seconds)
    found["GFLOP/s"] = 3 * operations(cell, size) / found["both ms"] / 1e6
    library = "torch" if args.contestant == "torch" else "keras"
    print(json.dumps(found | {"product GFLOP/s": product_rate(library)}))


if __name__ == "__main__":
    main()
