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

import commands
import digits
import ett_oil
import first_names
import french
import labelled
import mnist_1d
import own
import phonemes
import remaining_life
import shakespeare
import surnames
import together
import tuning
import vowels


def test_first_names_are_split_as_in_the_lectures():
    chosen, final = first_names.read(True), first_names.read(False)
    assert (len(final.train), len(chosen.held), len(final.held)) == (25626, 3203, 3204)
    assert final.train == chosen.train and len(final.sizes["vocabulary"]) == 27
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
    scaled = labelled.scaled(data, data.train)
    raw, scaled = (part[3][0][None].astype("float32") for part in (data.train, scaled))
    before = outputs_of(model, {"inputs": scaled})
    vowels.finish(model, data)
    assert np.abs(outputs_of(model, {"inputs": raw}) - before).max() < 1e-5


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_scaling_goes_into_a_gru_too(bidirectional):
    random = np.random.default_rng(0)
    options = {"cell": "gru", "bidirectional": bidirectional}
    model = rnnzoo.one_to_one(features=2, units=3, outputs=1, **options)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    x = random.normal(size=(2, 5, 2)).astype("float32")
    mean, deviation = np.array([3.0, -4.0]), np.array([2.0, 0.5])
    before = outputs_of(model, {"inputs": x})
    labelled.scale_into(model, mean, deviation)
    after = outputs_of(model, {"inputs": (x * deviation + mean).astype("float32")})
    assert np.abs(after - before).max() < 1e-5


@pytest.mark.parametrize(
    ("options", "x"),
    [
        ({"vocabulary": 6, "embedding": 3, "bidirectional": True}, np.arange(8).reshape(2, 4) % 6),
        ({"features": 2, "cell": "gru"}, np.arange(16).reshape(2, 4, 2) / 9),
    ],
)
def test_models_put_together_give_the_mean_of_theirs(options, x):
    def build(units, **more):
        return rnnzoo.many_to_one(**{**options, **more}, units=units, outputs=3)

    random, models = np.random.default_rng(0), [build([4, 5]) for _ in range(3)]
    for model in models:
        model.set_weights([random.normal(size=one.shape) for one in model.get_weights()])
    apart = [outputs_of(model, {"inputs": x}) for model in models]
    whole = together.together(build, models)
    assert np.abs(outputs_of(whole, {"inputs": x}) - np.mean(apart, axis=0)).max() < 1e-5


@pytest.mark.parametrize(
    ("animal", "train", "test"), [(vowels, 270, 370), (mnist_1d, 4000, 1000), (digits, 2700, 300)]
)
def test_what_is_validated_or_tested_on_is_not_trained_on(animal, train, test):
    chosen, final = animal.read(True), animal.read(False)
    seen = [{x.tobytes() for x, _ in part} for part in (chosen.train, chosen.held, final.held)]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert len(chosen.train) + len(chosen.held) == len(final.train) == train
    assert len(final.held) == test and len(final.labels) == final.sizes["outputs"]


def test_commands_of_the_test_are_never_trained_on():
    chosen, final = commands.read(True), commands.read(False)
    assert (len(final.train), len(final.held)) == (16728, 4182)
    assert set(chosen.train) | set(chosen.held) == set(final.train)
    assert not {c for c, _ in chosen.train} & {c for c, _ in chosen.held}


def test_words_of_the_test_are_never_trained_on():
    (train, valid), (whole, test) = phonemes.parted(True), phonemes.parted(False)
    parts = [{word for word, _ in part} for part in (train, valid, test)]
    assert [len(part) for part in parts] == [100842, 12605, 12605]
    assert len(set.union(*parts)) == 126052 and {*whole} == {*train, *valid}


def test_a_word_is_right_where_one_of_its_pronunciations_is_met():
    held = [("ab", "A B"), ("ab", "A"), ("b", "B")]
    data = SimpleNamespace(train=[("abc", "A B K"), ("b", "B")], held=held)
    assert phonemes.wrong(data, ["ab", "b"], ["A", "A"]) == 50
    # Of c alone K is known, and of b after a, too; a word is read letter by letter.
    assert list(phonemes.baseline(data).values()) == [0]
    data.held = [("cb", "K B"), ("bb", "A")]
    assert list(phonemes.baseline(data).values()) == [50]


