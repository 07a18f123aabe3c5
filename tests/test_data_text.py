"""Vocabularies: text to ids and back."""

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnzoo.data import Vocabulary


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_characters_there_and_back(text):
    vocabulary = Vocabulary.from_text(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32 and len(ids) == len(text)
    assert vocabulary.decode(ids) == text
    assert [vocabulary.tokens[i] for i in ids] == list(text)
    assert len(vocabulary) == len(set(text))


def test_the_most_frequent_comes_first_ties_sorted():
    assert Vocabulary.from_text("cabbacdd\n").tokens == ("a", "b", "c", "d", "\n")
    words = Vocabulary.from_text("b a\na b  c\n", level="word")
    assert words.tokens == ("\n", "a", "b", "c")


def test_words_there_and_back():
    text = "to be , or\nnot to be\n\nthat is"
    vocabulary = Vocabulary.from_text(text, level="word")
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.encode("  to\tbe ").tolist() == vocabulary.encode("to be").tolist()
    assert vocabulary.encode(" \t").tolist() == []


def test_unknown_is_id_zero():
    vocabulary = Vocabulary.from_text("aaabbc", max_size=3, unknown=True)
    assert vocabulary.tokens == ("[UNK]", "a", "b") and len(vocabulary) == 3
    assert vocabulary.encode("abcé\0\ud800?").tolist() == [1, 2, 0, 0, 0, 0, 0]
    assert vocabulary.decode([1, 0]) == "a[UNK]"
    words = Vocabulary.from_text("a a [UNK]", level="word", unknown=True)
    assert words.encode("b a [UNK]").tolist() == [0, 1, 0]


def test_half_a_surrogate_is_not_taken_for_a_question_mark():
    assert Vocabulary.from_text("?a", unknown=True).encode("?\ud800").tolist() == [1, 0]


def test_unseen_symbols_are_named_with_the_first_position():
    vocabulary = Vocabulary.from_text("abc")
    with pytest.raises(ValueError, match="only the 3 tokens .* received 'z' at position 2"):
        vocabulary.encode("abzé")
    with pytest.raises(ValueError, match="received 'é' at position 1"):
        vocabulary.encode("aéz")
    words = Vocabulary.from_text("the cat", level="word")
    with pytest.raises(ValueError, match="received 'he' at position 8"):
        words.encode("the cat he")


def test_a_million_characters_are_quick():
    letters = random.Random(0).choices("abcdefghijklmnopqrstuvwxyz \n", k=10**6)
    text = "".join(letters)
    for level in ("character", "word"):
        vocabulary = Vocabulary.from_text("a", level)
        vocabulary.encode("a")
        start = time.process_time()
        vocabulary = Vocabulary.from_text(text, level)
        ids = vocabulary.encode(text)
        assert len(vocabulary.decode(ids)) > 9e5
        assert time.process_time() - start < 6


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("level, text", [("character", 'a\n\r "é\u2028'), ("word", 'a "b\n é')])
def test_save_and_load(tmp_path, level, text, unknown):
    path = tmp_path / "vocabulary.json"
    saved = Vocabulary.from_text(text, level, unknown=unknown)
    saved.save(path)
    loaded = Vocabulary.load(path)
    assert loaded.tokens == saved.tokens
    assert (loaded.level, loaded.unknown) == (level, unknown)
    assert loaded.encode(text).tolist() == saved.encode(text).tolist()
    assert os.listdir(tmp_path) == ["vocabulary.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.json"
    Vocabulary("ab").save(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        Vocabulary("xyz").save(path)
    assert Vocabulary.load(path).tokens == ("a", "b")
    assert os.listdir(tmp_path) == ["vocabulary.json"]


def damaged():
    whole = {"format": "rnnzoo vocabulary 1", "level": "word", "unknown": False, "tokens": ["a"]}
    yield b'{"format"'
    yield b"\xff\xfe\x00"
    yield b"[]"
    for key, value in [("tokens", "abc"), ("tokens", [1]), ("level", "x"), ("format", "2")]:
        yield json.dumps({**whole, key: value}).encode()
    yield json.dumps({**whole, "unknown": "yes"}).encode()
    yield b"[" * 200_000
    yield b'{"format":' * 200_000
    del whole["unknown"]
    yield json.dumps(whole).encode()


@pytest.mark.parametrize("content", list(damaged()), ids=range(11))
def test_damaged_file(tmp_path, content):
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match="path must be a file of JSON as Vocabulary.save .*received"
    ):
        Vocabulary.load(path)


def test_a_file_too_large_is_not_read_whole(tmp_path):
    path = tmp_path / "vocabulary.json"
    with open(path, "wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ValueError, match=r"path must be a file of JSON .*more than 268435456"):
        Vocabulary.load(path)


BAD = [
    (lambda: Vocabulary(5), "tokens must be a list .* of str; received tokens=5"),
    (lambda: Vocabulary("ab", unknown="yes"), "unknown must be True or False; .*unknown='yes'"),
    (lambda: Vocabulary("ab", np.array(["word"] * 2)), "level must be one of 'character', 'word'"),
    (lambda: Vocabulary.from_config({"tokens": ["a"]}), "config must be a dict with the keys"),
    (lambda: Vocabulary("ab").save("a\0b"), "path must be a path: .* received path='a"),
    (lambda: Vocabulary([]), "at least one token; received none"),
    (lambda: Vocabulary("aba"), "must all differ; received 'a' more than once"),
    (lambda: Vocabulary(["ab"]), "must be one character.* received 'ab' as token 0"),
    (lambda: Vocabulary(["a", ""]), "received '' as token 1"),
    (lambda: Vocabulary(["a", 3]), "received 3 as token 1"),
    (lambda: Vocabulary(["a b"], "word"), "must be a word or a newline.* received 'a b'"),
    (lambda: Vocabulary.from_text("a\0"), r"without NUL .* received '\\x00'"),
    (lambda: Vocabulary.from_text("\ud800"), "half a surrogate pair; received"),
    (lambda: Vocabulary("ab", "byte"), "level must be one of 'character', 'word'"),
    (lambda: Vocabulary(["[UNK]"], "word", True), r"must not hold '\[UNK\]', which is id 0"),
    (lambda: Vocabulary.from_text(""), "at least one character; received ''"),
    (lambda: Vocabulary.from_text(" \t", "word"), "at least one word; received"),
    (lambda: Vocabulary.from_text(b"abc"), "text must be a str .* received b'abc'"),
    (lambda: Vocabulary.from_text("abc", max_size=2), "at least the 3 different .* max_size=2"),
    (lambda: Vocabulary.from_text("abc", max_size=0), "max_size must be an integer of at least 1"),
    (lambda: Vocabulary("ab").encode(["a"]), r"text must be a str; received \['a'\]"),
    (lambda: Vocabulary("ab").decode([0, 2]), r"lie in \[0, 2\); received 2 at position 1"),
    (lambda: Vocabulary("ab").decode([-1]), "received -1 at position 0"),
    (lambda: Vocabulary("ab").decode([0.5]), "must be integers .* received float64"),
    (lambda: Vocabulary("ab").decode([[0]]), r"of shape \(tokens,\); received int64 \(1, 1\)"),
]


@pytest.mark.parametrize("call, message", BAD, ids=range(len(BAD)))
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_tensorflow_is_imported_on_use_only():
    script = (
        "import sys; from rnnzoo.data import Vocabulary, bucket, pack, stream\n"
        "vocabulary = Vocabulary('ab')\n"
        "[batch for batch in stream([0, 1, 0, 1], 1, 2)]\n"
        "print('tensorflow' in sys.modules)\n"
        "sys.modules['tensorflow'] = None\n"
        "try: vocabulary.encode('a')\n"
        "except ImportError as error: print(error)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "False", done.stderr
    assert "must have TensorFlow, which keras.layers.StringLookup needs" in lines[1]
