"""Threads beside training: `step` and `generate` answer right while others fit, predict, export.

The learning rate is 0, so that whoever asks at whatever moment must hear the same.
"""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import rnnzoo

LANES, STEPS, TOKENS = 2, 8, 5
ENOUGH, LONGEST = 5, 90  # calls of each thread, seconds for all of them


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = rnnzoo.one_to_one(vocabulary=TOKENS, units=4, cell="gru", learned_initial_state=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, TOKENS, (4 * LANES, STEPS)).astype("int32")


class UntilDone(keras.callbacks.Callback):
    """Trains on until `done` is set, in the middle of an epoch too."""

    def __init__(self, done):
        super().__init__()
        self.done, self.latest = done, time.monotonic() + LONGEST

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = self.done.is_set() or time.monotonic() > self.latest


def fit(model, tokens, callbacks, epochs=1000):
    stream = rnnzoo.data.stream(tokens.ravel(), LANES, STEPS, vocabulary=TOKENS)
    return model.fit(stream, epochs=epochs, verbose=0, callbacks=callbacks)


def asks(model, tokens):
    """The questions of the threads, by turns."""
    state = model.initial_state(LANES)

    def step():
        outputs, after = model.step(tokens[:LANES], state)
        return np.concatenate([np.ravel(v) for v in (outputs, *after.values())])

    def generate():
        found = model.generate(tokens[:LANES, :3], max_length=4)
        return np.asarray(found.tokens)

    return [step, generate]


def told(model):
    """What the configuration tells of numbers that training changes: one, the learning rate."""
    compiled = json.loads(model.to_json())["compile_config"]
    return np.array(compiled["optimizer"]["config"]["learning_rate"])


def asked(question, expected, calls, fitting, stop):
    """How often `question` was answered while `fitting`; each answer is as `expected`."""
    answered = 0
    while answered < calls and not stop.is_set():
        begun = fitting.is_set()
        np.testing.assert_allclose(question(), expected, rtol=1e-5, atol=1e-6)
        answered += begun and fitting.is_set()
    return answered


@pytest.mark.parametrize("truncated", [False, True])
def test_step_and_generate_beside_fit(model, tokens, truncated):
    callbacks = [rnnzoo.TruncatedBPTT(4)] if truncated else []
    fit(model, tokens, callbacks, epochs=1)  # compiles, and starts the outputs' bias
    questions = [*asks(model, tokens), lambda: told(model)]
    expected = [question() for question in questions]
    done, fitting = threading.Event(), threading.Event()

    class Begun(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            fitting.set()

    with ThreadPoolExecutor(8) as pool:
        running = [
            pool.submit(asked, questions[i % 3], expected[i % 3], ENOUGH, fitting, done)
            for i in range(8)
        ]
        for future in running:
            future.add_done_callback(
                lambda _: all(one.done() for one in running) and (fitting.clear(), done.set())
            )
        history = fit(model, tokens, [*callbacks, Begun(), UntilDone(done)])
        fitting.clear()
        done.set()
        assert [future.result() for future in running] == [ENOUGH] * 8
    assert np.isfinite(history.history["loss"]).all()
    np.testing.assert_allclose(questions[0](), expected[0], rtol=1e-5, atol=1e-6)


def test_all_at_once(model, tokens, tmp_path):
    """`fit`, `predict`, `evaluate`, `export` and saving wait for one another; `step` does not."""
    fit(model, tokens, [], epochs=1)
    questions = asks(model, tokens)
    expected = [question() for question in questions]
    predicted = model.predict(tokens, batch_size=LANES, verbose=0)
    weights = model.get_weights()

    def repeated(call, check, times=3):
        for _ in range(times):
            check(call())

    def same(found):
        np.testing.assert_allclose(found, predicted, rtol=1e-5, atol=1e-6)

    def same_weights(found):
        for got, was in zip(found, weights, strict=True):
            np.testing.assert_array_equal(got, was)

    carried = model.states

    def same_state(found):
        for name, values in found.items():
            np.testing.assert_array_equal(values.shape, carried[name].shape)

    file = tmp_path / "model.weights.h5"
    jobs = [
        (lambda: fit(model, tokens, [], epochs=4), lambda found: None),
        (lambda: fit(model, tokens, [rnnzoo.TruncatedBPTT(4)], epochs=4), lambda found: None),
        (lambda: model.predict(tokens, batch_size=LANES, verbose=0), same),
        (lambda: model.predict(tokens, batch_size=LANES, verbose=0), same),
        (lambda: model.evaluate(tokens, tokens, verbose=0), lambda found: None),
        (lambda: model.get_weights(), same_weights),
        (lambda: model.set_weights(weights), lambda found: None),
        (lambda: model.reset_states([0]), lambda found: None),
        (lambda: model.states, same_state),
        (lambda: model.save_weights(file, overwrite=True), lambda found: None),
        (lambda: model.save(tmp_path / "model.keras", overwrite=True), lambda found: None),
    ]
    with ThreadPoolExecutor(len(jobs) + 5) as pool:
        passes = [pool.submit(repeated, *job) for job in jobs]
        exported = pool.submit(model.export, tmp_path / "exported" / "1")
        always, no = threading.Event(), threading.Event()
        always.set()
        steps = [
            pool.submit(asked, questions[i % 2], expected[i % 2], 20, always, no) for i in range(4)
        ]
        for future in (*passes, *steps):
            future.result(timeout=LONGEST)
        exported.result(timeout=2 * LONGEST)
    carried = model.states
    same(model.predict(tokens, batch_size=LANES, verbose=0))
    for question in questions:
        question()
    for name, values in model.states.items():  # neither moves what training carries
        np.testing.assert_array_equal(values, carried[name])
    same_weights(model.get_weights())
    outputs, _ = model.step(tokens[:LANES], model.initial_state(LANES))
    served = rnnzoo.load_served(tmp_path / "exported" / "1")
    stream = served.new_stream()
    found = served.step([stream], [tokens[0]])
    np.testing.assert_allclose(np.ravel(found[0]), np.ravel(outputs[0]), rtol=1e-4, atol=1e-5)
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        reloaded.predict(tokens, batch_size=LANES, verbose=0), predicted, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("streams", [False, True])
def test_predict_from_several_threads(model, tokens, streams):
    x = tokens
    if streams:
        reset = np.zeros(tokens.shape, bool)
        reset[:LANES, 0] = True
        x = {"inputs": tokens, "reset": reset}
    fit(model, tokens, [], epochs=1)
    expected = model.predict(x, batch_size=LANES, verbose=0)
    with ThreadPoolExecutor(8) as pool:
        given = [pool.submit(model.predict, x, LANES, 0) for _ in range(16)]
        for future in given:
            np.testing.assert_allclose(future.result(), expected, rtol=1e-5, atol=1e-6)
    assert all(np.isfinite(np.asarray(v)).all() for v in model.variables)
    fit(model, tokens, [], epochs=1)  # the model is whole
    np.testing.assert_allclose(model.predict(x, LANES, 0), expected, rtol=1e-5, atol=1e-6)
