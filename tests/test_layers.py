"""Recurrent layers: against NumPy, against the stock layers, against themselves in pieces."""

import contextlib
import threading
from functools import partial

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from reference import (
    CELL_IDS,
    CELLS,
    close,
    gradients,
    masks_above,
    on_jax,
    random_state,
    run,
)

import rnnzoo
from rnnzoo.backend import portable
from rnnzoo.layers.bidirectional import Bidirectional
from rnnzoo.layers.stack import check_cell, stack_layers

every_cell = pytest.mark.parametrize("name, options", CELLS, ids=CELL_IDS)


def make(name, options, units, features, **more):
    layer = getattr(rnnzoo.layers, name)(units, bias_initializer="normal", **options, **more)
    layer.build((None, None, features))
    return layer


def numpy_weights(layer):
    return [np.asarray(w, "float64") for w in layer.get_weights()[:3]]


# JAX compiles every operation anew for every shape, so there the shapes are few.
SIZES = [(1, 3), (1, 6), (2,), (1, 4)] if on_jax() else [range(1, 5), range(1, 10), (1, 3), (1, 5)]


@st.composite
def cases(draw):
    """A seed and sizes: (rng, batch, steps, features, units)."""
    seed = draw(st.integers(0, 2**16))
    return (np.random.default_rng(seed), *[draw(st.sampled_from(list(sizes))) for sizes in SIZES])


@every_cell
@given(case=cases())
def test_equals_numpy_with_resets_and_masks(name, options, case):
    rng, batch, steps, features, units = case
    layer = make(name, options, units, features)
    x = rng.normal(size=(batch, steps, features)).astype("float32")
    reset, mask = rng.random((2, batch, steps)) < 0.3
    state = random_state(rng, layer, batch)
    outputs, last = layer(x, state, reset=reset, mask=mask)
    expected, expected_last = run(
        name, options, numpy_weights(layer), x.astype("float64"), state.values(), reset, mask
    )
    close(outputs, np.stack(expected, axis=1))
    for got, wanted in zip(last.values(), expected_last):
        close(got, wanted)


@every_cell
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("float64", 1e-10)])
def test_gradient_by_hand_equals_plain_differentiation(name, options, dtype, tolerance):
    """Inputs, weights, state, learned initial state; resets, mask and recurrent dropout."""
    from rnnzoo.cells.adjoint import recurrence

    if dtype == "float64" and on_jax():
        pytest.skip("keras.ops.tanh and others compute in float32 on JAX, whatever the input")
    rng = np.random.default_rng(3)
    batch, steps, units = 3, 7, 4
    layer = make(name, options, units, 2)
    n = len(layer.state_names)
    x = rng.normal(size=(batch, steps, 2)).astype(dtype)
    reset, mask = rng.random((2, batch, steps)) < 0.4
    drop = (rng.random((batch, units)) * 2).astype(dtype)
    weights = [w.astype(dtype) for w in layer.get_weights()]
    states = [rng.normal(size=(batch, units)).astype(dtype) for _ in range(2 * n)]
    out = rng.normal(size=(batch, steps, units)).astype(dtype)
    last = rng.normal(size=(n, batch, units)).astype(dtype)

    def weighed(hidden, state):
        return sum([ops.sum(hidden * out)] + [ops.sum(s * w) for s, w in zip(state, last)])

    def plain(x, kernel, recurrent, bias, *states):
        hidden, state = run(
            name, options, (kernel, recurrent, bias), x, states[:n], reset, mask, states[n:], drop
        )
        return weighed(ops.stack(hidden, axis=1), state)

    def by_hand(keep, x, kernel, recurrent, bias, *states):
        after = name == "GRU" and options.get("reset_after", True)
        projected = ops.matmul(ops.transpose(x, (1, 0, 2)), kernel)
        flags = [ops.transpose(ops.convert_to_tensor(f))[..., None] for f in (reset, mask)]
        used = (recurrent, bias[1], bias[0]) if after else (recurrent, bias)
        hidden, state = recurrence(
            layer.recurrent_cell(),
            projected,
            used,
            tuple(states[:n]),
            tuple(states[n:]),
            *flags,
            ops.convert_to_tensor(drop),
            keep,
        )
        return weighed(ops.transpose(hidden, (1, 0, 2)), state)

    arrays = [x, *weights, *states]
    wanted = gradients(plain, arrays)
    assert all(np.abs(g).max() > 0 for g in wanted)
    for keep in (True, False):
        for got, expected in zip(gradients(partial(by_hand, keep), arrays), wanted):
            assert got.dtype == dtype
            close(got, expected, tolerance)


