"""Perplexity and bits per symbol against their formula, whatever the batches."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from rnnzoo.metrics import BitsPerSymbol, Perplexity, SequenceAccuracy, edit_distance


def nats(logits, targets):
    """Negative log-likelihood of each target, in float64."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -np.take_along_axis(logs, targets[..., None], -1)[..., 0]


def drawn(rows, steps, classes=5, seed=0):
    random = np.random.default_rng([seed, rows, steps])
    logits = random.normal(size=(rows, steps, classes)).astype("float32") * 3
    targets = random.integers(0, classes, (rows, steps), "int32")
    weight = random.choice([0.0, 0.5, 1.0, 2.0], (rows, steps)).astype("float32")
    weight[0, 0] = 1.0
    return logits, targets, weight


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.booleans(), st.sets(st.integers(1, 5)))
def test_any_cutting_gives_the_formula(seed, weighted, cuts):
    logits, targets, weight = drawn(3, 6, seed=seed)
    if not weighted:
        weight = np.ones_like(weight)
    mean = np.sum(nats(logits, targets) * weight) / weight.sum()
    edges = [0, *sorted(cuts), 6]
    perplexity, bits = Perplexity(), BitsPerSymbol()
    for metric in (perplexity, bits):
        for low, high in zip(edges, edges[1:]):
            given = weight[:, low:high] if weighted else None
            metric.update_state(targets[:, low:high], logits[:, low:high], given)
    assert float(perplexity.result()) == pytest.approx(np.exp(mean), rel=2e-6)
    assert float(bits.result()) == pytest.approx(mean / np.log(2), rel=2e-6)


def test_probabilities_give_what_logits_give():
    logits, targets, weight = drawn(3, 7)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    a, b = Perplexity(), Perplexity(from_logits=False)
    a.update_state(targets, logits, weight)
    b.update_state(targets, probabilities, weight)
    assert float(a.result()) == pytest.approx(float(b.result()), rel=1e-5)
    b.reset_state()
    b.update_state(np.array([1]), np.array([[1.0, 0.0]]))
    assert np.isfinite(float(b.result())) and float(b.result()) > 1e37


def test_uniform_guess_is_the_number_of_classes():
    metric = Perplexity()
    metric.update_state(np.zeros((2, 3), int), np.zeros((2, 3, 7)))
    assert float(metric.result()) == pytest.approx(7, rel=1e-6)


@pytest.mark.parametrize(
    "shape", [(3,), (3, 1), (3, 7), (3, 7, 1), (1, 7)], ids=lambda shape: str(shape)
)
def test_shapes_of_weights_and_targets(shape):
    logits, targets, _ = drawn(3, 7)
    weight = np.random.default_rng(1).uniform(0.1, 2, shape).astype("float32")
    full = weight[:, None] if shape == (3,) else weight.reshape(shape[:2])
    full = np.broadcast_to(full, (3, 7))
    mean = np.sum(nats(logits, targets) * full) / full.sum()
    for labels in (targets, targets[..., None], targets.astype("float32")):
        metric = BitsPerSymbol()
        metric.update_state(labels, logits, weight)
        assert float(metric.result()) == pytest.approx(mean / np.log(2), rel=1e-5)


def test_one_target_per_row():
    logits, targets, _ = drawn(6, 1)
    for labels in (targets[:, 0], targets):
        metric = Perplexity()
        metric.update_state(labels, logits[:, 0], np.arange(6))
        mean = np.average(nats(logits, targets)[:, 0], weights=np.arange(6))
        assert float(metric.result()) == pytest.approx(np.exp(mean), rel=1e-5)


