"""`RNN(cell)` and what makes one: stock cells, users' cells, dropout, time gaps, `cell=`."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, gradients, on_jax

import rnnzoo
from rnnzoo.layers import RNN
from rnnzoo.layers.stack import cell_config, cell_from_config, check_cell, stack_layers

X = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")
STOCK = {
    "lstm": lambda: keras.layers.LSTMCell(5),
    "gru": lambda: keras.layers.GRUCell(5),
    "simple_rnn": lambda: keras.layers.SimpleRNNCell(5),
    "list": lambda: [keras.layers.LSTMCell(3), keras.layers.GRUCell(5)],
}


@pytest.mark.parametrize("cell", STOCK)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_equals_keras_rnn(cell, go_backwards):
    """Outputs and states, also with a mask, which stock layers hold likewise."""
    options = {"go_backwards": go_backwards}
    ours = RNN(STOCK[cell](), **options)
    stock = keras.layers.RNN(STOCK[cell](), return_sequences=True, return_state=True, **options)
    mask = np.arange(6) < np.array([[6], [4], [1]])
    mask = mask[:, ::-1] if go_backwards else mask  # padding comes last
    ours(X), stock(X)
    stock.set_weights(ours.get_weights())
    for given in (None, mask):
        outputs, state = ours(X, ours.initial_state(3), mask=given)
        wanted, *last = stock(X, mask=given)
        close(outputs, wanted)
        for got, end in zip(state.values(), keras.tree.flatten(last)):
            close(got, end)


@pytest.mark.parametrize(
    "name, options",
    [
        ("LSTM", {"activation": "relu"}),
        ("LSTM", {"recurrent_activation": "hard_sigmoid", "use_bias": False}),
        ("GRU", {"activation": "softsign", "reset_after": False}),
        ("SimpleRNN", {"activation": ops.sin}),
        ("GRU", {"go_backwards": True}),
        ("LSTM", {"go_backwards": True, "activation": "relu"}),
    ],
)
def test_other_options_of_a_stock_layer_are_those_of_keras(name, options):
    ours = getattr(rnnzoo.layers, name)(5, **options)
    stock = getattr(keras.layers, name)(5, return_sequences=True, **options)
    ours(X), stock(X)
    stock.set_weights(ours.get_weights())
    close(ours(X), stock(X))
    for layer in (ours, stock):
        layer.trained = [ops.convert_to_numpy(w) for w in layer.trainable_weights]

    def total(layer):
        def function(*weights):
            fixed = [v.value for v in layer.non_trainable_variables]
            return ops.sum(ops.sin(layer.stateless_call(weights, fixed, X, training=True)[0]))

        return gradients(function, layer.trained)

    for got, wanted in zip(total(ours), total(stock)):
        close(got, wanted)


def constant_cell(**rates):
    """A SimpleRNN cell whose output shows what of its input was dropped."""
    return keras.layers.SimpleRNNCell(
        40, activation="linear", kernel_initializer="ones", recurrent_initializer="zeros", **rates
    )


@pytest.mark.parametrize(
    "make", [lambda: constant_cell(dropout=0.5), lambda: [constant_cell(dropout=0.5)]]
)
def test_a_cells_dropout_is_one_mask_for_all_steps(make):
    layer, x = RNN(make()), np.ones((4, 7, 30), "float32")
    first, second = (ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    close(first, np.repeat(first[:, :1], 7, axis=1))
    assert len(np.unique(first[:, 0, 0])) > 1 and np.abs(first - second).max() > 1
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), np.full((4, 7, 40), 30.0))


def test_the_gradient_sees_the_masks_that_the_outputs_saw():
    """The loss is linear in the inputs, so its gradient at the inputs gives back its value."""
    layer = RNN([constant_cell(dropout=0.5, recurrent_dropout=0.5), constant_cell(dropout=0.4)])
    layer.build(X.shape)
    weights = [ops.convert_to_numpy(w) for w in layer.trainable_weights]
    value = []

    def total(x):
        fixed = [np.array(v) for v in layer.non_trainable_variables]
        outputs, _ = layer.stateless_call(weights, fixed, x, training=True)
        return ops.sum(outputs)

    (gradient,) = gradients(total, [X])
    value = ops.convert_to_numpy(total(X))
    close(np.sum(gradient * X), value, 1e-5)
    assert 0 < (gradient == 0).mean() < 1


@keras.saving.register_keras_serializable(package="tests")
class Noisy(keras.layers.Layer):
    """A cell with a Dropout layer, which draws at every step, and no `training` argument."""

    state_size = 30
    output_size = 30

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = keras.layers.Dropout(0.5)

    def call(self, inputs, states):
        y = self.drop(inputs)
        return y, [y]


def test_a_layer_in_a_cell_draws_at_every_step():
    layer, x = RNN(Noisy()), np.ones((2, 5, 30), "float32")
    outputs = ops.convert_to_numpy(layer(x, training=True))
    assert set(np.unique(outputs)) == {0.0, 2.0}
    assert all(np.any(outputs[:, t] != outputs[:, t + 1]) for t in range(4))
    assert np.any(outputs != ops.convert_to_numpy(layer(x, training=True)))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)


class Sampling(Noisy):
    """A cell that draws whether it trains or not."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs, states):
        y = keras.random.normal(ops.shape(inputs), seed=self.seeds)
        return y, [y]