@every_cell
def test_equals_the_stock_layer_in_outputs_and_gradients(name, options):
    rng = np.random.default_rng(0)
    ours = make(name, options, 6, 3)
    stock = getattr(keras.layers, name)(6, return_sequences=True, return_state=True, **options)
    stock.build((None, None, 3))
    stock.set_weights(ours.get_weights())
    assert [w.name for w in stock.weights] == [w.name for w in ours.weights]
    x = rng.normal(size=(4, 11, 3)).astype("float32")
    state = random_state(rng, ours, 4)
    weigh = rng.normal(size=(4, 11, 6)).astype("float32")

    def total(layer, call):
        def function(x, *rest):
            weights, state = rest[:3], rest[3:]
            fixed = [v.value for v in layer.non_trainable_variables]
            outputs, last = call(layer, weights, fixed, x, state)
            return ops.sum(outputs * weigh) + sum(ops.sum(s * s) for s in last)

        return gradients(function, [x, *layer.get_weights()[:3], *state.values()])

    def call_ours(layer, weights, fixed, x, state):
        named = dict(zip(layer.state_names, state))
        outputs, last = layer.stateless_call(weights, fixed, x, named)[0]
        return outputs, last.values()

    def call_stock(layer, weights, fixed, x, state):
        outputs, *last = layer.stateless_call(weights, fixed, x, initial_state=list(state))[0]
        return outputs, last

    values = [ops.convert_to_tensor(s) for s in state.values()]
    outputs, last = ours(x, state)
    expected, *expected_last = stock(x, initial_state=values)
    close(outputs, expected)
    for got, wanted in zip(last.values(), expected_last):
        close(got, wanted)
    for got, wanted in zip(total(ours, call_ours), total(stock, call_stock)):
        close(got, wanted)


@every_cell
def test_weights_move_to_the_stock_layer_and_back(name, options):
    ours, stock = make(name, options, 4, 3), getattr(keras.layers, name)(4, **options)
    stock.build((None, None, 3))
    ours.set_weights(stock.get_weights())
    x = np.ones((2, 5, 3), "float32")
    outputs, _ = ours(x, ours.initial_state(2))
    close(outputs[:, -1], stock(x))


@every_cell
def test_no_step_returns_no_output_and_the_same_state(name, options):
    layer = make(name, options, 4, 3)
    state = random_state(np.random.default_rng(0), layer, 2)
    outputs, last = layer(np.zeros((2, 0, 3), "float32"), state, reset=np.zeros((2, 0), bool))
    assert tuple(outputs.shape) == (2, 0, 4)
    for key in state:
        np.testing.assert_array_equal(last[key], state[key])


@every_cell
def test_a_reset_restores_the_learned_initial_state(name, options):
    layer = make(name, options, 4, 3, learned_initial_state=True)
    rng = np.random.default_rng(5)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    x = rng.normal(size=(2, 5, 3)).astype("float32")
    fresh, _ = layer(x[:, 2:], layer.initial_state(2))
    reset = np.zeros((2, 5), bool)
    reset[:, 2] = True
    outputs, _ = layer(x, random_state(rng, layer, 2), reset=reset)
    close(outputs[:, 2:], fresh)
    zero, _ = layer(x[:, 2:], {k: np.zeros((2, 4), "float32") for k in layer.state_names})
    assert np.abs(ops.convert_to_numpy(fresh - zero)).max() > 0.01


