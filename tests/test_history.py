"""History tells the truth: at a learning rate of 0, `fit`, `evaluate` and NumPy say one number.

Every form, reduction, window, weight, padding and data form. Combinations share models and
compiled functions: what differs on the host only is compiled once.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import rnnzoo

ROWS, STEPS, BATCH, FEATURES, CLASSES = 6, 11, 3, 2, 3
WINDOWS = (None, 4, 20)
REDUCTIONS = ("sum_over_batch_size", "mean_with_sample_weight")
WEIGHTS = ("none", "rows", "column", "steps")
FORMS = ("one_to_one", "many_to_one", "encoder_decoder")


def datasets():
    """How the same batches may be given, by name: `(x, y, weight) -> arguments of fit`."""

    def split(x, y, w):
        for low in range(0, ROWS, BATCH):
            part = slice(low, low + BATCH)
            batch = tuple(
                keras.tree.map_structure(lambda v: None if v is None else v[part], one)
                for one in (x, y, w)
            )
            while batch[-1] is None:
                batch = batch[:-1]
            yield batch

    class Own(keras.utils.PyDataset):
        def __init__(self, batches):
            super().__init__()
            self.batches = batches

        def __len__(self):
            return len(self.batches)

        def __getitem__(self, index):
            return self.batches[index]

    class Readable:
        def __init__(self, batches):
            self.batches = batches

        def __iter__(self):
            return iter(self.batches)

    def arrays(x, y, w):
        return {"x": x, "y": y, "sample_weight": w, "batch_size": BATCH, "shuffle": False}

    def tensorflow(x, y, w):
        import tensorflow as tf

        parts = (x, y, w) if w is not None else (x, y) if y is not None else (x,)
        if y is None and w is not None:
            return {"x": list(split(x, y, w))}  # a tf.data set cannot hold a None
        return {"x": tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)}

    return {
        "arrays": arrays,
        "tf.data": tensorflow,
        "PyDataset": lambda *parts: {"x": Own(list(split(*parts)))},
        "list": lambda *parts: {"x": list(split(*parts))},
        "iterable": lambda *parts: {"x": Readable(list(split(*parts)))},
        "generator": lambda *parts: {"x": split(*parts), "steps_per_epoch": ROWS // BATCH},
    }


DATASETS = datasets()


def build(form, reduction):
    keras.utils.set_random_seed(2)
    if form == "encoder_decoder":
        model = rnnzoo.encoder_decoder(
            source_features=FEATURES, target_vocabulary=CLASSES, units=2, cell="simple_rnn"
        )
    else:
        model = getattr(rnnzoo, form)(
            features=FEATURES, units=2, outputs=CLASSES, cell="simple_rnn"
        )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    model.compile(
        keras.optimizers.SGD(0.0),
        loss,
        metrics=["accuracy"],
        weighted_metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="nats")
        ],
    )
    core = model.core_of_outputs
    core.get_layer("output_layer").bias.assign(
        np.linspace(-0.3, 0.4, core.output["outputs"].shape[-1])
    )
    return model


def data(form, padded, weights):
    """x, y, weights as given, and for NumPy: targets, their weights, where they are real."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, STEPS, FEATURES)).astype("float32")
    lengths = rng.integers(3, STEPS + 1, ROWS) if padded else np.full(ROWS, STEPS)
    per_row = {"rows": 0, "column": 1}
    given = None
    if weights in per_row:
        given = rng.uniform(0.5, 2, ROWS).astype("float32")
        given = given[:, None] if weights == "column" else given
    if form == "many_to_one":
        y = rng.integers(0, CLASSES, ROWS)
        if weights == "steps":
            return None
        full = np.ones(ROWS) if given is None else given.reshape(ROWS)
        return {"inputs": x, "lengths": lengths}, y, given, y, full, np.ones(ROWS, bool)
    if form == "one_to_one":
        y = rng.integers(0, CLASSES, (ROWS, STEPS))
        real = np.ones((ROWS, STEPS), bool)
        if padded:  # told by weights of 0, and not a number where they are
            if weights != "steps":
                return None
            given = rng.uniform(0.5, 2, (ROWS, STEPS)).astype("float32")
            given[np.arange(STEPS) >= lengths[:, None]] = 0
            x[given == 0] = np.nan
        elif weights == "steps":
            given = rng.uniform(0.5, 2, (ROWS, STEPS)).astype("float32")
        full = (
            np.ones(real.shape)
            if given is None
            else np.broadcast_to(given.reshape(ROWS, -1), real.shape)
        )
        return {"inputs": x}, y, given, y, full, real
    target = rng.integers(0, CLASSES, (ROWS, STEPS - 1))
    counted = np.minimum(lengths, STEPS - 1)
    if weights == "steps":
        given = rng.uniform(0.5, 2, (ROWS, STEPS)).astype("float32")
    full = (
        np.ones((ROWS, STEPS))
        if given is None
        else np.broadcast_to(given.reshape(ROWS, -1), (ROWS, STEPS))
    )
    ended = np.concatenate([target, np.zeros((ROWS, 1), int)], axis=1)
    ended[np.arange(STEPS) >= counted[:, None]] = CLASSES + 1
    pair = {"source": x, "source_lengths": lengths, "target": target, "target_lengths": counted}
    return pair, None, given, ended, full, np.arange(STEPS) <= counted[:, None]