@pytest.mark.parametrize("training", [False, True])
def test_a_cell_may_draw_at_every_step(training):
    layer, x = RNN(Sampling()), np.ones((2, 5, 30), "float32")
    first, second = (ops.convert_to_numpy(layer(x, training=training)) for _ in range(2))
    assert len(np.unique(np.concatenate([first, second]))) == 2 * first.size


class Normalizing(Noisy):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = keras.layers.BatchNormalization()


class Shrinking(Noisy):
    def call(self, inputs, states):
        return inputs, [inputs[:, :3]]


class Regularized(keras.layers.LSTMCell):
    def __init__(self):
        super().__init__(4)
        self.activity_regularizer = keras.regularizers.L2(0.1)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: RNN(3), ["cell contract", "cell=3"]),
        (lambda: RNN(keras.layers.LSTMCell), ["an object", "LSTMCell"]),
        (lambda: RNN(keras.layers.LSTM(4)), ["cell contract", "LSTM"]),
        (lambda: RNN(Noisy(), return_state=True), ["not allowed: ['return_state']"]),
        (lambda: RNN(Noisy(), dropout=1.0), ["dropout must be in [0, 1)", "1.0"]),
        (lambda: RNN(Regularized()), ["activity_regularizer", "RNN layer"]),
        (lambda: RNN(Normalizing())(np.ones((2, 3, 30)), training=True), ["must not change"]),
        (lambda: RNN(Shrinking())(np.ones((2, 3, 30))), ["state_size", "(30,)", "(3,)"]),
        (lambda: RNN(Noisy())(np.ones((2,))), ["(batch, time, ...)", "(2,)"]),
    ],
)
def test_what_it_refuses(make, words):
    with pytest.raises(ValueError) as raised:
        make()
    assert all(word in str(raised.value) for word in words), raised.value


def test_a_layer_is_the_same_again_from_its_configuration_and_from_a_file(tmp_path):
    cells = [keras.layers.LSTMCell(3), rnnzoo.cells.RGLRUCell(4, heads=2), Noisy()]
    inputs = keras.Input((None, 4))
    outputs = RNN(cells[:2], dropout=0.2, learned_initial_state=True, go_backwards=True)(inputs)
    model = keras.Model(inputs, RNN(cells[2])(keras.layers.Dense(30)(outputs)))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    close(again(X), model(X))
    layer = model.layers[1]
    assert RNN.from_config(layer.get_config()).get_config() == layer.get_config()