def test_hours_of_the_test_are_never_trained_on():
    chosen, final = ett_oil.read(True), ett_oil.read(False)
    assert np.array_equal(chosen.train[0], final.train[0]) and len(final.train[0]) == 8640
    assert len(chosen.held[0]) == len(final.held[0]) == 336 + 2880
    # The first hours that are told come after the last that are trained on, or chosen by.
    assert np.array_equal(chosen.held[0][:336], final.train[0][-336:])
    assert np.array_equal(final.held[0][:336], chosen.held[0][-336:])
    assert np.array_equal(final.held[0][:, 1], (np.arange(3216) + 11520 - 336) % 24)


def test_the_forecast_begins_as_a_ridge_and_ends_in_degrees():
    random = np.random.default_rng(0)
    values = 20 + 5 * np.sin(np.arange(900) / 7) + random.normal(size=900)
    series = np.stack([values, np.arange(900) % 24], axis=1)
    data = ett_oil.arranged([series], [], [series[:400]])
    model = rnnzoo.zoo.build("forecast.ett_oil", units=26)
    ett_oil.begin(model, data)
    scaled, degrees = ett_oil.windows(series, 400, 500, data.deviation)[0], series[None, :400]
    begun = model.predict(scaled, verbose=0)
    past, time, after = ett_oil.flat([series], data.deviation)
    weights = ett_oil.ridge(past, time, after, 1000.0)
    expected = scaled[0, 335:, :1] + (np.hstack([past, time]) @ weights)[: 400 - 335]
    assert np.abs(begun[0, 335:] - expected).max() < 1e-4
    last = model.core.get_layer("output_layer")
    last.set_weights([random.normal(size=one.shape) for one in last.get_weights()])
    trained = model.predict(scaled, verbose=0)
    ett_oil.finish(model, data)
    finished = model.predict(degrees.astype("float32"), verbose=0)
    assert np.abs(finished - trained * data.deviation).max() < 2e-3
    told = finished[0, 335 : 400 - 24] - values[np.arange(336, 377)[:, None] + np.arange(24)]
    assert ett_oil.measure(model, data) == pytest.approx(
        np.mean((told / data.deviation) ** 2), 1e-4
    )
    assert ett_oil.baseline(data)["repeat the last value"] > 0


def test_sentences_of_the_test_are_never_trained_on():
    (train, valid), (whole, test) = french.parted(True), french.parted(False)
    assert (len(whole), len(test)) == (127200, 13947) and {*train, *valid} == {*whole}
    parts = [{source for source, _ in part} for part in (train, valid, test)]
    assert len(parts[2]) == 9698
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_bleu_is_that_of_any_translation_that_is_listed():
    pytest.importorskip("sacrebleu")
    held = [("I see it.", "Je le vois bien."), ("I see it.", "Je l'ai vu hier soir.")]
    data = french.arranged([("it", "le"), ("I see", "je vois"), ("I", "je")], [], held)
    assert list(french.listed(data)) == ["I see it ."]
    told = french.apart("Je l'ai vu hier soir.")
    assert told == "Je l' ai vu hier soir ."
    assert french.bleu(data, [told]) == pytest.approx(100)
    assert french.bleu(data, ["Je le vois"]) < 100
    # je comes with each I, vois with see alone, and the mark is not known.
    data.held = [("I see it .", "je vois le .")]
    assert french.baseline(data) == {"word by word": 100}


def test_a_line_of_mnist_1d_is_trained_on_from_all_its_starts():
    data = mnist_1d.read(True)
    data.train = data.train[:2]
    rows = mnist_1d.batches(data, SimpleNamespace(batch=80), seed=0)[0]
    lines, labels = rows[0]["inputs"][..., 0], rows[1].tolist()
    assert len({line.tobytes() for line in lines}) == 80
    assert len({tuple(np.sort(line)) for line in lines}) == 2
    assert sorted(labels) == sorted(40 * [label for _, label in data.train])


