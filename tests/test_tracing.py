"""A training step in windows is compiled whole and once, with shapes that are all known."""

import re

import keras
import numpy as np
import pytest

import rnnzoo

BATCH, STEPS, FEATURES, UNITS = 4, 20, 5, 64


@pytest.mark.parametrize("stride", [8, 4])
def test_an_epoch_is_traced_once_with_known_shapes(stride):
    ids = np.arange(4 * 48 + 1) ** 2 % 7
    batches = rnnzoo.data.stream(ids, 4, 8, windows_per_batch=2)
    model = rnnzoo.one_to_one(vocabulary=7, units=4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=True)
    train_step, run, traced, windows = model.train_step, model.run, [], []

    def step(*args):
        traced.append([tuple(part.shape) for part in keras.tree.flatten(args[-1])])
        return train_step(*args)

    def window(x, *args, **kwargs):
        windows.extend(tuple(part.shape) for part in x.values())
        return run(x, *args, **kwargs)

    model.train_step, model.run = step, window
    model.fit(batches, epochs=3, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(8, stride)])
    assert len(batches) == 3
    assert traced == [[(4, 16)] * 4]
    assert (4, 8) in windows and all(None not in shape for shape in windows)
    updates = 3 * 3 * 16 // stride
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == updates


def test_targets_may_have_another_number_of_axes_in_another_call():
    """One function for both would know of neither how many axes it has."""
    model = rnnzoo.one_to_one(features=2, units=3, outputs=1, cell="simple_rnn")
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    x, y = np.ones((2, 4, 2), "float32"), np.arange(8.0).reshape(2, 4).astype("float32")
    losses = [
        model.fit(x, one, epochs=1, verbose=0).history["loss"][0] for one in (y, y[..., None], y)
    ]
    losses += [model.evaluate(x, one, verbose=0) for one in (y[..., None], y)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)


def compiled(layer, reset, mask):
    """The program that XLA makes of a layer's gradient, as text."""
    x = np.ones((BATCH, STEPS, FEATURES), "float32")
    fixed = [keras.ops.copy(v) for v in layer.non_trainable_variables]
    weights = [keras.ops.copy(v) for v in layer.trainable_variables]

    def total(weights, x):
        state = layer.initial_state(BATCH)
        call = {"reset": reset, "mask": mask, "training": True}
        (outputs, _), _ = layer.stateless_call(weights, fixed, x, state, **call)
        return keras.ops.sum(outputs * outputs)

    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(jax.grad(total, argnums=(0, 1))).lower(weights, x).compile().as_text()
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def gradients(weights, x):
        with tf.GradientTape() as tape:
            tape.watch([weights, x])
            y = total(weights, x)
        return tape.gradient(y, [weights, x])

    weights = [tf.constant(w) for w in weights]
    return gradients.experimental_get_compiler_ir(weights, tf.constant(x))("optimized_hlo")


@pytest.mark.parametrize("flags", [False, True])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_no_step_copies_all_steps(cell, flags):
    layer = getattr(rnnzoo.layers, cell)(UNITS, learned_initial_state=flags)
    layer.build((BATCH, STEPS, FEATURES))
    given = np.arange(BATCH * STEPS).reshape(BATCH, STEPS) % 5 > 0 if flags else None
    text = compiled(layer, given, given)
    parts = {part.split(" ")[0]: part for part in re.split(r"\n(?=%|ENTRY)", text)}
    loops = [parts[name] for name in re.findall(r"body=(%[^,\s)]*)", text)]
    assert len(loops) >= 2  # forward and back
    whole = rf"= f32\[{STEPS},{BATCH},\d+\]\S* "
    assert all(re.search(r"dynamic-update-slice\S* " + whole, loop) for loop in loops)
    copy = whole + r"(copy\(|fusion\(.*calls=%\S*copy)"
    assert [line for loop in loops for line in loop.split("\n") if re.search(copy, line)] == []
