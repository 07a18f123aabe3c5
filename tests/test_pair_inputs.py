"""Encoder-decoders of several inputs by name: what they read in every form, what is refused."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax, run

import rnnzoo
from tests.pairs import forward, layer_weights, randomize

pytestmark = pytest.mark.usefixtures("xla")

ROWS, PAST, AHEAD = 3, 5, 4
rng = np.random.default_rng(0)
PAST_OF = {
    "load": rng.normal(size=(ROWS, PAST, 2)).astype("float32"),
    "hour": rng.integers(0, 5, (ROWS, PAST)),
    "store": rng.integers(0, 3, ROWS),
    "size": rng.normal(size=(ROWS, 1)).astype("float32"),
    "source_lengths": np.array([5, 2, 4]),
}
KNOWN = {
    "day": rng.integers(0, 4, (ROWS, AHEAD)),
    "price": rng.normal(size=(ROWS, AHEAD, 1)).astype("float32"),
}
TARGET = {
    "target": rng.normal(size=(ROWS, AHEAD, 2)).astype("float32"),
    "target_lengths": np.array([3, 4, 2]),
}
PADDED = PAST_OF | KNOWN | TARGET
PADDED["load"][1, 2:] = np.nan  # padding may hold anything
PADDED["hour"] = np.where(np.arange(PAST) < PAST_OF["source_lengths"][:, None], PADDED["hour"], -7)
NAMES = {
    "inputs": {"load": 2, "hour": rnnzoo.Tokens(5)},
    "static": {"store": rnnzoo.Tokens(3, embedding=2), "size": 1},
    "target_inputs": {"day": rnnzoo.Tokens(4), "price": 1},
}


def build(**options):
    model = rnnzoo.encoder_decoder(**{**NAMES, "target_features": 2, "units": 4, **options})
    randomize(model)
    loss = "mse" if model.end is None else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def row_alone(i, x=PADDED):
    """One row of a batch, without its padding."""
    past, ahead = x["source_lengths"][i], x["target_lengths"][i]
    found = {name: x[name][i : i + 1, :past] for name in ("load", "hour")}
    found |= {name: x[name][i : i + 1, :ahead] for name in ("day", "price", "target")}
    return found | {name: x[name][i : i + 1] for name in ("store", "size")}


def test_what_each_side_reads(model):
    """Row by row against LSTMs of its weights: the steps to come stand beside the step before."""

    def embedded(side, name, ids):
        return ops.convert_to_numpy(side.get_layer(f"{name}_embedding").embeddings)[ids]

    def beside(side, x, steps):
        still = [embedded(side, "store", x["store"]), x["size"]]
        return [np.repeat(value[:, None], steps, axis=1) for value in still]

    found = model.predict(PADDED, verbose=0)
    kernel, bias = (
        ops.convert_to_numpy(w) for w in model.decoder.get_layer("output_layer").weights
    )
    for i in range(ROWS):
        x = row_alone(i)
        past, ahead = x["load"].shape[1], x["day"].shape[1]
        read = [x["load"], embedded(model.encoder, "hour", x["hour"])]
        read = np.concatenate(read + beside(model.encoder, x, past), axis=-1).astype("float32")
        zeros = [np.zeros((1, 4), "float32")] * 2
        _, state = run("LSTM", {}, layer_weights(model, "source_lstm")[0], read, zeros)
        before = np.concatenate([np.zeros((1, 1, 2)), x["target"][:, :-1]], axis=1)
        read = [before, embedded(model.decoder, "day", x["day"]), x["price"]]
        read = np.concatenate(read + beside(model.decoder, x, ahead), axis=-1).astype("float32")
        hidden, _ = run("LSTM", {}, layer_weights(model, "target_lstm")[0], read, state)
        close(found[i : i + 1, :ahead], np.stack(hidden, axis=1) @ kernel + bias)


def lists(x=PADDED):
    """The same rows as lists of sequences of different length."""
    rows = [row_alone(i, x) for i in range(ROWS)]
    return {name: [row[name][0] for row in rows] for name in rows[0]}


def tensorflow_set():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(PADDED).batch(ROWS)


def paired():
    given = lists()
    return rnnzoo.data.pairs(
        {name: given[name] for name in NAMES["inputs"]},
        given["target"],
        batch_size=ROWS,
        static={name: given[name] for name in NAMES["static"]},
        target_inputs={name: given[name] for name in NAMES["target_inputs"]},
        source_vocabulary={"hour": 5, "store": 3},
        target_vocabulary={"day": 4},
    )


FORMS = {
    "lists": lists,
    "a list of batches": lambda: [(PADDED,)],
    "tf.data": tensorflow_set,
    "pairs": paired,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data(model, form):
    real = np.arange(AHEAD) < TARGET["target_lengths"][:, None]
    squares = np.square(model.predict(PADDED, verbose=0) - TARGET["target"]).mean(axis=-1)
    close(np.float32(model.evaluate(FORMS[form](), verbose=0)), squares[real].mean())


def test_windows_cut_what_is_known_with_the_target():
    """With a learning rate of 0 nothing tells windows from the whole."""
    model = build(attention="dot")
    model.optimizer.learning_rate = 0.0
    callbacks = [rnnzoo.TruncatedBPTT(3, 2)]
    told = model.fit(PADDED, verbose=0, callbacks=callbacks).history["loss"][0]
    close(np.float32(told), np.float32(model.evaluate(PADDED, verbose=0)))
    before = [ops.convert_to_numpy(w) for w in model.trainable_weights]
    model.optimizer.learning_rate = 0.1
    model.fit(PADDED, verbose=0, callbacks=callbacks)
    for was, weight in zip(before, model.trainable_weights):
        assert np.abs(was - ops.convert_to_numpy(weight)).max() > 0, weight.path


def test_what_is_written_is_what_would_have_been_read(model, tmp_path):
    """Fed its own outputs as the true target, the model gives them again; saved, too."""
    written = model.generate(PAST_OF | KNOWN)
    given = {name: values for name, values in PADDED.items() if name != "target_lengths"}
    close(model.predict(given | {"target": written}, verbose=0), written)
    close(model.generate(PAST_OF | KNOWN, steps=AHEAD, batch_size=2), written)
    other = model.generate(PAST_OF | KNOWN | {"day": (KNOWN["day"] + 1) % 4})
    assert np.abs(other - written).max() > 1e-3
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.blueprint.inputs_of("static") == model.blueprint.inputs_of("static")
    close(forward(loaded, PADDED), model.predict(PADDED, verbose=0))


def test_tokens_are_written_beside_what_is_known():
    """Greedily each token is the most probable after those before it; a beam finds no worse."""
    model = build(target_features=None, target_vocabulary=4, attention="additive")
    greedy = model.generate(PAST_OF | KNOWN, max_length=AHEAD + 1, forbidden=[model.end])
    given = PAST_OF | KNOWN | {"target": greedy.tokens[:, :AHEAD]}
    logits = model.predict(given, verbose=0)
    np.testing.assert_array_equal(logits[..., :4].argmax(axis=-1), greedy.tokens)
    options = {"max_length": AHEAD + 1, "forbidden": [model.end]}
    scores = model.generate(PAST_OF | KNOWN, sampler=rnnzoo.decoding.Beam(9), **options).scores
    gain = scores.reshape(ROWS) - greedy.scores
    assert (gain > -1e-4).all() and (gain > 1e-4).any()


def test_steps_that_are_fed_run_as_one_call_would():
    fed = build(attention="dot", input_feeding=True)
    written = fed.generate(PAST_OF | KNOWN)
    given = {name: values for name, values in PADDED.items() if name != "target_lengths"}
    close(fed.predict(given | {"target": written}, verbose=0), written)


@pytest.mark.skipif(on_jax(), reason="a second process with TensorFlow writes the same export")
def test_an_export_has_a_tensor_for_each_input(tmp_path):
    import tensorflow as tf

    model = build(attention="dot")
    rnnzoo.export(model, tmp_path / "forecaster" / "1")
    served = tf.saved_model.load(str(tmp_path / "forecaster" / "1")).signatures
    inputs = {name: set(one.structured_input_signature[1]) for name, one in served.items()}
    read = {"load", "hour", "store", "size", "source_lengths"}
    assert inputs["encode"] == read
    assert inputs["generate"] == read | {"day", "price", "steps"}
    assert inputs["serving_default"] == read | {"day", "price", "target", "target_lengths"}
    clean = {name: np.nan_to_num(values) for name, values in (PAST_OF | KNOWN).items()}
    clean["hour"] = np.maximum(PADDED["hour"], 0)
    given = {
        k: tf.constant(v, served["generate"].structured_input_signature[1][k].dtype)
        for k, v in clean.items()
    }
    steps = tf.constant([AHEAD, 2, AHEAD])
    written = served["generate"](**given, steps=steps)["outputs"].numpy()
    expected = model.generate(PAST_OF | KNOWN)
    close(written[[0, 2]], expected[[0, 2]])
    close(written[1, :2], expected[1, :2])
    encoded = served["encode"](**{name: given[name] for name in read})
    step = served["decode_step"]
    assert {"inputs", "day", "price", "store", "size"} < set(inputs["decode_step"])
    first = step(
        inputs=tf.zeros((ROWS, 1, 2)),
        **{name: given[name][:, :1] for name in KNOWN},
        **{name: given[name] for name in NAMES["static"]},
        **encoded,
    )
    close(first["outputs"][:, 0], expected[:, 0])
    loaded = rnnzoo.load_served(tmp_path / "forecaster" / "1")
    past = PAST_OF["source_lengths"][1]
    source = {name: clean[name][1, :past] for name in NAMES["inputs"]}
    still = {name: clean[name][1] for name in NAMES["static"]}
    stream = loaded.new_stream(source, static=still)
    said = stream.step({"inputs": [0.0, 0.0], **{name: KNOWN[name][1, 0] for name in KNOWN}})
    close(said, expected[1, 0])
    with pytest.raises(ValueError, match=r"source must have the names \['hour', 'load'\]"):
        loaded.new_stream(source["load"], static=still)
    with pytest.raises(ValueError, match="all inputs of a source must have its steps"):
        loaded.new_stream({**source, "hour": [0]}, static=still)


BAD_MODELS = {
    "two sources": ({"source_features": 2}, "or instead inputs .several, by name.; received"),
    "no input": ({"inputs": {}}, "inputs must name at least one input"),
    "one name twice": ({"static": {"hour": 1}}, r"different names.*taken: \['hour'\]"),
    "a name of the target": ({"target_inputs": {"target": 1}}, r"taken: \['target'\]"),
    "a name of a mask": ({"static": {"source_mask": 1}}, r"taken: \['source_mask'\]"),
    "a name of a state": ({"inputs": {"h_0": 1}}, r"no state of the model has.*\['h_0'\]"),
    "a size": ({"target_inputs": {"day": 0}}, r"target_inputs\['day'\] must be a size"),
    "no dict": ({"static": 3}, "static must be a dict from names to sizes"),
    "shared, of other widths": ({"shared": True}, "units and the size of a step must agree"),
    "an embedding of none": (
        {"inputs": {"load": 1}, "static": None, "target_inputs": None, "embedding": 3},
        "embedding is for tokens",
    ),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_models_that_cannot_be(case):
    options, message = BAD_MODELS[case]
    with pytest.raises(ValueError, match=message):
        rnnzoo.encoder_decoder(**{**NAMES, "target_features": 2, "units": 4, **options})


def without(name):
    return {key: value for key, value in PADDED.items() if key != name}


BAD_BATCHES = {
    "one missing": (without("hour"), "with 'load' and 'hour' and 'store'.*received keys"),
    "one too many": (PADDED | {"wind": PADDED["load"]}, "received keys .*'wind'"),
    "a static one with time": (PADDED | {"size": PADDED["price"]}, "size must have shape"),
    "other steps": (PADDED | {"load": PADDED["load"][:, 1:]}, r"\(3, 5\) for hour beside \(3, 4\)"),
    "other steps ahead": (
        PADDED | {"day": KNOWN["day"][:, 1:]},
        r"\(3, 4\) for day|for day beside",
    ),
    "other rows": (PADDED | {"store": PAST_OF["store"][:2]}, "store must have one row for each"),
    "a store that is none": (
        PADDED | {"store": PAST_OF["store"] + 3},
        "store token ids must be in",
    ),
    "a day that is none": (PADDED | {"day": KNOWN["day"] + 4}, "day token ids must be in 0 to 3"),
    "lists that differ": (
        lists() | {"hour": [row[1:] for row in lists()["hour"]]},
        "the rows of load and hour must have the same numbers of steps",
    ),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_batches_that_cannot_be(model, case):
    x, message = BAD_BATCHES[case]
    with pytest.raises(ValueError, match=message):
        model.fit(x, verbose=0)


def test_what_cannot_be_written(model):
    with pytest.raises(ValueError, match="must be given what is known .* 'day', 'price'; received"):
        model.generate(PAST_OF)
    with pytest.raises(ValueError, match="with .*'day' and 'price'.*received keys"):
        model.generate(PAST_OF | {"day": KNOWN["day"]})
    with pytest.raises(ValueError, match="steps must be those of the target_inputs.*steps=3 and 4"):
        model.generate(PAST_OF | KNOWN, steps=3)
    with pytest.raises(ValueError, match="same steps in every row"):
        model.generate(PAST_OF | KNOWN | {"target_lengths": np.array([1, 2, 3])})
    tokens = rnnzoo.encoder_decoder(
        source_vocabulary=3, target_vocabulary=3, target_inputs={"day": 1}, units=2
    )
    given = {"source": [[1, 2]], "day": np.zeros((1, 2, 1))}
    with pytest.raises(ValueError, match="at most one more than the steps.*max_length=4 and 2"):
        tokens.generate(given, max_length=4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"static": {"source": [1, 2]}}, "names of static must be str, other than .*'source'"),
        ({"static": {"store": [1]}}, r"static\['store'\] must have one entry for each sequence"),
        ({"target_inputs": {"day": [[1], [2]]}}, r"target_inputs\['day'\] must have the numbers"),
        ({"target_inputs": {"target": [[1], [2]]}}, "names of target_inputs must be str"),
        ({"target_vocabulary": {"week": 3}}, "target_vocabulary must be a dict by names"),
        ({"source_vocabulary": {"hour": 2}}, "source_vocabulary must be a dict by names"),
    ],
)
def test_pairs_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        rnnzoo.data.pairs([[1, 2], [3]], [[1, 2], [1]], **options)
