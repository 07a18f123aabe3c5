"""Encoder-decoder models: outputs, masks, sharing, attention, saving."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import rnnzoo
from tests import pairs
from tests.reference import close, gradients

KINDS = {
    "plain": {},
    "deep": {"units": [6, 5], "encoder_units": [5, 4], "cell": "gru", "layer_norm": True},
    "dot": {"attention": "dot"},
    "additive": {"attention": "additive", "bidirectional": True},
    "feeding": {"attention": "additive", "input_feeding": True, "encoder_units": 3},
    "shared": {"shared": True, "attention": "dot"},
    "tied": {"tied": True, "embedding": 6, "residual": True, "units": [6, 6]},
}


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_other_rows_change_no_output(kind):
    model, x = pairs.model(**KINDS[kind]), pairs.batch()
    together = pairs.forward(model, x)
    for row in range(4):
        alone = pairs.forward(model, pairs.row_of(x, row))
        close(together[row, : alone.shape[1]], alone[0])


def test_outputs_are_those_of_two_networks_back_to_back():
    model, x = pairs.model(), pairs.batch()
    weights = [np.array(w) for w in model.encoder.weights + model.decoder.weights]
    outputs = pairs.forward(model, x)
    for row in range(4):
        one = pairs.row_of(x, row)
        inputs = np.concatenate([[model.start], one["target"][0]])
        expected = pairs.lstm_pair(weights, one["source"][0], inputs)
        close(outputs[row, : len(inputs)], expected[0])


def test_loss_and_metrics_are_means_over_real_steps():
    model, x = pairs.model(attention="dot"), pairs.batch()
    accuracy = rnnzoo.metrics.SequenceAccuracy()
    model.compile(loss=pairs.cross_entropy(), metrics=["accuracy", accuracy])
    found = model.evaluate(x, batch_size=4, verbose=0, return_dict=True)
    outputs = pairs.forward(model, x)
    losses, right, whole = [], [], []
    for row in range(4):
        target = [*pairs.row_of(x, row)["target"][0], model.end]
        logits = outputs[row, : len(target)]
        losses += [-log_softmax(z)[t] for z, t in zip(logits, target)]
        hits = [int(z.argmax()) == t for z, t in zip(logits, target)]
        right += hits
        whole.append(all(hits))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    assert found["sequence_accuracy"] == pytest.approx(np.mean(whole), abs=1e-6)


@pytest.mark.parametrize("kind", ["dot", "additive", "feeding"])
def test_alignment_sums_to_one_on_real_steps_and_is_zero_on_padding(kind):
    model, x = pairs.model(**KINDS[kind]), pairs.batch()
    batch = model.reader.standardize(x)
    encoded = model.encode(batch)
    values = {key: encoded[key] for key in (*model.spec.states, "memory", "source_mask")}
    alignment = ops.convert_to_numpy(
        model.decode({"inputs": batch["inputs"], **values})["alignment"]
    )
    real = np.arange(6) < x["source_lengths"][:, None]
    close(alignment.sum(axis=-1), np.ones(alignment.shape[:2]))
    assert (alignment[~np.broadcast_to(real[:, None], alignment.shape)] == 0).all()


def test_attention_is_that_of_luong():
    model, x = pairs.model(attention="dot"), pairs.row_of(pairs.batch(), 0)
    batch = model.reader.standardize(x)
    memory = ops.convert_to_numpy(model.encode(batch)["memory"])[0]
    plain = rnnzoo.encoder_decoder(**pairs.VOCABULARY, units=6, embedding=4)
    names = {weight.path: weight for weight in model.trainable_variables}
    for weight in plain.trainable_variables:
        weight.assign(names[weight.path])
    plain.decoder.get_layer("output_layer").set_weights([np.eye(6, 7), np.zeros(7)])
    hidden = ops.convert_to_numpy(plain(x))[0, :, :6]
    scores = np.exp(hidden @ memory.T)
    context = scores / scores.sum(axis=1, keepdims=True) @ memory
    combine = np.array(model.decoder.get_layer("attention_layer").kernel)
    attended = np.tanh(np.concatenate([context, hidden], axis=1) @ combine)
    kernel, bias = model.decoder.get_layer("output_layer").get_weights()
    close(model(x)[0], attended @ kernel + bias)


def test_input_feeding_hands_on_what_was_attended_to():
    model, x = pairs.model(**KINDS["feeding"]), pairs.row_of(pairs.batch(), 0)
    batch = model.reader.standardize(x)
    encoded = model.encode(batch)
    state = {key: encoded[key] for key in model.spec.states}
    constants = {key: encoded[key] for key in ("memory", "source_mask")}
    assert not ops.convert_to_numpy(state["fed"]).any()
    rows = []
    for t in range(batch["inputs"].shape[1]):
        outputs = model.decoder({"inputs": batch["inputs"][:, t : t + 1], **state, **constants})
        state = {key: outputs[key] for key in state}
        rows.append(ops.convert_to_numpy(outputs["outputs"])[0, 0])
        kernel, bias = model.decoder.get_layer("output_layer").get_weights()
        close(rows[-1], ops.convert_to_numpy(state["fed"])[0] @ kernel + bias)
    close(model(x)[0], np.stack(rows))


def test_shared_is_one_set_of_weights_whose_gradients_add_up():
    shared, x = pairs.model(shared=True), pairs.row_of(pairs.batch(), 0)
    assert len([w for w in shared.trainable_variables if "lstm" in w.path]) == 3
    weights = [np.array(w) for w in shared.encoder.weights + shared.decoder.weights]
    inputs = np.concatenate([[shared.start], x["target"][0]])
    probe = np.random.default_rng(3).normal(size=(1, len(inputs), 7)).astype("float32")

    def apart(*w):
        return ops.sum(pairs.lstm_pair(w, x["source"][0], inputs) * probe)

    both = gradients(apart, weights)
    shared.compile(keras.optimizers.SGD(1.0), lambda y, z: ops.sum(z * probe, axis=(1, 2)))
    before = [np.array(w) for w in shared.encoder.weights[1:4]]
    shared.train_on_batch(x)
    for old, new, a, b in zip(before, shared.encoder.weights[1:4], both[1:4], both[5:8]):
        close(old - np.array(new), a + b, 1e-4)


@pytest.mark.parametrize("kind", ["deep", "additive", "feeding", "shared", "tied"])
def test_a_saved_model_gives_the_same_outputs(kind, tmp_path):
    vocabulary = rnnzoo.data.Vocabulary("abcdefghi")
    model = pairs.model(**KINDS[kind], source_vocabulary=vocabulary)
    x = pairs.batch()
    model.compile("adam", pairs.cross_entropy(), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    close(loaded(x), model(x))
    assert loaded.blueprint.source_vocabulary.tokens == vocabulary.tokens
    assert (loaded.start, loaded.end) == (model.start, model.end) == (5, 6)
    assert len(loaded.weights) == len(model.weights)


@pytest.mark.parametrize("source, target", list(itertools.product(["tokens", "values"], repeat=2)))
def test_every_mix_of_tokens_and_values_trains(source, target):
    rng = np.random.default_rng(0)
    options, x = {"units": 16}, {"source_lengths": rng.integers(1, 5, 32)}
    if source == "tokens":
        options["source_vocabulary"], x["source"] = 9, rng.integers(0, 9, (32, 4))
    else:
        options["source_features"], x["source"] = 3, rng.normal(size=(32, 4, 3))
    if target == "tokens":
        options["target_vocabulary"], loss = 4, pairs.cross_entropy()
        x["target"] = rng.integers(0, 4, (32, 3))
    else:
        options["target_features"], loss = 2, "mse"
        x["target"] = rng.normal(size=(32, 3, 2))
    model = rnnzoo.encoder_decoder(**options)
    model.compile(keras.optimizers.Adam(0.03), loss)
    losses = model.fit(x, batch_size=32, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    steps = 4 if target == "tokens" else 3
    assert model.predict(x, verbose=0).shape[:2] == (32, steps)


def test_ragged_lists_equal_padded_arrays_and_pairs():
    x = pairs.batch()
    ragged = {
        side: [pairs.row_of(x, r)[side][0].tolist() for r in range(4)]
        for side in ("source", "target")
    }
    data = rnnzoo.data.pairs(ragged["source"], ragged["target"], batch_size=4)
    found = []
    for given in (x, ragged, data):
        model = pairs.model()
        model.compile(keras.optimizers.SGD(0.1), pairs.cross_entropy())
        model.fit(given, batch_size=None if given is data else 4, verbose=0)
        found.append([np.array(w) for w in model.weights])
    for a, b, c in zip(*found):
        close(a, b)
        close(a, c)


def test_own_end_tokens_are_used_and_saved():
    model = rnnzoo.encoder_decoder(**pairs.VOCABULARY, units=4, start=0, end=3)
    assert model.decoder.output["outputs"].shape[-1] == 5
    batch = model.reader.standardize({"source": [[1]], "target": [[2, 4]]})
    np.testing.assert_array_equal(batch["inputs"], [[0, 2, 4]])
    again = rnnzoo.EncoderDecoder.from_config(model.get_config())
    assert (again.start, again.end) == (0, 3)
