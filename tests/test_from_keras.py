"""`from_keras`: a user's Keras model, whole and cut, saved, trained and given back."""

import functools

import keras
import keras_models
import numpy as np
import pytest
from keras import layers, ops
from keras_models import MODELS, reals, tokens
from reference import HAND_MASKS_ON, close, masks_above, on_jax

import rnnzoo

pytestmark = pytest.mark.usefixtures("xla")

# JAX compiles each operation by itself, so a dozen of them are enough there.
SLOW = ("frames", "encoder", "tickets", "flattened", "autoencoder", "attention", "backwards")
LEFT_OUT = SLOW * on_jax() + ("masked_grus", "video") * (not HAND_MASKS_ON)
TRIED = [make for make in MODELS if make.__name__ not in LEFT_OUT]
STREAMING = [make for make in TRIED if not MODELS[make]]
NO_TEXTS = pytest.mark.skipif(on_jax(), reason="JAX has no tensors of texts")
WHOLE = [make for make in TRIED if MODELS[make]]


def named(make):
    return make.__name__


@functools.cache
def pair(make):
    """The stock model with random weights, what it becomes, and inputs for it."""
    keras.utils.set_random_seed(3)
    stock, x = make()
    rng = np.random.default_rng(5)
    stock.set_weights([rng.uniform(0.05, 0.4, w.shape) for w in stock.get_weights()])
    for layer in stock.layers:
        getattr(layer, "finalize_state", lambda: None)()  # of new weights
    return stock, rnnzoo.from_keras(stock), x


def outputs_and_gradients(model, x):
    """The outputs for `x`, flat, and the gradient of a sum of them for every weight."""
    rng = np.random.default_rng(7)
    factors = None

    def total(outputs):
        nonlocal factors
        flat = keras.tree.flatten(outputs)
        factors = factors or [rng.normal(size=y.shape).astype("float32") for y in flat]
        return sum(ops.sum(y * f) for y, f in zip(flat, factors)), flat

    if on_jax():
        import jax

        held = [v.value for v in model.non_trainable_variables]

        def run(weights):
            return total(model.stateless_call(weights, held, x, training=False)[0])

        weights = [v.value for v in model.trainable_variables]
        (_, flat), found = jax.jit(jax.value_and_grad(run, has_aux=True))(weights)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value, flat = total(model(x, training=False))
        variables = [v.value for v in model.trainable_variables]
        found = tape.gradient(value, variables, unconnected_gradients="zero")
        found = [tf.convert_to_tensor(g) for g in found]  # those of embeddings are sparse
    return [ops.convert_to_numpy(y) for y in flat], [np.asarray(g) for g in found]


def order(model):
    """An order of trainable weights that knows only their values."""
    values = [np.asarray(w) for w in model.trainable_variables]
    return sorted(range(len(values)), key=lambda i: (values[i].shape, values[i].tobytes()))


