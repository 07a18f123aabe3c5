"""Numbers generated: means, paths, known inputs; a forecaster that goes on; backtests."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax

import rnnzoo
from rnnzoo import Tokens, heads, metrics

ROWS, STEPS, HORIZON = 3, 9, 5


@pytest.fixture(scope="module")
def plain():
    keras.utils.set_random_seed(1)
    return rnnzoo.one_to_one(features=2, units=4, outputs=heads.Normal(2), scaling="mean")


@pytest.fixture(scope="module")
def rich():
    """A model that reads an hour beside its load, and an id for each series."""
    keras.utils.set_random_seed(2)
    return rnnzoo.one_to_one(
        inputs={"load": 1, "hour": Tokens(4), "wind": 1},
        static={"store": Tokens(3)},
        units=4,
        outputs=heads.StudentT(),
        scaling={"load": rnnzoo.Scaling("change", lag=2)},
    )


def numbers(rows=ROWS, steps=STEPS, size=2):
    return np.random.default_rng(0).normal(5.0, 1.0, (rows, steps, size)).astype("float32")


def inputs(steps=STEPS, known=STEPS + HORIZON):
    """A prompt of `steps`, and what is known of the steps after it up to `known`."""
    load, wind = numbers(steps=known, size=1), numbers(steps=known, size=2)[..., 1:]
    hour = np.tile(np.arange(known) % 4, (ROWS, 1))
    prompt = {"load": load[:, :steps], "hour": hour[:, :steps], "wind": wind[:, :steps]}
    return {**prompt, "store": np.arange(3)}, {"hour": hour[:, steps:], "wind": wind[:, steps:]}


def by_steps(model, prompt, future, count, name):
    """Means by calls of `model.step`."""
    still = {key: v for key, v in prompt.items() if np.ndim(v) == 1}
    head, found = model.heads["outputs"], []
    y, state = model.step(prompt, model.initial_state(ROWS))
    for i in range(count):
        found.append(ops.convert_to_numpy(head.mean(y[:, -1])))
        fed = {name: found[-1][:, None], **{k: v[:, i : i + 1] for k, v in future.items()}}
        if i + 1 < count:
            y, state = model.step({**fed, **still}, state)
    return np.stack(found, axis=1)


def test_means_equal_a_loop_over_step(plain, rich):
    x = numbers()
    found = plain.generate(x, max_length=HORIZON)
    close(found.mean, by_steps(plain, {"inputs": x}, {}, HORIZON, "inputs"), 1e-4)
    assert found.samples is None and found.quantile(0.9).shape == (ROWS, HORIZON, 2)
    prompt, future = inputs()
    for known in (future, {k: v[:, :-1] for k, v in future.items()}):
        found = rich.generate(prompt, max_length=HORIZON, feed="load", future=known)
        close(found.mean, by_steps(rich, prompt, future, HORIZON, "load"), 1e-4)


def test_samples_are_drawn_from_what_the_head_says(plain):
    x = numbers()
    found = plain.generate(x, max_length=2, samples=4000, seed=3)
    assert found.samples.shape == (ROWS, 4000, 2, 2) and found.parameters is None
    head, (y, _) = plain.heads["outputs"], plain.step(x, plain.initial_state(ROWS))
    said = {k: ops.convert_to_numpy(v) for k, v in head.natural(y[:, -1]).items()}
    first = (found.samples[:, :, 0] - said["mean"][:, None]) / said["scale"][:, None]
    # Of 4,000 draws: four standard errors.
    assert np.abs(first.mean(axis=1)).max() < 4 / np.sqrt(4000)
    assert np.abs(first.std(axis=1) - 1).max() < 4 / np.sqrt(8000)
    assert np.abs(np.corrcoef(first[0].T)[0, 1]) < 4 / np.sqrt(4000)
    close(found.mean, found.samples.mean(axis=1))
    wanted = np.quantile(found.samples, [0.1, 0.9], axis=1)
    close(found.quantile([0.1, 0.9]), np.moveaxis(wanted, 0, -1))
    # The second step knows its own first: it follows the path, which the mean does not.
    again = np.concatenate([x[:1].repeat(2, axis=0), found.samples[0, :2, :1]], axis=1)
    y, _ = plain.step(again, plain.initial_state(2))
    second = (found.samples[0, :2, 1] - ops.convert_to_numpy(head.mean(y[:, -1]))) / (
        ops.convert_to_numpy(head.natural(y[:, -1])["scale"])
    )
    assert np.abs(second).max() < 5


def test_a_path_depends_on_seed_and_row_alone(plain):
    x = numbers()
    three = plain.generate(x, max_length=3, samples=4, seed=5)
    again = plain.generate(x[:2] + [[[0.0]], [[1.0]]], max_length=3, samples=4, seed=5)
    np.testing.assert_allclose(three.samples[0], again.samples[0], rtol=1e-5)
    other = plain.generate(x, max_length=3, samples=4, seed=6)
    assert (np.abs(three.samples - other.samples) > 1e-6).all()
    same = plain.generate(x[:1].repeat(2, axis=0), max_length=3, samples=4, seed=5)
    assert (np.abs(same.samples[0] - same.samples[1]) > 1e-6).all()


def test_rows_of_different_length_equal_each_alone(rich):
    prompt, future = inputs()
    lengths = np.array([9, 4, 6])
    ragged = rich.generate(
        {**prompt, "lengths": lengths}, max_length=3, feed="load", future={
            k: v[:, :2] for k, v in future.items()
        }
    )  # fmt: skip
    alone = {k: v[[1], :4] if v.ndim > 1 else v[[1]] for k, v in prompt.items()}
    known = {k: v[[1], :2] for k, v in future.items()}
    close(rich.generate(alone, 3, feed="load", future=known).mean[0], ragged.mean[1], 1e-4)
    whole = rich.generate(prompt, 3, feed="load", future={k: v[:, :2] for k, v in future.items()})
    close(whole.mean[0], ragged.mean[0], 1e-4)


def test_going_on_from_the_state(plain, rich):
    x = numbers()
    first = plain.generate(x[:, :4], max_length=2)
    close(plain.generate(state=first.state, max_length=2).mean, first.mean, 1e-6)
    later = plain.generate(x[:, 4:], max_length=2, state=first.state)
    close(later.mean, plain.generate(x, max_length=2).mean, 1e-4)
    prompt, future = inputs()
    one = {k: v[:, :1] for k, v in future.items()}  # which is not fed
    first = rich.generate(prompt, max_length=1, feed="load", future=one)
    options = {"max_length": 3, "feed": "load", "future": {k: v[:, :2] for k, v in future.items()}}
    again = rich.generate(state=first.state, **options)
    close(again.mean[:, :1], first.mean, 1e-6)
    stored = {k: np.asarray(ops.convert_to_numpy(v)) for k, v in first.state.items()}
    wide = {k: v.astype("float64") if v.dtype == "float32" else v for k, v in stored.items()}
    close(rich.generate(state=wide, **options).mean, again.mean, 1e-6)
    for changed, said in (
        ({"h_0": stored["h_0"][:2]}, r"state 'h_0' must be an array of shape .* \(3, 4\)"),
        ({"h_1": stored["h_0"]}, "state must be a dict with the names"),
        ({"next step": stored["h_0"]}, r"state\['next step'\] must be \(batch, 3\)"),
        ({"store": [[0]] * 3}, "store"),
    ):
        with pytest.raises(ValueError, match=said):
            rich.generate(state=stored | changed, **options)
    del stored["store"]
    with pytest.raises(ValueError, match=r"state must have the inputs per sequence, \['store'\]"):
        rich.generate(state=stored, **options)


def test_lengths_share_what_is_compiled(plain):
    plain.generators.clear()
    for length in (5, 6, 7, 8):
        plain.generate(numbers(), max_length=length, samples=2, seed=length)
    assert len(plain.generators) == 1


def test_a_median_is_fed_where_there_is_no_mean():
    model = rnnzoo.one_to_one(features=1, units=3, outputs=heads.Quantiles([0.1, 0.5, 0.9]))
    found = model.generate(numbers(size=1), max_length=3)
    close(found.mean, found.quantile(0.5))
    with pytest.raises(ValueError, match="samples need a head that draws them"):
        model.generate(numbers(size=1), max_length=3, samples=5)


def test_a_thousand_steps_one_by_one_are_the_whole(plain):
    x = numbers(ROWS, 1000)
    one, whole = plain.forecaster(), plain.forecaster()
    for t in range(1000):
        one.observe(x[:, t : t + 1])
    whole.observe(x)
    found, wanted = (f.forecast(HORIZON, samples=2, seed=1) for f in (one, whole))
    np.testing.assert_allclose(found.samples, wanted.samples, rtol=1e-5, atol=1e-5)
    for name, value in whole.state.items():
        np.testing.assert_allclose(one.state[name], value, rtol=1e-5, atol=1e-5)


def test_a_forecaster_goes_on(rich):
    prompt, future = inputs()
    forecaster = rich.forecaster({"store": prompt.pop("store")}, feed="load")
    forecaster.observe({k: v[:, :6] for k, v in prompt.items()})
    before = forecaster.state
    forecaster.forecast(2, samples=2, future={k: v[:, :1] for k, v in future.items()})
    for name, value in forecaster.state.items():
        np.testing.assert_array_equal(value, before[name])
    forecaster.observe({k: v[:, 6:] for k, v in prompt.items()})
    found = forecaster.forecast(HORIZON, future=future)
    whole = {**prompt, "store": np.arange(3)}
    wanted = rich.generate(whole, max_length=HORIZON, feed="load", future=future)
    close(found.mean, wanted.mean, 1e-5)
    forecaster.reset([1])
    with pytest.raises(ValueError, match=r"none of rows \[1\]"):
        forecaster.forecast(1)
    forecaster.observe(prompt)
    close(forecaster.forecast(1).mean[1], rich.generate(whole, 1, feed="load").mean[1], 1e-5)


def test_metrics_equal_numpy():
    rng = np.random.default_rng(3)
    y, f, history = rng.normal(size=(2, 6)), rng.normal(size=(2, 6)), rng.normal(size=(2, 30))
    samples = rng.normal(size=(2, 7, 6))
    for row in range(2):
        smape = np.mean([200 * abs(a - b) / (abs(a) + abs(b)) for a, b in zip(y[row], f[row])])
        np.testing.assert_allclose(metrics.smape(y, f)[row], smape)
        scale = np.mean([abs(history[row, t] - history[row, t - 4]) for t in range(4, 30)])
        mase = np.mean(np.abs(y[row] - f[row])) / scale
        np.testing.assert_allclose(metrics.mase(y, f, history, 4)[row], mase)
        scores = [
            np.mean([abs(a - y[row, t]) for a in samples[row, :, t]])
            - np.mean([abs(a - b) for a in samples[row, :, t] for b in samples[row, :, t]]) / 2
            for t in range(6)
        ]
        np.testing.assert_allclose(metrics.crps(y, samples)[row], np.mean(scores))
        inside = np.mean([a - 0.5 <= b <= a + 0.5 for a, b in zip(f[row], y[row])])
        np.testing.assert_allclose(metrics.coverage(y, f - 0.5, f + 0.5)[row], inside)
    assert np.isnan(metrics.mase(y, f, np.ones((2, 30)))).all()
    for call, message in (
        (lambda: metrics.mase(y, f, np.ones((3, 30))), r"history must be \(time,\), or .*\(2,\)"),
        (lambda: metrics.smape([], []), "of at least one step"),
        (lambda: metrics.crps(np.ones(3), np.ones((0, 3))), "at least one, for a truth"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_backtest_is_what_a_loop_of_forecasts_gives(rich):
    whole, _ = inputs(steps=20, known=20)
    series = [
        {k: v[i, :n] if v.ndim > 1 else v[i] for k, v in whole.items()}
        for i, n in enumerate((20, 18, 20))
    ]
    options = {"horizon": 4, "stride": 3, "windows": 2, "season": 2, "feed": "load"}
    found = rnnzoo.backtest(rich, series, samples=50, seed=1, **options)
    for i, one in enumerate(series):
        one = {k: np.asarray(v)[None] for k, v in one.items()}
        for k in range(2):
            origin = one["load"].shape[1] - 4 - 3 * (1 - k)
            prompt = {name: v[:, :origin] if v.ndim > 1 else v for name, v in one.items()}
            known = {name: one[name][:, origin : origin + 3] for name in ("hour", "wind")}
            point = rich.generate(prompt, 4, feed="load", future=known, samples=50, seed=1 + k)
            if i == 0:  # the number of a row is part of its draws
                close(point.samples[0], found.forecasts[k].samples[0], 1e-4)
            y = one["load"][0, origin : origin + 4, 0]
            np.testing.assert_array_equal(found.truth[i, k, :, 0], y)
            drawn = found.forecasts[k].samples[i, :, :, 0]
            low, median, high = np.quantile(drawn, [0.1, 0.5, 0.9], axis=0)
            history = one["load"][0, :origin, 0]
            wanted = {
                "MASE": metrics.mase(y, median, history, 2),
                "sMAPE": metrics.smape(y, median),
                "CRPS": metrics.crps(y, drawn),
                "coverage": metrics.coverage(y, low, high),
            }
            for name, value in wanted.items():
                close(found.by_series[name][i, k], value, 1e-5)
    for name, value in found.by_series.items():
        assert found.metrics[name] == pytest.approx(value.mean())


REFUSED = [
    ({"samples": 0}, "samples must be an integer of at least 1"),
    ({"max_length": None}, "max_length must be an integer"),
    ({"seed": 3}, "seed is for samples=n"),
    ({"samples": 2, "sampler": rnnzoo.decoding.Beam(2)}, "sampler is for models on tokens"),
    ({"end": 0}, "end is for models on tokens"),
    ({"min_length": 2}, "min_length is for models on tokens"),
    ({"forbidden": [1]}, "forbidden is for models on tokens"),
    ({"feed": "outputs"}, "feed must name the input"),
    ({"future": {"hour": np.zeros((3, 4))}}, r"future must be a dict with .*, \[\]"),
    ({"prompt": np.zeros((3, 0, 2))}, "at least one step"),
    ({"prompt": np.zeros((3, 4, 1))}, "inputs"),
    ({"prompt": None}, "prompt must be given"),
    (
        {"prompt": {"inputs": np.zeros((3, 4, 2)), "reset": np.zeros((3, 4), bool)}},
        r"no \['reset'\]",
    ),
    ({"prompt": {"inputs": np.zeros((3, 4, 2)), "lengths": [1, 0, 2]}}, "at least one step"),
    (
        {"prompt": {"inputs": np.zeros((1, 2, 2)), "mask": [[False, True]]}},
        "True up to",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_generated_is_refused(plain, options, message):
    with pytest.raises(ValueError, match=message):
        plain.generate(**{"prompt": numbers(), "max_length": 3, **options})


def test_known_inputs_are_checked(rich):
    prompt, future = inputs()
    for known, message in (
        (None, "future must be a dict with the inputs per step that are known"),
        ({"hour": future["hour"]}, "received"),
        ({**future, "load": future["wind"]}, "future must be a dict"),
        ({**future, "hour": future["hour"][:, :3]}, "4 steps, those at which a forecast is fed"),
        ({**future, "hour": future["hour"] + 4}, "hour"),
    ):
        with pytest.raises(ValueError, match=message):
            rich.generate(prompt, max_length=HORIZON, feed="load", future=known)
    with pytest.raises(ValueError, match=r"feed must name .*\['load', 'wind'\]"):
        rich.generate(prompt, max_length=HORIZON, future=future)
    with pytest.raises(ValueError, match=r"static must be a dict with .*\['store'\]"):
        rich.forecaster(feed="load")


def test_what_a_model_cannot_say_is_refused():
    numbers_only = rnnzoo.one_to_one(features=1, units=3, outputs=1)
    x = numbers(size=1)
    with pytest.raises(ValueError, match="quantiles need a head"):
        numbers_only.generate(x, max_length=2).quantile(0.9)
    with pytest.raises(ValueError, match="samples need a head"):
        numbers_only.generate(x, max_length=2, samples=3)
    ends = rnnzoo.one_to_one(features=1, units=3, outputs=heads.Quantiles([0.1, 0.9]))
    with pytest.raises(ValueError, match="forecaster feeds a mean or median"):
        ends.forecaster()
    tokens = rnnzoo.one_to_one(vocabulary=4, units=3)
    with pytest.raises(ValueError, match="samples is for models on numbers"):
        tokens.generate([[1]], max_length=2, samples=3, sampler=rnnzoo.decoding.Beam(2))
    with pytest.raises(ValueError, match="forecaster must be called on"):
        tokens.forecaster()
    with pytest.raises(ValueError, match="generate must be called on"):
        rnnzoo.many_to_one(features=1, units=3, outputs=1).generate(x, max_length=2)
    forecaster = numbers_only.forecaster()
    with pytest.raises(ValueError, match="received no steps"):
        forecaster.forecast(2)
    forecaster.observe(x)
    with pytest.raises(ValueError, match="must have the rows of the first, 3"):
        forecaster.observe(x[:2])
    with pytest.raises(ValueError, match="horizon must be an integer"):
        forecaster.forecast(0)


def test_backtests_that_cannot_be_are_refused(plain):
    x = list(numbers())
    for options, message in (
        ({"horizon": 9}, "every series must have more than 1 steps"),
        ({"horizon": 3, "windows": 4}, "at least 14; received 9"),
        ({"horizon": 2, "level": 1.0}, "level must be in"),
        ({"horizon": 2, "level": 0.8, "samples": None}, "level is for samples=n"),
        ({"horizon": 2, "seed": 1, "samples": None}, "seed is for samples=n"),
        ({"horizon": 2, "series": []}, "at least one series"),
        ({"horizon": 2, "series": [x[0][:, :1]]}, "shape"),
        ({"horizon": 2, "series": [{"load": x[0]}]}, "a dict with the inputs"),
        ({"horizon": 2, "season": 0}, "season must be"),
        ({"horizon": 2, "history": 3}, "history is for encoder-decoders"),
        ({"horizon": 2, "samples": None, "seed": 3}, "seed is for samples=n; received seed=3"),
        ({"horizon": 2, "seed": 2**31}, "seed must be an integer from 0 to 2147483647"),
    ):
        with pytest.raises(ValueError, match=message):
            rnnzoo.backtest(plain, **{"series": x, **options})


@pytest.mark.skipif(on_jax(), reason="a second process with TensorFlow writes the same export")
def test_an_export_goes_on_as_the_model_does(rich, tmp_path):
    """Rows of different length, cut in two by their states; each is the first of its own call."""
    prompt, future = inputs()
    served = rnnzoo.load_served(rich.export(tmp_path / "1", feed="load"))
    lengths, settings = np.array([6, 4, 5]), {"samples": np.full(3, 6), "seed": np.array([7, 8, 8])}
    known = {f"future_{name}": values for name, values in future.items()}
    fresh = {name: np.asarray(value) for name, value in rich.initial_state(ROWS).items()}
    first = {k: v[:, :6] if v.ndim > 1 else v for k, v in prompt.items()}
    steps = {"steps": np.array([HORIZON, 2, HORIZON]), **known}
    found = served.call("sample", **first, lengths=lengths, **fresh, **steps, **settings)
    parts = {k: v[:, 6:] if v.ndim > 1 else v for k, v in prompt.items()}
    state = {name: found[f"{name}_out"] for name in fresh}
    later = served.call("generate", **parts, lengths=np.full(3, 3), **state, **steps)
    none = steps | {"steps": np.zeros(3, int)}
    none = served.call("generate", **parts, lengths=np.full(3, 3), **state, **none)
    assert none["outputs"].shape == (3, 0, 1)
    for i, count in enumerate(steps["steps"]):
        row = {k: v[i : i + 1, : lengths[i]] if v.ndim > 1 else v[[i]] for k, v in prompt.items()}
        ahead = {k: v[i : i + 1, :count] for k, v in future.items()}
        options = {"max_length": int(count), "feed": "load", "future": ahead}
        wanted = rich.generate(row, samples=6, seed=int(settings["seed"][i]), **options)
        close(found["samples"][i, :, :count], wanted.samples[0], 1e-4)
        close(found["outputs_mean"][i, :count], wanted.mean[0], 1e-4)
        assert not found["samples"][i, :, count:].any()
        row = {k: v[i : i + 1, 6:] if v.ndim > 1 else v[[i]] for k, v in prompt.items()}
        wanted = rich.generate(row, state=wanted.state, **options)
        close(later["outputs"][i, :count], wanted.mean[0], 1e-4)


def test_what_an_export_feeds_is_named(rich, plain, tmp_path):
    with pytest.raises(ValueError, match=r"feed must name .*\['load', 'wind'\]"):
        rich.export(tmp_path / "1", feed="hour")
    with pytest.raises(ValueError, match="format='onnx', which holds no loop over steps"):
        plain.export(tmp_path / "1", "onnx", feed="inputs")
    with pytest.raises(ValueError, match="beam is for the signature beam .* form 'one_to_one'"):
        plain.export(tmp_path / "1", beam=rnnzoo.decoding.Beam(3))
    tokens = rnnzoo.one_to_one(vocabulary=4, units=3)
    with pytest.raises(ValueError, match="forecaster must be called on .* model whose one output"):
        tokens.forecaster()
    with pytest.raises(ValueError, match="export with feed must be called on"):
        tokens.export(tmp_path / "1", feed="inputs")
