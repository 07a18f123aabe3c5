"""CRF and CTC against all paths there are, with masks, compiled, trained, saved and exported."""

import itertools

import keras
import numpy as np
import pytest
from heads_reference import compiled, value_and_gradient
from keras import ops
from scipy import special

from rnnzoo import heads

LABELS, ROWS, STEPS = 3, 4, 5
CRF = heads.CRF(LABELS)
# Whole, padded at the end, padded in front, with holes.
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1]], bool)


@pytest.fixture(scope="module")
def chain():
    random = np.random.default_rng(1)
    potentials = random.normal(size=(ROWS, STEPS, CRF.parameters)).astype("float32") * 2
    return potentials, random.integers(0, LABELS, (ROWS, STEPS), "int32")


def score(potentials, path):
    """The log-weight of a path, out of the potentials `(time, classes + 1, classes)`."""
    before = (LABELS, *path[:-1])
    return sum(potentials[t, a, b] for t, (a, b) in enumerate(zip(before, path)))


def all_paths(potentials, mask):
    """Every path over the steps that are there, and its log-probability."""
    steps = potentials.astype("float64").reshape(STEPS, LABELS + 1, LABELS)[mask]
    paths = np.array(list(itertools.product(range(LABELS), repeat=len(steps))))
    scores = np.array([score(steps, path) for path in paths])
    return paths, scores - special.logsumexp(scores)


def test_the_likelihood_of_a_chain_is_that_over_all_paths(chain):
    potentials, y = chain

    def log_prob(potentials, y, mask):
        return CRF.sequence_log_prob(potentials, y, mask)

    found, gradient = value_and_gradient(log_prob)(potentials, y, MASK)
    for row in range(ROWS):
        paths, logs = all_paths(potentials[row], MASK[row])
        exact = logs[np.all(paths == y[row][MASK[row]], axis=1)]
        np.testing.assert_allclose(found[row], exact[0], rtol=1e-5)
        # Of a log-potential: whether the path takes it, less the share of paths that do.
        expected = np.zeros((STEPS, LABELS + 1, LABELS))
        for path, p in [(y[row][MASK[row]], 1.0), *zip(paths, -np.exp(logs))]:
            before = np.concatenate([[LABELS], path[:-1]])
            np.add.at(expected, (np.flatnonzero(MASK[row]), before, path), p)
        np.testing.assert_allclose(gradient[row], expected.reshape(STEPS, -1), atol=2e-6)


def test_viterbi_finds_the_best_of_all_paths_and_marginals_are_their_sums(chain):
    potentials, _ = chain
    best, mean = compiled(lambda p, m: (CRF.mode(p, m), CRF.mean(p, m)))(potentials, MASK)
    for row in range(ROWS):
        paths, logs = all_paths(potentials[row], MASK[row])
        np.testing.assert_array_equal(best[row][MASK[row]], paths[logs.argmax()])
        shares = np.einsum("p,ptk->tk", np.exp(logs), np.eye(LABELS)[paths])
        np.testing.assert_allclose(mean[row][MASK[row]], shares, atol=1e-6)
    assert np.all(best[~MASK] == -1) and np.all(mean[~MASK] == 0)


def test_paths_are_drawn_as_often_as_they_are_probable(chain):
    potentials, _ = chain
    row, draws = 3, 4000
    many, mask = (np.repeat(x[row : row + 1], draws, 0) for x in (potentials, MASK))
    drawn = compiled(lambda p, m: CRF.sample(p, 3, m))(many, mask)
    paths, logs = all_paths(potentials[row], MASK[row])
    share = np.array([np.mean(np.all(drawn[:, MASK[row]] == path, axis=1)) for path in paths])
    error = np.sqrt(np.exp(logs) * (1 - np.exp(logs)) / draws)
    assert np.all(np.abs(share - np.exp(logs)) < 4 * error + 1e-3)
    assert np.all(drawn[:, ~MASK[row]] == -1)


