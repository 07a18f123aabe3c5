"""Tokenizers of other libraries as vocabularies: used, saved, exported, or named where not."""

import io
import json
import types

import keras
import numpy as np
import pytest
from reference import on_jax

import rnnzoo
from rnnzoo.data import Tokenizer, Vocabulary, bucket, stream

TEXT = "the cat sat on the mat, the dog on the log.\nthe cat and the dog sat on the mat.\n" * 3


def pieces():
    """Byte pairs of `tokenizers`, learnt as a user does it."""
    pytest.importorskip("tokenizers", reason="the extra 'tokenizers' is not installed")
    return Vocabulary.from_text(TEXT, "byte_pair", max_size=270)


def sentence_pieces():
    package = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    written = io.BytesIO()
    package.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()),
        model_writer=written,
        vocab_size=40,
        model_type="bpe",
        minloglevel=2,
    )
    return package.SentencePieceProcessor(model_proto=written.getvalue())


def of_keras_hub():
    tokenizers = pytest.importorskip(
        "keras_hub.tokenizers", reason="keras-hub is not installed", exc_type=ImportError
    )
    words = ["[UNK]", "the", "cat", "sat", "on", "m", "##at"]
    return tokenizers.WordPieceTokenizer(vocabulary=words, dtype="int32")


class Own:
    """One of a user's own, which nothing can write down."""

    def encode(self, text):
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, ids):
        return "".join(chr(i + ord("a")) for i in ids)

    def __len__(self):
        return 26


MAKERS = {"tokenizers": pieces, "sentencepiece": sentence_pieces, "keras_hub": of_keras_hub}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request):
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def model(tokenizer):
    return rnnzoo.one_to_one(vocabulary=tokenizer, units=4)


def test_a_text_goes_there_and_back(tokenizer):
    known = Tokenizer(getattr(tokenizer, "source", tokenizer))
    ids = known.encode("the cat sat")
    assert ids.dtype == np.int32 and ids.ndim == 1 and ids.max() < len(known)
    assert known.decode(ids) == "the cat sat"
    (x,), (y,) = bucket(["the cat sat"], vocabulary=tokenizer), bucket([ids])
    np.testing.assert_array_equal(x[0]["inputs"], y[0]["inputs"])


def test_a_model_keeps_it(model, tokenizer, tmp_path):
    assert model.spec.inputs["inputs"].vocabulary == len(model.vocabulary)
    written = model.generate("the cat", max_length=4)
    assert isinstance(written.text[0], str)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.vocabulary.name == model.vocabulary.name
    assert loaded.generate("the cat", max_length=4).text == written.text


@pytest.fixture(scope="module")
def pair():
    model = rnnzoo.encoder_decoder(source_vocabulary=pieces(), target_vocabulary=Own(), units=4)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def test_pairs_of_strings_train_as_their_tokens_do(pair):
    texts, targets = ["the cat", "sat on the"], ["ab", "c"]
    ids = [pair.vocabularies["source"].encode(text) for text in texts]
    plain = pair.evaluate({"source": ids, "target": [[0, 1], [2]]}, verbose=0)
    assert pair.evaluate({"source": texts, "target": targets}, verbose=0) == pytest.approx(plain)


@pytest.mark.skipif(on_jax(), reason="each export takes seconds on JAX")
@pytest.mark.parametrize("make", [pieces, Own])
def test_an_export_names_it_and_holds_what_can_be_written(make, tmp_path):
    model = rnnzoo.many_to_one(vocabulary=make(), units=2, outputs=2)
    known = model.vocabulary
    served = rnnzoo.load_served(model.export(tmp_path / "one" / "1"))
    entry = served.manifest["vocabularies"]["prompt"]
    assert entry["tokenizer"] == known.name and entry["tokens"] == len(known)
    if make is Own:
        assert entry == {"tokenizer": "test_tokenizers.Own", "tokens": 26}
        assert served.vocabularies == {}
    else:
        read = served.vocabularies["prompt"]
        assert read.encode("the cat").tolist() == known.encode("the cat").tolist()


