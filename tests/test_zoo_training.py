"""How the animals are trained: splits that do not meet, scaling in the weights, plain methods."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rnnzoo
from rnnzoo.presets.folder import outputs_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes" / "zoo"))

import first_names
import shakespeare
import surnames
import vowels


def test_first_names_are_split_as_in_the_lectures():
    chosen, final = first_names.read(True), first_names.read(False)
    assert (len(final.train), len(chosen.held), len(final.held)) == (25626, 3203, 3204)
    assert final.train == chosen.train and len(final.vocabulary) == 27
    assert sum(len(name) + 1 for name in final.held) == 22866


def test_surnames_of_the_test_are_never_trained_on():
    chosen, final = surnames.read(True), surnames.read(False)
    assert (len(final.train), len(final.held), len(final.labels)) == (17937, 2113, 18)
    names = [{name for name, _ in part} for part in (final.held, chosen.held, chosen.train)]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert set(chosen.held) | set(chosen.train) == set(final.train)


def test_the_scaling_of_the_vowels_goes_into_the_weights():
    data = vowels.read(False)
    assert (len(data.train), len(data.held)) == (270, 370)
    model = rnnzoo.many_to_one(features=12, units=8, outputs=9)
    raw, scaled = (part[3][0][None].astype("float32") for part in (data.train, data.scaled))
    before = outputs_of(model, {"inputs": scaled})
    vowels.finish(model, data)
    assert np.abs(outputs_of(model, {"inputs": raw}) - before).max() < 1e-5


def test_utterances_for_validation_are_not_trained_on():
    chosen = vowels.read(True)
    train, held = ({x.tobytes() for x, _ in part} for part in (chosen.train, chosen.held))
    assert not train & held and len(train) + len(held) == 270


def test_ngrams_are_counted_right():
    data = SimpleNamespace(train=["ab", "a"], held=["b"], vocabulary="\nab")
    # Of letters alone: a 2, b 1, end 2 of 5; four sights of the uniform guess beside them.
    uniform = 4 / 3
    b, end = (1 + uniform) / 9, (2 + uniform) / 9
    assert first_names.ngram(data, 1) == pytest.approx(-(math.log(b) + math.log(end)) / 2)
    # After the start: a 2 of 2. After b: the end, 1 of 1.
    pairs = ((0 + 4 * b) / 6, (1 + 4 * end) / 5)
    assert first_names.ngram(data, 2) == pytest.approx(-sum(map(math.log, pairs)) / 2)


def test_the_trigram_of_shakespeare_counts_one_more():
    data = SimpleNamespace(
        train=np.array([0, 1, 0, 1, 1]), held=np.array([0, 1, 0]), vocabulary="ab"
    )
    # After 0 1 came 0 and 1, once each.
    assert shakespeare.baseline(data) == {"trigram, one added": round(-math.log(2 / 4), 4)}


def test_naive_bayes_finds_what_only_one_class_has():
    data = SimpleNamespace(
        train=[("xa", 0), ("xb", 0), ("xc", 0), ("ya", 1), ("yb", 1)],
        held=[("xd", 0), ("yd", 1)],
        labels=["x", "y"],
    )
    assert surnames.baseline(data) == {
        "naive Bayes on 1 to 3 letters": 100.0,
        "always the most frequent": 50.0,
    }