def test_changed_recordings_have_the_bands_and_about_the_length():
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 26)).astype("float32")
    lengths = [digits.changed(x, random).shape for _ in range(20)]
    assert {bands for _, bands in lengths} == {26} and len(set(lengths)) > 5
    assert all(31 <= length <= 50 for length, _ in lengths)
    assert digits.changed(x[:1], random).shape == (1, 26)


def test_places_between_rows_are_between_them():
    rows = np.array([[0.0], [10.0], [30.0]])
    found = labelled.between(rows, np.array([0.0, 0.5, 1.25, 2.0]))
    np.testing.assert_allclose(found[:, 0], [0, 5, 15, 30])


@pytest.mark.skipif(not remaining_life.DATA.exists(), reason="C-MAPSS is not part of rnnzoo")
def test_engines_are_told_what_they_have_left():
    data = remaining_life.read(False)
    assert (len(data.train), len(data.held)) == (100, 100)
    assert min(left for _, left in data.held) == 7


def test_cycles_left_fall_to_those_after_the_last_and_are_capped():
    data = remaining_life.arranged([np.zeros((130, 2)), np.ones((3, 2))], [], [])
    _, (long, short) = remaining_life.scaled(data, [(np.zeros((130, 2)), 0), (np.ones((3, 2)), 4)])
    assert short[:, 0].tolist() == pytest.approx([6 / 125, 5 / 125, 4 / 125])
    assert long[0] == long[4] == 1 and long[-1] == 0 and long[5] == 124 / 125


# Data of others.


def test_rows_of_one_key_stay_together():
    rows = [(f"name {i % 30}", i) for i in range(90)]
    parts = own.split(rows, seed=0, key=lambda row: row[0])
    assert [len(part) for part in parts] == [72, 9, 9] and sorted(sum(parts, [])) == sorted(rows)
    names = [{name for name, _ in part} for part in parts]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    with pytest.raises(ValueError, match="at least 10 different rows; received 9"):
        own.split(rows[:9], seed=0)


def written(folder, name, lines):
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def test_files_of_others_are_read(tmp_path):
    lines = [f"{'ab'[i % 2]}\tw{i} x" for i in range(20)]
    data = surnames.own(written(tmp_path, "labels.tsv", lines), seed=0)
    assert data.labels == ["a", "b"] and len(data.train) == 16 and len(data.valid) == 2
    lines = [f"w{i % 20} x\ty z{i}" for i in range(23)]
    pairs = commands.own(written(tmp_path, "pairs.tsv", lines), seed=0)
    assert len(pairs.train + pairs.valid + pairs.held) == 23
    words = phonemes.own(tmp_path / "pairs.tsv", seed=0).sizes["source_vocabulary"]
    assert set(words.tokens[1:]) == set("w 0123456789x")
    rows = [f"{i},{step},{step % 7},{step % 24}" for i in range(2) for step in range(900)]
    hours = ett_oil.own(written(tmp_path, "hours.csv", ["sequence,step,x,hour", *rows]), seed=0)
    assert [len(part[1]) for part in (hours.train, hours.valid, hours.held)] == [720, 426, 426]
    assert len(ett_oil.still(hours, hours.valid)) == 2
    for changed, words in (
        (rows[:600], "must have 880 steps; received 600"),
        ([*rows[:-1], "1,900,3,24"], "must have hours from 0 to 23; received 24"),
        ([f"0,{i},5,{i % 24}" for i in range(900)], "must have values that change; received 5"),
    ):
        with pytest.raises(ValueError, match=words):
            ett_oil.own(written(tmp_path, "not.csv", ["sequence,step,x,hour", *changed]), seed=0)
    names = first_names.own(written(tmp_path, "names.txt", [f"n{i}" for i in range(20)]), seed=0)
    assert len(names.train) == 16 and names.sizes["vocabulary"].encode("n").shape == (1,)
    few = SimpleNamespace(batch=64, window=32)
    assert first_names.batches(names, few, seed=0).steps > 0
    assert len(first_names.still(names, names.valid)) == 1
    text = shakespeare.own(written(tmp_path, "text.txt", ["to be " * 40]), seed=0)
    assert [len(part) for part in (text.train, text.valid, text.held)] == [192, 24, 25]
    assert shakespeare.batches(text, few, seed=0).steps == 39
    with pytest.raises(ValueError, match="must have at least 200 characters; received 61"):
        shakespeare.own(written(tmp_path, "text.txt", ["to be " * 10]), seed=0)
    rows = [f"{i},{step},{'ab'[i % 2]},{i + step}" for i in range(20) for step in range(3)]
    path = written(tmp_path, "rows.csv", ["sequence,step,label,x", *rows])
    table = mnist_1d.own(path, seed=0)
    assert table.labels == ["a", "b"] and table.sizes == {"features": 1, "outputs": 2}
    assert len(mnist_1d.batches(table, SimpleNamespace(batch=99), seed=0)[0][1]) == 16
    rows = [f"{i},{step},{step}" for i in range(10) for step in range(45)]
    engines = remaining_life.own(written(tmp_path, "life.csv", ["sequence,step,x", *rows]), seed=0)
    assert len(engines.train) == 8 and len(engines.valid) == 1
    assert all(len(x) + left == 45 for x, left in engines.held)
    lanes = remaining_life.batches(engines, SimpleNamespace(batch=8, window=50), seed=0)
    assert lanes.steps > 0
    with pytest.raises(ValueError, match="must be a folder with a folder for each label; received"):
        digits.own(tmp_path / "rows.csv", seed=0)


