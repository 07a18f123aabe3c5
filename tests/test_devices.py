"""Two devices of TensorFlow: training there is training on one, and each keeps its lanes' state."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import rnnzoo

VOCABULARY, LANES = 7, 4
LOSS = {"from_logits": True, "reduction": "mean_with_sample_weight"}


@pytest.fixture(scope="module")
def strategy():
    """One for all tests: the collectives of two strategies in a process get mixed up."""
    found = tf.distribute.MirroredStrategy()
    assert found.num_replicas_in_sync == 2
    return found


def on(strategy):
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def tokens(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape)


def language_model(strategy, clipped=True):
    keras.utils.set_random_seed(3)
    with on(strategy):
        model = rnnzoo.one_to_one(vocabulary=VOCABULARY, units=4)
        # Clipping is at work in every update, and lanes end at different steps.
        optimizer = keras.optimizers.Adam(0.05, global_clipnorm=0.05 if clipped else None)
        loss = keras.losses.SparseCategoricalCrossentropy(**LOSS)
        metrics = ["accuracy"]
        model.compile(optimizer, loss, weighted_metrics=metrics, jit_compile=False)
    return model


def songs():
    rng = np.random.default_rng(0)
    return [rng.integers(0, VOCABULARY, n) for n in (30, 22, 9, 5, 14, 3, 18)]


def stream():
    return rnnzoo.data.stream(tokens(118), LANES, 8, windows_per_batch=3)


def pack():
    return rnnzoo.data.pack(songs(), LANES, 8, windows_per_batch=2, shuffle=True, seed=2)


def number(variable):
    return int(keras.ops.convert_to_numpy(variable))


def weights_of(model):
    """All weights but the carries, which on two devices have half the rows."""
    layers = ("core", "encoder", "decoder")
    return [
        w for name in layers if hasattr(model, name) for w in getattr(model, name).get_weights()
    ]


def assert_same(one, two, tolerance=1e-5):
    for a, b in zip(weights_of(one), weights_of(two), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=tolerance)
    assert number(one.optimizer.iterations) == number(two.optimizer.iterations)
    if hasattr(one, "states"):
        for key, state in one.states.items():
            assert state.shape == (one.training_carry.lanes, 4)
            np.testing.assert_allclose(two.states[key], state, rtol=0, atol=tolerance)


class EachBatch(keras.callbacks.Callback):
    """Keeps what `fit` tells of each batch."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append([float(logs["loss"]), float(logs["accuracy"])])


