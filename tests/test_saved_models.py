"""The exports that come with the project: small, described, and as good as their cards say."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import rnnzoo
from rnnzoo.data import read_text

if keras.backend.backend() == "jax":
    pytest.skip("a SavedModel is the same on both backends", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "recipes" / "data"


@pytest.fixture(scope="module")
def shakespeare():
    return rnnzoo.load_served(ROOT / "saved_models" / "shakespeare" / "1")


@pytest.fixture(scope="module")
def pronounce():
    return rnnzoo.load_served(ROOT / "saved_models" / "pronounce" / "1")


def settings(rows, length, temperature=0.0):
    return {
        "max_length": np.full(rows, length),
        "temperature": np.full(rows, temperature),
        "seed": np.arange(rows),
    }


@pytest.mark.parametrize("name", ["shakespeare", "pronounce"])
def test_each_is_small_and_has_a_card_with_its_figures(name):
    folder = ROOT / "saved_models" / name
    files = [path for path in (folder / "1").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5e6
    # Of gradients that are not there: TensorFlow would warn of them at each load.
    assert b"_gradient_op_type" not in (folder / "1" / "saved_model.pb").read_bytes()
    card = (folder / "README.md").read_text()
    for heading in ("Data", "Licence", "Made by", "Figures", "Intended use"):
        assert f"## {heading}\n" in card
    manifest = json.loads((folder / "1" / "assets.extra" / "rnnzoo.json").read_text())
    assert manifest["metrics"]
    figures = [
        n for value in manifest["metrics"].values() for n in re.findall(r"[\d.]+", str(value))
    ]
    for figure in figures:
        assert f"{float(figure):.3g}" in card or figure in card


def test_the_text_is_predicted_as_well_as_the_card_says(shakespeare):
    text = read_text(DATA / "tinyshakespeare" / "input.txt.gz")
    ids = shakespeare.vocabularies["prompt"].encode(text[int(0.9 * len(text)) :])[:20_001]
    logits = shakespeare.call(inputs=ids[None, :-1])["outputs"][0].astype("float64")
    logits -= logits.max(axis=-1, keepdims=True)
    right = logits[np.arange(len(logits)), ids[1:]] - np.log(np.exp(logits).sum(axis=-1))
    told = shakespeare.manifest["metrics"]["nats per character, validation"]
    assert -right.mean() == pytest.approx(told, abs=0.1)  # the card's is of the whole text


def test_the_words_written_are_mostly_words(shakespeare):
    known = set(re.findall(r"[A-Za-z']+", read_text(DATA / "tinyshakespeare" / "input.txt.gz")))
    prompts = np.array(["ROMEO:\n", "JULIET:\n", "First Citizen:\n"])
    found = shakespeare.call("generate_text", text=prompts, **settings(3, 300, 0.6))["text"]
    words = [word for text in found for word in re.findall(r"[A-Za-z']+", text.decode())]
    assert len(words) > 100
    assert np.mean([word in known for word in words]) > 0.85


def test_words_are_said_as_the_dictionary_has_them(pronounce):
    lines = read_text(DATA / "cmudict" / "cmudict.dict.gz").splitlines()[::2500]
    both = [line.split(" #")[0].split(" ", 1) for line in lines]
    listed = {word: re.sub(r"\d", "", said) for word, said in both if "(" not in word}
    words = np.array(list(listed))
    found = pronounce.call("generate_text", text=words, **settings(len(words), 30))["text"]
    right = [said.decode() == listed[word] for word, said in zip(words, found)]
    assert len(right) > 40
    assert np.mean(right) > 0.6
