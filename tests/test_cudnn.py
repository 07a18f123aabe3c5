"""Stacks of LSTM layers in one call of cuDNN, which JAX's own reference stands in for on a CPU."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("cuDNN is called by hand on JAX only", allow_module_level=True)

import jax
from jax.experimental import rnn

import rnnzoo
from benchmarks.gpu import stand_in
from rnnzoo.backend import jax_cudnn as cudnn

BATCH, STEPS, FEATURES, UNITS = 4, 6, 3, 5


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(rnn, "lstm", stand_in.lstm)


def stack(layers=2, use_bias=True):
    """Layers of rnnzoo, their inputs, states and weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, STEPS, FEATURES)).astype("float32")
    built = [rnnzoo.layers.LSTM(UNITS, use_bias=use_bias) for _ in range(layers)]
    for index, layer in enumerate(built):
        layer.build((BATCH, STEPS, FEATURES if index == 0 else UNITS))
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    states = [tuple(rng.normal(size=(2, BATCH, UNITS)).astype("float32")) for _ in built]
    weights = [tuple(jax.numpy.asarray(w) for w in layer.get_weights()) for layer in built]
    return built, x, states, [w if use_bias else (*w, None) for w in weights]


def one_by_one(layers, x, states, mask):
    last = []
    for layer, (h, c) in zip(layers, states):
        x, state = layer(x, {"h": h, "c": c}, mask=mask)
        last.append((state["h"], state["c"]))
    return x, last


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("lengths", [None, [6, 2, 0, 3]], ids=["whole", "lengths"])
def test_a_stack_in_one_call_is_the_layers_one_by_one(on_cpu, lengths, use_bias):
    layers, x, states, weights = stack(use_bias=use_bias)
    mask = None if lengths is None else np.arange(STEPS)[None] < np.array(lengths)[:, None]
    given = None if lengths is None else jax.numpy.asarray(lengths)
    found = cudnn.lstm_stack(x, states, weights, given)
    expected = one_by_one(layers, x, states, mask)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_its_gradients_are_those_of_the_layers(on_cpu):
    layers, x, states, weights = stack()
    lengths = jax.numpy.array([6, 2, 0, 3])
    mask = np.arange(STEPS)[None] < np.asarray(lengths)[:, None]
    upstream = np.random.default_rng(1).normal(size=(BATCH, STEPS, UNITS)).astype("float32")

    def score(outputs, last):
        return (outputs * upstream).sum() + sum((h * 2.0 + c).sum() for h, c in last)

    def by_layers(x, states, weights):
        last = []
        for layer, state, own in zip(layers, states, weights):
            given = dict(zip(("h", "c"), state))
            fixed = layer.non_trainable_variables
            (x, new), _ = layer.stateless_call(own, fixed, x, given, mask=mask, training=True)
            last.append((new["h"], new["c"]))
        return score(x, last)

    def in_one(x, states, weights):
        return score(*cudnn.lstm_stack(x, states, weights, lengths))

    found, expected = (jax.grad(f, (0, 1, 2))(x, states, weights) for f in (in_one, by_layers))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_a_layer_with_padding_takes_cudnn_where_real_steps_come_first(monkeypatch):
    """What cuDNN gives is doubled at last, so that the way that was taken shows itself."""
    (layer,), x, (state,), _ = stack(layers=1)
    weights, given = [v.value for v in layer.trainable_variables], dict(zip(("h", "c"), state))
    fixed = [v.value for v in layer.non_trainable_variables]
    mask = np.arange(STEPS)[None] < np.array([6, 2, 0, 3])[:, None]
    holes, reset = mask.copy(), np.zeros((BATCH, STEPS), bool)
    holes[0, 2] = False
    begun, inside = reset.copy(), reset.copy()
    begun[:3, 0] = inside[0, 3] = True
    cases = [(mask, reset), (mask, begun), (holes, reset), (mask[:, ::-1], reset), (mask, inside)]

    def run():
        @jax.jit
        def graded(weights, x, mask, reset):
            def total(weights, x):
                flags = {"mask": mask, "reset": reset, "training": True}
                (y, last), _ = layer.stateless_call(weights, fixed, x, given, **flags)
                return (y**2).sum() + 2.0 * last["h"].sum() + last["c"].sum(), (y, last)

            return jax.value_and_grad(total, (0, 1), has_aux=True)(weights, x)

        return [jax.tree.leaves(graded(weights, x, *flags)) for flags in cases]

    expected = run()
    monkeypatch.setattr(rnnzoo.backend, "gpu_available", lambda: True)
    monkeypatch.setattr(rnn, "lstm", stand_in.lstm)
    for found, wanted in zip(run(), expected, strict=True):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)
    monkeypatch.setattr(rnn, "lstm", lambda *a, **k: [2.0 * v for v in stand_in.lstm(*a, **k)])
    taken = [abs(found[0] - wanted[0]) > 0.1 for found, wanted in zip(run(), expected)]
    assert taken == [True, True, False, False, False]


def test_what_cudnn_cannot_run_is_refused_before_anything_runs():
    _, x, states, weights = stack()
    kernel, recurrent, bias = weights[1]
    half = x.astype("float16")
    for arguments, message in [
        ((x, states, []), "for each of one or more layers; received 2 states and 0 weights"),
        ((x, states[:1], weights), "received 1 states and 2 weights"),
        ((x[:, :0], states, weights), r"at least one step; received .* \(4, 0, 3\)"),
        ((x, states, [weights[0], (kernel[:, :8], recurrent, bias)]), r"of layer 1 .*\(5, 8\)"),
        ((x, [states[0], (states[1][0][:2], states[1][1])], weights), r"layer 1 .*\(2, 5\)"),
        ((x, states, weights, np.array([1, 2])), r"each of 4 rows; received .* \(2,\)"),
        ((half, states, weights), "float32 only; received arrays of float16"),
    ]:
        with pytest.raises(ValueError, match=message):
            cudnn.lstm_stack(*arguments)