@pytest.mark.parametrize(
    "data, window, stride", [(stream, None, None), (stream, 8, 8), (pack, 6, 4)]
)
def test_two_devices_train_as_one(strategy, data, window, stride):
    callbacks = [] if window is None else [rnnzoo.TruncatedBPTT(window, stride)]
    models, histories, told = [], [], []
    for where in (None, strategy):
        model = language_model(where)
        told.append(EachBatch())
        called = [*callbacks, told[-1]]
        history = model.fit(data(), epochs=2, verbose=0, callbacks=called, validation_data=stream())
        models.append(model)
        histories.append(history.history)
    assert_same(*models)
    assert set(histories[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, atol=1e-5)
    np.testing.assert_allclose(told[1].logs, told[0].logs, atol=1e-5)
    rows = [
        part.shape[0] for part in next(iter(models[1].training_carry.slots.values())).value.values
    ]
    assert rows == [LANES // 2] * 2


def test_rows_are_reset_alone_and_single_batches_and_predictions_are_those_of_one(strategy):
    x = {"inputs": tokens(LANES, 6), "reset": np.zeros((LANES, 6), bool)}
    y, weight = tokens(LANES, 6, seed=1), np.float32(tokens(LANES, 6, seed=2) > 2)
    models, found = [], []
    for where in (None, strategy):
        model = language_model(where)
        first = model.train_on_batch(x, y, sample_weight=weight, return_dict=True)
        before = model.states
        model.reset_states([0, 3])  # one of each device
        after = model.states
        for key, state in after.items():
            assert not state[[0, 3]].any() and before[key].all()
            np.testing.assert_array_equal(state[[1, 2]], before[key][[1, 2]])
        model.train_on_batch(x, y, sample_weight=weight)
        tested = model.test_on_batch(x, y, sample_weight=weight)
        models.append(model)
        found.append([first["loss"], tested[0], model.predict(stream(), verbose=0)])
    assert_same(*models)
    for one, two in zip(*found):
        np.testing.assert_allclose(two, one, atol=1e-5)


def test_what_is_saved_has_the_state_of_every_device(strategy, tmp_path):
    model = language_model(strategy)
    model.fit(stream(), verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for where in (None, strategy):
        with on(where):
            loaded = keras.models.load_model(tmp_path / "model.keras")
            other = rnnzoo.one_to_one(vocabulary=VOCABULARY, units=4)
        other.load_weights(tmp_path / "model.weights.h5")
        for found in (loaded, other):
            for a, b in zip(weights_of(model), weights_of(found)):
                np.testing.assert_array_equal(a, b)
            for key, state in model.states.items():
                assert state.all() and not np.array_equal(state[:2], state[2:])
                np.testing.assert_array_equal(found.states[key], state)


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if number(self.model.optimizer.iterations) >= 7:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_goes_on_bit_for_bit(strategy, tmp_path):
    def train(folder, *more):
        model = language_model(strategy)
        backup = rnnzoo.BackupAndResume(tmp_path / folder, every=1)
        callbacks = [rnnzoo.TruncatedBPTT(8), backup, *more]
        return model, model.fit(pack(), epochs=2, verbose=0, callbacks=callbacks).history

    whole, history = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("stopped", Stop())
    resumed, resumed_history = train("stopped")
    assert_same(whole, resumed, tolerance=0)
    assert history == resumed_history


def test_a_last_batch_with_a_row_for_one_device_only_is_trained_as_on_one(strategy):
    x, y = tokens(5, 10), tokens(5, 10, seed=1)
    models = []
    for where in (None, strategy):
        model = language_model(where, clipped=False)
        callbacks = [rnnzoo.TruncatedBPTT(4)]
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
        models.append(model)
    for a, b in zip(*map(weights_of, models)):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5)
    assert number(models[1].optimizer.iterations) == 6


@pytest.mark.parametrize("form", ["many_to_one", "encoder_decoder"])
def test_the_other_forms_train_as_on_one(strategy, form):
    """Rows of different length: the losses of the devices are means over other numbers of steps."""
    lengths, models = np.array([9, 2, 5, 4]), []
    for where in (None, strategy):
        keras.utils.set_random_seed(3)
        with on(where):
            if form == "many_to_one":
                model = rnnzoo.many_to_one(vocabulary=VOCABULARY, units=4, outputs=2)
                loss, y = "mse", np.eye(2, dtype="float32")[tokens(4, 1)[:, 0] % 2]
                x = {"inputs": tokens(4, 9), "lengths": lengths}
            else:
                model = rnnzoo.encoder_decoder(
                    source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY, units=4
                )
                loss, y = keras.losses.SparseCategoricalCrossentropy(from_logits=True), None
                x = {"source": tokens(4, 9), "source_lengths": lengths}
                x |= {"target": tokens(4, 6), "target_lengths": np.array([6, 1, 3, 2])}
            model.compile(keras.optimizers.SGD(0.5), loss, jit_compile=False)
        callbacks = [rnnzoo.TruncatedBPTT(4)]
        model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        if form == "many_to_one":
            model.train_on_batch(x, y, class_weight={0: 3.0, 1: 0.5})
        models.append(model)
    for a, b in zip(*map(weights_of, models), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5)


def test_what_two_devices_cannot_do_is_refused(strategy):
    model = language_model(strategy)
    with pytest.raises(ValueError, match="multiple of 2, .* received 3. Take a batch_size of 2"):
        model.fit(rnnzoo.data.stream(tokens(60), 3, 5), verbose=0)
    accumulating = keras.optimizers.SGD(gradient_accumulation_steps=2)
    for name, value, optimizer, options in (
        ("jit_compile", True, "sgd", {"jit_compile": True}),
        ("steps_per_execution", 3, "sgd", {"steps_per_execution": 3}),
        ("gradient_accumulation_steps", 2, accumulating, {}),
    ):
        with pytest.raises(ValueError, match=f"{name} must be .* received {name}={value} on 2"):
            model.compile(optimizer, "mse", **options)
