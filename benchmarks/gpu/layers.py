"""LSTM and GRU layers on JAX, forward and with gradients: rnnzoo, Keras, and cuDNN called at once.

"TF32" is what JAX does by itself, "float32" is full precision ("highest"), "bfloat16" has products
in bfloat16, weights and state in float32 (`mixed_bfloat16`). What a row "runs as" is read from the
compiled program: cuDNN, a loop, or both where the choice falls at run time.
"""

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import keras
import numpy as np

import rnnzoo
from benchmarks.gpu.results import (
    COLUMNS,
    Size,
    heading,
    inputs_of,
    lengths_of,
    measured,
    resets_of,
    sizes,
    upstream_of,
)
from benchmarks.gpu.stand_in import where_no_gpu
from rnnzoo.backend import jax_cudnn as cudnn

PRECISIONS = {"TF32": None, "float32": "highest", "bfloat16": None}


@contextlib.contextmanager
def looped(unroll: int) -> Iterator[None]:
    """Inside, layers are traced as loops over time, `unroll` steps in a turn, without cuDNN."""
    scan = functools.partial(jax.lax.scan, unroll=unroll)
    no_gpu = mock.patch.object(rnnzoo.backend, "gpu_available", lambda: False)
    with no_gpu, mock.patch.object(jax.lax, "scan", scan):
        yield


def weights_of(cell: str, size: Size) -> list[list[np.ndarray]]:
    """Random weights of each layer, in Keras's layout."""
    rng, width, found = np.random.default_rng(4), size.inputs, []
    gates = {"LSTM": 4, "GRU": 3}[cell]
    for units in size.units:
        shapes = [(width, gates * units), (units, gates * units)]
        shapes += [(4 * units,)] if cell == "LSTM" else [(2, gates * units)]
        found.append([rng.uniform(-1, 1, s).astype("float32") / units**0.5 for s in shapes])
        width = units
    return found


def by_layers(library: type, cell: str, size: Size, policy: str) -> Callable:
    """`(weights, x, training, **flags) -> outputs` of layers of `keras.layers` or rnnzoo's."""
    stock = library is keras.layers
    # All weights are given; an orthogonal start would take seconds for each layer.
    options = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
    options |= {"return_sequences": True} if stock else {}
    layers, width = [], size.inputs
    for units in size.units:
        layers.append(getattr(library, cell)(units, dtype=policy, **options))
        layers[-1].build((size.batch, size.steps, width))
        width = units

    def outputs(weights: list, x: jax.Array, training: bool, **flags: np.ndarray) -> jax.Array:
        for layer, own in zip(layers, weights):
            fixed = [v.value for v in layer.non_trainable_variables]
            state = () if stock else (layer.initial_state(size.batch),)
            found, _ = layer.stateless_call(own, fixed, x, *state, training=training, **flags)
            x = found if stock else found[0]
        return x

    return outputs


def by_stack(size: Size) -> Callable:
    """The same by one call of cuDNN for all layers; `lengths` are its only flag."""

    def outputs(weights: list, x: jax.Array, training: bool, lengths=None) -> jax.Array:
        zeros = [(jax.numpy.zeros((size.batch, units)),) * 2 for units in size.units]
        with where_no_gpu():
            return cudnn.lstm_stack(x, zeros, weights, lengths)[0]

    return outputs


def compiled(outputs: Callable, cell: str, size: Size, precision: str, flags: dict) -> tuple:
    """What it runs as, and the calls forward and forward with the gradients of all but flags."""
    weights, x, d = jax.device_put((weights_of(cell, size), inputs_of(size), upstream_of(size)))
    flags = jax.device_put(flags)

    def forward(weights: list, x: jax.Array, flags: dict) -> jax.Array:
        return outputs(weights, x, False, **flags)

    def both(weights: list, x: jax.Array, d: jax.Array, flags: dict) -> tuple:
        y, back = jax.vjp(lambda *given: outputs(*given, True, **flags), weights, x)
        return back(d.astype(y.dtype))

    with jax.default_matmul_precision(PRECISIONS[precision]):
        first = jax.jit(forward).lower(weights, x, flags).compile()
        second = jax.jit(both).lower(weights, x, d, flags).compile()
    program = second.as_text()
    kinds = {"cuDNN": "cudnn_rnn", "loop": " while("}
    runs_as = [name for name, mark in kinds.items() if mark in program]
    return (
        " or ".join(runs_as) or "no loop",
        lambda: first(weights, x, flags),
        lambda: second(weights, x, d, flags),
    )


def whole(cell: str, tiny: bool) -> Iterator[tuple]:
    """Contestants on sequences without reset, the most telling first."""
    for precision in PRECISIONS:
        for name, size in sizes(tiny).items():
            for unroll in (None, 1):
                if precision == "bfloat16" and unroll is None:
                    continue  # cuDNN is called in float32 only: the loop is all there is
                yield name, size, precision, "rnnzoo", unroll, {}
            if precision != "bfloat16" and cell == "LSTM":
                yield name, size, precision, "one call", None, {}
            if precision == "TF32":
                yield name, size, precision, "Keras", None, {}
    yield from unrolled(tiny)


def unrolled(tiny: bool, turns: tuple = (4, 8, 16)) -> Iterator[tuple]:
    """The loop with more steps in a turn."""
    for name, size in list(sizes(tiny).items())[:2]:
        for unroll in turns[: 1 if tiny else None]:
            yield name, size, "TF32", "rnnzoo", unroll, {}


def with_flags(cell: str, tiny: bool) -> Iterator[tuple]:
    """Contestants on sequences with resets inside, and with rows of different length."""
    for name, size in sizes(tiny, resets=True).items():
        reset, lengths = resets_of(size), lengths_of(size).astype("int32")
        mask = np.arange(size.steps)[None] < lengths[:, None]
        for unroll in (None, 8):
            yield name, size, "TF32", "rnnzoo, resets", unroll, {"reset": reset}
        yield name, size, "TF32", "rnnzoo, mask", None, {"mask": mask}
        if cell == "LSTM":
            yield name, size, "TF32", "one call, lengths", None, {"lengths": lengths}


def contest(cell: str, entry: tuple, tiny: bool, note: str = "") -> None:
    """Measures one contestant and writes its row."""
    name, size, precision, contestant, unroll, flags = entry
    policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"

    def make() -> tuple:
        if contestant.startswith("one call"):
            return compiled(by_stack(size), cell, size, precision, flags)
        library = keras.layers if contestant == "Keras" else rnnzoo.layers
        outputs = by_layers(library, cell, size, policy)
        with looped(unroll) if unroll else contextlib.nullcontext():
            return compiled(outputs, cell, size, precision, flags)

    label = contestant + (f", loop, unroll {unroll}" if unroll else "") + note
    names = (cell, name, precision, label)
    measured(names, size, make, jax.block_until_ready, 0.01 if tiny else 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cells", nargs="+", choices=["LSTM", "GRU"])
    parser.add_argument("--flags", action="store_true", help="with resets and with lengths")
    parser.add_argument("--note", help="measure the loop alone, and say this of it")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    heading(*COLUMNS)
    for cell in args.cells:
        if args.note:
            entries = unrolled(args.tiny, turns=(1,))
        else:
            entries = (with_flags if args.flags else whole)(cell, args.tiny)
        for entry in entries:
            contest(cell, entry, args.tiny, f", {args.note}" if args.note else "")


if __name__ == "__main__":
    main()
