"""Whether a GPU computes what the CPU does: cells, resets, masks and whole trainings on JAX.

A second process computes the same on the CPU meanwhile. Both take the highest precision of matrix
products.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"

import jax
import keras
import numpy as np

import rnnzoo
from benchmarks.gpu.results import difference, fault, heading, row
from benchmarks.gpu.stand_in import where_no_gpu
from rnnzoo.backend import jax_cudnn as cudnn

LAYER, FIT = 1e-4, 1e-3  # what may differ, as a share of the largest value
ROWS, STEPS, FEATURES, UNITS, VOCABULARY = 4, 37, 5, 48, 11


def layers(tiny: bool) -> Iterator[tuple[str, Callable]]:
    """Every recurrent layer of `rnnzoo.layers`, by name, and what makes it."""
    units = 3 if tiny else UNITS
    for name in ["LSTM"] if tiny else rnnzoo.layers.__all__:
        made = getattr(rnnzoo.layers, name)
        if not hasattr(made, "state_names"):
            continue
        yield name, lambda made=made: made(units)
        if name == "GRU":
            yield f"{name}(reset_after=False)", lambda made=made: made(units, reset_after=False)
    if not tiny:
        learned = {"learned_initial_state": True}
        yield "LSTM(learned_initial_state=True)", lambda: rnnzoo.layers.LSTM(UNITS, **learned)


def random_weights(layer: keras.Layer) -> None:
    """Weights under which a network is not chaotic: that would grow what rounding alone does."""
    rng, weights = np.random.default_rng(5), layer.get_weights()
    scales = [max(1, w.shape[0] if w.ndim > 1 else 4) ** -0.5 for w in weights]
    layer.set_weights([s * rng.uniform(-1, 1, w.shape) for s, w in zip(scales, weights)])


def flags(steps: int) -> dict[str, np.ndarray]:
    """Resets anywhere, and padding behind rows of different length."""
    rng = np.random.default_rng(6)
    mask = np.arange(steps)[None] < np.array([steps, steps // 2, 1, 0])[:, None]
    return {"reset": rng.random((ROWS, steps)) < 0.1, "mask": mask}


# What a layer is given beside its inputs, each of which is another program on a GPU.
GIVEN = ((), ("reset",), ("reset", "mask"))


def of_layer(layer: keras.Layer, steps: int, given: tuple = GIVEN) -> list[np.ndarray]:
    """Outputs, states and all gradients: plain, with resets, and with resets and padding."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(ROWS, steps, FEATURES)).astype("float32")
    d = rng.normal(size=(ROWS, steps, layer.units)).astype("float32")
    layer.build(x.shape)
    random_weights(layer)
    state = jax.tree.map(lambda s: rng.normal(size=s.shape), layer.initial_state(ROWS))
    state = jax.tree.map(np.float32, state)
    weights = [v.value for v in layer.trainable_variables]
    fixed = [v.value for v in layer.non_trainable_variables]

    @jax.jit
    def run(weights: list, x: jax.Array, state: dict, flags: dict) -> list:
        def call(weights: list, x: jax.Array, state: dict, **own: jax.Array) -> tuple:
            return layer.stateless_call(weights, fixed, x, state, training=True, **own)[0]

        found = []
        for names in given:
            own = {name: flags[name] for name in names}
            made, back = jax.vjp(lambda *a, own=own: call(*a, **own), weights, x, state)
            found.append((made, back((d, jax.tree.map(jax.numpy.ones_like, made[1])))))
        return found

    inside = flags(steps)
    # The same program takes another way where rows start afresh at the first step only.
    first = {**inside, "reset": np.arange(steps)[None] == np.array([0, 0, -1, 0])[:, None]}
    return jax.tree.leaves([run(weights, x, state, own) for own in (inside, first)])


def of_stack(steps: int, by_cudnn: bool) -> list[np.ndarray]:
    """The same of two LSTM layers with rows of different length: cuDNN's call, or one by one."""
    made = [rnnzoo.layers.LSTM(UNITS) for _ in range(2)]
    for layer, width in zip(made, (FEATURES, UNITS)):
        layer.build((ROWS, steps, width))
        random_weights(layer)
    x = np.random.default_rng(7).normal(size=(ROWS, steps, FEATURES)).astype("float32")
    mask = flags(steps)["mask"]
    lengths, zeros = mask.sum(axis=1).astype("int32"), np.zeros((ROWS, UNITS), "float32")

    def one_by_one(weights: list, x: jax.Array) -> jax.Array:
        for layer, own in zip(made, weights):
            state = {"h": zeros, "c": zeros}
            fixed = [v.value for v in layer.non_trainable_variables]
            (x, _), _ = layer.stateless_call(own, fixed, x, state, mask=mask, training=True)
        return x

    def in_one_call(weights: list, x: jax.Array) -> jax.Array:
        with where_no_gpu():
            return cudnn.lstm_stack(x, [(zeros, zeros)] * 2, weights, jax.numpy.asarray(lengths))[0]

    run = in_one_call if by_cudnn else one_by_one
    weights = [[v.value for v in layer.trainable_variables] for layer in made]
    y, back = jax.vjp(jax.jit(run), weights, jax.numpy.asarray(x))
    return jax.tree.leaves((y, back(jax.numpy.cos(y))))