def test_a_step_of_weight_0_is_not_there_and_its_label_may_be_anything(chain):
    potentials, y = chain
    found = heads.HeadLoss(CRF, None)(np.where(MASK, y, -5), potentials, MASK.astype("float32"))
    np.testing.assert_allclose(found, -np.asarray(CRF.log_prob(potentials, y, MASK)), rtol=1e-6)
    whole = np.asarray(CRF.sequence_log_prob(potentials, y, MASK))
    np.testing.assert_allclose(-np.sum(found, -1), whole, rtol=1e-5)
    assert np.all(np.asarray(found)[~MASK] == 0)


def test_an_unknown_label_has_probability_0(chain):
    potentials, y = chain
    y = y.copy()
    y[0, 2] = LABELS
    found = np.asarray(CRF.log_prob(potentials, y))
    assert found[0, 2] == -np.inf and np.all(np.isfinite(found[1:]))


def test_a_long_chain_is_exact_in_float32():
    """Even potentials: log(3) a step, also where 3,000 of them have been added up."""
    potentials = np.full((1, 3000, CRF.parameters), 50.0, "float32")
    found = compiled(CRF.log_prob)(potentials, np.zeros((1, 3000)))
    np.testing.assert_allclose(found, -np.log(3.0), rtol=1e-5)


def test_a_chain_of_one_step_is_a_choice_among_classes():
    random = np.random.default_rng(4)
    raw = random.normal(size=(6, CRF.parameters)).astype("float32")
    y = random.integers(0, LABELS, 6)
    start, plain = raw[:, -LABELS:], heads.Logits(LABELS)
    np.testing.assert_allclose(CRF.log_prob(raw, y), plain.log_prob(start, y), rtol=1e-5)
    np.testing.assert_allclose(CRF.mean(raw), plain.mean(start), rtol=1e-5)
    np.testing.assert_array_equal(CRF.mode(raw), plain.mode(start))


def taggers(head, mask):
    """A layer over features and a mask, as a core hands them on."""
    inputs = {"x": keras.Input((None, 3), name="x")}
    if mask:
        inputs["mask"] = keras.Input((None,), dtype="bool", name="mask")
    raw = head.layer("raw")(inputs["x"], mask=inputs.get("mask"))
    return keras.Model(inputs, raw)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
@pytest.mark.filterwarnings("ignore:`model.quantize.*were skipped:UserWarning")  # Keras 3.16
@pytest.mark.parametrize("head", [CRF, heads.CTC(4)], ids=repr)
def test_the_mask_of_a_layer_is_that_of_the_head_in_half_precision_too(head):
    x = np.random.default_rng(0).normal(size=(ROWS, STEPS, 3)).astype("float32")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        masked = taggers(head, True)
        raw = masked({"x": x, "mask": MASK})
        plain = masked.get_layer("raw")(x)
    finally:
        keras.config.set_dtype_policy("float32")
    assert ops.dtype(raw) == "float32"
    y = np.array([[1, 2], [1, 0], [2, 1], [0, 0]])
    y = y if not head.per_step else np.tile(y, (1, 3))[:, :STEPS]
    np.testing.assert_allclose(head.log_prob(raw, y), head.log_prob(plain, y, MASK), rtol=1e-6)
    np.testing.assert_array_equal(head.mode(raw), head.mode(plain, MASK))
    assert np.any(np.asarray(head.mode(raw)) != np.asarray(head.mode(plain)))
    masked.quantize("int8")
    low = np.asarray(masked({"x": x, "mask": MASK}))
    np.testing.assert_array_equal(low.max(-1) < -1e8, ~MASK)