def test_time_gaps_go_to_the_cell_as_a_second_input():
    """`ncps`, cells whose step takes as long as its gap; `keras.layers.RNN` takes one input."""
    ncps = pytest.importorskip("ncps.keras", reason="needs the package ncps")
    gaps = np.random.default_rng(1).uniform(0.1, 3, size=(3, 6, 1)).astype("float32")
    ours = RNN(ncps.CfCCell(5, backbone_units=8, backbone_layers=1))
    outputs, state = ours([X, gaps], ours.initial_state(3))
    h, wanted = ops.zeros((3, 5)), []
    for t in range(6):
        h, _ = ours.cell([X[:, t], gaps[:, t]], [h])
        wanted.append(h)
    close(outputs, ops.stack(wanted, axis=1))
    assert np.abs(ops.convert_to_numpy(outputs - ours([X, 2 * gaps]))).max() > 0.01
    close(ours([X, gaps[..., 0]]), outputs)
    # cut in two, with resets: as each part alone
    reset = np.zeros((3, 6), bool)
    reset[:, 2] = True
    both, _ = ours([X, gaps], state, reset=reset)
    close(both[:, 2:], ours([X[:, 2:], gaps[:, 2:]]))
    mask = np.arange(6) < 4
    padded = np.where(mask[:, None], X, np.nan), np.where(mask[:, None], gaps, np.nan)
    close(ours(list(padded), mask=np.tile(mask, (3, 1)))[:, :4], outputs[:, :4])


def test_a_liquid_time_constant_cell_obeys_the_law():
    """`LTCCell` of `ncps` as a loop over it, without gaps, for which it fails itself in 1.0.1."""
    ncps = pytest.importorskip("ncps", reason="needs the package ncps")
    cells = pytest.importorskip("ncps.keras")
    ours = RNN(cells.LTCCell(ncps.wirings.FullyConnected(5)))
    outputs, state = ours(X, ours.initial_state(3))

    def by_steps(x):
        h, found = ops.zeros((3, 5)), []
        for t in range(x.shape[1]):
            y, (h,) = ours.cell(x[:, t], [h])
            found.append(y)
        return ops.stack(found, axis=1)

    close(outputs, by_steps(X))
    reset, mask = np.zeros((3, 6), bool), np.tile(np.arange(6) < 4, (3, 1))
    reset[:, 2] = True
    close(ours(X, state, reset=reset)[0][:, 2:], by_steps(X[:, 2:]))
    padded, kept = ours(np.where(mask[..., None], X, np.nan), ours.initial_state(3), mask=mask)
    close(padded[:, :4], outputs[:, :4])
    later, last = ours(X[:, 4:], kept)
    close(later, outputs[:, 4:])
    close(last["h"], state["h"])
    found = [gradients(lambda x: ops.sum(call(x) ** 2), [X])[0] for call in (ours, by_steps)]
    close(*found, 1e-4)


def test_states_that_do_not_come_back_in_shape_are_refused_before_anything_runs():
    class Losing(keras.layers.Layer):
        state_size = 4

        def call(self, inputs, states):
            return inputs, [inputs]

    with pytest.raises(ValueError, match=r"states of shapes \[\(4,\)\] a row and gave \[\(3,\)\]"):
        rnnzoo.one_to_one(features=3, units=4, outputs=1, cell=lambda units: Losing())
    layer = RNN(Losing())
    with pytest.raises(ValueError, match="a cell must give back the states that it is given"):
        layer.build((None, None, 3))


def test_a_step_may_have_any_shape():
    """A cell of pictures: inputs, output state and matrix state of more than two dimensions."""

    class Fading(keras.layers.Layer):
        state_size = output_size = 2

        def get_initial_state(self, batch_size):
            return ops.zeros((batch_size, 5, 2))

        def call(self, inputs, states):
            faded = 0.5 * states[0] + inputs
            return ops.max(faded, axis=1), [faded]

    layer, x = RNN(Fading()), np.random.default_rng(0).normal(size=(2, 4, 5, 2)).astype("float32")
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], bool)
    outputs, state = layer(x, layer.initial_state(2), mask=mask)
    h, y, wanted = np.zeros((2, 5, 2)), np.zeros((2, 2)), []
    for t in range(4):
        flag = mask[:, t, None]
        h = np.where(flag[..., None], 0.5 * h + x[:, t], h)
        y = np.where(flag, h.max(axis=1), y)
        wanted.append(y)
    close(outputs, np.stack(wanted, axis=1))
    close(state["h"], h)
    close(state[layer.output_state], y)