@pytest.mark.parametrize("make", TRIED, ids=named)
def test_outputs_and_gradients_are_those_of_the_stock_model(make):
    stock, model, x = pair(make)
    given = list(x.values()) if len(stock.inputs) > 1 and isinstance(stock.input, list) else x
    for layer in stock.layers:
        if getattr(layer, "stateful", False):
            layer.reset_states()
    wanted, right = outputs_and_gradients(stock, given)
    got, found = outputs_and_gradients(model, x)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for i, j in zip(order(model), order(stock), strict=True):
        scale = max(1.0, np.abs(right[j]).max())
        np.testing.assert_allclose(found[i], right[j], rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("make", TRIED[::4] if on_jax() else TRIED, ids=named)
def test_a_stock_model_is_given_back(make):
    _, model, x = pair(make)
    back = model.to_keras()
    kinds = {type(layer) for layer in back.layers}
    assert not [kind for kind in kinds if kind.__module__.startswith("rnnzoo.")]
    for a, b in zip(keras.tree.flatten(back(x)), keras.tree.flatten(model(x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def part_of(model, x, part):
    """Steps `part` of the inputs that have steps."""
    if not isinstance(x, dict):
        return x[:, part]
    return {k: v[:, part] if model.spec.inputs[k].per_step else v for k, v in x.items()}


@pytest.mark.parametrize("make", STREAMING, ids=named)
def test_cut_equals_whole(make):
    _, model, x = pair(make)
    whole = keras.tree.flatten(model(x, training=False))
    state, parts = model.initial_state(len(keras.tree.flatten(x)[0])), []
    for part in (slice(0, 1), slice(1, 3), slice(3, None)):
        outputs, state = model.step(part_of(model, x, part), state)
        parts.append(keras.tree.flatten(outputs))
    kinds = [model.spec.outputs[name] for name in sorted(model.spec.outputs)]
    for one, y, cut in zip(kinds, whole, zip(*parts), strict=True):
        cut = [ops.convert_to_numpy(piece) for piece in cut]
        close(np.concatenate(cut, axis=1) if one.per_step else cut[-1], y)


@pytest.mark.skipif(on_jax(), reason="the shapes of JAX are never open")
def test_steps_of_layers_within_are_as_many_as_there_are():
    stock, model, x = pair(keras_models.frames)
    close(model.predict(x, batch_size=2, verbose=0), stock(x))


@pytest.mark.skipif(on_jax(), reason="lookups run in TensorFlow")
def test_a_vocabulary_goes_with_its_layer():
    known, x = layers.IntegerLookup(), keras.Input((None,), dtype="int64")
    known.adapt(np.array([3, 5, 7, 3]))
    lstm = layers.LSTM(2, return_sequences=True)
    stock = keras.Model(x, lstm(layers.Embedding(9, 2)(known(x))))
    given = np.array([[3, 5, 7, 9]])
    close(rnnzoo.from_keras(stock)(given), stock(given))


@pytest.mark.parametrize("make", WHOLE, ids=named)
def test_what_cannot_stream_is_refused_by_the_name_of_the_layer(make):
    _, model, x = pair(make)
    assert set(MODELS[make]) <= set(model.spec.whole_only)
    x = x if isinstance(x, dict) else {"inputs": x}
    reset = np.zeros(x[model.spec.leading].shape[:2], bool)
    for name in MODELS[make]:
        for refused in (
            lambda: model.predict({**x, "reset": reset}, verbose=0),
            lambda: model.step(x, model.initial_state(4)),
            lambda: model.predict(x, verbose=0, callbacks=[rnnzoo.ResetStates("epoch")]),
            lambda: model.predict(x, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(3)]),
            lambda: model.generate([[1]], max_length=1),
        ):
            with pytest.raises(ValueError, match=f"'{name}'"):
                refused()


def test_whole_sequences_train_as_in_keras():
    stock, x = keras_models.bilstm()
    model = rnnzoo.from_keras(stock)
    y = np.random.default_rng(0).integers(0, 2, (4, 1)).astype("float32")
    for one in (stock, model):
        optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
        one.compile(optimizer, "binary_crossentropy", jit_compile=False)
        history = one.fit(x, y, batch_size=2, epochs=2, shuffle=False, verbose=0).history
    same = rnnzoo.from_keras(stock).core.get_weights()  # in the order of the core
    for got, wanted in zip(model.core.get_weights(), same, strict=True):
        close(got, wanted)
    np.testing.assert_allclose(history["loss"], stock.history.history["loss"], rtol=1e-5)


def test_windows_equal_windows_cut_by_hand():
    stock, x = keras_models.load()
    looped, by_hand = rnnzoo.from_keras(stock), rnnzoo.from_keras(stock)
    y = reals(4, 7, 1)
    looped.compile(keras.optimizers.SGD(0.1), "mse")  # windows in XLA, as shipped
    by_hand.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    callback = rnnzoo.TruncatedBPTT(3)
    looped.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[callback])
    for start in range(0, 7, 3):
        part = slice(start, start + 3)
        cut = part_of(by_hand, x, part)
        reset = np.zeros(cut["demand"].shape[:2], bool)
        reset[:, 0] = start == 0
        by_hand.train_on_batch({**cut, "reset": reset}, y[:, part])
    for got, wanted in zip(looped.core.get_weights(), by_hand.core.get_weights(), strict=True):
        close(got, wanted)
    assert not np.allclose(
        looped.core.get_weights()[0], pair(keras_models.load)[0].get_weights()[0]
    )


@pytest.mark.parametrize("callbacks", [[], [rnnzoo.TruncatedBPTT(4, 2)]], ids=["whole", "windows"])
def test_losses_leave_out_what_a_mask_of_keras_does(callbacks):
    stock, model, x = pair(keras_models.masked_tagger)
    y = np.random.default_rng(2).integers(0, 3, x.shape)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", jit_compile=False)
    history = model.fit(x, y, verbose=0, shuffle=False, callbacks=callbacks).history
    given = np.take_along_axis(ops.convert_to_numpy(stock(x)), y[..., None], -1)[..., 0]
    np.testing.assert_allclose(history["loss"], [-np.log(given[x != 0]).mean()], rtol=1e-5)


@masks_above
def test_lengths_of_the_data_are_a_mask():
    stock, model, x = pair(keras_models.masked_grus)
    x = reals(*x.shape)
    short = x.copy()
    short[:, 4:] = 0
    wanted = stock(short)
    x[:, 4:] = np.nan  # padding may hold anything
    got = model.predict({"inputs": x, "lengths": np.full(4, 4)}, verbose=0)
    close(got, wanted)


def test_lengths_are_refused_where_padding_would_count():
    _, model, x = pair(keras_models.cnn_lstm)
    with pytest.raises(ValueError, match="takes no mask.*lengths"):
        model.predict({"inputs": x, "lengths": np.full(4, 4)}, verbose=0)


def test_a_stream_carries_state_and_is_reset():
    _, model, x = pair(keras_models.residual)
    x = np.concatenate([x, x], axis=1)
    reset = np.zeros(x.shape[:2], bool)
    reset[:, 7] = True
    got = model.predict({"inputs": x, "reset": reset}, verbose=0)
    close(got[:, 7:], got[:, :7])


def test_it_is_saved_loaded_and_generates(tmp_path):
    for make in (keras_models.language_model, keras_models.bilstm, keras_models.cells):
        _, model, x = pair(make)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.spec == model.spec
        close(loaded(x), model(x))
    _, model, x = pair(keras_models.language_model)
    written = model.generate(x[:2, :3], max_length=2).tokens
    probable = ops.convert_to_numpy(model(x[:2, :3])).argmax(-1)[:, -1]
    assert [row[0] for row in written] == probable.tolist()


@masks_above
@pytest.mark.skipif(on_jax(), reason="the export is written by TensorFlow, and read there")
def test_it_is_exported(tmp_path):
    import tensorflow as tf

    _, model, x = pair(keras_models.load)
    x_of_load = x
    served = tf.saved_model.load(str(model.export(tmp_path / "load" / "1")))
    state = model.initial_state(4)
    given = {k: tf.constant(v) for k, v in part_of(model, x, slice(0, 2)).items()}
    answer = served.signatures["step"](**given, reset=tf.zeros([4, 2], tf.bool), **state)
    close(answer["outputs"], model.step(part_of(model, x, slice(0, 2)), state)[0])
    _, whole, x = pair(keras_models.bilstm)
    path = whole.export(tmp_path / "bilstm" / "1")
    served = tf.saved_model.load(str(path))
    assert list(served.signatures) == ["serving_default"]
    lengths = tf.fill([4], x.shape[1])
    close(served.signatures["serving_default"](inputs=x, lengths=lengths)["outputs"], whole(x))
    loaded = rnnzoo.load_served(path)
    close(loaded.call(inputs=x, lengths=lengths.numpy())["outputs"], whole(x))
    with pytest.raises(ValueError, match="received one of whole sequences"):
        loaded.new_stream()
    stepped = rnnzoo.load_served(tmp_path / "load" / "1")
    first = {name: value[0] for name, value in part_of(model, x_of_load, slice(0, 2)).items()}
    stream = stepped.new_stream(static={name: first.pop(name) for name in stepped.static})
    close(stream.step(first), ops.convert_to_numpy(answer["outputs"])[0])


def test_the_model_stays_as_it_is():
    stock, _, x = pair(keras_models.nested)
    config, weights = stock.get_config(), stock.get_weights()
    model = rnnzoo.from_keras(stock)
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(x, np.ones((4, 7, 2)), verbose=0)
    assert stock.get_config() == config
    for before, after in zip(weights, stock.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_shared_layers_stay_shared():
    stock, model, _ = pair(keras_models.shared)
    assert len(model.core.weights) == len(stock.weights)
    assert len(model.spec.states) == 4  # two for each of two calls


def test_a_kernel_of_zeros_hides_nothing():
    stock = keras.Sequential(
        [
            keras.Input((None, 2)),
            layers.Conv1D(2, 3, padding="same", kernel_initializer="zeros", name="blank"),
            layers.LSTM(2, return_sequences=True),
        ]
    )
    model = rnnzoo.from_keras(stock)
    assert set(model.spec.whole_only) == {"blank"}
    assert not model.core.get_layer("blank").kernel.numpy().any() or on_jax()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.lstm = layers.LSTM(2)

    def call(self, x):
        return self.lstm(x)


class Trained(keras.Model):
    def train_step(self, data):
        raise NotImplementedError


class Peephole(layers.LSTM):
    pass


class Unsaved(keras.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


class Hiding(keras.Layer):
    """What it gives is in no weight and no configuration."""

    factor = 1.0

    def call(self, x):
        return x * self.factor


def hiding():
    model = sequential(Hiding(name="scaled"), layers.LSTM(2))
    model.layers[0].factor = 3.0
    return model


def texts():
    encode = layers.Hashing(9)
    x = keras.Input((None,), dtype="string", name="words")
    return keras.Model(x, layers.LSTM(2)(layers.Embedding(9, 2)(encode(x))))


def sequential(*parts):
    return keras.Sequential([keras.Input((None, 3)), *parts])


def trained():
    x = keras.Input((None, 3))
    return Trained(x, layers.LSTM(2)(x))


def reserved():
    x, z = keras.Input((None, 3), name="x"), keras.Input((None, 3), name="mask")
    return keras.Model([x, z], layers.LSTM(2)(layers.Add()([x, z])))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: "model", "received str"),
        (lambda: keras.Sequential, "received a class"),
        (Subclassed, "received Subclassed"),
        (trained, "received Trained"),
        (lambda: keras.Sequential([layers.LSTM(2)]), "not built"),
        (lambda: sequential(layers.Dense(2)), r"recurrent layer.*\['Dense'\]"),
        (lambda: sequential(Peephole(2, name="hole")), "'hole' of class Peephole"),
        (
            lambda: keras.Sequential(
                [keras.Input((None, 5, 5, 1)), layers.ConvLSTM2D(2, 3, name="video")]
            ),
            "'video' of class ConvLSTM2D",
        ),
        (lambda: sequential(layers.LSTM(2), Unsaved(ops.tanh)), "'unsaved.*' .* cannot be copied"),
        (
            lambda: sequential(
                layers.Masking(), layers.LSTM(2, return_sequences=True, zero_output_for_mask=True)
            ),
            "zero_output_for_mask",
        ),
        (hiding, "'scaled' .Hiding. cannot be copied: .* it gives other outputs"),
        pytest.param(texts, "the input 'inputs' of texts", marks=NO_TEXTS),
        (reserved, r"\['mask'\]"),
        (
            lambda: keras.Sequential([keras.Input((4,)), layers.RepeatVector(3), layers.LSTM(2)]),
            "whose steps a recurrent layer reads",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        rnnzoo.from_keras(make())


def test_a_learned_start_has_no_stock_layer():
    model = rnnzoo.one_to_one(features=2, units=3, outputs=1, learned_initial_state=True)
    with pytest.raises(ValueError, match="lstm_0.*learned_initial_state=True"):
        model.to_keras()


def test_other_models_become_stock_ones():
    model = rnnzoo.many_to_one(vocabulary=5, units=[3, 4], outputs=2, cell="gru")
    x = tokens(5, 2, 6)
    close(model.to_keras()(x), model(x))