def test_dropout_is_one_mask_for_all_steps_of_a_call():
    layer = rnnzoo.layers.SimpleRNN(64, dropout=0.5, recurrent_initializer="zeros", seed=1)
    x = np.ones((3, 8, 10), "float32")
    outputs, _ = layer(x, layer.initial_state(3), training=True)
    outputs = ops.convert_to_numpy(outputs)
    np.testing.assert_allclose(outputs, np.repeat(outputs[:, :1], 8, axis=1), atol=1e-6)
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01  # rows have masks of their own
    again = ops.convert_to_numpy(layer(x, layer.initial_state(3), training=True)[0])
    assert np.abs(again - outputs).max() > 0.01  # and every call a new one
    a, b = (layer(x, layer.initial_state(3))[0] for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_recurrent_dropout_drops_the_same_units_at_every_step():
    layer = rnnzoo.layers.SimpleRNN(
        6, recurrent_dropout=0.5, kernel_initializer="zeros", recurrent_initializer="identity"
    )
    state = {"h": np.full((4, 6), 0.1, "float32")}
    outputs = ops.convert_to_numpy(layer(np.ones((4, 3, 1), "float32"), state, training=True)[0])
    kept = outputs > 0
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(kept[:, :1], kept[:, 1:2])
    np.testing.assert_array_equal(kept[:, :1], kept[:, 2:])


def test_the_state_stays_in_float32_under_a_mixed_policy():
    layer = rnnzoo.layers.LSTM(4, dtype="mixed_bfloat16")
    state = layer.initial_state(2)
    outputs, last = layer(np.ones((2, 3, 3), "float32"), state)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert {keras.backend.standardize_dtype(v.dtype) for v in last.values()} == {"float32"}


@every_cell
def test_configuration_makes_the_same_layer_again(name, options):
    layer = make(name, options, 4, 3, dropout=0.1, learned_initial_state=True, seed=3)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    again.build((None, None, 3))
    again.set_weights(layer.get_weights())
    x = np.ones((1, 4, 3), "float32")
    np.testing.assert_array_equal(
        layer(x, layer.initial_state(1))[0], again(x, again.initial_state(1))[0]
    )


def test_a_small_gradient_that_is_wrong_would_be_seen():
    close(np.float32([2.0, 1e-4]), np.float32([2.0, 1.001e-4]))
    with pytest.raises(AssertionError, match="1.1"):
        close(np.float32([2.0, 1.1e-4]), np.float32([2.0, 1e-4]))


def state_of(layer, rows, **more):
    shapes = {name: (rows, layer.units) for name in layer.state_names} | more
    return {name: np.zeros(shape, "float32") for name, shape in shapes.items()}


FLAGS = [(3,), (6,), (3, 1), (1, 6), (3, 5), (4, 6), (3, 6, 1)]
WRONG = [
    ({flag: shape}, ["(batch, time)", f"{flag} of shape"])
    for flag in ("reset", "mask")
    for shape in FLAGS
]
WRONG += [({"state": 2}, ["rows of the sequence", "(3, 4)", "(2, 4)"]), ({"state": 1}, ["(1, 4)"])]


@pytest.mark.parametrize("wrong, words", WRONG)
@pytest.mark.parametrize("way", ["eager", "symbolic"])
def test_shapes_that_do_not_agree_are_refused(way, wrong, words):
    """Also those that would be spread over the batch without a word: one row, one step."""
    layer = rnnzoo.layers.GRU(4)
    flags = {k: np.ones(v, bool) for k, v in wrong.items() if k != "state"}
    call = (np.zeros((3, 6, 2), "float32"), state_of(layer, wrong.get("state", 3)))
    if way == "symbolic":
        symbols = keras.tree.map_structure(
            lambda v: keras.KerasTensor(v.shape, str(v.dtype)), (*call, flags)
        )
        call, flags = symbols[:2], symbols[2]
    with pytest.raises(ValueError) as raised:
        layer(*call, **flags)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda layer, x: layer(x[0]), ["expected ndim=3", "found ndim=2"]),
        (lambda layer, x: layer(x[..., :1]), ["axis -1", "value 2"]),
        (lambda layer, x: layer(x, {}), ["must be a dict of ['h']", "received []"]),
        (lambda layer, x: layer(x, state_of(layer, 3, c=(3, 4))), ["['h']", "['c', 'h']"]),
        (lambda layer, x: layer(x, state_of(layer, 3, h=(3, 5))), ["(3, 4)", "(3, 5)"]),
        (lambda layer, x: layer.initial_state(-1), ["at least 0", "batch_size=-1"]),
        (lambda layer, x: layer.initial_state(2.0), ["integer", "batch_size=2.0"]),
        (lambda layer, x: layer.initial_state(True), ["integer", "batch_size=True"]),
    ],
)
def test_what_a_call_refuses(call, words):
    layer, x = rnnzoo.layers.GRU(4), np.zeros((3, 6, 2), "float32")
    layer(x)
    with pytest.raises(ValueError) as raised:
        call(layer, x)
    assert all(word in str(raised.value) for word in words), raised.value


def test_go_backwards_takes_no_reset():
    layer, x = rnnzoo.layers.GRU(4, go_backwards=True), np.zeros((3, 6, 2), "float32")
    with pytest.raises(ValueError, match="go_backwards=True reads whole sequences"):
        layer(x, reset=np.zeros((3, 6), bool))


