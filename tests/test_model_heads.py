"""Heads in models: their losses, targets, figures and exports; taggers that look both ways."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax
from scipy import stats

import rnnzoo
from rnnzoo import heads
from rnnzoo.export.signatures import signatures_of

ROWS, STEPS = 4, 6


def numbers(rows=ROWS, steps=STEPS, size=2):
    return np.random.default_rng(0).normal(size=(rows, steps, size)).astype("float32")


def compiled(outputs, rate=0.0, loss=None, **options):
    model = rnnzoo.one_to_one(**{"features": 2, "units": 3, "outputs": outputs, **options})
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


@pytest.fixture(scope="module")
def forecast():
    """A forecast with its uncertainty, and how many of what, at every step."""
    return compiled({"price": heads.StudentT(), "sold": heads.NegativeBinomial(2)})


def targets():
    rng = np.random.default_rng(1)
    return {
        "price": rng.normal(size=(ROWS, STEPS, 1)).astype("float32"),
        "sold": rng.integers(0, 9, (ROWS, STEPS, 2)),
    }


def student(model, raw):
    found = {k: ops.convert_to_numpy(v) for k, v in model.heads["price"].natural(raw).items()}
    return stats.t(found["degrees"], found["location"], found["scale"])


def test_the_loss_is_that_of_scipy(forecast):
    x, y = numbers(), targets()
    raw = forecast.predict(x, verbose=0)
    price = -student(forecast, raw["price"]).logpdf(y["price"]).mean()
    sold = {k: np.asarray(v) for k, v in forecast.heads["sold"].natural(raw["sold"]).items()}
    size = 1 / sold["dispersion"]
    chances = stats.nbinom.logpmf(y["sold"], size, size / (size + sold["mean"]))
    sold = -chances.sum(-1).mean()
    wanted = {"price_loss": price, "sold_loss": sold, "loss": price + sold}
    callback = rnnzoo.TruncatedBPTT(4)
    history = forecast.fit(x, y, batch_size=2, verbose=0, callbacks=[callback]).history
    found = forecast.evaluate(x, y, batch_size=3, verbose=0, return_dict=True)
    for name, value in wanted.items():
        np.testing.assert_allclose([history[name][0], found[name]], value, rtol=2e-5)


def test_a_quantile_of_what_predict_gives_is_that_of_scipy(forecast):
    raw = forecast.predict(numbers(), verbose=0)["price"]
    assert set(forecast.heads) == {"price", "sold"}
    wanted = student(forecast, raw).ppf(0.9)
    np.testing.assert_allclose(forecast.heads["price"].quantile(raw, 0.9), wanted, rtol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_padding_is_no_target(weighted):
    model, x = compiled(heads.Normal()), numbers()
    y, lengths = numbers(size=1), np.array([6, 2, 3, 6])
    given = {"inputs": x, "lengths": lengths}
    losses = ops.convert_to_numpy(model.heads["outputs"].losses(model.predict(x, verbose=0), y))
    real = np.arange(STEPS) < lengths[:, None]
    weight = np.arange(24).reshape(ROWS, STEPS) % 5 if weighted else np.ones((ROWS, STEPS))
    y[~real] = np.nan
    found = model.evaluate(given, y, sample_weight=weight if weighted else None, verbose=0)
    wanted = (losses * weight)[real].sum() / real.sum()
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_loss_that_is_given_wins():
    x, y = numbers(), numbers(size=2)
    model = compiled({"a": heads.Linear(2), "b": heads.Normal(1)}, loss={"a": "mae"})
    raw = model.predict(x, verbose=0)
    found = model.evaluate(x, {"a": y, "b": y[..., :1]}, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["a_loss"], np.abs(raw["a"] - y).mean(), rtol=1e-5)
    losses = model.heads["b"].losses(raw["b"], y[..., :1])
    np.testing.assert_allclose(found["b_loss"], np.mean(losses), rtol=1e-5)
    # Where nothing has a weight nothing need be a number; what is one is read all the same.
    weight, spoilt = np.ones((ROWS, STEPS)), {"a": y.copy(), "b": y[..., :1]}
    weight[0, -1] = weight[1, 0] = 0
    x[0, -1] = spoilt["a"][0, -1] = np.nan
    weights = {"a": weight, "b": weight}
    found = model.evaluate(x, spoilt, sample_weight=weights, verbose=0, return_dict=True)
    wanted = np.mean(np.abs(raw["a"] - y).mean(-1) * weight)
    np.testing.assert_allclose(found["a_loss"], wanted, rtol=1e-5)
    model = compiled(heads.Linear(2), loss="mae")
    wanted = np.abs(model.predict(x, verbose=0) - y).mean()
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"loss": "mse"},
        {"metrics": ["mae", "mae"]},
        {"weighted_metrics": {"price": keras.metrics.MeanAbsoluteError()}},
    ],
)
def test_parameters_are_not_taken_for_values(arguments):
    outputs = {"price": heads.StudentT(), "load": heads.Linear()}
    model = rnnzoo.one_to_one(features=2, units=3, outputs=outputs)
    with pytest.raises(ValueError, match="'price' holds the 3 parameters of StudentT"):
        model.compile("sgd", **arguments)
    assert not model.compiled
    if "loss" in arguments:
        with pytest.raises(ValueError, match="holds the 4 parameters of CTC"):
            compiled(heads.CTC(4), loss="sparse_categorical_crossentropy")
    model.compile("sgd", {"load": "mse"}, metrics={"load": ["mae"]})


def test_parameters_leave_in_full_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = rnnzoo.many_to_one(features=2, units=3, outputs={"a": heads.Normal(), "b": 2})
    finally:
        keras.config.set_dtype_policy(before)
    assert {one.dtype for one in model.spec.outputs.values()} == {"float32"}
    assert model.predict(numbers(), verbose=0)["a"].shape == (ROWS, 2)


def test_classes_start_at_their_frequencies():
    model = compiled(heads.Logits(3), rate=1e-9)
    y = np.repeat([[0, 0, 0, 0, 1, 0]], ROWS, axis=0)
    model.fit(numbers(), y, verbose=0)
    bias = ops.convert_to_numpy(model.core.get_layer("output_layer").bias)
    close(bias, np.log(np.array([20.5, 4.5, 0.5]) / 25.5))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sold": np.full((ROWS, STEPS, 2), -1)}, "targets of NegativeBinomial.*received -1"),
        ({"price": np.full((ROWS, STEPS, 1), np.nan)}, "targets of StudentT.*received nan"),
        ({"price": np.zeros((ROWS, 2, 1))}, r"StudentT.* must have shape \(4, 6, 1\)"),
        ({"cost": np.zeros((ROWS, STEPS))}, "targets must be named as the outputs, 'price'"),
        ({"sold": None}, r"each output that has a loss, 'price', 'sold'; received \['price'\]"),
    ],
)
def test_targets_that_no_head_knows_are_refused(forecast, change, said):
    before = forecast.get_weights()
    with pytest.raises(ValueError, match=said):
        y = {name: v for name, v in (targets() | change).items() if v is not None}
        forecast.fit(numbers(), y, verbose=0)
    for one, other in zip(before, forecast.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("head", [heads.Normal(), heads.Bernoulli(2), heads.CTC(3)], ids=repr)
def test_weights_of_classes_need_a_class_for_each_target(head):
    y = np.ones((ROWS, STEPS, 2), int)[..., : head.outputs if head.per_step else 1]
    with pytest.raises(ValueError, match="class_weight is for .* for targets of"):
        compiled(head).fit(numbers(), y, class_weight={0: 1.0, 1: 2.0}, verbose=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({3: 1.0}, "class_weight must be of classes that the output has, 0 to 2"),
        ({0: -1.0}, r"class_weight\[0\] must be a number of at least 0"),
        ({"a": 1.0}, "a class of class_weight must be an integer"),
    ],
)
def test_weights_of_classes_are_checked(given, message):
    model = compiled(3, loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=message):
        model.fit(numbers(), np.ones((ROWS, STEPS), int), class_weight=given, verbose=0)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("window", [3, STEPS])
def test_an_output_without_targets_is_not_trained(window):
    """A metric, a weight and padding are those of the outputs that have some."""
    model, x = compiled({"a": 2, "b": 1}, loss={"b": "mse"}), numbers()
    model.compile(keras.optimizers.SGD(0.0), {"b": "mse"}, weighted_metrics={"b": ["mae"]})
    weight = np.arange(ROWS * STEPS).reshape(ROWS, STEPS) % 5 + 1.0
    y, lengths = {"b": numbers(size=1)}, np.array([6, 2, 3, 6])
    given, callbacks = {"inputs": x, "lengths": lengths}, [rnnzoo.TruncatedBPTT(window)]
    told = model.fit(given, y, sample_weight=weight, verbose=0, callbacks=callbacks).history
    weight *= np.arange(STEPS) < lengths[:, None]
    errors = np.abs(model.predict(x, verbose=0)["b"] - y["b"])[..., 0]
    np.testing.assert_allclose(told["b_mae"], (errors * weight).sum() / weight.sum(), rtol=1e-5)
    model.compile("sgd", {"b": "mse"}, metrics={"a": ["mae"]})
    with pytest.raises(ValueError, match=r"each output that has a metric, 'a'; received \['b'\]"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("outputs", "loss"), [(2, "binary_crossentropy"), (heads.Bernoulli(2), None)], ids=str
)
def test_a_yes_is_a_logit_above_0(outputs, loss):
    """Keras draws the line at 0.5, and counts the highest of several numbers alone."""
    model, names = compiled(outputs), ["accuracy", "Precision", "recall", "AUC"]
    model.compile("sgd", loss, metrics=names)
    model.core.get_layer("output_layer").set_weights([np.zeros((3, 2)), np.array([0.25, -0.25])])
    y = np.zeros((ROWS, STEPS, 2), "float32")
    y[0] = y[1, :, 0] = 1
    found = model.evaluate(numbers(), y, verbose=0, return_dict=True)
    # Of each row (yes, no) is said, where (1, 1), (1, 0) and twice (0, 0) is true.
    wanted = {"accuracy": 5 / 8, "Precision": 2 / 4, "recall": 2 / 3}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    # Of all pairs of a yes and a no 2 * 3 are in order, and 2 * 2 + 1 * 3 as good as one half.
    assert found["AUC"] == pytest.approx((2 * 3 + (2 * 2 + 1 * 3) / 2) / 15)


def test_probabilities_are_not_looked_for_in_logits():
    """By a function of Keras as by its name; an object that does so is refused."""
    model, x, y = compiled(3), numbers(), np.arange(ROWS * STEPS).reshape(ROWS, STEPS) % 3
    name, found = "sparse_categorical_crossentropy", []
    for loss in (name, getattr(keras.losses, name)):
        model.compile("sgd", loss, metrics=[getattr(keras.metrics, name), name], jit_compile=False)
        found.append(model.evaluate(x, y, verbose=0, return_dict=True))
    raw = model.predict(x, verbose=0)
    nats = np.log(np.exp(raw).sum(-1)) - np.take_along_axis(raw, y[..., None], -1)[..., 0]
    for told in found:
        np.testing.assert_allclose([*told.values()], nats.mean(), rtol=1e-5)
    loss = model.loss
    for module, argument in ((keras.losses, "loss"), (keras.metrics, "metrics")):
        with pytest.raises(ValueError, match=f"^{argument} .*must have from_logits=True"):
            model.compile(**{"loss": name, argument: module.SparseCategoricalCrossentropy()})
    assert model.loss is loss
    model = compiled(3, loss=name, activation="softmax")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)


def test_lists_are_in_the_order_of_the_outputs_and_names_are_those_of_outputs():
    """Keras has lists in the order of the names, and targets are in that of the model."""
    model, x = compiled({"worth": 1, "sign": 1}), numbers()
    y = {"worth": numbers(size=1), "sign": (x[..., :1] > 0).astype("float32")}
    loss = {"worth": "mse", "sign": "binary_crossentropy"}
    metrics = {"worth": ["mae"], "sign": ["accuracy", "Recall"]}
    plan = {"loss": loss, "metrics": metrics, "loss_weights": {"worth": 3.0, "sign": 1.0}}
    found = []
    for form in (dict, lambda given: list(given.values())):
        given = {name: form(value) for name, value in plan.items()}
        model.compile("sgd", weighted_metrics=[], jit_compile=on_jax(), **given)
        found.append(model.evaluate(x, form(y), verbose=0, return_dict=True))
    assert found[0] == pytest.approx(found[1])
    raw = model.predict(x, verbose=0)
    assert found[1]["worth_loss"] == pytest.approx(np.square(raw["worth"] - y["worth"]).mean())
    yes = raw["sign"][y["sign"] == 1] > 0  # a logit, with each of several metrics of an output
    assert found[1]["sign_Recall"] == pytest.approx(yes.mean())
    for name, wrong in (
        *((name, {"price": 1.0 if name == "loss_weights" else "mse"}) for name in plan),
        ("loss", ["mse"]),
        ("metrics", ["mse"]),
        ("loss_weights", [1.0]),
        ("loss_weights", 2.0),
    ):
        with pytest.raises(ValueError, match=f"^{name} must .*outputs,? 'worth', 'sign'"):
            model.compile("sgd", **(plan | {name: wrong}))
    alone = compiled(1)
    alone.compile("sgd", {"outputs": "mse"}, {"outputs": 2}, metrics={"outputs": ["mse"]})
    told = alone.evaluate(x, y["worth"], verbose=0, return_dict=True)
    assert told["loss"] == pytest.approx(2 * told["mse"])
    with pytest.raises(ValueError, match="metrics must be named as the outputs, 'outputs'"):
        alone.compile("sgd", "mse", metrics={"worth": ["mse"]})


def test_a_row_without_weight_may_be_anything():
    reader = rnnzoo.many_to_one(features=2, units=3, outputs=1).reader
    x, y, weight = numbers(), np.zeros((ROWS, 1), "float32"), np.array([0.0, 1, 1, 1])
    x[0, 1] = y[0] = np.nan
    x, y, _ = reader.batch({"inputs": x}, y, weight)
    assert np.isfinite(x["inputs"]).all() and np.isfinite(y).all()
    np.testing.assert_array_equal(x["inputs"][0, 2:], numbers()[0, 2:])


def test_a_target_without_weight_may_be_anything(forecast):
    x, y = numbers(), targets()
    weight = np.ones((ROWS, STEPS), "float32")
    loss = forecast.evaluate(x, y, verbose=0, sample_weight={"price": weight})
    assert np.isfinite(np.ravel(loss)).all()
    y["price"][0, 0], weight[0, 0] = np.inf, 0
    loss = forecast.evaluate(x, y, verbose=0, sample_weight={"price": weight})
    assert np.isfinite(np.ravel(loss)).all()


# Taggers


def tagger(outputs, rate=0.0, **options):
    return compiled(outputs, rate, bidirectional=True, **options)


@pytest.mark.parametrize("form", [rnnzoo.one_to_one, rnnzoo.many_to_one])
def test_a_model_reads_both_ways_as_keras_does(form):
    """Also where padding is not a number, with a state that the layers above hand on, and back."""
    options = {"residual": True} if form is rnnzoo.many_to_one else {}
    model = form(features=2, units=[3, 3, 3], outputs=3, bidirectional=True, **options)
    inputs, mask = keras.Input((STEPS, 2)), keras.Input((STEPS,), dtype="bool")
    hidden = inputs
    for place in range(3):
        last = form is rnnzoo.many_to_one and place == 2
        layer = keras.layers.LSTM(3, return_sequences=not last)
        both = keras.layers.Bidirectional(layer)
        above = both(hidden, mask=mask)
        hidden = above + hidden if options and place == 1 else above
        ours = model.core.get_layer(f"both_{place}")
        both.forward_layer.set_weights(ours.forward.get_weights())
        both.backward_layer.set_weights(ours.backward.get_weights())
    dense = keras.layers.Dense(3)
    plain = keras.Model([inputs, mask], dense(hidden))
    dense.set_weights(model.core.get_layer("output_layer").get_weights())
    x, lengths = numbers(), np.array([6, 4, 4, 4])
    real = np.arange(STEPS) < lengths[:, None]
    whole = plain.predict([x, np.ones_like(real)], verbose=0)
    close(model.predict(x, verbose=0), whole)
    close(model.to_keras().predict(x, verbose=0), whole)
    holes = np.where(real[..., None], x, np.nan)
    padded = model.predict({"inputs": holes, "lengths": lengths}, verbose=0)
    wanted = plain.predict([x, real], verbose=0)
    if form is rnnzoo.one_to_one:
        padded, wanted = padded[real], wanted[real]
    close(padded, wanted)


def test_a_label_of_both_directions_is_learned_saved_and_cannot_be_cut(tmp_path):
    """The label is the sign of the first step, which the forward layer has long left behind."""
    options = {"features": 2, "units": 3, "outputs": 1, "bidirectional": True}
    model = rnnzoo.many_to_one(**options)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x = np.random.default_rng(2).normal(size=(32, STEPS, 2)).astype("float32")
    y = np.sign(x[:, 0, :1])
    losses = model.fit(x, y, batch_size=32, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    close(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    with pytest.raises(ValueError, match="has no state to go on from"):
        model.step(x[:, 0], {})
    with pytest.raises(ValueError, match="whose sequences may be cut"):
        model.fit(x, y, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(2)])


@pytest.fixture(scope="module")
def chain():
    """A tagger with a CRF, trained on labels that only go together: 0101... or 1010...

    The inputs say nothing at all, so that step by step each label is as likely as the other.
    """
    keras.utils.set_random_seed(1)
    x = np.zeros((16, 8, 2), "float32")
    y = (np.arange(8) + np.arange(16)[:, None]) % 2
    model = tagger(heads.CRF(2), 1.0)
    model.fit(x, y, epochs=30, batch_size=16, verbose=0)
    return model, x, y


def test_a_crf_learns_what_labels_by_themselves_cannot(chain):
    model, x, y = chain
    alone = tagger(heads.Logits(2), 1.0)
    alone.fit(x, y, epochs=30, batch_size=16, verbose=0)
    assert alone.evaluate(x, y, verbose=0) > 0.69  # log 2 for every step
    # log 2 for the first step; what follows is known then.
    assert model.evaluate(x, y, verbose=0) < 0.69 / 8 + 0.1
    path = ops.convert_to_numpy(model.heads["outputs"].mode(model.predict(x, verbose=0)))
    assert (path[:, 1:] != path[:, :-1]).all()


def test_a_crf_passes_over_padding(chain):
    model, x, y = chain
    lengths = np.full(16, 5)
    padded = np.where(np.arange(8) < 5, y, 99)
    found = model.evaluate({"inputs": x, "lengths": lengths}, padded, verbose=0)
    np.testing.assert_allclose(found, model.evaluate(x[:, :5], y[:, :5], verbose=0), rtol=1e-5)
    raw = model.predict({"inputs": x, "lengths": lengths}, verbose=0)
    path = ops.convert_to_numpy(model.heads["outputs"].mode(raw))
    assert (path[:, 5:] == -1).all() and (path[:, :5] >= 0).all()
    given = rnnzoo.data.bucket([x[0, :5], x[1]], batch_size=1, pad_to_multiple_of=1)
    apart = ops.convert_to_numpy(model.heads["outputs"].mode(model.predict(given, verbose=0)))
    np.testing.assert_array_equal(apart[0], path[0])


@pytest.mark.parametrize(
    ("outputs", "both", "why"),
    [
        (2, True, "the model has no state to go on from"),
        (heads.CRF(2), False, "the head CRF.classes=2. of 'outputs' judges whole sequences"),
        (heads.CTC(3), False, "the head CTC.classes=3. of 'outputs' judges whole sequences"),
    ],
)
def test_whole_sequences_are_not_cut(outputs, both, why):
    model = compiled(outputs, loss="mse" if outputs == 2 else None, bidirectional=both)
    x, y = numbers(), np.zeros((ROWS, STEPS), int)
    reset = np.zeros((ROWS, STEPS), bool)
    with pytest.raises(ValueError, match=f"must come without 'reset'.*{why}"):
        model.fit({"inputs": x, "reset": reset}, y, verbose=0)
    for callback in (rnnzoo.TruncatedBPTT(3), rnnzoo.ResetStates("epoch")):
        with pytest.raises(ValueError, match=f"{type(callback).__name__} must.*{why}"):
            model.fit(x, y, verbose=0, callbacks=[callback])
    if both:
        with pytest.raises(ValueError, match=f"step must be called.*{why}"):
            model.step(x, {})


def test_labels_without_times_may_be_as_many_as_they_are():
    model, x = compiled(heads.CTC(4), rate=0.1), numbers()
    y = np.array([[1, 2, 0], [3, 0, 0], [1, 1, 2], [2, 3, 1]])
    lengths = np.array([6, 3, 6, 5])
    given = {"inputs": x, "lengths": lengths}
    losses = ops.convert_to_numpy(model.heads["outputs"].losses(model.predict(given, verbose=0), y))
    part = [{k: v[i : i + 2] for k, v in given.items()} for i in (0, 2)]
    # As many labels in the second batch as there are steps.
    wide = np.pad(y[2:], ((0, 0), (0, 3)))
    found = model.evaluate([(part[0], y[:2]), (part[1], wide)], verbose=0)
    np.testing.assert_allclose(found, losses.mean(), rtol=1e-5)
    weight = np.array([0.0, 1.0, 2.0, 1.0])
    found = model.evaluate(given, y, sample_weight=weight, verbose=0)
    np.testing.assert_allclose(found, (losses * weight).mean(), rtol=1e-5)
    plain = compiled(4)  # losses that no output is declared for
    plain.set_weights(model.get_weights())
    every = np.pad(y, ((0, 0), (0, 3)))
    for loss in (heads.CTC(4).loss, keras.losses.CTC(), "ctc"):
        plain.compile(keras.optimizers.SGD(0.0), loss, jit_compile=False)
        found = plain.evaluate(given, y, batch_size=2, verbose=0)
        np.testing.assert_allclose(found, losses.mean(), rtol=1e-5)
        whole = [rnnzoo.TruncatedBPTT(STEPS)]
        told = plain.fit(given, every, sample_weight=weight, verbose=0, callbacks=whole).history
        np.testing.assert_allclose(told["loss"], [(losses * weight).mean()], rtol=1e-5)
        with pytest.raises(ValueError, match="TruncatedBPTT cuts targets by time"):
            plain.fit(x, every, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(3)])
    before = model.evaluate(given, y, verbose=0)
    model.fit(given, y, epochs=3, verbose=0)
    assert model.evaluate(given, y, verbose=0) < before
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(batch,\)"):
        model.evaluate(given, y, sample_weight=np.ones((ROWS, STEPS)), verbose=0)
    with pytest.raises(ValueError, match="targets of CTC.* 0 only at the end"):
        model.evaluate(given, y[:, ::-1], verbose=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outputs": heads.Normal}, "outputs must be a size or a head, as rnnzoo.heads.Normal()"),
        ({"outputs": {"a": heads.CRF}}, r"outputs\['a'\] must be a size or a head"),
        ({"outputs": heads.Normal(), "activation": "tanh"}, "activation is for outputs"),
        ({"outputs": 2, "bidirectional": 1}, "bidirectional must be True or False"),
        (
            {"features": None, "vocabulary": 3, "outputs": heads.Logits(3), "tied": True},
            "outputs must equal vocabulary",
        ),
    ],
)
def test_declarations_that_are_none_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        rnnzoo.one_to_one(**{"features": 2, "units": 2, **options})


def test_one_output_a_sequence_has_no_chain():
    with pytest.raises(ValueError, match="many_to_one has one output a sequence; received CRF"):
        rnnzoo.many_to_one(features=2, units=2, outputs=heads.CRF(2))


def test_a_tied_tagger_has_an_embedding_for_both_directions():
    options = {"vocabulary": 5, "units": 2, "bidirectional": True, "tied": True}
    model = rnnzoo.one_to_one(**options, embedding=4)
    assert model.predict(np.zeros((1, 3), int), verbose=0).shape == (1, 3, 5)
    with pytest.raises(ValueError, match="twice for two directions"):
        rnnzoo.one_to_one(**options, embedding=2)


def test_a_model_with_heads_is_saved_and_loaded(forecast, chain, tmp_path):
    for model, x in ((forecast, numbers()), (chain[0], chain[1])):
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.spec == model.spec
        keras.tree.map_structure(close, loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    found = loaded.evaluate(*chain[1:], verbose=0)
    np.testing.assert_allclose(found, chain[0].evaluate(*chain[1:], verbose=0), rtol=1e-5)


@pytest.mark.skipif(on_jax(), reason="the export is written by TensorFlow, and read there")
def test_an_export_says_what_the_heads_say(forecast, chain, tmp_path):
    import tensorflow as tf

    served = tf.saved_model.load(str(forecast.export(tmp_path / "forecast" / "1"))).signatures
    x, raw = numbers(), forecast.predict(numbers(), verbose=0)
    answer = served["serving_default"](inputs=tf.constant(x))
    for name, head in forecast.heads.items():
        close(answer[name], raw[name])
        close(answer[f"{name}_mean"], head.mean(raw[name]))
        close(answer[f"{name}_quantiles"], head.quantile(raw[name], [0.1, 0.5, 0.9]))
    model, x, _ = chain
    path = model.export(tmp_path / "tagger" / "1")
    served = tf.saved_model.load(str(path)).signatures
    lengths = np.full(16, 5, "int32")
    answer = served["serving_default"](inputs=tf.constant(x), lengths=tf.constant(lengths))
    raw = model.predict({"inputs": x, "lengths": lengths}, verbose=0)
    close(answer["outputs_mean"], model.heads["outputs"].mean(raw))
    np.testing.assert_array_equal(answer["outputs_path"], model.heads["outputs"].mode(raw))
    manifest = json.loads((path / "assets.extra" / "rnnzoo.json").read_text())
    assert set(manifest["signatures"]) == {"serving_default"}
    assert manifest["heads"]["outputs"]["config"] == {"classes": 2}
    with pytest.raises(ValueError, match="writes the signature step"):
        model.export(tmp_path / "tagger" / "2", format="litert")


@pytest.mark.skipif(on_jax(), reason="written by TensorFlow")
def test_onnx_holds_what_needs_no_loop(forecast, chain, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    for name, model, x in (("forecast", forecast, numbers()), ("tagger", *chain[:2])):
        path = model.export(tmp_path / name / "1", format="onnx") / "serving_default.onnx"
        session = onnxruntime.InferenceSession(str(path))
        given = {"inputs": x}
        if name == "tagger":
            given["lengths"] = np.full(16, 5, "int32")
        raw = model.predict(given, verbose=0)
        wanted = raw if isinstance(raw, dict) else {"outputs": raw}
        for key, head in model.heads.items():
            if not head.whole_sequences:
                wanted = {**wanted, f"{key}_mean": head.mean(raw[key])}
        keys = [output.name for output in session.get_outputs()]
        assert set(keys) == set(wanted)
        for key, value in zip(keys, session.run(keys, given), strict=True):
            close(value, wanted[key])


def test_parameters_are_not_taken_for_logits_of_tokens():
    model = rnnzoo.one_to_one(vocabulary=2, units=2, outputs=heads.Normal())
    with pytest.raises(ValueError, match="generate must be called on"):
        model.generate([[0, 1]], max_length=2)


def test_a_head_of_levels_exports_its_own():
    head, raw = heads.Quantiles([0.2, 0.8]), np.array([[1.0, 2.0]], "float32")
    assert set(head.summaries(raw)) == {"quantiles"}
    close(head.summaries(raw)["quantiles"], [[[1.0, 2.0]]])
    # Without a median nothing can be fed, so that nothing is written beyond what is given.
    one = rnnzoo.one_to_one(features=1, units=2, outputs=head)
    pair = rnnzoo.encoder_decoder(source_features=1, units=2, outputs=head)
    for model, own in ((one, "step"), (pair, "decode_step")):
        found = signatures_of(model, {"prompt": None}, None)
        assert own in found and not {"generate", "sample"} & set(found)
    with pytest.raises(ValueError, match="a decoder is fed a mean or median; received a model wi"):
        pair.generate(numbers(size=1), steps=2)