FORMS = {
    "name": "min_gru",
    "class": keras.layers.LSTMCell,
    "own class": rnnzoo.cells.SLSTMCell,
    "function": lambda units: keras.layers.GRUCell(units, activation="relu"),
    "cell": keras.layers.SimpleRNNCell(4, activation="relu"),
    "layer": rnnzoo.layers.GRU,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_factory_takes_a_cell_in_any_form(form):
    layers = stack_layers(check_cell(FORMS[form]), [4, 4], dropout=0.1)
    names = {"name": "min_gru", "class": "lstm", "own class": "slstm", "function": "rnn"}
    names |= {"cell": "simple_rnn", "layer": "gru"}
    assert [layer.name for layer in layers] == [f"{names[form]}_{i}" for i in range(2)]
    assert layers[0].cell is not layers[1].cell
    assert all(getattr(layer.cell, "dropout", 0) or layer.dropout == 0.1 for layer in layers)
    model = rnnzoo.one_to_one(features=4, units=[4, 4], outputs=2, cell=FORMS[form])
    whole, state = model.predict(X, verbose=0), model.initial_state(3)
    for t in range(2):
        outputs, state = model.step(X[:, t : t + 1], state)
        close(outputs, whole[:, t : t + 1])


@pytest.mark.parametrize("form", [form for form in FORMS if form != "function"])
def test_what_cell_was_can_be_written_down(form):
    written = json.loads(json.dumps(cell_config(FORMS[form])))
    again = cell_from_config(written)
    if form == "cell":
        assert again.get_config() == FORMS[form].get_config()
    else:
        assert again is FORMS[form] or again == FORMS[form]


def test_a_class_that_no_file_could_find_again_is_refused():
    with pytest.raises(ValueError, match="must be registered.*Normalizing"):
        cell_config(Normalizing)


def built(cell):
    cell.build((None, 3))
    return cell


@pytest.mark.parametrize(
    "cell, options, words",
    [
        (keras.layers.LSTM, {}, ["layer class of rnnzoo.layers", "LSTM"]),
        (rnnzoo.layers.RNN, {}, ["layer class of rnnzoo.layers", "RNN"]),
        (RNN(Noisy()), {}, ["layer class of rnnzoo.layers", "RNN"]),
        (3, {}, ["'lstm'", "cell=3"]),
        (built(keras.layers.LSTMCell(4)), {}, ["no weights yet", "RNN(cell)"]),
        (keras.layers.LSTMCell(5), {}, ["units=4", "a cell of 5"]),
        ("min_gru", {"recurrent_dropout": 0.1}, ["recurrent_dropout=0.1", "that take it"]),
        (lambda units: rnnzoo.layers.LSTM(units), {}, ["cell contract", "LSTM"]),
        (keras.layers.Dense, {}, ["cell contract", "Dense"]),
    ],
)
def test_what_a_factory_refuses(cell, options, words):
    with pytest.raises(ValueError) as raised:
        stack_layers(check_cell(cell), [4], **options)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.skipif(on_jax(), reason="one backend is enough for a learning curve")
def test_slstm_learns_parity():
    """What no linear cell can: whether the ones so far are odd, of all words of six bits."""
    x = (np.arange(64)[:, None] >> np.arange(6) & 1).astype("float32")[..., None]
    y = np.cumsum(x, axis=1) % 2
    layers = [keras.Input((6, 1)), RNN(rnnzoo.cells.SLSTMCell(16)), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, jit_compile=True)
    model.fit(x, y, batch_size=64, epochs=60, verbose=0)
    assert ((model.predict(x, verbose=0) > 0) == y).all()
