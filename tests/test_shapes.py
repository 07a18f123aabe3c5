"""What runs compiled with XLA where that is left to us: the shapes that come often, TensorFlow."""

import keras
import numpy as np
import pytest

import rnnzoo
from rnnzoo.training import shapes as rule
from rnnzoo.training import step_tensorflow

if keras.backend.backend() == "jax":
    pytest.skip("JAX compiles everything", allow_module_level=True)

X = np.random.default_rng(0).normal(size=(3, 6, 2)).astype("float32")
LENGTHS = np.array([6, 3, 6])


def ragged(make, *others, **options):
    cut = [[one[:n] for one, n in zip(x, LENGTHS)] for x in (X, *others)]
    return make(*cut, **options, batch_size=2)


# By name a model, its data in two shapes, and inputs to predict for.
CASES = {
    "one_to_one": (
        lambda: rnnzoo.one_to_one(features=2, units=3, outputs={"a": 2, "b": 1}),
        lambda: ({"inputs": X, "lengths": LENGTHS}, {"a": X, "b": X[..., :1]}),
        {"inputs": X, "lengths": LENGTHS},
    ),
    "many_to_one": (
        lambda: rnnzoo.many_to_one(features=2, units=3, outputs=2, cell="gru"),
        lambda: (ragged(rnnzoo.data.bucket, targets=X[:, 0]),),
        X,
    ),
    "encoder_decoder": (
        lambda: rnnzoo.encoder_decoder(
            source_features=2, target_features=2, units=3, attention="dot"
        ),
        lambda: (ragged(rnnzoo.data.pairs, X[::-1]),),
        {"source": X, "target": X, "source_lengths": LENGTHS},
    ),
}


def trained(form, jit_compile):
    """The model after two epochs, what they told, its results, and how often it was traced."""
    keras.utils.set_random_seed(1)
    make, data, asked = CASES[form]
    model, traced = make(), []
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    run = model.run
    model.run = lambda *args, **options: traced.append(args) or run(*args, **options)
    x, *y = data()
    size = {"batch_size": 2} if y else {}  # data sets have batches of their own
    told = model.fit(x, *y, **size, epochs=2, shuffle=False, verbose=0).history
    loss = model.evaluate(x, *y, **size, verbose=0, return_dict=True)
    outputs = model.predict(asked, batch_size=2, verbose=0)
    return model, [told, loss, outputs, model.get_weights()], len(traced)


@pytest.mark.parametrize("form", CASES)
def test_what_is_compiled_gives_what_is_not(form, monkeypatch):
    monkeypatch.setattr(step_tensorflow, "LEAST", 0.0)
    model, ours, traced = trained(form, "auto")
    _, plain, _ = trained(form, False)
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, plain
    )
    assert traced == 3  # fit, evaluate and predict, for both shapes of each
    for function in (model.train_function, model.test_function, model.predict_function):
        assert len(function.shapes.compiled) == len(function.shapes.met) == 2


def test_the_rule_goes_by_what_has_come_and_what_is_known_to_come(monkeypatch):
    monkeypatch.setattr(rule, "MOST", 2)
    shapes = rule.Shapes()
    # Two batches that save 1.0 each have come before the third is compiled.
    assert [shapes.take("a", 1.0, 0.0, least=2.0) for _ in range(4)] == [False, False, True, True]
    assert shapes.take("b", 0.5, 2.0, least=2.0)  # it is known that more will come
    assert not shapes.take("c", 0.5, 9.0, least=2.0)  # no more than two
    resumed = rule.Shapes()
    resumed.restore(shapes.state())
    assert resumed.take("a", 1.0, 0.0, least=2.0) and resumed.state()["met"]["a"] == 5.0
    # 20,000 steps of few values, or half of them with 8,192 values each.
    assert rule.gain(20_000, 1, 1) == pytest.approx(1.0, rel=1e-3)
    assert rule.gain(10_000, 64, 128) == 1.0


def test_a_long_training_is_compiled_from_its_first_batch_and_a_short_one_never(capsys):
    model = CASES["many_to_one"][0]()
    model.compile("sgd", "mse")
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: setattr(model, "stop_training", True)
    )
    model.fit(X, X[:, 0], batch_size=3, epochs=2, verbose=2)
    assert model.shapes.compiled == [] and "compiling" not in capsys.readouterr().out
    model.fit(X, X[:, 0], batch_size=3, epochs=7_000, verbose=2, callbacks=[stop])
    assert len(model.shapes.compiled) == 1
    assert capsys.readouterr().out.count("compiling the training step (XLA) ...") == 1
    assert int(model.optimizer.iterations) == 3


def test_what_xla_cannot_compile_runs_without_and_says_so(monkeypatch):
    """The batch that found out is trained all the same."""
    import tensorflow as tf

    class ByHost(keras.losses.Loss):
        def call(self, y_true, y_pred):
            y_true = tf.ensure_shape(tf.numpy_function(np.abs, [y_true], "float32"), y_true.shape)
            return keras.ops.square(y_pred - y_true)

    monkeypatch.setattr(step_tensorflow, "LEAST", 0.0)
    found = []
    for jit_compile in ("auto", False):
        keras.utils.set_random_seed(1)
        model = CASES["many_to_one"][0]()
        model.compile(keras.optimizers.SGD(0.1), ByHost(), jit_compile=jit_compile)
        data = {"x": X, "y": X[:, 0], "batch_size": 3, "epochs": 2, "verbose": 0}
        if jit_compile:
            with pytest.warns(UserWarning, match="XLA cannot compile this model.*jit_compile=F"):
                model.fit(**data)
        model.fit(**data) if jit_compile else [model.fit(**data) for _ in range(2)]
        assert int(model.optimizer.iterations) == 4
        found.append(model.get_weights())
    for ours, plain in zip(*found):
        np.testing.assert_allclose(ours, plain, rtol=1e-5)
    model.compile("sgd", "mse")
    assert not model.without_xla  # another loss is another step