def test_rows_of_others_that_nothing_can_be_learnt_from():
    with pytest.raises(ValueError, match="there must be at least 2 labels; received a$"):
        own.labelled([("x", "a")], [("y", "a")])
    # One feature never changes; one sequence has a single step.
    rows = [(np.float32([[1e5, i % 2]] * (1 + i)), "ab"[i % 2]) for i in range(6)]
    data = labelled.arranged(rows, [], rows)
    assert data.deviation[0] == 1 and not labelled.scaled(data, rows)[0][0][0, 0]
    assert labelled.baseline(data)["nearest neighbour of means and deviations"] == 100
    # A label that is in no row to train on.
    data = SimpleNamespace(train=[("x", 0), ("y", 1)], held=[("x", 0), ("z", 2)], labels="xyz")
    assert surnames.baseline(data)["naive Bayes on 1 to 3 letters"] == 50


def test_looking_for_settings_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    with pytest.raises(ImportError, match=r"--tune needs KerasTuner: pip install 'rnnzoo\[tune\]'"):
        tuning.tuned(lambda **settings: 0.0, 1, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")
def test_the_best_settings_are_found():
    pytest.importorskip("keras_tuner")
    tried = []

    def score(rate, cell, units, dropout):
        tried.append({"rate": rate, "cell": cell, "units": units, "dropout": dropout})
        return rate + len(units) + (cell != "gru")

    best = tuning.tuned(score, 0.02, seed=0)
    assert best in tried and score(**best) == min(score(**one) for one in tried[:])


def test_ngrams_are_counted_right():
    data = SimpleNamespace(train=["ab", "a"], held=["b"], sizes={"vocabulary": "\nab"})
    # Of letters alone: a 2, b 1, end 2 of 5; four sights of the uniform guess beside them.
    uniform = 4 / 3
    b, end = (1 + uniform) / 9, (2 + uniform) / 9
    assert first_names.ngram(data, 1) == pytest.approx(-(math.log(b) + math.log(end)) / 2)
    # After the start: a 2 of 2. After b: the end, 1 of 1.
    pairs = ((0 + 4 * b) / 6, (1 + 4 * end) / 5)
    assert first_names.ngram(data, 2) == pytest.approx(-sum(map(math.log, pairs)) / 2)


def test_the_trigram_of_shakespeare_counts_one_more():
    data = SimpleNamespace(
        train=np.array([0, 1, 0, 1, 1]), held=np.array([0, 1, 0]), sizes={"vocabulary": "ab"}
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
