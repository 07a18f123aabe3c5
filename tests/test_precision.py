"""Half precision: products alone are rounded, and everything that is summed is float32."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops
from reference import CELL_IDS, CELLS, close, gradients, on_jax, random_state

import rnnzoo
from rnnzoo.export.full_precision import in_full_precision
from rnnzoo.training.backup import snapshot

HALF = {"mixed_bfloat16": 2e-2, "mixed_float16": 3e-3}  # a bit more than a rounding each
FEATURES, ROWS, STEPS = 3, 2, 13


def near(a, b, tolerance):
    """Asserts that two arrays agree but for rounding, which is of the size of the largest."""
    a, b = (ops.convert_to_numpy(ops.cast(v, "float32")) for v in (a, b))
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * max(1.0, np.abs(b).max())


@contextlib.contextmanager
def policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def dtypes(values):
    return {keras.backend.standardize_dtype(v.dtype) for v in values}


def data(seed=0):
    x = np.random.default_rng(seed).normal(size=(ROWS, STEPS, FEATURES)).astype("float32")
    return x, 0.5 * x[..., :2]


@pytest.mark.parametrize("mixed", HALF)
@pytest.mark.parametrize("name, options", CELLS, ids=CELL_IDS)
def test_outputs_and_gradients_are_those_of_float32_but_for_rounding(name, options, mixed):
    rng = np.random.default_rng(1)
    kind = getattr(rnnzoo.layers, name)
    full = kind(6, bias_initializer="normal", **options)
    half = kind(6, dtype=mixed, **options)
    for layer in (full, half):
        layer.build((None, None, FEATURES))
    half.set_weights(full.get_weights())
    x, state = data()[0], random_state(rng, full, ROWS)
    reset = rng.random((ROWS, STEPS)) < 0.2
    weigh = rng.normal(size=(ROWS, STEPS, 6)).astype("float32")

    def of(layer):
        def total(x, *rest):
            weights, values = rest[:3], dict(zip(layer.state_names, rest[3:]))
            given = (weights, [v.value for v in layer.non_trainable_variables], x, values, reset)
            outputs, last = layer.stateless_call(*given, training=True)[0]
            assert dtypes(last.values()) == {"float32"}
            assert dtypes([outputs]) == {layer.compute_dtype}
            states = sum(ops.sum(s * s) for s in last.values())
            return ops.sum(ops.cast(outputs, "float32") * weigh) + states

        return gradients(total, [x, *layer.get_weights()[:3], *state.values()])

    for got, wanted in zip(of(half), of(full)):
        assert got.dtype == "float32"
        near(got, wanted, HALF[mixed])
    near(ops.cast(half(x, state, reset)[0], "float32"), full(x, state, reset)[0], HALF[mixed])


def test_a_cell_that_adds_little_for_long_does_not_stand_still():
    """c grows by 0.001 at each of 1,000 steps; in bfloat16 it would stop at 0.5."""
    layer = rnnzoo.layers.LSTM(1, dtype="mixed_bfloat16")
    layer.build((None, None, 1))
    bias = np.array([20.0, 20.0, 0.001, 0.0], "float32")  # input and forget gate are 1
    layer.set_weights([np.zeros((1, 4)), np.zeros((1, 4)), bias])
    _, state = layer(np.zeros((1, 1000, 1), "float32"), layer.initial_state(1))
    close(state["c"], [[1.0]], 1e-4)


@pytest.mark.parametrize("mixed", HALF)
def test_a_weight_gradient_of_many_rows_is_summed_in_float32(mixed):
    """16,000 times 400 is more than a float16 can be, and a bfloat16 sum would stop growing."""
    layer = rnnzoo.layers.SimpleRNN(1, dtype=mixed, bias_initializer="ones")
    layer.build((None, None, 1))
    zero, one, rows = np.zeros((1, 1), "float32"), np.ones((1, 1), "float32"), 8000
    x, before = np.zeros((rows, 2, 1), "float32"), {"h": np.ones((rows, 1), "float32")}

    def total(recurrent):
        weights = [one, recurrent, np.ones(1, "float32")]
        fixed = [v.value for v in layer.non_trainable_variables]
        outputs, _ = layer.stateless_call(weights, fixed, x, before, training=True)[0]
        return 1000.0 * ops.sum(ops.cast(outputs, "float32"))

    h = np.tanh(1.0)  # with recurrent weights of 0, at each step the same
    close(gradients(total, [zero])[0], [[1000.0 * rows * (1 - h * h) * (1 + h)]], 1e-2)


@pytest.fixture(scope="module")
def trained():
    """A model trained in overlapping windows under mixed_float16, and its first variables."""
    keras.utils.set_random_seed(7)
    with policy("mixed_float16"):
        model = rnnzoo.one_to_one(features=FEATURES, units=5, outputs=2)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    fit(model, epochs=0, stride=2)
    return model, state_of(model)


def fit(model, epochs=1, stride=4, **more):
    callbacks = [rnnzoo.TruncatedBPTT(4, stride), *more.pop("callbacks", ())]
    x, y = data()
    return model.fit(x, y, epochs=epochs, batch_size=ROWS, verbose=0, callbacks=callbacks, **more)


def state_of(model):
    return {k: np.array(ops.convert_to_numpy(v)) for k, v in snapshot.variables_of(model).items()}


def test_keras_scales_the_loss_and_an_overflow_halves_the_scale_window_by_window(trained, tmp_path):
    model, _ = trained
    # As the run that is resumed, below: one compilation serves both.
    backups = [[rnnzoo.BackupAndResume(tmp_path / name)] for name in ("first", "second")]
    optimizer = model.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert float(ops.convert_to_numpy(optimizer.dynamic_scale)) == 2.0**15
    fit(model, stride=2, callbacks=backups[0])
    windows = -(-STEPS // 2)
    assert int(optimizer.iterations) == windows
    assert dtypes(model.optimizer.inner_optimizer.variables[2:]) == {"float32"}
    before = [np.array(v) for v in model.trainable_variables]
    optimizer.dynamic_scale.assign(2.0**60)
    fit(model, stride=2, callbacks=backups[1])
    assert float(ops.convert_to_numpy(optimizer.dynamic_scale)) == 2.0 ** (60 - windows)
    assert int(optimizer.iterations) == windows
    for weight, kept in zip(model.trainable_variables, before):
        np.testing.assert_array_equal(np.array(weight), kept)


def test_a_resumed_run_is_the_same_bit_for_bit_with_its_loss_scale(trained, tmp_path):
    model, first = trained

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(folder, *callbacks):
        for name, variable in snapshot.variables_of(model).items():
            variable.assign(first[name])
        model.optimizer.dynamic_scale.assign(2.0**40)  # falls, from overflow to overflow
        backup = rnnzoo.BackupAndResume(folder, every=1)
        fit(model, epochs=4, stride=2, callbacks=[*callbacks, backup])
        return state_of(model)

    never = run(tmp_path / "never")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Stop())
    resumed = run(tmp_path / "stopped")
    assert float(ops.convert_to_numpy(model.optimizer.dynamic_scale)) < 2.0**40
    assert int(model.optimizer.iterations) > 0
    for name, value in never.items():
        np.testing.assert_array_equal(resumed[name], value, name)


def test_pieces_make_the_whole_and_leave_the_model_in_float32(trained):
    model, _ = trained
    x = data(5)[0]
    whole = model.predict(x, verbose=0)
    state, pieces = model.initial_state(ROWS), []
    for begin, end in ((0, 1), (1, 7), (7, STEPS)):
        y, state = model.step(x[:, begin:end], state)
        assert dtypes([y, *state.values()]) == {"float32"}
        pieces.append(ops.convert_to_numpy(y))
    assert whole.dtype == "float32"
    near(np.concatenate(pieces, axis=1), whole, HALF["mixed_float16"])


def test_what_is_loaded_keeps_its_precision(trained, tmp_path):
    model, _ = trained
    model.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert loaded.dtype_policy.name == "mixed_float16"
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))
    x = data(6)[0]
    near(loaded.predict(x, verbose=0), model.predict(x, verbose=0), HALF["mixed_float16"])


def test_windows_on_end_are_trained_under_bfloat16_with_a_state_in_float32():
    with policy("mixed_bfloat16"):
        model = rnnzoo.one_to_one(vocabulary=7, units=5, learned_initial_state=True)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stream = rnnzoo.data.stream(np.arange(60) % 7, 2, 5, windows_per_batch=2)
    model.fit(stream, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(5)])
    assert not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert dtypes(model.states.values()) == {"float32"}
    assert np.abs(model.states["h_0"]).max() > 0
    assert dtypes(model.weights) <= {"float32", "uint32", "int64"}
    assert model.generate(np.array([[1, 2]]), max_length=3).scores.dtype == "float32"


def test_an_encoder_decoder_hands_states_and_memory_on_in_float32(tmp_path):
    with policy("mixed_float16"):
        model = rnnzoo.encoder_decoder(
            source_features=FEATURES, target_features=2, units=4, attention="additive"
        )
        other = rnnzoo.many_to_one(features=FEATURES, units=4)
    assert dtypes(model.encoder.output.values()) == {"float32"}
    assert dtypes(model.decoder.output.values()) == {"float32"}
    assert dtypes(other.core.output.values()) == {"float32"}
    model.compile("adam", "mse")
    x, y = data()
    batch = {"source": x, "target": y}
    model.fit(batch, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(5)])
    assert model.generate(x, steps=3).dtype == "float32"
    config = model.get_config()
    again = rnnzoo.EncoderDecoder.from_config(config)
    assert again.decoder.get_layer("output_layer").compute_dtype == "float16"
    full = in_full_precision(model)
    assert full.decoder.get_layer("output_layer").compute_dtype == "float32"
    near(model.predict(batch, verbose=0), full.predict(batch, verbose=0), HALF["mixed_float16"])


@pytest.mark.skipif(on_jax(), reason="JAX has float64 where it is switched on as it starts")
def test_forecasts_in_float64_keep_their_digits():
    keras.config.set_floatx("float64")
    try:
        model = rnnzoo.one_to_one(features=1, units=3, outputs=rnnzoo.heads.Normal())
    finally:
        keras.config.set_floatx("float32")
    x = 1e9 + np.arange(4.0).reshape(1, 4, 1)
    model.core.get_layer("output_layer").bias.assign([1e9 + 0.5, 0.0])
    y, state = model.step(x, model.initial_state(1))
    found = model.generate(x, max_length=2)
    for step in range(2):
        mean = ops.convert_to_numpy(model.heads["outputs"].mean(y[:, -1]))
        np.testing.assert_allclose(found.mean[:, step], mean, rtol=1e-14)
        y, state = model.step(mean[:, None], state)


@pytest.mark.skipif(on_jax(), reason="written by a process on TensorFlow, tested there")
def test_a_served_step_takes_and_gives_float32(trained, tmp_path):
    model, _ = trained
    served = rnnzoo.load_served(model.export(tmp_path / "half" / "1"))
    x = data(3)[0]
    y, state = model.step(x[:1], model.initial_state(1))
    stream = served.new_stream()
    np.testing.assert_array_equal(stream.step(x[0]), ops.convert_to_numpy(y)[0])
    assert stream.step(x[0]).dtype == "float32"


def test_in_full_precision_nothing_is_rounded_and_nothing_rebuilt():
    model = rnnzoo.one_to_one(features=FEATURES, units=4, outputs=2)
    assert in_full_precision(model) is model
