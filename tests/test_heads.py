"""Heads of numbers and classes against SciPy: densities, gradients, quantiles, samples, losses."""

import heads_reference as reference
import keras
import numpy as np
import pytest
from heads_reference import compiled, unsoftplus, value_and_gradient
from keras import ops
from scipy import special, stats

from rnnzoo import heads
from rnnzoo.heads import normal


def classes_reference(raw, y):
    return np.take_along_axis(special.log_softmax(raw, -1), y[:, None].astype(int), -1)[:, 0]


def numbers(random, size):
    return random.normal(size=(40, size)) * 3


def counts(random, size):
    return random.integers(0, 30, (40, size))


def binary(random, size):
    return random.integers(0, 2, (40, size))


# name: head, log-density by SciPy, targets
CASES = {
    "normal": (heads.Normal(2), reference.normal, numbers),
    "student": (heads.StudentT(2), reference.student_t, numbers),
    "counts": (heads.NegativeBinomial(2), reference.negative_binomial, counts),
    "bernoulli": (heads.Bernoulli(2), reference.bernoulli, binary),
    "mixture": (heads.Mixture(3), lambda raw, y: reference.mixture(raw, y, 3), numbers),
    "sketch": (heads.Mixture(3, 2), lambda raw, y: reference.mixture(raw, y, 3), numbers),
    "logits": (heads.Logits(5), classes_reference, lambda r, _: r.integers(0, 5, 40)),
}
GRADIENTS = {name: value_and_gradient(head.log_prob) for name, (head, *_) in CASES.items()}
SAMPLED = {name: head for name, (head, *_) in CASES.items()}


def raw_parameters(head, rows=40, spread=2.0, seed=3):
    random = np.random.default_rng([seed, head.parameters])
    return (random.normal(size=(rows, head.parameters)) * spread).astype("float32")


@pytest.mark.parametrize("name", CASES)
def test_log_prob_and_its_gradient_are_those_of_scipy(name):
    head, log_density, targets = CASES[name]
    raw = raw_parameters(head)
    y = targets(np.random.default_rng(5), head.outputs).astype("float32")
    found, gradient = GRADIENTS[name](raw, y)
    exact, raw, y = (np.asarray(x, "float64") for x in (log_density(raw, y), raw, y))
    np.testing.assert_allclose(found, log_density(raw, y), rtol=1e-5, atol=1e-5)
    numerical = reference.numerical_gradient(log_density, raw, y)
    scale = np.maximum(1.0, np.abs(numerical).max(-1, keepdims=True))
    np.testing.assert_allclose(gradient / scale, numerical / scale, atol=2e-5)


# Natural parameters and a target at the edge of what float32 can do.
EXTREME = {
    "normal": [
        ((0.0, 1e-8), 0.0), ((0.0, 1e-8), 3e-8), ((0.0, 1e-8), 1.0), ((1e6, 1e6), -1e6),
        ((0.0, 1e8), 1.0),
    ],
    "student": [
        ((0.0, 1e-8, 2.0), 0.0), ((0.0, 1e-8, 3.0), 1.0), ((0.0, 1.0, 1 + 1e-6), 1e6),
        ((0.0, 1.0, 1e6), 2.0), ((0.0, 1.0, 1e8), 2.0), ((1e6, 1e6, 5.0), -1e6),
        ((0.0, 1.0, 2.0), 1e30), ((0.0, 1.0, 5.0), -3e4),
    ],
    "counts": [
        ((1e6, 1e-8), 1e6), ((1e6, 1e-8), 998_000), ((1e6, 1.0), 1e6), ((1e6, 1e-3), 1_100_000),
        ((1e6, 1e3), 0), ((1e-8, 1.0), 0), ((1e-8, 1e-7), 1), ((1e-6, 1e6), 1e6), ((1.0, 1e-8), 3),
        ((1e6, 1.0), 1),
    ],
}  # fmt: skip


