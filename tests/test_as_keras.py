"""What a Keras user does with any model: weights and lanes, models in models, odd arrays."""

import keras
import numpy as np
import pytest
from reference import on_jax

import rnnzoo

X = np.random.default_rng(0).normal(size=(8, 6, 2)).astype("float32")
RESET = np.zeros((8, 6), bool)


@pytest.fixture(scope="module")
def trained():
    """A model with eight lanes, and what it was before."""
    keras.utils.set_random_seed(1)
    model = rnnzoo.one_to_one(features=2, units=3, outputs=1, cell="simple_rnn")
    model.compile("sgd", "mse")
    before = model.count_params(), len(model.get_weights())
    model.fit({"inputs": X, "reset": RESET}, X[..., :1], batch_size=8, verbose=0)
    return model, before


def fresh():
    model = rnnzoo.one_to_one(features=2, units=3, outputs=1, cell="simple_rnn")
    model.compile("sgd", "mse")
    return model


def test_lanes_are_no_weights(trained):
    model, before = trained
    assert model.states["h_0"].shape == (8, 3)
    assert (model.count_params(), len(model.get_weights())) == before
    other = fresh()
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(other.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5)


@pytest.mark.parametrize("lanes", [0, 2, 8])
def test_weights_are_loaded_with_the_state_of_all_lanes(trained, lanes, tmp_path):
    model, _ = trained
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    other = fresh()
    if lanes:
        given = {"inputs": X[:lanes], "reset": RESET[:lanes]}
        other.fit(given, X[:lanes, :, :1], batch_size=lanes, verbose=0)
    other.load_weights(path)
    np.testing.assert_array_equal(other.states["h_0"], model.states["h_0"])
    for one in (model, other):  # and they go on alike
        one.train_on_batch({"inputs": X, "reset": RESET}, X[..., :1])
    np.testing.assert_allclose(other.states["h_0"], model.states["h_0"], rtol=1e-5)
    for got, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["one_to_one", "many_to_one"])
def test_models_inside_models(form):
    inner = getattr(rnnzoo, form)(features=2, units=3, outputs=1, cell="simple_rnn")
    expected = inner.predict(X, verbose=0)
    given = keras.Input((None, 2))
    outer = keras.Model(given, inner(given))
    np.testing.assert_allclose(outer.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)
    many = keras.Input((2, 6, 2))
    outer = keras.Model(many, keras.layers.TimeDistributed(inner)(many))
    found = outer.predict(X.reshape(4, 2, 6, 2), verbose=0)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
    outer.compile("sgd", "mse")
    told = outer.fit(X.reshape(4, 2, 6, 2), np.zeros(found.shape), verbose=0)
    assert np.isfinite(told.history["loss"]).all()


@pytest.mark.parametrize("of", ["a model", "a layer"])
def test_resets_within_a_functional_model_of_two_heads(of, tmp_path):
    """A reset is data there too: a row that is reset is a row alone, whatever batch came before."""
    observed = keras.Input((None, 2), name="observed")
    reset = keras.Input((None,), dtype="bool", name="reset")
    if of == "a layer":
        hidden = rnnzoo.layers.GRU(3)(observed, reset=reset)
        policy, value = keras.layers.Dense(4)(hidden), keras.layers.Dense(1)(hidden)
    else:
        inner = rnnzoo.one_to_one(features=2, units=3, cell="gru", outputs={"act": 4, "worth": 1})
        heads = inner({"inputs": observed, "reset": reset})
        policy, value = heads["act"], heads["worth"]
    policy = keras.layers.Softmax(name="policy")(policy)
    value = keras.layers.Identity(name="value")(value)
    agent = keras.Model([observed, reset], {"policy": policy, "value": value})
    losses = {"policy": "sparse_categorical_crossentropy", "value": "mse"}
    agent.compile("sgd", losses)
    flags = np.zeros(X.shape[:2], bool)
    flags[1, 4] = True
    before = agent.get_weights()
    targets = {"policy": np.zeros(flags.shape, "int32"), "value": np.ones((*flags.shape, 1))}
    assert np.isfinite(agent.fit([X, flags], targets, verbose=0).history["loss"][0])
    assert all((a != b).any() for a, b in zip(agent.get_weights(), before))
    found = agent.predict([X, flags], verbose=0)
    alone = agent.predict([X[1:2, 4:], flags[1:2, 4:]], verbose=0)
    other = agent.predict([X, np.zeros_like(flags)], verbose=0)
    for name in found:
        np.testing.assert_allclose(found[name][1:2, 4:], alone[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[name][0], other[name][0], rtol=1e-5, atol=1e-6)
        assert np.abs(found[name][1, 4:] - other[name][1, 4:]).max() > 1e-4
    agent.save(tmp_path / "agent.keras")
    again = keras.models.load_model(tmp_path / "agent.keras").predict([X, flags], verbose=0)
    for name in found:
        np.testing.assert_allclose(again[name], found[name], rtol=1e-5, atol=1e-6)


def test_arrays_in_another_byte_order(trained):
    model, _ = trained
    expected = model.predict(X, verbose=0)
    np.testing.assert_array_equal(model.predict(X.astype(">f4"), verbose=0), expected)
    np.testing.assert_allclose(
        model.evaluate(X.astype(">f8"), X[..., :1].astype(">f4"), verbose=0),
        model.evaluate(X, X[..., :1], verbose=0),
        rtol=1e-6,
    )
    outputs, _ = model.step(X.astype(">f4"), model.initial_state(8))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_sequences_of_different_length_are_refused_with_the_hint(trained, method):
    model, _ = trained
    ragged = np.empty(2, object)
    ragged[:] = [X[0, :3], X[1]]
    given = [ragged]
    if not on_jax():
        import tensorflow as tf

        given.append(tf.ragged.constant([[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]], ragged_rank=1))
    for x in given:
        with pytest.raises(ValueError, match=r"different length see rnnzoo\.data\.pack"):
            getattr(model, method)(x, **({} if method == "predict" else {"y": np.zeros((2, 1))}))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_files_that_do_not_fit_are_refused(trained, tmp_path):
    model, _ = trained
    with pytest.raises(ValueError, match=r"filepath must end in '\.keras'"):
        model.save(tmp_path / "model.h5")
    assert not (tmp_path / "model.h5").exists()
    stock = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.SimpleRNN(3), keras.layers.Dense(1)]
    )
    stock.save_weights(tmp_path / "stock.weights.h5")
    with pytest.raises(ValueError, match="filepath must hold weights .* layer by layer"):
        model.load_weights(tmp_path / "stock.weights.h5")