def test_ignored_class_masked_and_weightless_steps_do_not_count():
    logits, targets, _ = drawn(2, 6)
    mean = nats(logits, targets)[:, :4].mean()
    spoilt = logits.copy()
    spoilt[:, 4:] = np.nan
    ignored = targets.copy()
    ignored[:, 4:] = -1
    mask = np.arange(6) < np.array([[4], [4]])

    metric = Perplexity(ignore_class=-1)
    metric.update_state(ignored, spoilt)
    assert float(metric.result()) == pytest.approx(np.exp(mean), rel=1e-5)
    metric = Perplexity()
    metric.update_state(targets, spoilt, mask)
    assert float(metric.result()) == pytest.approx(np.exp(mean), rel=1e-5)

    inputs = keras.Input((6, 5))
    masked = keras.layers.Masking(mask_value=9.0)(inputs)
    seen = logits.copy()
    seen[:, 4:] = 9.0
    model = keras.Model(inputs, masked)
    metric = Perplexity()
    metric.update_state(targets, model(seen))
    assert float(metric.result()) == pytest.approx(np.exp(mean), rel=1e-5)


@pytest.mark.parametrize("wrong", [-1, 5, 1.5, np.nan])
def test_a_target_that_is_no_class_is_not_counted_as_one(wrong):
    logits, targets, _ = drawn(2, 3)
    spoilt = np.where(np.arange(3) == 2, wrong, targets)
    metric = Perplexity()
    metric.update_state(spoilt, logits, [1, 1, 0] * np.ones((2, 1)))
    assert float(metric.result()) == pytest.approx(np.exp(nats(logits, targets)[:, :2].mean()))
    metric.update_state(spoilt, logits)
    assert np.isnan(float(metric.result()))
    accuracy = SequenceAccuracy()
    accuracy.update_state(spoilt, np.eye(5)[np.where(np.arange(3) == 2, 1, targets)])
    assert float(accuracy.result()) == 0


def test_before_any_step():
    assert float(Perplexity().result()) == 1 and float(BitsPerSymbol().result()) == 0
    metric = BitsPerSymbol()
    metric.update_state(np.zeros(3, int), np.ones((3, 4)), np.zeros(3))
    assert float(metric.result()) == 0
    metric.update_state(np.zeros(3, int), np.zeros((3, 4)))
    assert float(metric.result()) == 2
    metric.reset_state()
    assert float(metric.result()) == 0


def compiled(metric):
    """One update as a compiled function of the metric's variables."""

    def update(variables, labels, logits):
        return metric.stateless_update_state(variables, labels, logits)

    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(update)
    import tensorflow as tf

    return tf.function(update, jit_compile=True)


def test_small_updates_are_not_lost_in_a_large_sum():
    metric = BitsPerSymbol()
    start = 2.0**24
    # In plain float32, 2**24 + 1 is 2**24.
    variables = [ops.convert_to_tensor(v, "float32") for v in (start, 0.0, start, 0.0)]
    update = compiled(metric)
    logits = np.array([[0.0, 0.0]], "float32")
    for _ in range(300):
        variables = update(variables, np.array([0]), logits)
    nats_sum, nats_error, weight, weight_error = (float(v) for v in variables)
    assert weight - weight_error == start + 300
    assert nats_sum - nats_error - start == pytest.approx(300 * np.log(2), abs=2)


@pytest.mark.parametrize("jit", [True, False])
def test_in_evaluate_it_does_not_depend_on_the_batch_size(jit):
    logits, targets, weight = drawn(12, 4)
    expected = np.sum(nats(logits, targets) * weight) / weight.sum()
    inputs = keras.Input((4, 5))
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, weighted_metrics=[Perplexity(), BitsPerSymbol()], jit_compile=jit)
    for size in (5, 12):
        logs = model.evaluate(
            logits, targets, sample_weight=weight, batch_size=size, verbose=0, return_dict=True
        )
        assert logs["perplexity"] == pytest.approx(np.exp(expected), rel=1e-5)
        assert logs["bits_per_symbol"] == pytest.approx(expected / np.log(2), rel=1e-5)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_predictions_are_summed_in_float32(half):
    logits, targets, _ = drawn(8, 100)
    coarse = ops.cast(logits, half)
    metric = Perplexity(dtype=keras.DTypePolicy(f"mixed_{half}"))
    assert {str(v.dtype) for v in metric.variables} == {"float32"}
    for _ in range(20):
        metric.update_state(targets, coarse)
    exact = nats(ops.convert_to_numpy(ops.cast(coarse, "float32")), targets).mean()
    assert float(metric.result()) == pytest.approx(np.exp(exact), rel=1e-5)


