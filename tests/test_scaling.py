"""Scaling by series: measured as NumPy does, undone by every head, cut = whole, in any units."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax

import rnnzoo
from rnnzoo import heads
from rnnzoo.core import scaling
from rnnzoo.core.scaling import MomentsCell

ROWS, STEPS = 3, 7


def series(rows=ROWS, steps=STEPS, size=1):
    x = np.random.default_rng(0).normal(3.0, 1.0, size=(rows, steps, size))
    return (x * np.array([1.0, 100.0, 0.01])[:rows, None, None]).astype("float32")


def made(how, outputs, **options):
    keras.utils.set_random_seed(1)
    return rnnzoo.one_to_one(
        **{"features": 1, "units": 4, "outputs": outputs, "scaling": how, **options}
    )


def stepped(model, x, resets=()):
    """The outputs of steps one by one, afresh at `resets`."""
    state, parts = model.initial_state(len(x)), []
    for t in range(x.shape[1]):
        flags = np.full((len(x), 1), t in resets)
        y, state = model.step(x[:, t : t + 1], state, flags)
        parts.append(ops.convert_to_numpy(y))
    return np.concatenate(parts, axis=1)


SCALINGS = [
    rnnzoo.Scaling("mean"),
    rnnzoo.Scaling("standard"),
    rnnzoo.Scaling("change", lag=2),
]


@pytest.fixture(scope="module", params=SCALINGS, ids=repr)
def normal(request):
    return made(request.param, heads.Normal())


def measured(past, kind):
    """The shift and scale `(rows, numbers)` of outputs after the values `past`."""
    size = np.abs(past).mean(axis=1)
    if kind == "standard":
        return past.mean(axis=1), np.maximum(past.std(axis=1), 1e-3 * size)
    if kind == "change":
        changes = np.abs(past[:, 2:] - past[:, :-2])
        shift = past[:, max(past.shape[1] - 2, 0)]
        return shift, changes.mean(axis=1) if changes.size else np.abs(shift)
    return np.zeros_like(size), size


def test_an_untrained_model_of_zeros_says_what_was_measured(normal):
    kind = normal.core.get_layer("inputs_measured").cell.kind
    layer, x = normal.core.get_layer("output_layer"), series()
    weights = layer.get_weights()
    layer.set_weights([np.zeros_like(w) for w in weights])
    natural = normal.heads["outputs"].natural(normal.predict(x, verbose=0))
    layer.set_weights(weights)
    for t in range(STEPS):
        mean, scale = measured(x[:, : t + 1].astype("float64"), kind)
        np.testing.assert_allclose(natural["mean"][:, t], mean, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(natural["scale"][:, t], scale * np.log(2), rtol=2e-4)


@pytest.mark.parametrize("how", SCALINGS, ids=repr)
def test_a_decoder_of_zeros_says_what_was_measured_of_source_and_target(how):
    """It begins with no value, and padding of a source is none."""
    x, lengths = series(), np.array([4, 4, 2])
    model = rnnzoo.encoder_decoder(
        source_features=1, outputs=heads.Normal(), units=4, scaling={"source": how}
    )
    layer = model.decoder.get_layer("output_layer")
    layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    pair = {"source": x[:, :4], "source_lengths": lengths, "target": x[:, 4:]}
    natural = model.heads["outputs"].natural(model.predict(pair, verbose=0))
    for t in range(STEPS - 4):
        for i, n in enumerate(lengths):
            past = np.concatenate([x[i, :n], x[i, 4 : 4 + t]])[None].astype("float64")
            mean, scale = measured(past, how.kind)
            np.testing.assert_allclose(natural["mean"][i, t], mean[0], rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(natural["scale"][i, t], scale[0] * np.log(2), rtol=2e-4)


@pytest.mark.parametrize("kind", ["mean", "standard", "change"])
def test_numbers_of_a_step_share_a_scale(kind):
    cell = MomentsCell(2, kind, shared=True)
    x = series(size=2)
    states = [np.zeros((ROWS, n), "float32") for n in cell.state_size]
    for t in range(STEPS):
        moments, states = cell(x[:, t], states)
    found = scaling.measured(kind, moments, 2).scale
    flat = (np.diff(x, axis=1) if kind == "change" else x).reshape(ROWS, -1)
    wanted = flat.std(axis=1) if kind == "standard" else np.abs(flat).mean(axis=1)
    close(found, np.stack([wanted, wanted], axis=1), 1e-4)


def test_cut_equals_whole_also_after_a_reset(normal):
    x = series()
    whole = normal.predict(x, verbose=0)
    np.testing.assert_allclose(stepped(normal, x), whole, rtol=1e-5)
    again = stepped(normal, x, resets=[3])
    np.testing.assert_allclose(again[:, :3], whole[:, :3], rtol=1e-5)
    np.testing.assert_allclose(again[:, 3:], normal.predict(x[:, 3:], verbose=0), rtol=1e-5)


@pytest.mark.parametrize(
    "head",
    [
        heads.Normal(2),
        heads.StudentT(2),
        heads.Mixture(3),
        heads.Mixture(3, 2),
        heads.Quantiles([0.1, 0.5, 0.9], 2),
        heads.Linear(2),
    ],
    ids=repr,
)
def test_parameters_in_units_are_those_of_a_changed_target(head):
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(5, head.parameters)).astype("float32")
    size = head.outputs
    shift = rng.normal(size=(5, size)).astype("float32")
    scale = np.exp(rng.normal(0.0, 3.0, size=(5, size))).astype("float32")
    changed = head.in_units(raw, shift, scale)
    if head.says("mean"):
        close(head.mean(changed), scale * ops.convert_to_numpy(head.mean(raw)) + shift, 1e-4)
    if head.says("quantile"):
        wanted = scale[..., None] * ops.convert_to_numpy(head.quantile(raw, [0.1, 0.9]))
        wanted = wanted + shift[..., None]
        np.testing.assert_allclose(head.quantile(changed, [0.1, 0.9]), wanted, rtol=1e-4, atol=1e-4)
    if head.says("log_prob"):
        z = rng.normal(size=(5, size)).astype("float32")
        wanted = ops.convert_to_numpy(head.log_prob(raw, z)) - np.log(scale).sum(axis=-1)
        np.testing.assert_allclose(head.log_prob(changed, scale * z + shift), wanted, atol=2e-3)


def test_counts_are_as_in_deepar():
    head = heads.NegativeBinomial()
    raw = np.array([[0.3, -0.2]], "float32")
    moved = head.in_units(raw, None, np.full((1, 1), 16.0, "float32"))
    before, after = head.natural(raw), head.natural(moved)
    close(after["mean"], 16.0 * before["mean"], 1e-5)
    close(after["dispersion"], before["dispersion"] / 4.0, 1e-5)
    with pytest.raises(ValueError, match="cannot be shifted"):
        head.in_units(raw, np.ones((1, 1)), np.ones((1, 1)))


@pytest.mark.parametrize("how", SCALINGS[::2], ids=repr)
def test_other_units_change_nothing_but_units(how):
    model = made({"load": how, "before": "load"}, heads.StudentT(), features=None,
                 inputs={"load": 1, "before": 1, "hour": rnnzoo.Tokens(3)})  # fmt: skip
    x = {"load": series(), "before": series() + 0.1, "hour": np.arange(21).reshape(3, 7) % 3}
    large = x | {name: 1000 * x[name] for name in ("load", "before")}
    found = [model.heads["outputs"].natural(model.predict(one, verbose=0)) for one in (x, large)]
    for name in ("location", "scale"):
        np.testing.assert_allclose(1000 * found[0][name], found[1][name], rtol=1e-3, atol=1e-3)


def test_a_scaled_model_trains_in_windows_and_is_saved(tmp_path):
    model = made("mean", heads.Normal())
    model.compile(keras.optimizers.Adam(0.05))
    x, y = series(steps=12), series(steps=13)[:, 1:]
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(4)]).history
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "max"}, "scaling must be one of"),
        ({"how": {"load": "mean"}}, "'load'"),
        ({"how": {}}, "scaling must be"),
        ({"outputs": heads.Logits(3)}, "Logits"),
        ({"outputs": heads.Normal(2)}, "1 numbers"),
        ({"outputs": heads.NegativeBinomial(), "how": "standard"}, "'standard'"),
        ({"outputs": {"a": 1, "b": 2}}, "'b', 2"),
        ({"bidirectional": True}, "not bidirectional"),
        ({"features": None, "vocabulary": 5, "outputs": 1}, "scaling must be"),
    ],
)
def test_what_cannot_be_scaled_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        made(**{"how": "mean", "outputs": 1, **options})


def test_a_lag_is_for_changes():
    with pytest.raises(ValueError, match="lag is for kind='change'"):
        rnnzoo.Scaling("mean", lag=2)


def test_a_stock_model_says_the_same():
    normal, x = made(SCALINGS[2], heads.Normal()), series()
    close(normal.to_keras().predict(x, verbose=0), normal.predict(x, verbose=0), 1e-5)


@pytest.mark.skipif(on_jax(), reason="an export is a TensorFlow graph on both, and takes a while")
def test_an_export_goes_on_in_the_units_of_the_series(tmp_path):
    model, x = made(SCALINGS[2], heads.Normal()), series()
    served = rnnzoo.load_served(model.export(tmp_path / "1"))
    state = {k: np.asarray(v) for k, v in model.initial_state(ROWS).items()}
    parts = []
    for part in np.split(x, [3, 4], axis=1):
        reset = np.zeros(part.shape[:2], bool)
        found = served.call("step", inputs=part, reset=reset, **state)
        state = {k: found[f"{k}_out"] for k in state}
        parts.append(found["outputs"])
    close(np.concatenate(parts, axis=1), model.predict(x, verbose=0), 1e-5)