def test_a_trained_tagger_reads_the_neighbour_it_cannot_see(tmp_path):
    """Labels alternate from a random start that the first step alone shows: a chain can tell."""
    random = np.random.default_rng(2)
    first = random.integers(0, 2, (128, 1), "int32")
    y = (first + np.arange(6, dtype="int32")) % 2
    x = np.zeros((128, 6, 3), "float32")
    x[:, 0, 0] = 2 * first[:, 0] - 1
    weight = np.ones(y.shape, "float32")
    weight[::3, 4:] = 0
    head = heads.CRF(2)
    model = taggers(head, False)
    model.compile(keras.optimizers.Adam(0.1), loss=head.loss, jit_compile=True)
    history = model.fit({"x": x}, y, sample_weight=weight, epochs=15, batch_size=32, verbose=0)
    assert history.history["loss"][-1] < 0.05  # without transitions at least log(2) * 5 / 6
    np.testing.assert_array_equal(head.mode(model({"x": x})), y)
    model.save(tmp_path / "tagger.keras")
    again = keras.saving.load_model(tmp_path / "tagger.keras")
    np.testing.assert_array_equal(again({"x": x[:4]}), model({"x": x[:4]}))
    one, two = (m.evaluate({"x": x}, y, sample_weight=weight, verbose=0) for m in (again, model))
    assert one == two


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")
def test_decoding_is_exported_with_the_model(tmp_path):
    """Viterbi, best paths and beams of a SavedModel, for any number of rows and steps."""
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(ROWS, STEPS, 3)).astype("float32")
    ctc = heads.CTC(4)
    crf_model, ctc_model = taggers(CRF, True), taggers(ctc, True)
    crf_model.get_layer("raw").transitions.assign(np.random.default_rng(3).normal(size=(4, 3)))

    def decode(x, mask):
        raw = ctc_model({"x": x, "mask": mask})
        beams, _ = ctc.beam_search(raw, beam_width=8)
        tags = CRF.mode(crf_model({"x": x, "mask": mask}))
        return {"tags": tags, "best": ctc.mode(raw), "beams": beams}

    archive = keras.export.ExportArchive()
    archive.track(crf_model)
    archive.track(ctc_model)
    signature = [tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None), tf.bool)]
    archive.add_endpoint("decode", decode, input_signature=signature)
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    for rows, steps in [(ROWS, STEPS), (2, 3), (1, 1)]:
        found = served.decode(x[:rows, :steps], MASK[:rows, :steps])
        expected = decode(x[:rows, :steps], MASK[:rows, :steps])
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


# CTC

CTC = heads.CTC(3)


def spelled(path):
    return tuple(int(k) for k, _ in itertools.groupby(path) if k != 0)


def all_labels(logits, mask):
    """Every sequence of labels that some path spells, and its probability."""
    logs = special.log_softmax(logits.astype("float64"), -1)[mask]
    found = {}
    for path in itertools.product(range(CTC.classes), repeat=len(logs)):
        p = np.exp(sum(step[k] for step, k in zip(logs, path)))
        found[spelled(path)] = found.get(spelled(path), 0.0) + p
    return found


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(6).normal(size=(ROWS, STEPS, CTC.classes)).astype("float32") * 2


TARGETS = np.int32([[1, 2, 0], [1, 1, 0], [2, 0, 0], [0, 0, 0]])


def unpadded(labels):
    return tuple(int(k) for k in labels if k > 0)


def test_the_likelihood_of_labels_is_that_over_all_paths(logits):
    found, gradient = value_and_gradient(CTC.log_prob)(logits, TARGETS, MASK)
    for row in range(ROWS):
        exact = np.log(all_labels(logits[row], MASK[row])[unpadded(TARGETS[row])])
        np.testing.assert_allclose(found[row], exact, rtol=1e-5)
    assert np.all(gradient[~MASK] == 0) and np.all(np.isfinite(gradient))
    step = 1e-2
    for k in range(CTC.classes):
        up, down = logits.copy(), logits.copy()
        up[0, 2, k], down[0, 2, k] = up[0, 2, k] + step, down[0, 2, k] - step
        one, two = (np.log(all_labels(x[0], MASK[0])[unpadded(TARGETS[0])]) for x in (up, down))
        assert gradient[0, 2, k] == pytest.approx((one - two) / (2 * step), abs=1e-4)


