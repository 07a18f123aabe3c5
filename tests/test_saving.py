"""Saved and loaded: the same outputs, the same carry, and training that goes on."""

import json
import os
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from every_cell import tower

import rnnzoo

ROWS, STEPS, FEATURES, VOCABULARY = 4, 6, 3, 7

REAL = np.random.default_rng(0).normal(size=(ROWS, STEPS, FEATURES)).astype("float32")
TOKENS = np.random.default_rng(1).integers(0, VOCABULARY, (ROWS, STEPS)).astype("int32")
RESET = np.zeros((ROWS, STEPS), bool)

VARIANTS = {
    "lstm": {"features": 3, "units": [4, 4], "outputs": 2, "residual": True, "layer_norm": True},
    "every cell": {"features": 3},
    "simple_rnn, tied": {"vocabulary": 7, "units": [5, 4], "embedding": 4, "tied": True}
    | {"cell": "simple_rnn", "activation": "softmax", "name": "tied"},
    "many": {"features": 3, "units": 4, "outputs": 2, "layer_norm": True},
}


def made(variant):
    keras.utils.set_random_seed(3)
    factory = {"many": rnnzoo.many_to_one, "every cell": tower}.get(variant, rnnzoo.one_to_one)
    model = factory(**VARIANTS[variant])
    tokens = "vocabulary" in VARIANTS[variant]
    model.compile(
        keras.optimizers.Adam(0.01, global_clipnorm=1.0),
        loss="sparse_categorical_crossentropy" if tokens else "mae",
        metrics=[rnnzoo.metrics.Perplexity(from_logits=False)] if tokens else ["mse"],
        # What is cheaper for a batch or two.
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    return model


def inputs(model):
    return TOKENS if model.core.input["inputs"].dtype == "int32" else REAL


def train(model, rows=ROWS):
    x = inputs(model)[:rows]
    y = x if x.ndim == 2 else np.ones((rows, STEPS, 2), "float32")
    y = y[:, 0] if model.form == "many_to_one" else y
    model.fit({"inputs": x, "reset": RESET[:rows]}, y, batch_size=rows, verbose=0)


def assert_equal(got, expected):
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)


def after(model, state):
    return {key: np.array(v) for key, v in model.step(inputs(model), state)[1].items()}


@pytest.fixture(scope="module")
def trained():
    """A trained model, not to be changed."""
    model = made("every cell")
    train(model)
    assert all(np.any(state) for state in model.states.values())
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loaded_model_is_the_saved_one_and_trains_on_like_it(variant, tmp_path):
    model = made(variant)
    train(model)
    x, path = inputs(model), tmp_path / "model.keras"
    expected = np.array(model.step(x, model.states)[0])
    model.save(path)
    loaded = keras.models.load_model(path)

    assert type(loaded) is rnnzoo.RecurrentModel
    assert (loaded.name, loaded.form) == (model.name, model.form)
    assert_equal(
        dict(enumerate(loaded.core.get_weights())), dict(enumerate(model.core.get_weights()))
    )
    assert_equal(loaded.states, model.states)
    np.testing.assert_array_equal(np.array(loaded.step(x, loaded.states)[0]), expected)
    assert loaded.get_compile_config() == model.get_compile_config()
    assert loaded.optimizer.global_clipnorm == 1.0
    slots = [[np.array(v) for v in m.optimizer.variables] for m in (loaded, model)]
    assert len(slots[0]) == len(slots[1]) > 2
    for got, wanted in zip(*slots):
        np.testing.assert_array_equal(got, wanted)

    if variant != "lstm":  # the optimizer is the same for all, and compiling takes time
        return
    train(model)
    train(loaded)
    for got, wanted in zip(loaded.core.get_weights(), model.core.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)
    for key, state in model.states.items():
        np.testing.assert_allclose(loaded.states[key], state, rtol=1e-6, atol=1e-7)


def test_a_loaded_model_trained_with_another_batch_size_starts_from_the_initial_state(
    trained, tmp_path
):
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = after(loaded, loaded.initial_state(ROWS))
    train(loaded, rows=2)
    for name, value in loaded.states.items():
        assert len(value) == 2
        np.testing.assert_allclose(value, expected[name][:2], rtol=1e-5, atol=1e-6)