@masks_above
@every_cell
def test_alone_it_is_its_namesake_with_the_mask_of_keras(name, options):
    """In Sequential and Functional models, the mask counts for the loss as well."""
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
    x[0, 3:] = x[2, 1:] = 0.0
    models = []
    for module, more in ((rnnzoo.layers, {}), (keras.layers, {"return_sequences": True})):
        recurrent = getattr(module, name)(4, **options, **more)
        layers = [keras.layers.Masking(), recurrent, keras.layers.Dense(1)]
        models.append(keras.Sequential([keras.Input((None, 2)), *layers]))
        models[-1].compile("sgd", "mse")
    ours, stock = models
    stock.set_weights(ours.get_weights())
    close(ours.evaluate(x, x[..., :1], verbose=0), stock.evaluate(x, x[..., :1], verbose=0))
    found, wanted = ours(x), stock(x)
    for row, steps in enumerate((3, 5, 1)):
        close(found[row, :steps], wanted[row, :steps])
    layer = ours.layers[1]
    masked = keras.layers.Masking()(x)
    outputs, last = layer(masked, layer.initial_state(3))
    explicit = layer(np.where(x == 0, np.nan, x), layer.initial_state(3), mask=np.any(x != 0, -1))
    close(outputs, explicit[0])
    close(last["h"], explicit[1]["h"])
    assert layer.compute_output_shape((None, 5, 2)) == (None, 5, 4)
    assert keras.layers.TimeDistributed(ours)(np.zeros((2, 3, 5, 2))).shape == (2, 3, 5, 1)


@every_cell
def test_outputs_are_regularized_as_asked(name, options):
    layer = getattr(rnnzoo.layers, name)(3, activity_regularizer="l1", **options)
    again = type(layer).from_config(layer.get_config())
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    for one in (layer, again):
        outputs = one(x)
        close(sum(one.losses), 0.01 * ops.sum(ops.abs(outputs)) / 2)  # for each row


def test_shapes_and_dtypes_are_said_before_a_call():
    layer = rnnzoo.layers.LSTM(4, dtype="mixed_bfloat16")
    x, state = keras.Input((None, 3)), {key: keras.Input((4,)) for key in "hc"}
    outputs, last = layer(x, state)
    assert (outputs.shape, outputs.dtype) == ((None, None, 4), "bfloat16")
    assert {(v.shape, v.dtype) for v in last.values()} == {((None, 4), "float32")}
    assert layer(x).shape == (None, None, 4)
    shapes = layer.compute_output_shape((2, 5, 3), state_shape={"h": (2, 4), "c": (2, 4)})
    assert shapes == ((2, 5, 4), {"h": (2, 4), "c": (2, 4)})


def test_a_core_takes_a_batch_of_open_size_within_another_model():
    """Where JAX infers shapes, a number of rows is neither an int nor a tensor."""
    inputs = keras.Input((5, 3))

    class Whole(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.layer = rnnzoo.layers.RNN(keras.layers.LSTMCell(4), learned_initial_state=True)
            self.layer.build((None, 5, 3))

        def call(self, x):
            return self.layer(x, self.layer.initial_state(ops.shape(x)[0]))[0]

    model = keras.Model(inputs, Whole()(inputs))
    assert model(np.zeros((2, 5, 3))).shape == (2, 5, 4)


def test_padding_of_a_bidirectional_layer_may_hold_anything():
    layer = Bidirectional(rnnzoo.layers.LSTM(3), rnnzoo.layers.LSTM(3))
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    mask = np.array([[1, 1, 1, 0, 0], [1] * 5], bool)
    layer(x, mask)
    weights = [ops.convert_to_numpy(w) for w in layer.trainable_weights]

    def total(x):
        def function(*weights):
            fixed = [v.value for v in layer.non_trainable_variables]
            outputs, state = layer.stateless_call(weights, fixed, x, mask)[0]
            return ops.sum(ops.where(mask[..., None], outputs, 0)) + ops.sum(state["h"])

        return gradients(function, weights)

    for got, wanted in zip(
        *(total(np.where(mask[..., None], x, v)) for v in (np.nan, 0)), strict=True
    ):
        close(got, wanted)
    short = layer(x[:1, :3])  # no mask: every step counts
    close(layer(x, mask)[0][0, :3], short[0][0])


@contextlib.contextmanager
def doubles():
    """JAX has float64 only where it is asked for."""
    if not on_jax():
        yield
    else:
        import jax

        with jax.enable_x64(True):
            yield


@every_cell
def test_float64_is_float64_to_the_last_digits(name, options):
    """Outputs, and by steps in the imaginary direction the gradient, exact in NumPy."""
    rng = np.random.default_rng(0)
    with doubles():
        layer = make(name, options, 4, 3, dtype="float64")
        weights = [rng.normal(size=w.shape) for w in layer.get_weights()[:3]]
        x, weigh = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6, 4))
        state = random_state(rng, layer, 2, "float64")
        layer.set_weights(weights + layer.get_weights()[3:])
        outputs = layer(x, state)[0]
        wanted, _ = run(name, options, weights, x, state.values())
        np.testing.assert_allclose(outputs, np.stack(wanted, axis=1), rtol=0, atol=1e-14)

        def total(x, *weights):
            fixed = [v.value for v in layer.non_trainable_variables]
            return ops.sum(layer.stateless_call(weights, fixed, x, state)[0][0] * weigh)

        found = gradients(total, [x, *weights])
    values = [x, *weights]
    for place, gradient in enumerate(found):
        assert gradient.dtype == "float64"
        way = rng.normal(size=gradient.shape)
        moved = [v + 1e-30j * way if i == place else v + 0j for i, v in enumerate(values)]
        outputs, _ = run(name, options, moved[1:], moved[0], [s + 0j for s in state.values()])
        slope = np.sum(np.stack(outputs, axis=1).imag * weigh) / 1e-30
        assert abs(np.sum(gradient * way) - slope) < 1e-14 * max(1, np.sum(np.abs(gradient * way)))