def test_labels_that_do_not_fit_have_probability_0_and_no_gradient(logits):
    """Five labels in three steps, and three that are alike in four."""
    targets = np.array([[1, 2, 1, 2, 1], [1, 2, 1, 2, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
    found, gradient = value_and_gradient(CTC.log_prob)(logits, targets, MASK)
    assert np.all(np.isfinite(found[[0, 2]])) and np.all(found[[1, 3]] == -np.inf)
    assert np.all(np.isfinite(gradient)) and np.all(gradient[[1, 3]] == 0)
    ahead = np.array([[0, 1, 0], [1, 0, 2], [0, 0, 0], [1, 2, 0]])  # padding stands behind labels
    np.testing.assert_array_equal(np.isfinite(CTC.log_prob(logits, ahead, MASK)), [0, 0, 1, 1])


def test_no_labels_at_all_are_blanks_alone(logits):
    blank = special.log_softmax(logits, -1)[..., 0].sum(-1)
    np.testing.assert_allclose(CTC.log_prob(logits, np.zeros((ROWS, 0))), blank, rtol=1e-5)


def test_the_best_path_and_the_best_labels_are_found(logits):
    best = compiled(CTC.mode)(logits, MASK)
    beams, scores = CTC.beam_search(logits, beam_width=20, top_paths=2, mask=MASK)
    for row in range(ROWS):
        assert unpadded(best[row]) == spelled(logits[row][MASK[row]].argmax(-1))
        everything = sorted(all_labels(logits[row], MASK[row]).items(), key=lambda x: -x[1])
        for i in range(2):
            assert unpadded(np.asarray(beams)[i, row]) == everything[i][0]
            assert float(scores[row, i]) == pytest.approx(np.log(everything[i][1]), rel=1e-4)
    assert best.shape == (ROWS, STEPS) and np.all(best[best <= 0] == -1)


def test_a_sequence_may_have_fewer_results_than_are_asked_for(logits):
    """Of a step there are as many as classes, of none there is one."""
    mask = np.arange(STEPS) < np.arange(ROWS)[:, None] % 3
    beams, scores = CTC.beam_search(logits, beam_width=20, top_paths=4, mask=mask)
    assert beams.shape == (4, ROWS, STEPS)
    for row in range(ROWS):
        everything = sorted(all_labels(logits[row], mask[row]).items(), key=lambda x: -x[1])[:4]
        for i, (labels, probability) in enumerate(everything):
            assert unpadded(np.asarray(beams)[i, row]) == labels
            assert float(scores[row, i]) == pytest.approx(np.log(probability), rel=1e-4, abs=1e-6)
        assert np.all(np.asarray(beams)[len(everything) :, row] == -1)
        assert np.all(np.asarray(scores)[row, len(everything) :] == -np.inf)


def test_labels_are_drawn_as_often_as_they_are_probable(logits):
    row, draws = 3, 4000
    many, mask = (np.repeat(x[row : row + 1], draws, 0) for x in (logits, MASK))
    drawn = compiled(lambda x, m: CTC.sample(x, 5, m))(many, mask)
    found = [unpadded(labels) for labels in drawn]
    for labels, p in all_labels(logits[row], MASK[row]).items():
        share = sum(one == labels for one in found) / draws
        assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / draws) + 1e-3


def test_a_loss_of_sequences_takes_a_weight_for_each(logits):
    losses = -np.asarray(CTC.log_prob(logits, TARGETS))
    weight = np.array([1.0, 0.5, 0.0, 2.0], "float32")
    spoilt = TARGETS.copy()
    spoilt[2] = [7, -1, 9]
    for given in (weight, weight[:, None]):
        assert float(CTC.loss(spoilt, logits, given)) == pytest.approx(
            np.mean(losses * weight), rel=1e-5
        )
    with pytest.raises(
        ValueError, match=r"must have the shape \(4,\).*CTC.*received shape \(4, 5\)"
    ):
        CTC.loss(TARGETS, logits, np.ones((4, 5), "float32"))


def test_a_keras_mask_reaches_the_loss_of_sequences(logits):
    """Keras would weigh the losses of rows by a mask of steps."""
    x = np.where(MASK[..., None], 1 + np.abs(logits), 0.0).astype("float32")
    hidden = keras.Input((STEPS, 3))
    layer = CTC.layer("raw")
    model = keras.Model(hidden, layer(keras.layers.Masking()(hidden)))
    model.compile(keras.optimizers.SGD(0.01), loss=CTC.loss)
    exact = -np.mean(np.asarray(CTC.log_prob(layer(x), TARGETS, MASK)))
    assert model.evaluate(x, TARGETS, batch_size=ROWS, verbose=0) == pytest.approx(exact, rel=1e-5)
    raw = np.where(MASK[..., None], logits, 9.0)
    lost = float(CTC.loss(TARGETS, keras.layers.Masking(9.0)(raw)))
    exact = -np.mean(np.asarray(CTC.log_prob(logits, TARGETS, MASK)))
    assert lost == pytest.approx(exact, rel=1e-5)
    before = np.asarray(layer.kernel)
    model.fit(x, TARGETS, batch_size=ROWS, verbose=0)
    assert np.any(np.asarray(layer.kernel) != before)


def test_a_keras_mask_reaches_the_loss_of_a_chain(chain):
    """Exact for any padding, and the mean is over the steps that are there, as in Keras."""
    _, y = chain
    x = np.where(MASK[..., None], np.random.default_rng(0).uniform(1, 2, (ROWS, STEPS, 3)), 0.0)
    hidden, layer = keras.Input((STEPS, 3)), CRF.layer("raw")
    model = keras.Model(hidden, layer(keras.layers.Masking()(hidden)))
    layer.transitions.assign(np.random.default_rng(3).normal(size=(LABELS + 1, LABELS)))
    model.compile(loss=CRF.loss)
    log_prob = np.asarray(CRF.sequence_log_prob(layer(x), y, MASK))
    found = model.evaluate(x, y, batch_size=ROWS, verbose=0)
    assert found == pytest.approx(-np.sum(log_prob) / MASK.sum(), rel=1e-5)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    assert np.isnan(model.evaluate(x, y, batch_size=ROWS, verbose=0))  # no chain without steps


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CTC.beam_search(np.zeros((1, 2, 3)), 2, 3), "at most beam_width.*top_paths=3"),
        (lambda: CTC.beam_search(np.zeros((1, 2, 3)), 0), "beam_width must be an integer"),
        (lambda: CTC.log_prob(np.zeros((1, 3)), [[1]]), r"\(batch, time, 3\).*shape \(1, 3\)"),
        (lambda: CTC.log_prob(np.zeros((1, 2, 3)), np.array([1])), r"\(batch, labels\).*\(1,\)"),
        (lambda: CTC.log_prob(np.zeros((2, 2, 3)), [[1]]), r"the rows .* 2; .*shape \(1, 1\)"),
        (lambda: CTC.mode(np.zeros((1, 2, 3)), np.ones(1)), r"mask must be \(1, 2\).*\(1,\)"),
        (lambda: CRF.mode(np.zeros((1, 2, 12)), np.ones(2)), r"mask must be \(1, 2\).*\(2,\)"),
        (lambda: CRF.log_prob(np.zeros((1, 2, 12)), np.zeros((1, 3))), r"\(1, 2\).*\(1, 3\)"),
        (lambda: CRF.quantile(np.zeros((1, 2, 12)), 0.5), "CRF is .* have no quantile"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