def test_byte_pairs_write_any_text():
    known = pieces()
    wrapping = types.SimpleNamespace(backend_tokenizer=known.source)  # as `transformers` has them
    assert Tokenizer(wrapping).get_config() == known.get_config()
    assert len(known) == 270
    assert len(known.encode("the cat")) < 4  # learnt pieces, not bytes
    for text in ("the cat", "Ωmega ☃\n\n\ttab  two", "\U0001f600"):
        assert known.decode(known.encode(text)) == text
    assert len(stream("the cat sat", 1, 1, vocabulary=known))


def test_what_cannot_be_written_down_is_named_when_the_model_is_saved(tmp_path):
    model = rnnzoo.one_to_one(vocabulary=Own(), units=2)
    with pytest.warns(UserWarning, match="Own is not saved with the model"):
        model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.vocabulary is None and loaded.spec == model.spec
    pair = rnnzoo.encoder_decoder(source_vocabulary=Own(), target_vocabulary=3, units=2)
    with pytest.warns(UserWarning, match="Own is not saved with the model"):
        config = pair.get_config()
    assert config["blueprint"]["source_vocabulary"] == 26


class Lacking:
    def encode(self, text):
        return []

    def decode(self, ids):
        return ""


class Wrong(Own):
    found = 26

    def encode(self, text):
        return [self.found]


class Wrapped(Wrong):
    found = 2**32 + 1


class Real(Wrong):
    found = 1.5


def test_one_of_a_users_own_that_is_of_a_library_adds_no_tokens():
    class Library(Own):
        __module__ = "transformers.some"

        def encode(self, text, add_special_tokens=True):
            return [25] * add_special_tokens + super().encode(text)

        def decode(self, ids, skip_special_tokens=True):
            return "" if skip_special_tokens else super().decode(ids)

    class Derived(Library):
        pass

    known = Tokenizer(Derived())
    assert known.encode("ab").tolist() == [0, 1] and known.decode([0, 1]) == "ab"


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: rnnzoo.one_to_one(vocabulary=Lacking(), units=2), ValueError, "and a size"),
        (lambda: rnnzoo.one_to_one(vocabulary=Own, units=2), ValueError, "received vocabulary=<cl"),
        (lambda: Tokenizer("abc"), ValueError, "source must be a tokenizer with encode"),
        (lambda: bucket(["ab"], vocabulary=Wrong()), ValueError, r"must lie in \[0, 26\)"),
        (lambda: Tokenizer(Wrapped()).encode("a"), ValueError, "received 4294967297 at position 0"),
        (lambda: Tokenizer(Real()).encode("a"), ValueError, "must be integers of shape"),
        (lambda: Vocabulary.from_text(TEXT, "pieces"), ValueError, "'character', 'word', 'byte_p"),
        (lambda: Vocabulary.from_text(TEXT, "byte_pair"), ValueError, "max_size must be an int"),
        (lambda: Vocabulary.from_text(TEXT, "byte_pair", 99), ValueError, "at least 256"),
        (lambda: Vocabulary.from_text("", "byte_pair", 300), ValueError, "must be a str, not em"),
        (
            lambda: Vocabulary.from_text(TEXT, "byte_pair", 300, unknown=True),
            ValueError,
            "unknown must be False",
        ),
        (lambda: Tokenizer.from_config({"library": "os"}), ValueError, "library and content"),
        (
            lambda: Tokenizer.from_config({"library": "os", "content": ""}),
            ValueError,
            "library must be one of 'tokenizers', 'sentencepiece'",
        ),
    ],
)
def test_what_is_none_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_a_library_that_is_absent_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install tokenizers; 'rnnzoo\[tokenizers\]'"):
        Vocabulary.from_text(TEXT, "byte_pair", 300)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "prompt_vocabulary.json"
    known = pieces()
    known.save(path)
    assert Tokenizer.load(path).encode("the").tolist() == known.encode("the").tolist()
    for text in ("{", "[]", json.dumps({"format": "rnnzoo tokenizer 1", "library": "keras"})):
        path.write_text(text)
        with pytest.raises(ValueError, match="as Tokenizer.save writes it"):
            Tokenizer.load(path)