@every_cell
def test_weights_are_not_rounded_to_floatx(name, options):
    layer = make(name, options, 4, 3, dtype="float32")
    plain = make(name, options, 4, 3, dtype="float32", activation="softsign")
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    wanted = [ops.convert_to_numpy(each(x)) for each in (layer, plain)]
    keras.config.set_floatx("bfloat16")
    try:
        found = [ops.convert_to_numpy(each(x)) for each in (layer, plain)]
    finally:
        keras.config.set_floatx("float32")
    np.testing.assert_array_equal(found[0], wanted[0])
    close(found[1], wanted[1])


@every_cell
@pytest.mark.parametrize("kind", ["default", "activation", "portable", "dropout", "mixed"])
def test_what_runs_on_cudnn(name, options, kind, monkeypatch):
    """On JAX the LSTM alone: Keras's GRU there is a plain scan, without our gradient."""
    monkeypatch.setattr(rnnzoo.backend, "gpu_available", lambda: True)
    more = {"activation": {"activation": "softsign"}, "mixed": {"dtype": "mixed_bfloat16"}}
    more |= {"dropout": {"recurrent_dropout": 0.1}}
    layer = make(name, options, 4, 3, **more.get(kind, {}))
    taken = []
    monkeypatch.setattr(
        layer,
        "_stock_or_scan",
        lambda *args: taken.append(1) or layer._scan(*args[:4], None, args[4]),
    )
    with rnnzoo.backend.portable() if kind == "portable" else contextlib.nullcontext():
        layer(np.zeros((2, 3, 3), "float32"), layer.initial_state(2), training=kind == "dropout")
    has = name == "LSTM" or (name == "GRU" and not on_jax())
    assert bool(taken) == (has and kind == "default")


def test_portable_is_of_the_thread_that_says_so(monkeypatch):
    monkeypatch.setattr(rnnzoo.backend, "gpu_available", lambda: True)
    seen = []
    with portable():
        other = threading.Thread(target=lambda: seen.append(rnnzoo.backend.cudnn_runs("LSTM")))
        other.start()
        other.join(10)
        assert not rnnzoo.backend.cudnn_runs("LSTM")
    assert seen == [True] and rnnzoo.backend.cudnn_runs("LSTM")


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
@pytest.mark.filterwarnings("ignore:`model.quantize.*were skipped:UserWarning")  # Keras 3.16
@pytest.mark.parametrize("tied", [False, True])
def test_quantized_output_layers_are_int8(tied, tmp_path):
    model = rnnzoo.one_to_one(vocabulary=7, units=8, tied=tied)
    x = np.arange(20).reshape(2, 10) % 7
    before = model.predict(x, verbose=0)
    model.quantize("int8")
    kernels = [
        w for w in model.weights if w.name in ("kernel", "embeddings") and "lstm" not in w.path
    ]
    assert len(kernels) == (1 if tied else 2) and {w.dtype for w in kernels} == {"int8"}
    after = model.predict(x, verbose=0)
    assert 0 < np.abs(after - before).max() < 0.03 * np.abs(before).max()
    model.save(tmp_path / "m.keras")
    close(keras.models.load_model(tmp_path / "m.keras").predict(x, verbose=0), after)


def test_layers_are_named_after_their_cells_words():
    names = [
        stack_layers(check_cell(cell), [2])[0].name for cell in ("simple_rnn", "gru", "rg_lru")
    ]
    assert names == ["simple_rnn_0", "gru_0", "rg_lru_0"]