@pytest.mark.parametrize("kind", [Perplexity, BitsPerSymbol])
def test_serialization(kind):
    metric = kind(name="p", from_logits=False, ignore_class=3)
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is kind and again.get_config() == metric.get_config()
    assert (again.name, again.from_logits, again.ignore_class) == ("p", False, 3)
    assert keras.saving.get_registered_name(kind) == f"rnnzoo>{kind.__name__}"


def test_callbacks_know_that_less_is_better():
    x, y = np.eye(4, dtype="float32"), np.arange(4, dtype="int32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=[Perplexity()])
    stop = keras.callbacks.EarlyStopping(monitor="perplexity")
    model.fit(x, y, verbose=0, callbacks=[stop])
    assert stop.monitor_op(1.0, 2.0)


def updated(y_true=((0, 1, 2), (1, 1, 1)), y_pred=np.zeros((2, 3, 5)), sample_weight=None):
    return SequenceAccuracy().update_state(y_true, y_pred, sample_weight)


def test_a_last_axis_of_one_is_allowed_in_both():
    y_true, y_pred = np.array([[[0], [1]], [[2], [2]]]), np.eye(3)[[[0, 1], [2, 0]]]
    metric = SequenceAccuracy()
    metric.update_state(y_true, y_pred)
    assert float(metric.result()) == 0.5


BAD = [
    (lambda: Perplexity(from_logits="yes"), "True or False; received from_logits='yes'"),
    (
        lambda: Perplexity(ignore_class=1.5),
        "ignore_class must be an integer of .* received ignore_class=1.5",
    ),
    (
        lambda: Perplexity().update_state(np.zeros((2, 4), int), np.zeros((2, 3, 5))),
        r"of shape \(2, 3\) for y_pred of shape \(2, 3, 5\); received shape \(2, 4\)",
    ),
    (
        lambda: Perplexity().update_state(np.zeros((2, 3, 5), int), np.zeros((2, 3, 5))),
        r"received shape \(2, 3, 5\)",
    ),
    (
        lambda: BitsPerSymbol().update_state(
            np.zeros((2, 3), int), np.zeros((2, 3, 5)), np.zeros((2, 4))
        ),
        r"shape of the targets, \(2, 3\), .* received shape \(2, 4\)",
    ),
    (
        lambda: BitsPerSymbol().update_state(np.zeros(2, int), np.zeros((2, 5)), np.zeros((2, 3))),
        r"shape of the targets, \(2,\), .* received shape \(2, 3\)",
    ),
    (lambda: Perplexity(name=1.5), "name must be None or a str.*; received name=1.5"),
    (lambda: SequenceAccuracy(name=["a"]), "name must be None or a str"),
    (lambda: updated(y_pred=0), r"y_true of integers, of shape \(\) for y_pred of shape \(\)"),
    (lambda: updated(y_pred=["a"] * 2), "y_pred must hold real numbers"),
    (lambda: updated(y_true="ab"), "y_true must hold numbers; received the text 'ab'"),
    (lambda: updated(y_true=np.array([["a"] * 3] * 2)), "y_true must hold real numbers"),
    (lambda: updated(sample_weight=-1), "sample_weight must hold finite numbers of at least 0"),
    (lambda: updated(sample_weight=[1.0, np.nan]), "sample_weight must hold finite numbers"),
    (lambda: updated(sample_weight=np.ones((2, 3), complex)), "sample_weight must hold finite"),
    (lambda: updated(sample_weight=ops.ones((2, 3), "complex64")), "received dtype complex64"),
    (lambda: updated(np.zeros((2, 3, 4)), np.zeros((2, 3, 4, 5))), r"shape \(batch, time\); rece"),
    (lambda: edit_distance(3, "abc"), "first must be a str, a list.*; received first=3"),
    (lambda: edit_distance("abc", {1, 2}), "second must be a str, a list"),
    (lambda: edit_distance("abc", [np.zeros(2)]), "second must be a sequence of items that"),
]


@pytest.mark.parametrize("call, message", BAD, ids=range(len(BAD)))
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
