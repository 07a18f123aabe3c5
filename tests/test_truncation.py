"""Truncated back-propagation: against a plain loop, against windows cut by hand, and its reach."""

from functools import partial

import keras
import numpy as np
import pytest
from every_cell import tower
from keras import ops
from reference import CELLS, cell_step, close, gradients, on_jax

import rnnzoo
from rnnzoo.training.windows import Truncation

UNITS, FEATURES, OUTPUTS, RATE = 4, 2, 3, 0.3
LAYER_CLASSES = {
    "lstm": rnnzoo.layers.LSTM,
    "gru": rnnzoo.layers.GRU,
    "simple_rnn": rnnzoo.layers.SimpleRNN,
}


@keras.saving.register_keras_serializable(package="tests")
class ResetBeforeGRU(rnnzoo.layers.GRU):
    """A GRU whose reset gate acts before the product, as a class for `cell=`."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **{**kwargs, "reset_after": False})


def cell_of(name, options):
    return (
        ResetBeforeGRU
        if options
        else LAYER_CLASSES[{"SimpleRNN": "simple_rnn"}.get(name, name.lower())]
    )


# Without jit, JAX runs operation by operation; `run_eagerly` is not what is tested here.
not_on_jax = pytest.mark.skipif(on_jax(), reason="JAX is compiled in every test")


def build(name="LSTM", options=None, form="one_to_one", **more):
    keras.utils.set_random_seed(5)
    model = getattr(rnnzoo, form)(
        features=FEATURES,
        units=more.pop("units", UNITS),
        outputs=OUTPUTS,
        cell=cell_of(name, options or {}),
        **more,
    )
    model.compile(keras.optimizers.SGD(RATE), "mse", metrics=["mae"])  # XLA, as shipped
    return model


def data(rows=3, steps=20, form="one_to_one", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, steps, FEATURES)).astype("float32")
    shape = (rows, steps, OUTPUTS) if form == "one_to_one" else (rows, OUTPUTS)
    return x, rng.normal(size=shape).astype("float32")


def forward(name, options, weights, x, state, start, stop, advance):
    """Outputs of steps start..stop, and the state after `advance` of them, by a plain loop."""
    outputs, handed_on = [], state
    for t in range(start, stop):
        state = cell_step(name, options, weights[:3], x[:, t], state)
        outputs.append(ops.matmul(state[0], weights[3]) + weights[4])
        if t - start + 1 == advance:
            handed_on = state
    return ops.stack(outputs, axis=1), handed_on


def reference_training(name, options, weights, x, y, window, stride):
    """The weights after one pass of truncated BPTT with SGD, and the number of updates."""
    steps, updates = x.shape[1], 0
    states = 2 if name == "LSTM" else 1
    state = [np.zeros((len(x), UNITS), "float32")] * states
    start = 0
    for newest in range(0, steps, stride):
        stop = min(newest + stride, steps)
        following = max(0, stop + stride - window) if stop < steps else stop

        def loss(*weights):
            outputs, _ = forward(name, options, weights, x, state, start, stop, 0)
            return ops.mean(ops.square(outputs[:, newest - start :] - y[:, newest:stop]))

        found = gradients(loss, weights)
        tensors = [ops.convert_to_tensor(w) for w in weights]
        _, handed_on = forward(name, options, tensors, x, state, start, stop, following - start)
        weights = [w - RATE * g for w, g in zip(weights, found)]
        state = [ops.convert_to_numpy(s) for s in handed_on]
        start, updates = following, updates + 1
    return weights, updates


LSTM = ("LSTM", {})


@pytest.mark.parametrize(
    "name, options, window, stride",
    [(*CELLS[2], 7, 3)] + [(*LSTM, *n) for n in ((7, 3), (1, 1), (5, 5), (50, 50))],
)
def test_equals_a_plain_loop_with_plain_differentiation(name, options, window, stride):
    model = build(name, options)
    x, y = data()
    before = [w.copy() for w in model.core.get_weights()]
    callback = rnnzoo.TruncatedBPTT(window, stride)
    model.fit(x, y, batch_size=3, shuffle=False, verbose=0, callbacks=[callback])
    trained = [ops.convert_to_numpy(w) for w in model.core.trainable_weights]
    start = [b for b, w in zip(before, model.core.weights) if w.trainable]
    expected, updates = reference_training(name, options, start, x, y, window, stride)
    assert int(model.optimizer.iterations) == updates
    for got, wanted, was in zip(trained, expected, start):
        assert np.abs(got - was).max() > 1e-4
        close(got, wanted)


@pytest.mark.parametrize("window, stride", [(5, 5), (4, 3)])
def test_every_cell_is_trained_window_by_window_as_by_hand(window, stride):
    """As shipped, so with XLA; the last window is shorter than the others."""
    model, hand = tower(), tower()
    hand.set_weights(model.get_weights())
    before = model.get_weights()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 2, 7, FEATURES)).astype("float32")
    model.compile(keras.optimizers.SGD(0.01), "mse")
    callback = rnnzoo.TruncatedBPTT(window, stride)
    model.fit(x, y, batch_size=2, verbose=0, callbacks=[callback])
    start, state = 0, hand.initial_state(2)
    for newest in range(0, 7, stride):
        stop = min(newest + stride, 7)
        following = max(0, stop + stride - window) if stop < 7 else stop
        cut = slice(start, stop)
        places = (start == 0, newest - start, following - start)
        state = hand_step(hand, x[:, cut], y[:, cut], state, *places, rate=0.01)
        start = following
    for got, wanted, was in zip(model.get_weights(), hand.get_weights(), before):
        assert np.abs(got - was).max() > 2e-5
        close(got - was, wanted - was)


def test_a_window_of_at_least_all_steps_is_full_back_propagation():
    x, y = data()
    whole, windowed = build(), build()
    whole.fit(x, y, batch_size=3, shuffle=False, verbose=0)
    windowed.fit(x, y, batch_size=3, shuffle=False, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(30)])
    for got, wanted in zip(windowed.core.get_weights(), whole.core.get_weights()):
        close(got, wanted)


def by_hand(model, x, y, window, weight=None, epochs=1):
    """Windows cut and fed one by one; `reset` opens each sequence."""
    logs = None
    for _ in range(epochs):
        for start in range(0, x.shape[1], window):
            part = slice(start, start + window)
            reset = np.zeros(x[:, part].shape[:2], bool)
            reset[:, 0] = start == 0
            kwargs = {} if weight is None else {"sample_weight": weight[:, part]}
            logs = model.train_on_batch(
                {"inputs": x[:, part], "reset": reset}, y[:, part], return_dict=True, **kwargs
            )
    return logs


@pytest.mark.parametrize(
    "steps, jit_compile",
    [(20, "auto"), (23, "auto"), pytest.param(23, False, marks=not_on_jax)],
)
def test_the_loop_equals_windows_cut_by_hand(steps, jit_compile):
    """Weight for weight, with sample weights, Adam, clipping and a short last window."""
    x, y = data(steps=steps)
    weight = np.random.default_rng(1).random((3, steps)).astype("float32")
    models = [build(units=[4, 3]) for _ in range(2)]
    for model in models:
        optimizer = keras.optimizers.Adam(0.01, global_clipnorm=0.1)
        model.compile(optimizer, "mse", weighted_metrics=["mae"], jit_compile=jit_compile)
    callback = rnnzoo.TruncatedBPTT(5)
    history = models[0].fit(
        x,
        y,
        sample_weight=weight,
        batch_size=3,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )
    by_hand(models[1], x, y, 5, weight, epochs=2)
    for got, wanted in zip(models[0].core.get_weights(), models[1].core.get_weights()):
        close(got, wanted)
    # Whole sequences leave the carried state of a stream alone; those fed by hand are a stream.
    assert models[0].states["h_0"].shape == (0, 4)
    assert models[1].states["h_0"].shape == (3, 4)
    assert set(history.history) == {"loss", "mae"}


def test_what_was_compiled_is_used_again(monkeypatch):
    """After an evaluation and another window too; a single batch is trained as one window."""
    traced = []
    run = Truncation.run
    monkeypatch.setattr(Truncation, "run", lambda *args: traced.append(1) or run(*args))
    x, y = data()
    stream = {"inputs": x, "reset": np.zeros(x.shape[:2], bool)}
    model = build()
    model.compile("sgd", "mse")
    fit = partial(model.fit, stream, y, batch_size=3, verbose=0)
    # To JAX the state of an evaluation is a part of that of training: other lanes are once more.
    one, three = (1, 1) if on_jax() else (1, 3)
    model.evaluate(stream, y, batch_size=one, verbose=0)
    for count, window, lanes in (
        (1, 5, three),
        (1, 5, one),
        (2, 4, one),
        (2, 5, three),
        (2, 4, one),
    ):
        fit(callbacks=[rnnzoo.TruncatedBPTT(window)])
        model.evaluate(stream, y, batch_size=lanes, verbose=0)
        assert len(traced) == count
    before = int(model.optimizer.iterations)
    model.train_on_batch(x, y)
    assert int(model.optimizer.iterations) == before + 1


def test_the_loop_continues_streams_from_batch_to_batch():
    x, y = data(rows=2, steps=24)
    reset = np.zeros((2, 24), bool)
    reset[:, 0] = reset[1, 9] = True
    parts = [slice(0, 12), slice(12, 24)]
    stacked = {k: np.concatenate([v[:, p] for p in parts]) for k, v in zip("xyr", (x, y, reset))}
    model, hand = build(), build()
    model.fit(
        {"inputs": stacked["x"], "reset": stacked["r"]},
        stacked["y"],
        batch_size=2,
        verbose=0,
        callbacks=[rnnzoo.TruncatedBPTT(4)],
    )
    for start in range(0, 24, 4):
        p = slice(start, start + 4)
        hand.train_on_batch({"inputs": x[:, p], "reset": reset[:, p]}, y[:, p])
    for got, wanted in zip(model.core.get_weights(), hand.core.get_weights()):
        close(got, wanted)
    carried = model.states
    model.fit(x, y, batch_size=2, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(4)])
    for name, values in model.states.items():  # whole sequences leave it alone
        np.testing.assert_array_equal(values, carried[name])


@pytest.mark.parametrize("window, stride", [(5, 5), (7, 3)])
def test_nothing_reaches_the_initial_state_from_beyond_the_window(window, stride):
    """Its gradient comes from the windows that hold the first step, and from no other."""
    reached = max(s for s in range(0, 20, stride) if s + stride <= window or s == 0) + stride
    x, y = data()
    results = []
    for steps in (reached + 2 * stride, 20):
        model = build("SimpleRNN", learned_initial_state=True)
        model.fit(
            x[:, :steps],
            y[:, :steps],
            batch_size=3,
            shuffle=False,
            verbose=0,
            callbacks=[rnnzoo.TruncatedBPTT(window, stride)],
        )
        (initial,) = [w for w in model.core.weights if w.name == "initial_h"]
        results.append(ops.convert_to_numpy(initial))
    assert np.abs(results[0]).max() > 1e-4
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize(
    "name, options, window", [(*CELLS[2], 6)] + [(*LSTM, n) for n in (6, 1, 40)]
)
def test_many_to_one_trains_the_last_window_only(name, options, window):
    model = build(name, options, form="many_to_one")
    x, y = data(steps=17, form="many_to_one")
    lengths = np.array([17, 9, 3])
    x[np.arange(17) >= lengths[:, None]] = np.nan
    weights = [ops.convert_to_numpy(w) for w in model.core.trainable_weights]
    inputs = {"inputs": x, "lengths": lengths}
    model.fit(
        inputs, y, batch_size=3, shuffle=False, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(window)]
    )

    def loss(*trained):
        total = 0.0
        for row, length in enumerate(lengths):
            head = max(0, length - window)
            state = [np.zeros((1, UNITS), "float32")] * (2 if name == "LSTM" else 1)
            for t in range(length):
                used = weights if t < head else trained
                state = cell_step(name, options, used[:3], x[row : row + 1, t], state)
            output = ops.matmul(state[0], trained[3]) + trained[4]
            total = total + ops.sum(ops.square(output - y[row : row + 1]))
        return total / y.size

    for got, was, g in zip(model.core.trainable_weights, weights, gradients(loss, weights)):
        assert np.abs(g).max() > 0
        close(got, was - RATE * g)


def test_short_last_batches_of_whole_sequences_are_trained():
    x, y = data(rows=5)
    model = build()
    model.fit(
        x, y, batch_size=3, shuffle=False, verbose=0, epochs=2, callbacks=[rnnzoo.TruncatedBPTT(10)]
    )
    hand = build()
    for _ in range(2):
        for rows in (slice(0, 3), slice(3, 5)):
            state = hand.initial_state(len(x[rows]))
            for start in (0, 10):
                state = hand_step(
                    hand, x[rows, start : start + 10], y[rows, start : start + 10], state
                )
    for got, wanted in zip(model.core.get_weights(), hand.core.get_weights()):
        close(got, wanted)


def hand_step(model, x, y, state, begins=False, skipped=0, advance=None, rate=RATE):
    """One SGD update on a window from `state` on, but for the loss of the steps `skipped`.

    Gives the state after `advance` steps, all by default, as the weights were before.
    """
    reset = np.zeros(x.shape[:2], bool)
    reset[:, 0] = begins  # so that what is learned of the initial state is seen
    # Keras 3.16 takes no mixture of arrays and tensors.
    batch = keras.tree.map_structure(ops.convert_to_tensor, {"inputs": x, "reset": reset, **state})
    weights = [ops.convert_to_numpy(w) for w in model.core.trainable_weights]
    fixed = [v.value for v in model.core.non_trainable_variables]

    def loss(*weights):
        outputs = model.core.stateless_call(weights, fixed, batch)[0]["outputs"]
        return ops.mean(ops.square(outputs - y)[:, skipped:])

    after = model.step(x[:, :advance], state)[1] if advance != 0 else state
    for variable, g in zip(model.core.trainable_weights, gradients(loss, weights)):
        variable.assign(variable - rate * g)
    return {key: ops.convert_to_numpy(value) for key, value in after.items()}


def test_validation_metrics_steps_per_execution_and_early_stop_work_in_windows():
    x, y = data(rows=8)
    model = build()
    model.compile("sgd", "mse", metrics=["mae", "mse"], steps_per_execution=2)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
    history = model.fit(
        x,
        y,
        batch_size=2,
        epochs=6,
        verbose=0,
        validation_data=(x[:4], y[:4]),
        callbacks=[rnnzoo.TruncatedBPTT(8), stop],
    ).history
    assert set(history) == {"loss", "mae", "mse", "val_loss", "val_mae", "val_mse"}
    assert len(history["loss"]) == 2  # the second epoch is no better by 10, so training stops
    assert int(model.optimizer.iterations) == 2 * 4 * 3
    assert model.settings.truncation is None


def test_an_exception_in_the_middle_leaves_the_model_as_it_was():
    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("stop here")

    x, y = data()
    model, untouched = build(), build()
    callbacks = [rnnzoo.TruncatedBPTT(5), rnnzoo.ResetStates("epoch"), Fail()]
    with pytest.raises(RuntimeError, match="stop here"):
        model.fit(x, y, batch_size=3, verbose=0, callbacks=callbacks)
    assert model.settings == type(model.settings)()
    model.core.set_weights(untouched.core.get_weights())
    for each in (model, untouched):  # trains as one that never saw the callbacks
        each.fit(x, y, batch_size=3, shuffle=False, verbose=0)
    for got, wanted in zip(model.core.get_weights(), untouched.core.get_weights()):
        close(got, wanted)


@not_on_jax
@pytest.mark.parametrize("stride", [16, 6])
def test_streams_whose_last_batch_is_shorter_than_a_window_compile_with_xla(stride):
    """Batches of 64 and of 10 steps per lane, so that the length is unknown when traced."""
    ids = np.arange(4 * 74 + 1) ** 2 % 7
    weights = []
    for jit_compile in (True, False):
        keras.utils.set_random_seed(1)
        model = rnnzoo.one_to_one(vocabulary=7, units=4)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5), loss, jit_compile=jit_compile)
        batches = rnnzoo.data.stream(ids, 4, 16, windows_per_batch=4)
        model.fit(batches, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(16, stride)])
        assert int(model.optimizer.iterations) == -(-64 // stride) + -(-10 // stride)
        weights.append(model.core.get_weights())
    for got, wanted in zip(*weights):
        close(got, wanted)
