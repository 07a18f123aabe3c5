"""Several inputs, per step and per sequence: joined as by hand, in every form that data have."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax

import rnnzoo
from rnnzoo import Tokens

pytestmark = pytest.mark.usefixtures("xla")

ROWS, STEPS, UNITS = 4, 6, 3
INPUTS = {"load": 2, "hour": Tokens(5, 3)}
STATIC = {"store": Tokens(4), "area": 1}


def made(**options):
    keras.utils.set_random_seed(3)
    model = rnnzoo.one_to_one(inputs=INPUTS, static=STATIC, units=UNITS, outputs=1, **options)
    model.compile(keras.optimizers.SGD(0.2), "mse")
    return model


def batch(rows=ROWS, steps=STEPS):
    rng = np.random.default_rng(0)
    x = {
        "load": rng.normal(size=(rows, steps, 2)).astype("float32"),
        "hour": rng.integers(0, 5, (rows, steps)),
        "store": np.arange(rows) % 4,
        "area": rng.normal(size=(rows, 1)).astype("float32"),
    }
    return x, rng.normal(size=(rows, steps, 1)).astype("float32")


def part(x, steps):
    """The inputs of some steps; what is static has none."""
    return {name: v if name in STATIC else v[:, steps] for name, v in x.items()}


@pytest.fixture(scope="module")
def model():
    return made(learned_initial_state=True)


@pytest.fixture(scope="module")
def whole(model):
    return model.predict(batch()[0], verbose=0)


def by_hand():
    """The same in plain Keras, for sequences of one length."""
    load = keras.Input((STEPS, 2), name="load")
    hour = keras.Input((STEPS,), dtype="int32", name="hour")
    store, area = keras.Input((), dtype="int32", name="store"), keras.Input((1,), name="area")
    repeat = keras.layers.RepeatVector(STEPS)
    parts = [
        load,
        keras.layers.Embedding(5, 3, name="hour_embedding")(hour),
        repeat(keras.layers.Embedding(4, UNITS, name="store_embedding")(store)),
        repeat(area),
    ]
    hidden = keras.layers.LSTM(UNITS, return_sequences=True, name="lstm_0")(
        keras.layers.Concatenate()(parts)
    )
    outputs = keras.layers.Dense(1, name="output_layer")(hidden)
    return keras.Model({"load": load, "hour": hour, "store": store, "area": area}, outputs)


def test_inputs_are_joined_as_by_hand():
    ours, plain = made(), by_hand()
    for name in ("hour_embedding", "store_embedding", "lstm_0", "output_layer"):
        plain.get_layer(name).set_weights(ours.core.get_layer(name).get_weights())
    x, _ = batch()
    close(ours.predict(x, verbose=0), plain.predict(x, verbose=0))


def test_steps_equal_the_whole(model, whole):
    x, _ = batch()
    state, parts = model.initial_state(ROWS), []
    for t in range(STEPS):
        outputs, state = model.step(part(x, slice(t, t + 1)), state)
        parts.append(ops.convert_to_numpy(outputs))
    close(np.concatenate(parts, axis=1), whole)


def test_windows_equal_windows_cut_by_hand():
    x, y = batch()
    looped, cut = made(), made()
    cut.core.set_weights(looped.core.get_weights())
    looped.fit(x, y, shuffle=False, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(4)])
    for start in (0, 4):
        steps = slice(start, start + 4)
        now = part(x, steps)
        reset = np.zeros(now["hour"].shape, bool)
        reset[:, 0] = start == 0
        cut.train_on_batch({**now, "reset": reset}, y[:, steps])
    for got, wanted in zip(looped.core.get_weights(), cut.core.get_weights()):
        close(got, wanted)


def test_every_form_of_data_has_the_same_loss(model):
    x, y = batch()
    loss = model.evaluate(x, y, verbose=0)
    halves = [({k: v[i : i + 2] for k, v in x.items()}, y[i : i + 2]) for i in (0, 2)]
    lists = {name: values.tolist() for name, values in x.items()}
    close(model.step(lists, model.initial_state(ROWS))[0], model.predict(x, verbose=0))
    forms = [
        halves,
        [(lists, y.tolist())],
        rnnzoo.data.bucket(
            {name: list(x[name]) for name in INPUTS},
            list(y),
            static={name: x[name] for name in STATIC},
            batch_size=2,
            per_step=True,
        ),
    ]
    if not on_jax():
        import tensorflow as tf

        forms.append(tf.data.Dataset.from_tensor_slices((x, y)).batch(2))
    for form in forms:
        np.testing.assert_allclose(model.evaluate(form, verbose=0), loss, rtol=1e-5)


def test_a_stream_goes_on_from_batch_to_batch(model):
    x, _ = batch(1, 9)
    series = {"load": x["load"][0], "hour": x["hour"][0]}
    fixed = {"store": x["store"][0], "area": x["area"][0]}
    data = rnnzoo.data.stream(series, 1, 4, targets=np.zeros((9, 1)), static=fixed)
    found = model.predict(data, verbose=0)
    close(found, model.predict(x, verbose=0))


class Table:
    """A data frame of pandas or polars, as far as it is looked at."""

    def __init__(self, **columns):
        self.values = {name: np.asarray(column) for name, column in columns.items()}
        self.columns = list(columns)
        self.shape = (len(self), len(columns))

    def __getitem__(self, name):
        return Column(self.values[name])

    def __len__(self):
        return len(next(iter(self.values.values())))

    def to_numpy(self):
        return np.stack(list(self.values.values()), axis=1)


class Column:
    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return self.values


def test_a_table_is_one_sequence_whose_columns_are_the_inputs():
    model = rnnzoo.one_to_one(
        inputs={"load": 1, "hour": Tokens(5)}, static={"store": Tokens(4)}, units=3, outputs=1
    )
    model.compile("sgd", "mse")
    load, hour = np.linspace(0, 1, 7), np.arange(7) % 5
    table = Table(hour=hour, load=load, store=np.full(7, 2))
    x = {"load": load[None, :, None], "hour": hour[None], "store": np.array([2])}
    close(model.predict(table, verbose=0), model.predict(x, verbose=0))
    loss = model.evaluate(x, load[None, :, None], verbose=0)
    np.testing.assert_allclose(model.evaluate(table, load[:, None], verbose=0), loss, rtol=1e-6)
    close(model.step(table, model.initial_state(1))[0], model.predict(x, verbose=0))
    with pytest.raises(ValueError, match="store must be one value for a whole sequence"):
        model.predict(Table(hour=hour, load=load, store=hour % 4), verbose=0)
    with pytest.raises(ValueError, match="'load', 'hour', 'store' .* received keys"):
        model.predict(Table(hour=hour, load=load), verbose=0)


def test_many_to_one_reads_the_last_step_that_is_there():
    model = rnnzoo.many_to_one(inputs=INPUTS, static=STATIC, units=UNITS, outputs=2)
    x, _ = batch()
    padded = {**x, "lengths": np.array([6, 3, 3, 3])}
    padded["load"] = x["load"].copy()
    padded["load"][1:, 3:] = np.nan
    found = model.predict(padded, verbose=0)
    close(found[1:], model.predict(part(x, slice(3)), verbose=0)[1:])
    assert np.abs(found - model.predict(x, verbose=0))[1:].min() > 1e-6


def test_a_static_input_beside_the_short_form():
    model = rnnzoo.one_to_one(features=2, static={"store": Tokens(4)}, units=3, outputs=1)
    x = np.zeros((4, 5, 2), "float32")
    found = model.predict({"inputs": x, "store": np.arange(4)}, verbose=0)
    assert len(np.unique(found[:, 0].round(6))) == 4
    with pytest.raises(ValueError, match="must be a dict with 'inputs', 'store'"):
        model.predict(x, verbose=0)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path


def test_it_is_saved_and_loaded(model, whole, saved):
    loaded = keras.models.load_model(saved)
    assert loaded.spec == model.spec
    close(loaded.predict(batch()[0], verbose=0), whole)


@pytest.mark.skipif(on_jax(), reason="the export is written by TensorFlow, and read there")
def test_it_is_exported(model, whole, tmp_path):
    import tensorflow as tf

    served = tf.saved_model.load(str(model.export(tmp_path / "several" / "1"))).signatures
    x, _ = batch()
    x = {
        name: tf.constant(v, "int32" if v.dtype.kind == "i" else "float32") for name, v in x.items()
    }
    close(served["serving_default"](**x)["outputs"], whole)
    state = served["initial_state"](like=tf.zeros([ROWS], tf.int32))
    for t in range(2):
        now = part(x, slice(t, t + 1))
        answer = served["step"](**now, reset=tf.zeros([ROWS, 1], tf.bool), **state)
        state = {name: answer[f"{name}_out"] for name in state}
        close(answer["outputs"], whole[:, t : t + 1])


@pytest.mark.skipif(on_jax(), reason="written by TensorFlow")
def test_one_step_is_exported_for_small_devices(model, whole, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    path = model.export(tmp_path / "several" / "1", format="litert") / "step.tflite"
    runner = interpreter.Interpreter(str(path)).get_signature_runner("step")
    x, _ = batch()
    x = {name: v[:1].astype("int32" if v.dtype.kind == "i" else "float32") for name, v in x.items()}
    state = {k: ops.convert_to_numpy(v) for k, v in model.initial_state(1).items()}
    answer = runner(**part(x, slice(1)), reset=np.zeros((1, 1), bool), **state)
    close(answer["outputs"], whole[:1, :1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inputs": {"load": 1}, "features": 2}, "exactly one of features"),
        ({"inputs": {}}, "at least one input per step; received inputs={}"),
        ({"inputs": ["load"]}, "inputs must be a dict from names to sizes"),
        ({"inputs": {"load": 0}}, r"inputs\['load'\] must be a size.*received 0"),
        ({"inputs": {"load": 1.5}}, r"inputs\['load'\] must be a size.*received 1.5"),
        ({"inputs": {"wind speed": 1}}, "names of inputs.*received 'wind speed'"),
        ({"inputs": {"load": 1}, "static": {"load": 1}}, "received 'load' in both"),
        ({"inputs": {"reset": 1}}, r"names that are taken: \['reset'\]"),
        ({"inputs": {"h_0": 1}}, r"names that are taken: \['h_0'\]"),
        ({"inputs": {"lstm_0": 1}}, r"names that are taken: \['lstm_0'\]"),
        ({"inputs": {"x": Tokens(3), "x_embedding": 1}}, r"taken: \['x_embedding'\]"),
        ({"inputs": {"x": 1}, "outputs": {"c_0": 1}}, r"names that are taken: \['c_0'\]"),
        ({"inputs": {"load": 1}, "embedding": 4}, "embedding and tied are for tokens"),
        ({"inputs": {"load": Tokens(3, 2)}, "embedding": 4}, "without an embedding of its own"),
        ({"inputs": {"x": Tokens(3)}, "tied": True}, "tied are for tokens and need vocabulary"),
        ({"inputs": {"load": 1}, "outputs": None}, "outputs must be given with features or inp"),
        ({"inputs": {"load": 1}, "outputs": {}}, "at least one output; received outputs={}"),
        ({"inputs": {"load": 1}, "outputs": {"y": "2"}}, r"outputs\['y'\] must be"),
    ],
)
def test_declarations_that_are_none_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        rnnzoo.one_to_one(**{"units": 2, "outputs": 1, **options})


@pytest.mark.parametrize("arguments", [(0,), (2.0,), (True,), (3, 0), (3, "4")])
def test_tokens_are_checked(arguments):
    with pytest.raises(ValueError, match="(vocabulary|embedding) must be an integer of at least 1"):
        Tokens(*arguments)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hour": None}, r"'load', 'hour', 'store', 'area' .* received keys \['area', 'load', 's"),
        ({"wind": np.zeros((ROWS, STEPS))}, "received keys .*'wind'"),
        ({"store": np.zeros((ROWS, STEPS), int)}, r"store must have shape \(batch,\) token ids"),
        ({"store": np.full(ROWS, 4)}, "store token ids must be in 0 to 3; received 4"),
        ({"area": np.zeros(ROWS)}, r"area must have shape \(batch, 1\)"),
        ({"hour": np.zeros((ROWS, 2), int)}, "must have the same rows and steps"),
    ],
)
def test_batches_that_do_not_fit_are_refused(model, change, said):
    x, y = batch()
    x = {name: value for name, value in {**x, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=said):
        model.evaluate(x, y, verbose=0)
