"""Encoder-decoders to numbers whose head knows how sure it is: paths, scaling, export, refusals."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax

import rnnzoo
from rnnzoo import heads
from tests.pairs import randomize

ROWS, PAST, AHEAD = 3, 6, 4
rng = np.random.default_rng(0)
PAST_OF = {
    "load": rng.normal(5.0, 1.0, (ROWS, PAST, 2)).astype("float32"),
    "wind": rng.normal(size=(ROWS, PAST, 1)).astype("float32"),
    "store": np.arange(ROWS),
    "source_lengths": np.array([6, 3, 5]),
}
KNOWN = {"day": rng.integers(0, 4, (ROWS, AHEAD))}
TARGET = {
    "target": rng.normal(5.0, 1.0, (ROWS, AHEAD, 2)).astype("float32"),
    "target_lengths": np.array([3, 4, 2]),
}
GIVEN = PAST_OF | KNOWN


def build(**options):
    model = rnnzoo.encoder_decoder(
        **{
            "inputs": {"load": 2, "wind": 1},
            "static": {"store": rnnzoo.Tokens(3, embedding=2)},
            "target_inputs": {"day": rnnzoo.Tokens(4)},
            "units": 4,
            "attention": "dot",
            "outputs": heads.Normal(2),
            "scaling": {"load": rnnzoo.Scaling("change", lag=2)},
            **options,
        }
    )
    randomize(model)
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def by_steps(model, batch, count):
    """Means by calls of the decoder, one step at a time, after one of the encoder."""
    encoded = model.encode({k: ops.convert_to_tensor(v) for k, v in batch.items()})
    state = {key: encoded[key] for key in model.spec.states}
    still = {key: encoded[key] for key in model.constants}
    fed, found = np.zeros((ROWS, 1, 2), "float32"), []
    for i in range(count):
        given = {"inputs": fed, "day": batch["day"][:, i : i + 1], **still, **state}
        outputs = model.decoder({k: ops.convert_to_tensor(v) for k, v in given.items()})
        state = {key: outputs[key] for key in state}
        fed = ops.convert_to_numpy(model.head.mean(outputs["outputs"]))
        found.append(fed[:, 0])
    return np.stack(found, axis=1)


def test_means_equal_a_decoder_stepped_by_hand(model):
    found = model.generate(GIVEN)
    close(found.mean, by_steps(model, model.reader.standard(GIVEN), AHEAD), 1e-4)
    assert found.samples is None and found.state is None
    # Fed as the true target, they are said again.
    said = model.predict(GIVEN | {"target": found.mean}, verbose=0)
    np.testing.assert_allclose(said, found.parameters, rtol=1e-4, atol=1e-4)


def test_paths_of_a_head_that_is_sure_are_the_means(model, monkeypatch):
    sure = build()
    kernel, bias = sure.decoder.get_layer("output_layer").get_weights()
    kernel[:, 2:], bias[2:] = 0.0, -30.0  # softplus: 1e-13, raised to 1e-10
    sure.decoder.get_layer("output_layer").set_weights([kernel, bias])
    calls, encode = [], type(sure).encode

    def counted(self, batch, training=False):
        calls.append(batch["source_mask"].shape[0])
        return encode(self, batch, training)

    monkeypatch.setattr(type(sure), "encode", counted)
    found = sure.generate(GIVEN, samples=5, seed=1)
    assert calls == [4]  # rows, filled up: encoded once for all paths
    monkeypatch.undo()
    assert found.samples.shape == (ROWS, 5, AHEAD, 2)
    mean = sure.generate(GIVEN).mean
    np.testing.assert_allclose(found.samples, np.repeat(mean[:, None], 5, 1), rtol=1e-5)


def natural(model, parameters):
    return {k: ops.convert_to_numpy(v) for k, v in model.head.natural(parameters).items()}


def test_samples_are_drawn_from_what_the_head_says_of_the_path(model):
    found = model.generate(GIVEN, samples=2000, seed=3)
    first = natural(model, model.generate(GIVEN).parameters[:, 0])
    z = (found.samples[:, :, 0] - first["mean"][:, None]) / first["scale"][:, None]
    # Of 2,000 draws: four standard errors.
    assert np.abs(z.mean(axis=1)).max() < 4 / np.sqrt(2000)
    assert np.abs(z.std(axis=1) - 1).max() < 4 / np.sqrt(4000)
    close(found.quantile([0.1, 0.9])[..., 1], np.quantile(found.samples, 0.9, axis=1))
    # The steps after it know their own path: fed as the truth it has all of the draws within reach.
    for path in range(2):
        said = model.predict(GIVEN | {"target": found.samples[:, path]}, verbose=0)
        own = natural(model, said)
        assert np.abs((found.samples[:, path] - own["mean"]) / own["scale"]).max() < 5
    alone = model.generate(GIVEN, samples=3, seed=3, batch_size=2)
    again = model.generate({k: v[:1] for k, v in GIVEN.items()}, samples=3, seed=3)
    close(alone.samples[:1], again.samples, 1e-4)
    close(alone.samples, model.generate(GIVEN, samples=3, seed=3).samples, 1e-4)
    other = model.generate(GIVEN, samples=3, seed=4)
    assert (np.abs(other.samples - alone.samples) > 1e-7).all()


def test_training_evaluating_and_windows_tell_one_loss(model, tmp_path):
    """With a learning rate of 0; against the density of each real step, in other units too."""
    x = GIVEN | TARGET
    raw = model.predict(x, verbose=0)
    real = np.arange(AHEAD) < TARGET["target_lengths"][:, None]
    wanted = -ops.convert_to_numpy(model.head.log_prob(raw, TARGET["target"]))[real].mean()
    model.compile(keras.optimizers.SGD(0.0))
    close(np.float32(model.evaluate(x, verbose=0)), wanted, 1e-5)
    windows = rnnzoo.TruncatedBPTT(3, 2)
    told = model.fit(x, verbose=0, callbacks=[windows]).history["loss"][0]
    close(np.float32(told), wanted, 1e-5)
    fed = rnnzoo.ScheduledSampling(1.0, validation=1.0)
    told = model.fit(x, verbose=0, callbacks=[fed]).history["loss"][0]
    own = model.generate(GIVEN)
    wanted = -ops.convert_to_numpy(model.head.log_prob(own.parameters, TARGET["target"]))[real]
    close(np.float32(told), wanted.mean(), 1e-4)
    # Where a step has weight 0 its target may be no number, also as what the next step is fed.
    gone = np.where(real[..., None], TARGET["target"], np.nan)
    given = GIVEN | {"target": gone, "source_lengths": GIVEN["source_lengths"].tolist()}
    model.fit(given, sample_weight=real.astype("float32"), verbose=0)
    # Nor need anything be one in a row of weight 0.
    gone = {name: np.array(GIVEN[name]) for name in ("load", "wind")}
    gone["load"][1] = gone["wind"][1, 0] = np.nan
    weight = np.array([1.0, 0.0, 1.0])
    told = model.fit(x | gone, sample_weight=weight, verbose=0).history["loss"][0]
    close(np.float32(told), model.evaluate(x, sample_weight=weight, verbose=0), 1e-5)
    large = GIVEN | {"load": 1000 * GIVEN["load"]}
    np.testing.assert_allclose(model.generate(large).mean, 1000 * own.mean, rtol=1e-3)
    model.save(tmp_path / "model.keras")
    close(rnnzoo.load_model(tmp_path / "model.keras").generate(GIVEN).mean, own.mean)


@pytest.mark.skipif(on_jax(), reason="a second process with TensorFlow writes the same export")
def test_an_export_samples_as_the_model_does(model, tmp_path):
    served = rnnzoo.load_served(model.export(tmp_path / "1"))
    given = GIVEN | {"steps": np.array([AHEAD, 2, AHEAD])}
    wanted = model.generate(GIVEN, samples=7, seed=5).samples
    found = served.call("sample", **given, samples=np.full(3, 7), seed=np.array([5, 5, 6]))
    close(found["samples"][0], wanted[0], 1e-4)
    assert not found["samples"][1, :, 2:].any()
    close(found["outputs_mean"], found["samples"].mean(axis=1), 1e-4)
    levels = np.quantile(found["samples"], model.head.levels, axis=1)
    close(found["outputs_quantiles"], np.moveaxis(levels, 0, -1), 1e-4)
    second = {k: v[1:2, :2] if k == "day" else v[1:2] for k, v in GIVEN.items()}
    close(found["samples"][1:2, :, :2], model.generate(second, samples=7, seed=5).samples, 1e-4)
    close(served.call("generate", **given)["outputs"][0], model.generate(GIVEN).mean[0], 1e-4)
    said = served.call("serving_default", **GIVEN, **TARGET)
    close(said["outputs_mean"], ops.convert_to_numpy(model.head.mean(said["outputs"])), 1e-5)


@pytest.mark.parametrize("history", [None, 4])
def test_a_backtest_reads_the_source_before_each_origin(model, history):
    lengths = (14, 12, 14)
    series = [
        {
            "load": rng.normal(5.0, 1.0, (n, 2)).astype("float32"),
            "wind": rng.normal(size=(n, 1)).astype("float32"),
            "day": np.arange(n) % 4,
            "store": i,
        }
        for i, n in enumerate(lengths)
    ]
    options = {"horizon": AHEAD, "windows": 2, "stride": 3, "samples": 5, "seed": 2}
    found = rnnzoo.backtest(model, series, history=history, **options)
    for k in range(2):
        origins = [n - AHEAD - 3 * (1 - k) for n in lengths]
        past = [
            s["load"][0 if history is None else o - history : o] for s, o in zip(series, origins)
        ]
        wind = [
            s["wind"][0 if history is None else o - history : o] for s, o in zip(series, origins)
        ]
        day = np.stack([s["day"][o : o + AHEAD] for s, o in zip(series, origins)])
        x = {"load": past, "wind": wind, "store": np.arange(3), "day": day}
        wanted = model.generate(x, samples=5, seed=2 + k)
        close(found.forecasts[k].samples, wanted.samples, 1e-4)
        truth = [s["load"][o : o + AHEAD] for s, o in zip(series, origins)]
        np.testing.assert_array_equal(found.truth[:, k], truth)
    assert found.metrics["coverage"] == found.by_series["coverage"].mean()
    with pytest.raises(ValueError, match="and the 9 of history, so at least 16; received 12"):
        rnnzoo.backtest(model, series, history=9, **options)
    with pytest.raises(ValueError, match=r"feed must name .*\['load'\]; received feed='wind'"):
        rnnzoo.backtest(model, series, feed="wind", **options)


def test_plain_numbers_and_medians():
    plain = build(
        outputs=None, target_features=2, scaling="mean", input_feeding=True, inputs={"load": 2}
    )
    given = {k: v for k, v in GIVEN.items() if k != "wind"}
    written = plain.generate(given)
    close(plain.predict(given | {"target": written}, verbose=0), written, 1e-4)
    with pytest.raises(ValueError, match="samples need a head that draws them"):
        plain.generate(given, samples=3)
    median = build(outputs=heads.Quantiles([0.1, 0.5, 0.9], 2), scaling=None)
    found = median.generate(GIVEN)
    close(found.mean, found.quantile(0.5))


BAD_MODELS = {
    "a class": ({"outputs": heads.Normal}, "outputs must be None or a head of numbers"),
    "of classes": ({"outputs": heads.Logits(2)}, "outputs must be None or a head of numbers"),
    "of sequences": ({"outputs": heads.CRF(2)}, "outputs must be None or a head of numbers"),
    "another size": ({"target_features": 1}, "of 2 numbers, target_features=1"),
    "of tokens": ({"target_vocabulary": 3}, "target_vocabulary=3"),
    "an activation": ({"activation": "relu"}, "a head has its own"),
    "units of another size": (
        {"scaling": {"wind": "mean"}},
        "in the units of 'wind', so it must have its 1 numbers",
    ),
    "a name that is none": ({"scaling": {"store": "mean"}}, "scaling must be one of"),
    "counts that are shifted": (
        {"outputs": heads.NegativeBinomial(2), "scaling": {"load": "standard"}},
        "'standard' scaling can be undone",
    ),
    "both directions": ({"bidirectional": True}, "not bidirectional"),
    "scaled tokens": (
        {"outputs": None, "target_vocabulary": 3},
        "scaling is for real-valued targets",
    ),
    "a name of the scale": (
        {"static": {"load_count": 1}},
        r"no state of the model has.*\['load_count'\]",
    ),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_models_that_cannot_be(case):
    options, message = BAD_MODELS[case]
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_what_cannot_be_given(model):
    for options, message in (
        ({"samples": 0}, "samples must be an integer of at least 1"),
        ({"seed": 1}, "seed is for samples=n"),
        ({"samples": 2, "sampler": rnnzoo.decoding.Beam(2)}, "no sampler"),
        ({"min_length": 1}, "min_length is for models on tokens"),
        ({"forbidden": [1]}, "forbidden is for models on tokens"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(GIVEN, **options)
    counts = build(outputs=heads.NegativeBinomial(2), scaling=None)
    counts.compile("adam")
    with pytest.raises(ValueError, match=r"targets of NegativeBinomial.*received -1.0 at \(0, 1"):
        counts.fit(
            GIVEN | {"target": np.array([[[0, 1], [2, -1]]] * 3), "day": KNOWN["day"][:, :2]}
        )
    model.compile("adam")
    with pytest.raises(ValueError, match="loss of Keras compare targets with values"):
        model.compile("adam", "mse")
    tokens = rnnzoo.encoder_decoder(source_vocabulary=3, target_vocabulary=3, units=2)
    with pytest.raises(ValueError, match="backtest must be called on a model on numbers"):
        rnnzoo.backtest(tokens, [[1, 2]], 1)
    for name in ("samples", "seed"):
        with pytest.raises(ValueError, match=f"{name} is for models on numbers"):
            tokens.generate([[1]], max_length=2, **{name: 2})