def trained(model: keras.Model, *data: object, window: int, stride: int, loss: object) -> list:
    """Losses and weights after three epochs of truncated BPTT."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):  # the core, or encoder and decoder
            random_weights(layer)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=1.0), loss)
    callbacks = [rnnzoo.TruncatedBPTT(window, stride)]
    history = model.fit(*data, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    return [np.array(history.history["loss"]), *model.trainable_variables]


def fits(tiny: bool) -> Iterator[tuple[str, Callable]]:
    """Trainings by name: every form, windows with and without stride, resets, masks."""
    units = 4 if tiny else UNITS
    tokens = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    lanes = {"batch_size": ROWS, "window": 8, "windows_per_batch": 4}

    def packed(cell: str, stride: int) -> list:
        rng = np.random.default_rng(8)
        songs = [rng.integers(0, VOCABULARY, n) for n in (90, 31, 70, 12, 55, 47)]
        model = rnnzoo.one_to_one(vocabulary=VOCABULARY, units=[units, units], cell=cell)
        mean = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        data = rnnzoo.data.pack(songs, **lanes)
        return trained(model, data, window=8, stride=stride, loss=mean)

    def labelled() -> list:
        rng = np.random.default_rng(9)
        model = rnnzoo.many_to_one(features=3, units=units, outputs=2)
        x = {"inputs": rng.normal(size=(ROWS, 20, 3)), "lengths": np.array([20, 3, 11, 8])}
        return trained(model, x, rng.normal(size=(ROWS, 2)), window=8, stride=8, loss="mse")

    def translated() -> list:
        rng = np.random.default_rng(10)
        sides = {"source_vocabulary": VOCABULARY, "target_vocabulary": VOCABULARY}
        model = rnnzoo.encoder_decoder(**sides, units=units, attention="dot")
        sizes = {"source": [9, 4, 7, 2], "target": [6, 11, 3, 8]}
        pairs = {key: [rng.integers(0, VOCABULARY, n) for n in ns] for key, ns in sizes.items()}
        return trained(model, pairs, window=4, stride=4, loss=tokens)

    yield "fit one_to_one LSTM, window 8", lambda: packed("lstm", 8)
    yield "fit one_to_one LSTM, window 8, stride 3", lambda: packed("lstm", 3)
    yield "fit one_to_one GRU, window 8", lambda: packed("gru", 8)
    yield "fit many_to_one, lengths, window 8", labelled
    yield "fit encoder_decoder, attention, window 4", translated


def results(tiny: bool, by_cudnn: bool) -> Iterator[tuple[str, float, Callable]]:
    """Name, allowed difference, and what gives the arrays of every comparison."""
    steps = 6 if tiny else STEPS
    for name, make in layers(tiny):
        given = GIVEN[-1:] if tiny else GIVEN
        yield name, LAYER, lambda make=make, given=given: of_layer(make(), steps, given)
    yield "LSTM stack in one call, lengths", LAYER, lambda: of_stack(steps, by_cudnn)
    for name, run in list(fits(tiny))[: 1 if tiny else None]:
        yield name, FIT, run


def save(folder: Path, tiny: bool) -> None:
    """Writes what this process finds, one file after the other, each whole when it is there."""
    for index, (_, _, run) in enumerate(results(tiny, by_cudnn=False)):
        try:
            np.savez(folder / "part.npz", *map(keras.ops.convert_to_numpy, run()))
        except Exception as error:
            np.savez(folder / "part.npz", error=fault(error))
        (folder / "part.npz").rename(folder / f"{index}.npz")


def saved(folder: Path, index: int, process: subprocess.Popen) -> list[np.ndarray]:
    """What the other process has found, waited for."""
    file = folder / f"{index}.npz"
    while not file.exists():
        if process.poll():
            raise RuntimeError(f"the process on the CPU ended with code {process.returncode}")
        time.sleep(0.1)
    with np.load(file) as arrays:
        if "error" in arrays:
            raise RuntimeError(f"on the CPU {arrays['error']}")
        return [arrays[name] for name in arrays.files]


def check(folder: Path, tiny: bool, process: subprocess.Popen) -> list[str]:
    """The names of the comparisons that failed; each has its row."""
    wrong = []
    heading("compared with the CPU", "largest difference", "allowed", "")
    for index, (name, allowed, run) in enumerate(results(tiny, by_cudnn=True)):
        try:
            found = difference(
                list(map(keras.ops.convert_to_numpy, run())), saved(folder, index, process)
            )
            verdict = "right" if found <= allowed else "WRONG"
        except Exception as error:
            found, verdict = "-", fault(error)
        row(name, found, allowed, verdict)
        wrong += [name] * (verdict != "right")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", metavar="FOLDER", type=Path, help="what the CPU's process does")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.save:
        save(args.save, args.tiny)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.gpu.right", *sys.argv[1:], "--save", folder]
        env = {**os.environ, "JAX_PLATFORMS": "cpu"}
        with subprocess.Popen(command, env=env) as process:
            wrong = check(Path(folder), args.tiny, process)
    if wrong:
        raise SystemExit(f"{len(wrong)} comparisons failed: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