def at_extremes(name):
    head = type(CASES[name][0])()
    natural = np.array([values for values, _ in EXTREME[name]])
    raw = natural.copy()
    for i, symbol in enumerate(head.raw_names):
        if symbol not in ("mean", "location") or name == "counts":
            least = {"degrees": 1.0, "dispersion": 0.0}.get(symbol, 0.0)
            raw[:, i] = unsoftplus(natural[:, i] - least)
    targets = np.array([[target] for _, target in EXTREME[name]])
    return head, raw.astype("float32"), targets.astype("float32")


@pytest.mark.parametrize("name", EXTREME)
def test_extremes_are_exact_and_their_gradients_finite(name):
    head, raw, y = at_extremes(name)
    found, gradient = value_and_gradient(head.log_prob)(raw, y)
    exact = CASES[name][1](raw.astype("float64"), y.astype("float64"))
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-4)
    assert np.all(np.isfinite(gradient))
    assert np.all(np.abs(gradient).max(-1) < 1e30)


@pytest.mark.parametrize("name", CASES)
def test_raw_parameters_far_out_have_finite_losses_and_gradients(name):
    head, _, targets = CASES[name]
    raw = np.sign(raw_parameters(head)) * 1e3
    y = targets(np.random.default_rng(5), head.outputs).astype("float32")
    found, gradient = GRADIENTS[name](raw.astype("float32"), y)
    assert np.all(np.isfinite(found)) and np.all(np.isfinite(gradient))


LEVELS = [1e-4, 0.1, 0.25, 0.5, 0.77, 0.9, 0.9999]


def test_quantiles_of_student_t_are_those_of_scipy():
    degrees = np.array([1, 1.3, 2, 2.5, 3, 5, 8, 15, 30, 60, 100, 1e4, 1e7], "float32")[:, None]
    levels = np.array([1e-6, *LEVELS, 1 - 1e-6])
    found = compiled(lambda degrees: normal.student_quantiles(degrees, levels))(degrees)
    exact = stats.t.ppf(levels, degrees.astype("float64"))
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


def distribution(name, raw, i):
    """SciPy's distribution of the first number of row `i`."""
    raw = raw.astype("float64")[i]
    if name == "normal":
        return stats.norm(raw[0], reference.softplus(raw[2]))
    if name == "student":
        return stats.t(1 + reference.softplus(raw[4]), raw[0], reference.softplus(raw[2]))
    if name == "bernoulli":
        return stats.bernoulli(special.expit(raw[0]))
    size = 1 / reference.softplus(raw[2])
    return stats.nbinom(size, size / (size + reference.softplus(raw[0])))


@pytest.mark.parametrize("name", ["normal", "student", "bernoulli", "counts"])
def test_quantiles_are_those_of_scipy(name):
    head = CASES[name][0]
    raw = raw_parameters(head, rows=12)
    found = compiled(lambda raw: head.quantile(raw, LEVELS))(raw)
    assert found.shape == (12, 2, len(LEVELS))
    for i in range(12):
        exact = distribution(name, raw, i).ppf(LEVELS)
        np.testing.assert_allclose(found[i, 0], exact, rtol=2e-5, atol=1e-5)