def truth(outputs, y, weight, real, reduction, weighted):
    """Loss, accuracy and weighted nats as NumPy says them."""
    logits = outputs.astype("float64")
    logs = logits - logits.max(-1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(-1, keepdims=True))
    nats = -np.take_along_axis(logs, y[..., None], -1)[..., 0]
    nats = np.where(real & (weight > 0), nats, 0)
    right = (logits.argmax(-1) == y)[real & np.isfinite(logits).all(-1)].mean()
    divisor = real.sum()
    if reduction == "mean_with_sample_weight" and weighted:
        divisor = (weight * real).sum()
    mean = (nats * weight * real).sum() / (weight * real).sum()
    return {"loss": (nats * weight).sum() / divisor, "accuracy": right, "nats": mean}


COUNTED = []


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_fit_evaluate_and_numpy_agree(form, reduction):
    model = build(form, reduction)
    for padded, weights, window in itertools.product((False, True), WEIGHTS, WINDOWS):
        made = data(form, padded, weights)
        if made is None:
            continue
        x, y, given, targets, full, real = made
        clean = {k: np.nan_to_num(v) if v.dtype.kind == "f" else v for k, v in x.items()}
        outputs = model.predict(clean, batch_size=BATCH, verbose=0)
        expected = truth(outputs, targets, full, real, reduction, given is not None)
        callbacks = [] if window is None else [rnnzoo.TruncatedBPTT(window)]
        # Accuracy that is not weighted counts padding of weight 0 too, whatever stands there.
        names = [n for n in expected if not (padded and form == "one_to_one" and n == "accuracy")]
        for name, form_of in DATASETS.items():
            # Every data form with one reduction; what differs beside it is not seen by the feed.
            if name != "arrays" and (window == 20 or reduction != REDUCTIONS[padded]):
                continue
            if name in ("tf.data", "iterable") and weights == "column":
                continue  # as lists, which are read alike
            options = form_of(x, y, given)
            history = model.fit(**options, verbose=0, callbacks=callbacks).history
            for key in names:
                np.testing.assert_allclose(
                    history[key], [expected[key]], rtol=2e-5, err_msg=f"{name} {weights} {window}"
                )
            COUNTED.append((form, reduction, padded, weights, window, name))
        if window is None:
            told = model.evaluate(
                x, y, batch_size=4, sample_weight=given, verbose=0, return_dict=True
            )
            for key in names:
                np.testing.assert_allclose(told[key], expected[key], rtol=2e-5)


def test_these_were_enough_combinations():
    assert len(set(COUNTED)) >= 200


@pytest.mark.usefixtures("xla")
@pytest.mark.parametrize("form", FORMS)
def test_all_by_xla(form):
    """Two epochs, a batch that is shorter, windows that overlap, validation."""
    model = build(form, "sum_over_batch_size")
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")  # of logits
    x, y, given, targets, full, real = data(form, False, "rows")
    outputs = model.predict(x, verbose=0)
    expected = truth(outputs, targets, full, real, "sum_over_batch_size", True)["loss"]
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        sample_weight=given,
        verbose=0,
        validation_data=(x, y, given),
        callbacks=[rnnzoo.TruncatedBPTT(4, 3)],
    ).history
    np.testing.assert_allclose(history["loss"], [expected] * 2, rtol=2e-5)
    np.testing.assert_allclose(history["val_loss"], [expected] * 2, rtol=2e-5)


