"""Words read by their characters: as by hand, alone as in company, in every form data have."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax

import rnnzoo
from rnnzoo import Characters, Tokens
from rnnzoo.data import Vocabulary, bucket

WORDS = Vocabulary(["the", "cat", "sat"], level="word", unknown=True)
LETTERS = Vocabulary("acehst", unknown=True)
KNOWN = {"words": WORDS, "letters": LETTERS}
INPUTS = {"words": Tokens(len(WORDS), 3), "letters": Characters(len(LETTERS), 4, 3)}
SENTENCES = [["the", "cat", "sat"], ["chatty", "sat"], ["a"]]


def batches(sentences=SENTENCES, **options):
    return bucket({"words": sentences, "letters": sentences}, vocabulary=KNOWN, **options)


@pytest.fixture(scope="module")
def tagger():
    keras.utils.set_random_seed(1)
    outputs = rnnzoo.heads.CRF(3)
    return rnnzoo.one_to_one(inputs=INPUTS, units=4, outputs=outputs, bidirectional=True)


@pytest.fixture(scope="module")
def found(tagger):
    """The outputs for all sentences before anything is trained, in one batch."""
    return tagger.predict(batches(batch_size=3), verbose=0)


def test_words_are_ids_of_characters_with_none_after_their_ends():
    (x,) = batches(batch_size=3)[0]
    np.testing.assert_array_equal(x["words"], [[1, 2, 3], [0, 3, 0], [0, 0, 0]])
    chatty, sat = LETTERS.encode("chatty").tolist(), LETTERS.encode("sat").tolist()
    np.testing.assert_array_equal(x["letters"][1, :2], [chatty, [*sat, -1, -1, -1]])
    ids = [[[6, 4, 3], [2, 1, 6]], [[1, -1, -1]]]
    (same,) = bucket(
        {"words": [["the", "cat"], ["a"]], "letters": list(map(np.array, ids))},
        vocabulary={"words": WORDS, "letters": 7},
    )[0]
    np.testing.assert_array_equal(same["letters"][1, 0], [1, -1, -1])
    assert same["letters"].dtype == np.int32


def test_each_word_is_read_in_both_directions_as_by_hand(tagger):
    layer = tagger.core.get_layer("letters_embedding")
    ids = np.array([[[1, 2, 3], [4, -1, -1]]])
    table = np.asarray(ops.convert_to_numpy(layer.table.embeddings))
    for place, word in enumerate(([1, 2, 3], [4])):
        ends = []
        for part, letters in ((layer.reader.forward, word), (layer.reader.backward, word[::-1])):
            stock = keras.layers.LSTM(4)
            stock.build((None, None, 3))
            stock.set_weights(part.get_weights())
            ends.append(ops.convert_to_numpy(stock(table[letters][None]))[0])
        close(ops.convert_to_numpy(layer(ids))[0, place], np.concatenate(ends))


def test_a_sentence_has_its_outputs_in_any_company(tagger, found):
    for row, sentence in enumerate(SENTENCES):
        alone = tagger.predict(batches([sentence]), verbose=0)
        close(alone[0], found[row, : len(sentence)])
    apart = tagger.predict(batches(batch_size=1), verbose=0)  # batches of other lengths
    close(apart, found)  # and as much is marked as absent


def test_it_is_saved_and_exported(tagger, found, tmp_path):
    tagger.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.spec == tagger.spec and loaded.spec.inputs["letters"].padding == -1
    (x,) = batches(batch_size=3)[0]
    close(loaded.predict(x, verbose=0), found)
    if on_jax():
        return
    import tensorflow as tf

    served = tf.saved_model.load(str(tagger.export(tmp_path / "export" / "1")))
    lengths = x.pop("mask").sum(axis=1).astype("int32")
    x = {name: tf.constant(value) for name, value in x.items()}
    answer = served.signatures["serving_default"](**x, lengths=tf.constant(lengths))
    close(answer["outputs"][0], found[0])
    path = ops.convert_to_numpy(tagger.heads["outputs"].mode(found))
    np.testing.assert_array_equal(answer["outputs_path"], path)


def test_one_that_reads_ahead_goes_on_word_by_word(tmp_path):
    model = rnnzoo.one_to_one(inputs=INPUTS, units=3, outputs=2, cell="gru")
    (x,) = batches(SENTENCES[:1])[0]
    x.pop("mask")
    state, parts = model.initial_state(1), []
    for t in range(3):
        now = {name: value[:, t : t + 1] for name, value in x.items()}
        wider = [(0, 0), (0, 0), (0, t)]  # each word alone has as much room as it takes
        now["letters"] = np.pad(now["letters"], wider, constant_values=-1)
        y, state = model.step(now, state)
        parts.append(ops.convert_to_numpy(y))
    whole = model.predict(x, verbose=0)
    close(np.concatenate(parts, axis=1), whole)
    wide = {**x, "letters": np.pad(x["letters"], ((0, 0), (0, 0), (0, 2)), constant_values=-1)}
    close(model.predict([(x,), (wide,)], verbose=0), np.repeat(whole, 2, axis=0))
    if not on_jax():
        with pytest.raises(ValueError, match="fixed sizes; received letters with as many char"):
            model.export(tmp_path / "small" / "1", format="litert")


def test_a_word_may_belong_to_the_whole_sequence():
    keras.utils.set_random_seed(0)
    static = {"name": Characters(len(LETTERS), 3), "kind": Tokens(len(WORDS), 2)}
    model = rnnzoo.many_to_one(features=1, static=static, units=3, outputs=2)
    names, kinds = ["sat", "hat", "sat"], ["cat", "cat", "mat"]
    series = [np.ones((2, 1))] * 3
    given = {"static": {"name": names, "kind": kinds}}
    data = bucket(series, **given, vocabulary={"name": LETTERS, "kind": WORDS})
    (x,) = data[0]
    np.testing.assert_array_equal(x["kind"], [2, 2, 0])
    np.testing.assert_array_equal(x["name"][0], LETTERS.encode("sat"))
    found = model.predict(data, verbose=0)
    for other in found[1:]:  # either makes a difference
        assert np.abs(found[0] - other).max() > 1e-5


@pytest.mark.parametrize("arguments", [(0, 2), (3, 0), (3, 2, 0), (3, 2.0), (True, 2)])
def test_sizes_are_checked(arguments):
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        Characters(*arguments)


@pytest.mark.parametrize(
    ("letters", "said"),
    [
        (np.zeros((1, 3), int), r"letters must have shape \(batch, time, any\) token ids"),
        (np.zeros((1, 3, 0), int), "room for at least one token in each step"),
        (np.full((1, 3, 2), 7), "letters token ids must be in 0 to 6, or -1 for none; received 7"),
        (np.full((1, 3, 2), -2), "or -1 for none; received -2 at row 0, step 0, feature 0"),
        (np.zeros((1, 3, 2)), "token ids must be integers"),
    ],
)
def test_batches_that_do_not_fit_are_refused(tagger, letters, said):
    with pytest.raises(ValueError, match=said):
        tagger.predict({"words": np.zeros((1, 3), int), "letters": letters}, verbose=0)


@pytest.mark.parametrize(
    ("words", "known", "said"),
    [
        (["the", "big cat"], WORDS, "one word for a vocabulary of words; received 'big cat'"),
        (["the", 3], WORDS, "must hold words only, or numbers"),
        (["the"], None, "give the rnnzoo.data.Vocabulary that encodes it"),
        (["a", "dog"], Vocabulary("ac"), "word 1, 'dog': text must hold only the 2 tokens"),
        (np.array([[0, 9]]), 9, r"must lie in \[-1, 8\]; received 9 at step 0"),
    ],
)
def test_words_that_cannot_be_encoded_are_named(words, known, said):
    with pytest.raises(ValueError, match=said):
        bucket([words], vocabulary=known)