def test_quantiles_of_large_counts_have_the_right_probability():
    head = heads.NegativeBinomial()
    natural = np.array([[1e6, 1.0], [1e6, 1e-8], [3e4, 0.01], [5.0, 20.0]])
    raw = unsoftplus(natural).astype("float32")
    found = compiled(lambda raw: head.quantile(raw, LEVELS))(raw)[:, 0]
    for (mean, dispersion), quantiles in zip(natural, found):
        size = 1 / (dispersion + 1e-8)
        exact = stats.nbinom(size, size / (size + mean))
        tolerance = exact.std() * 1e-4
        np.testing.assert_allclose(quantiles, exact.ppf(LEVELS), rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("size", [1, 2])
def test_quantiles_of_a_mixture_are_where_its_distribution_function_is(size):
    head = heads.Mixture(3, size)
    raw = raw_parameters(head, rows=12)
    found = compiled(lambda raw: head.quantile(raw, LEVELS))(raw)
    rows = raw.astype("float64").reshape(12, -1, 3)
    weight = special.softmax(rows[:, 0], -1)[:, None, None]
    mean, scale = rows[:, 1 : 1 + size, None], reference.softplus(rows[:, 1 + size : 1 + 2 * size])
    parts = weight * stats.norm.cdf((found[..., None] - mean) / scale[:, :, None])
    np.testing.assert_allclose(parts.sum(-1), np.broadcast_to(LEVELS, parts.shape[:-1]), rtol=3e-5)


def test_one_level_is_that_of_a_list_of_it():
    head = heads.Normal(2)
    raw = raw_parameters(head, 3)
    one, many = head.quantile(raw, 0.9), head.quantile(raw, [0.9])
    assert one.shape == (3, 2) and many.shape == (3, 2, 1)
    np.testing.assert_array_equal(one, many[..., 0])


def shown(drawn, head):
    """What `mean` is the mean of."""
    return np.eye(head.classes)[drawn] if isinstance(head, heads.Logits) else drawn


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_have_the_right_mean_and_spread(name):
    head, rows = SAMPLED[name], 3
    raw = raw_parameters(head, rows, spread=1.0)
    if name == "student":
        raw[:, -2:] = 5.0  # the fourth moment is finite
    many = np.repeat(raw[:, None], 20_000, 1)
    drawn = compiled(lambda raw: head.sample(raw, seed=4))(many)
    values = shown(drawn, head).astype("float64")
    error = values.std(1) / np.sqrt(values.shape[1])
    mean = np.asarray(head.mean(raw))
    assert np.all(np.abs(values.mean(1) - mean) < 4 * error + 1e-6), (values.mean(1), mean)
    if name in ("normal", "student", "counts"):
        exact = np.array([distribution(name, raw, i).var() for i in range(rows)])
        fourth = ((values - values.mean(1, keepdims=True)) ** 4).mean(1)[:, 0]
        error = np.sqrt((fourth - exact**2) / values.shape[1])
        assert np.all(np.abs(values.var(1)[:, 0] - exact) < 4 * error)


@pytest.mark.parametrize("name", ["normal", "student", "mixture"])
def test_samples_follow_the_distribution_function(name):
    """Kolmogorov's and Smirnov's distance between draws and quantiles."""
    head = type(SAMPLED[name])(*((3,) if name == "mixture" else ()))
    raw = raw_parameters(head, 1, spread=1.0)
    drawn = np.sort(np.ravel(compiled(lambda x: head.sample(x, 9))(np.repeat(raw, 20_000, 0))))
    levels = np.arange(1, 100) / 100
    quantiles = np.asarray(head.quantile(raw, list(levels)))[0, 0]
    below = np.searchsorted(drawn, quantiles) / len(drawn)
    assert np.abs(below - levels).max() < 1.63 / np.sqrt(len(drawn))  # 1 % by chance


def test_the_two_numbers_of_a_sketch_go_together_as_said():
    head = heads.Mixture(1, 2)
    raw = np.array([[0.0, 1.0, -2.0, 0.5, 1.0, -0.8]], "float32")
    drawn = compiled(lambda x: head.sample(x, 2))(np.repeat(raw, 20_000, 0))
    correlation = 0.999 * np.tanh(-0.8)
    error = (1 - correlation**2) / np.sqrt(len(drawn))
    assert abs(np.corrcoef(drawn.T)[0, 1] - correlation) < 4 * error


@pytest.mark.parametrize("name", ["student", "counts", "logits"])
def test_an_int_seed_repeats_and_a_generator_goes_on(name):
    head = SAMPLED[name]
    raw = raw_parameters(head, 50)
    generator = keras.random.SeedGenerator(1)
    one, two, other = (np.asarray(head.sample(raw, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.any(one != other)
    assert np.any(
        np.asarray(head.sample(raw, generator)) != np.asarray(head.sample(raw, generator))
    )


@pytest.mark.parametrize("name", CASES)
def test_the_mode_is_the_most_probable(name):
    head, _, targets = CASES[name]
    if isinstance(head, heads.Mixture):
        with pytest.raises(ValueError, match="Mixture is a head of numbers, which have no mode"):
            head.mode(raw_parameters(head))
        return
    raw = raw_parameters(head)
    mode = np.asarray(head.mode(raw))
    best = np.asarray(head.log_prob(raw, mode))
    for seed in range(3):
        others = targets(np.random.default_rng(seed), head.outputs)
        assert np.all(np.asarray(head.log_prob(raw, others)) <= best + 1e-5)


def test_what_is_impossible_has_probability_0():
    for head, target in [
        (heads.NegativeBinomial(), [[-1.0]]),
        (heads.NegativeBinomial(), [[1.5]]),
        (heads.Bernoulli(), [[0.5]]),
        (heads.Logits(3), [3]),
        (heads.Logits(3), [-1]),
        (heads.Logits(3), [1.5]),
        (heads.Logits(3), [np.nan]),
    ]:
        found = head.log_prob(raw_parameters(head, 1), np.array(target))
        assert float(found[0]) == -np.inf, (head, target)


def test_quantile_loss_has_its_minimum_at_the_quantiles():
    head = heads.Quantiles([0.2, 0.5, 0.9])
    y = np.random.default_rng(0).gamma(2.0, size=(2001, 1)).astype("float32")
    at = np.quantile(y, head.levels, method="inverted_cdf")
    least = float(head.loss(y, np.tile(at, (2001, 1))))
    manual = np.mean([np.maximum(p * (y - q), (p - 1) * (y - q)) for p, q in zip(head.levels, at)])
    assert least == pytest.approx(3 * manual, rel=1e-5)
    for i in range(3):
        for step in (-0.05, 0.05):
            moved = at.copy()
            moved[i] += step
            assert float(head.loss(y, np.tile(moved, (2001, 1)))) > least


def test_quantiles_that_cross_are_sorted_number_by_number():
    head = heads.Quantiles([0.1, 0.5, 0.9], size=2)
    raw = np.array([[3.0, 10.0, 1.0, 30.0, 2.0, 20.0]], "float32")
    np.testing.assert_array_equal(
        head.quantile(raw, [0.1, 0.5, 0.9])[0], [[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]
    )
    np.testing.assert_array_equal(head.quantile(raw, 0.9)[0], [3.0, 30.0])
    close = heads.Quantiles([0.99999, 0.999995])
    raw = np.array([[1.0, 2.0]])
    assert float(close.quantile(raw, 0.999995)[0, 0]) == 2.0
    np.testing.assert_array_equal(close.quantile(raw, [0.999995, 0.99999])[0], [[2.0, 1.0]])


# Losses


ALL = [
    heads.Linear(2), heads.Logits(4), heads.Bernoulli(2), heads.Normal(2), heads.StudentT(2),
    heads.NegativeBinomial(2), heads.Mixture(2, 2), heads.Quantiles([0.1, 0.9], 2), heads.CRF(3),
    heads.CTC(4),
]  # fmt: skip
PER_STEP = [head for head in ALL if head.per_step]


def allowed_targets(head, rows=3, steps=5):
    """Targets in every head's domain: 0 and 1, and for CTC more of 1 than of the rest."""
    random = np.random.default_rng(8)
    if not head.per_step:
        return np.array([[1, 2, 0], [3, 0, 0], [1, 3, 2]][:rows])
    return random.integers(0, 2, (rows, steps, *head.target_shape))


@pytest.mark.parametrize("head", PER_STEP, ids=repr)
def test_weights_and_reductions_are_those_of_keras(head):
    raw, y = raw_parameters(head, 15).reshape(3, 5, -1), allowed_targets(head)
    losses = np.asarray(head.losses(raw, y))
    assert losses.shape == (3, 5)
    assert float(head.loss(y, raw)) == pytest.approx(losses.mean(), rel=1e-5)
    row, step = np.array([0.5, 1.0, 2.0]), np.random.default_rng(1).uniform(0.5, 2, (3, 5))
    for weight, full in [(row, row[:, None]), (row[:, None], row[:, None]), (step, step)]:
        for reduction, expected in [
            ("sum", (losses * full).sum()),
            ("sum_over_batch_size", (losses * full).mean()),
            ("mean_with_sample_weight", np.average(losses, weights=full + 0 * losses)),
            (None, losses * full),
        ]:
            found = heads.HeadLoss(head, reduction)(y, raw, weight)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"must have the shape \(3, 5\).*received shape \(3, 4\)"):
        head.loss(y, raw, step[:, :4])
    with pytest.raises(ValueError, match=r"^targets of .*received shape \(3, 1"):
        head.loss(y[:, :1], raw, row)  # not laid along the steps


@pytest.mark.parametrize("head", [heads.Normal(), heads.CRF(3)], ids=repr)
def test_a_single_target_for_each_sequence_has_a_weight_for_each(head):
    raw, weight = raw_parameters(head, 4), np.array([1.0, 0.5, 0.0, 2.0], "float32")
    y = np.array([0, 2, 1, 1])
    expected = np.mean(np.asarray(head.losses(raw, y)) * weight)
    for given in (weight, weight[:, None]):
        assert float(head.loss(y, raw, given)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head", PER_STEP, ids=repr)
def test_what_has_weight_0_may_be_anything(head):
    raw, y = raw_parameters(head, 15).reshape(3, 5, -1), allowed_targets(head).astype("float32")
    weight = np.ones((3, 5), "float32")
    weight[1, 3:] = weight[2, 4:] = 0
    spoilt = y.copy()
    spoilt[weight == 0] = np.nan
    with_gradient = value_and_gradient(lambda raw, y, w: head.loss(y, raw, w))
    (one, d_one), (two, d_two) = with_gradient(raw, y, weight), with_gradient(raw, spoilt, weight)
    assert np.isfinite(one) and one == two
    np.testing.assert_array_equal(d_one, d_two)
    assert np.all(np.isfinite(d_one)) and np.all(d_one[weight == 0] == 0)
    masked = keras.layers.Masking(9.0)(np.where(weight[..., None] > 0, raw, 9.0))
    losses = np.asarray(head.losses(raw, y, weight > 0))
    assert float(head.loss(spoilt, masked)) == pytest.approx(losses.sum() / weight.sum(), rel=1e-5)


@pytest.mark.parametrize("head", ALL, ids=repr)
def test_a_head_and_its_loss_are_made_again_from_their_config(head):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert type(again) is type(head) and again.get_config() == head.get_config()
    loss = heads.HeadLoss(head, reduction="sum", name="mine")
    other = keras.losses.deserialize(keras.losses.serialize(loss))
    assert (other.reduction, other.name) == ("sum", "mine")
    full = heads.HeadLoss(head, dtype="float64")
    assert keras.losses.deserialize(keras.losses.serialize(full)).dtype == "float64"
    raw, y = raw_parameters(head, 15).reshape(3, 5, -1), allowed_targets(head)
    assert float(loss(y, raw)) == float(other(y, raw))


@pytest.mark.parametrize("head", ALL, ids=repr)
def test_a_layer_takes_single_steps_and_sequences(head):
    hidden = keras.Input((None, 6))
    raw = head.layer("raw")(hidden)
    assert raw.shape == (None, None, head.parameters)
    model = keras.Model(hidden, raw)
    x = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
    steps = np.asarray(model(x))
    np.testing.assert_allclose(model.get_layer("raw")(x[:, 2]), steps[:, 2], rtol=1e-5, atol=1e-6)


def test_training_with_a_head_finds_the_distribution(tmp_path):
    """Normal noise whose spread depends on the input: the known entropy is reached."""
    random = np.random.default_rng(0)
    x = random.integers(0, 2, (256, 4, 1)).astype("float32")
    y = (x + np.where(x > 0, 2.0, 0.5) * random.normal(size=x.shape)).astype("float32")
    head, hidden = heads.Normal(), keras.Input((None, 1))
    model = keras.Model(hidden, head.layer()(hidden))
    model.compile(keras.optimizers.Adam(0.1), loss=head.loss)
    model.fit(x, y, epochs=150, batch_size=256, verbose=0)
    found = head.natural(model(np.array([[[0.0], [1.0]]], "float32")))
    np.testing.assert_allclose(np.ravel(found["mean"]), [0, 1], atol=0.3)
    np.testing.assert_allclose(np.ravel(found["scale"]), [0.5, 2], rtol=0.15)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


# What is refused


@pytest.mark.parametrize(
    ("head", "targets", "message"),
    [
        (heads.NegativeBinomial(2), [[[1, 2], [3, -3]]], r"counts.*received -3 at \(0, 1, 1\)"),
        (heads.NegativeBinomial(), [[0.0], [2.5]], r"counts.*received 2.5 at \(1, 0\)"),
        (heads.Logits(3), [[0, 2], [3, 1]], r"class ids, 0 to 2; received 3 at \(1, 0\)"),
        (heads.CRF(3), [[0, 2], [1, -1]], r"class ids, 0 to 2; received -1 at \(1, 1\)"),
        (heads.CTC(3), [[1, 0, 2]], r"labels, 1 to 2, and 0 only at the end.*0 at \(0, 1\)"),
        (heads.Bernoulli(), [[0.0], [0.5]], r"0 or 1; received 0.5 at \(1, 0\)"),
        (heads.Normal(), [[0.0], [np.nan]], r"finite numbers; received nan at \(1, 0\)"),
        (heads.Normal(2), [[0.0], [1.0]], r"\(batch, \[time,\] 2\); received shape \(2, 1\)"),
        (heads.Logits(3), [["a"]], "must be numbers; received dtype str"),
    ],
)
def test_the_first_target_out_of_the_domain_is_named(head, targets, message):
    with pytest.raises(ValueError, match=message):
        head.check_targets(np.array(targets))


def test_targets_in_the_domain_or_without_weight_are_let_pass():
    for head in ALL:
        head.check_targets(allowed_targets(head))
    spoilt = np.array([[1, -1], [2, -7]])
    heads.Logits(3).check_targets(spoilt, np.array([[1, 0], [1, 0]]))
    heads.Normal(2).check_targets(spoilt[..., None] * [1, np.nan], np.zeros((2, 2)))
    heads.Logits(3).check_targets(ops.convert_to_numpy(ops.cast([0, 2], "bfloat16")))
    with pytest.raises(ValueError, match=r"received -1 at \(0, 1\)"):
        heads.Logits(3).check_targets(spoilt, np.array([1, 0]))
    with pytest.raises(ValueError, match=r"first axes of the targets, \(2, 2\).*shape \(3,\)"):
        heads.Logits(3).check_targets(spoilt, np.ones(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: heads.Normal(0), "size must be an integer of at least 1; received size=0"),
        (lambda: heads.Logits(1), "classes must be at least 2; received classes=1"),
        (lambda: heads.Mixture(2, 3), "size must be one of 1, 2; received size=3"),
        (lambda: heads.Mixture(0), "components must be an integer"),
        (lambda: heads.Quantiles([0.5, 0.1]), r"levels must rise.*\[0.5, 0.1\]"),
        (lambda: heads.Quantiles([0.5, 1.0]), r"number between 0 and 1.*\[0.5, 1.0\]"),
        (lambda: heads.Normal().quantile(np.zeros((1, 2)), 1.0), "between 0 and 1.*p=1.0"),
        (lambda: heads.Normal().quantile(np.zeros((1, 2)), "0.5"), "between 0 and 1.*p='0.5'"),
        (lambda: heads.Logits(3).quantile(np.zeros((1, 3)), 0.5), "of classes, which have no quan"),
        (lambda: heads.CTC(3).quantile(np.zeros((1, 3, 3)), 0.5), "CTC is .* have no quantile"),
        (lambda: heads.Linear().log_prob(np.zeros((1, 1)), [[1]]), "plain numbers.*no log_prob"),
        (lambda: heads.Linear().quantile(np.zeros((1, 1)), 0.5), "no quantile; it has mean$"),
        (lambda: heads.Quantiles().mean(np.zeros((1, 3))), "no mean; it has quantile$"),
        (lambda: heads.Quantiles().quantile(np.zeros((1, 3)), 0.3), r"levels \[0.1.*p=0.3"),
        (lambda: heads.Quantiles([0.1]).point(np.zeros((1, 1))), "a mean or a median, and Quant"),
        (lambda: heads.Normal().mean(np.zeros((4, 3))), r"\(batch, \[time,\] 2\).*\(4, 3\)"),
        (
            lambda: heads.Normal(2).log_prob(np.zeros((4, 5, 4)), np.zeros((4, 5))),
            r"must be \(4, 5, 2\).*received shape \(4, 5\)",
        ),
        (
            lambda: heads.Logits(3).log_prob(np.zeros((4, 5, 3)), np.zeros((4, 4))),
            r"class ids of shape \(4, 5\); received shape \(4, 4\)",
        ),
        (lambda: heads.Normal().sample(np.zeros((1, 2)), 0.5), "seed must be None.*seed=0.5"),
        (lambda: heads.HeadLoss("normal"), "one of rnnzoo.heads; received head='normal'"),
    ],
)
def test_bad_arguments_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@keras.saving.register_keras_serializable(package="tests")
class Exponential(heads.Head):
    """A head as a user writes it."""

    parameters, target_shape, outputs = 1, (), 1

    def log_prob(self, parameters, targets):
        rate = self._checked(parameters)[..., 0]
        return rate - ops.exp(rate) * targets

    def mean(self, parameters):
        return ops.exp(-self._checked(parameters))


def test_a_head_of_your_own_has_a_layer_a_loss_and_checks():
    head, hidden = Exponential(), keras.Input((None, 2))
    model = keras.Model(hidden, head.layer()(hidden))
    x, y = np.ones((2, 3, 2), "float32"), np.arange(6.0).reshape(2, 3)
    weight = np.array([[1, 1, 0], [0, 1, 0]], "float32")
    again = keras.losses.deserialize(keras.losses.serialize(head.loss))
    raw = np.asarray(model(x))
    expected = np.mean(weight * (np.exp(raw[..., 0]) * y - raw[..., 0]))
    assert float(again(y, raw, weight)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="Exponential is .* no quantile; it has log_prob, mean$"):
        head.quantile(raw, 0.5)
    with pytest.raises(ValueError, match=r"finite numbers; received inf at \(0, 1\)"):
        head.check_targets(np.array([[1.0, np.inf]]))


def test_targets_of_one_number_may_lack_their_axis():
    head = heads.Normal()
    raw, y = raw_parameters(head, 6).reshape(2, 3, 2), np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(head.log_prob(raw, y), head.log_prob(raw, y[..., None]))
    many = heads.Logits(4)
    raw = raw_parameters(many, 6).reshape(2, 3, 4)
    ids = np.arange(6).reshape(2, 3) % 4
    np.testing.assert_array_equal(many.log_prob(raw, ids), many.log_prob(raw, ids[..., None]))


def test_half_precision_is_computed_in_full():
    head = heads.NegativeBinomial()
    raw = ops.cast(np.array([[300.0, 1.0]]), "bfloat16")
    found = head.log_prob(raw, np.array([[311.0]]))
    assert ops.dtype(found) == "float32"
    exact = reference.negative_binomial(np.array([[300.0, 1.0]]), np.array([[311.0]]))
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    # bfloat16 does not hold 311, nor does it hold every class id above 256.
    half = heads.HeadLoss(head, dtype="bfloat16")(np.array([[311.0]]), raw)
    np.testing.assert_allclose(half, -exact[0], rtol=1e-5)


def test_whole_numbers_are_parameters_too():
    found = heads.Normal().natural(np.array([[2, 1]]))
    np.testing.assert_allclose(found["scale"], [[np.log1p(np.e)]], rtol=1e-5)
    np.testing.assert_allclose(heads.Bernoulli().mean([[0]]), [[0.5]])
    assert heads.Mixture(np.int32(3), np.int64(2)) == heads.Mixture(3, 2)