def test_rows_of_weight_0_may_hold_no_numbers():
    """Whatever weighs nothing, inputs, values per sequence or targets, of several outputs too."""
    rng = np.random.default_rng(3)
    model = rnnzoo.many_to_one(features=2, static={"s": 1}, units=2, outputs={"a": 1, "b": 1})
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = {"inputs": rng.normal(size=(4, 5, 2)), "s": rng.normal(size=(4, 1))}
    y = {name: rng.normal(size=(4, 1)) for name in "ab"}
    weight = {"a": np.array([1, 0, 1, 2.0]), "b": np.array([1, 0, 0, 3.0])}
    begun, found = model.get_weights(), []
    for nothing in (0.0, np.nan):
        x["inputs"][1], x["s"][1] = nothing, nothing
        for name in "ab":
            y[name][weight[name] == 0] = nothing
        model.set_weights(begun)
        told = model.train_on_batch(x, y, weight)
        found.append([told, *model.get_weights()])
    for wanted, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


class MyLoss(keras.losses.MeanSquaredError):
    """A user's, which computes as that of Keras."""


class MyMetric(keras.metrics.MeanAbsoluteError):
    """Likewise."""


@pytest.mark.parametrize("window", [None, 4])
def test_targets_of_one_number_may_lack_their_axis(window):
    """With as many rows as steps, so that weights of steps taken for those of rows would fit."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 6, FEATURES)).astype("float32")
    y = rng.normal(size=(6, 6)).astype("float32")
    steps, lengths = rng.uniform(0.5, 2, (6, 6)), np.array([6, 2, 5, 3, 1, 4])
    model = rnnzoo.one_to_one(features=FEATURES, units=2, outputs=1)
    loss = "mse" if window is None else MyLoss()
    mae = "mae" if window is None else MyMetric(name="mae")
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=[mae], weighted_metrics=["mse"])
    error = model.predict(x, verbose=0)[..., 0] - y
    real = np.arange(6) < lengths[:, None]
    callbacks = [] if window is None else [rnnzoo.TruncatedBPTT(window)]
    for target, given in ((y, steps), (y[..., None], steps), (y, steps[0]), (y, steps[:, :1])):
        weight = np.broadcast_to(given if given.ndim == 2 else given[:, None], (6, 6))
        expected = {
            "loss": (error**2 * weight)[real].mean(),
            "mae": np.abs(error)[real].mean(),
            "mse": np.average(error[real] ** 2, weights=weight[real]),
        }
        options = {"sample_weight": given, "verbose": 0, "callbacks": callbacks}
        told = model.fit({"inputs": x, "lengths": lengths}, target, **options).history
        for name, value in expected.items():
            np.testing.assert_allclose(told[name], [value], rtol=2e-5, err_msg=name)


@pytest.mark.parametrize("window", [None, 4])
def test_class_weights_are_those_of_steps(window):
    """Also with as many rows as steps."""
    model, x = build("one_to_one", "sum_over_batch_size"), data("one_to_one", False, "none")[0]
    x, given = x["inputs"][:, :ROWS], {0: 3.0, 1: 0.5}
    y = np.random.default_rng(5).integers(0, CLASSES, (ROWS, ROWS))
    full = np.vectorize({2: 1.0, **given}.get)(y)
    real = np.ones(y.shape, bool)
    expected = truth(model.predict(x, verbose=0), y, full, real, "sum_over_batch_size", True)
    callbacks = [] if window is None else [rnnzoo.TruncatedBPTT(window)]
    options = {"class_weight": given, "batch_size": ROWS, "verbose": 0, "callbacks": callbacks}
    found = model.fit(x, y, **options).history
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value], rtol=2e-5, err_msg=name)


@pytest.mark.parametrize("padded", [False, True])
def test_windows_without_weight_make_no_update(padded):
    """Neither weights nor the count of iterations move; the state does."""
    model = rnnzoo.one_to_one(features=FEATURES, units=2, outputs=1)
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.2), "mse")
    x = np.random.default_rng(0).normal(size=(2, 12, FEATURES)).astype("float32")
    weight = np.zeros((2, 12), "float32")
    before = model.core.get_weights()
    options = {"verbose": 0, "callbacks": [rnnzoo.TruncatedBPTT(4)]}
    if padded:
        model.fit({"inputs": x, "lengths": np.array([3, 4])}, x[..., :1], **options)
        assert int(model.optimizer.iterations) == 1
        return
    options["sample_weight"] = weight
    model.fit(x, x[..., :1], **options)
    assert int(model.optimizer.iterations) == 0
    for got, was in zip(model.core.get_weights(), before):
        np.testing.assert_array_equal(got, was)
    weight[:, 5] = 1  # one window of three
    model.fit(x, x[..., :1], **options)
    assert int(model.optimizer.iterations) == 1
    assert all(np.isfinite(ops.convert_to_numpy(w)).all() for w in model.trainable_weights)