# Keras says so where only one of model and file has optimizer slots.
no_slots = pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")


@no_slots
def test_a_model_saved_before_training_has_no_lanes(tmp_path):
    model = made("lstm")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.states["h_0"].shape == (0, 4)
    train(loaded)


@no_slots
def test_weights_alone_bring_the_carry_with_them(trained, tmp_path):
    model, path = trained, tmp_path / "model.weights.h5"
    model.save_weights(path)
    expected = after(model, model.states)

    other = made("every cell")
    other.load_weights(path)
    assert_equal(other.states, model.states)
    train(other)
    for name, value in other.states.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_size_are_refused(trained, tmp_path):
    made("lstm").save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="could not be loaded"):
        rnnzoo.one_to_one(features=3, units=5, outputs=2).load_weights(
            tmp_path / "model.weights.h5"
        )


@no_slots
def test_nothing_of_an_evaluation_is_saved(tmp_path):
    model = made("lstm")
    train(model)
    x, y = {"inputs": REAL[:2], "reset": RESET[:2]}, np.ones((2, STEPS, 2))
    before = model.evaluate(x, y, verbose=0)
    assert model.evaluation_carry.lanes == 2
    path = tmp_path / "model.keras"
    model.save(path)

    with zipfile.ZipFile(path) as archive:
        archive.extract("model.weights.h5", tmp_path)
    held = {}
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda key, v: held.update({key: v.shape} if hasattr(v, "shape") else {}))
    # Keras names groups by class: a second carry would be layers/carry_1.
    carried = sorted(key for key in held if "carry" in key)
    assert carried == [f"layers/carry/vars/{name}" for name in ("c_0", "c_1", "h_0", "h_1")]

    loaded = keras.models.load_model(path)
    assert loaded.evaluation_carry.lanes == 0
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), before, rtol=1e-6)
    # The other way round: a model that has evaluated takes a file without.
    weights_path = tmp_path / "only.weights.h5"
    made("lstm").save_weights(weights_path)
    loaded.load_weights(weights_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_configuration_makes_the_same_model(variant):
    model = made(variant)
    config = json.dumps(model.get_config())
    again = rnnzoo.RecurrentModel.from_config(json.loads(config))
    assert json.dumps(again.get_config()) == config
    assert [w.shape for w in again.core.weights] == [w.shape for w in model.core.weights]
    clone = keras.models.clone_model(model)
    assert json.dumps(clone.get_config()) == config
    assert {len(value) for value in clone.states.values()} == {0}
    clone.core.set_weights(model.core.get_weights())
    state = model.initial_state(ROWS)
    assert_equal(after(clone, state), after(model, state))


ELSEWHERE = """
import sys
import keras, numpy as np, rnnzoo
model = keras.models.load_model(sys.argv[1])
x = np.load(sys.argv[2])
outputs, state = model.step(x, model.states)
arrays = {f"after_{key}": np.array(value) for key, value in state.items()}
np.savez(sys.argv[3], backend=keras.backend.backend(), outputs=np.array(outputs), **arrays,
         **model.states)
"""


def test_a_file_of_one_backend_loads_on_the_other(trained, tmp_path):
    model = trained
    here = keras.backend.backend()
    there = {"tensorflow": "jax", "jax": "tensorflow"}[here]
    paths = [tmp_path / name for name in ("model.keras", "x.npy", "out.npz")]
    model.save(paths[0])
    np.save(paths[1], REAL)
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, paths)],
        env={**os.environ, "KERAS_BACKEND": there, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = np.load(paths[2])
    assert found["backend"] == there
    assert_equal({key: found[key] for key in model.states}, model.states)
    outputs, state = model.step(REAL, model.states)
    np.testing.assert_allclose(found["outputs"], np.array(outputs), atol=1e-5)
    for key, value in state.items():
        np.testing.assert_allclose(found[f"after_{key}"], np.array(value), atol=1e-5)
