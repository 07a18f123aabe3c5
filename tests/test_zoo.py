"""The zoo: its lists and cards, presets written and read, new heads, what is refused."""

import dataclasses
import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import rnnzoo
from rnnzoo.__main__ import main
from rnnzoo.export.formats import FORMATS
from rnnzoo.presets.card import FORMAT
from rnnzoo.presets.folder import FILES, cell_of, check, outputs_of, read_card, read_golden, sha256
from rnnzoo.zoo import animals
from rnnzoo.zoo.places import HOME

ROOT = Path(__file__).resolve().parents[1]
LABELS = ["cat", "dog", "fox"]
TRAINING = {"rate": 0.1, "epochs": 1, "updates": 1, "batch": 1}


@pytest.fixture(scope="module")
def model():
    vocabulary = rnnzoo.data.Vocabulary("abc\n")
    return rnnzoo.many_to_one(vocabulary=vocabulary, units=[4, 5], outputs=3)


@pytest.fixture(scope="module")
def home(model, tmp_path_factory):
    """A folder as RNNZOO_HOME names one, with the preset 'letters'."""
    home = tmp_path_factory.mktemp("home")
    model.save_to_preset(home / "letters", labels=LABELS, task="text-classification")
    return home


@pytest.fixture
def copy(home, tmp_path):
    """A preset that may be spoilt."""
    folder = tmp_path / "letters"
    folder.mkdir()
    for file in FILES:
        (folder / file).write_bytes((home / "letters" / file).read_bytes())
    return folder


def difference(a, b):
    return max(np.abs(x - y).max() for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b)))


# Every animal that has weights.


@pytest.mark.parametrize("name", rnnzoo.zoo.list(trained=True))
def test_each_trained_animal_is_what_its_card_says(name):
    folder, card = ROOT / "saved_models" / name, rnnzoo.zoo.card(name)
    model = rnnzoo.from_preset(name)
    assert model.count_params() == card.parameters
    batch, expected = read_golden(folder)
    assert difference(outputs_of(model, batch), expected) < 1e-4
    assert (folder / "model.keras").stat().st_size < 8e6
    card.check_licence()
    for told in ("metric", "measured", "data", "command", "minutes", "machine", "date", "paper"):
        assert getattr(card, told), told
    assert card.baseline and card.command == f"make zoo zoo={name}"
    readme = (folder / "README.md").read_text()
    assert readme == card.readme() and f"{card.measured:.4g}" in readme


@pytest.mark.parametrize("name", rnnzoo.zoo.list(trained=True))
def test_each_trained_animal_steps_and_learns_on(name):
    model, card = rnnzoo.from_preset(name), rnnzoo.zoo.card(name)
    batch, expected = read_golden(ROOT / "saved_models" / name)
    if card.form == "encoder_decoder":
        assert answers_step_by_step(model, batch, expected)
        y = ()
    else:
        x, state = batch["inputs"], model.initial_state(2)
        for i in range(x.shape[1]):
            outputs, state = model.step(x[:, i : i + 1], state)
        last = expected[:, -1:] if expected.ndim == 3 else expected
        assert difference(keras.ops.convert_to_numpy(outputs), last) < 1e-4
        shape = x.shape[:2] if expected.ndim == 3 else (2,)
        y = [np.zeros(expected.shape if card.training.metric == "error" else shape, "int32")]
    card.compile(model)
    trained = model.trainable_variables
    before = [np.array(one) for one in trained]
    assert np.isfinite(model.train_on_batch(batch, *y)).all()
    assert before and all(np.any(a != np.array(b)) for a, b in zip(before, trained))


def answers_step_by_step(model, batch, expected):
    """Whether what an encoder-decoder writes is what it gives at once for that target."""
    written = model.generate(batch["source"], max_length=8)
    target = written.tokens[:, :7]
    outputs = outputs_of(model, {"source": batch["source"], "target": target})
    at_once = outputs.argmax(axis=-1)
    return outputs.shape == expected.shape and all(
        np.array_equal(told[:length], line[:length])
        for told, line, length in zip(written.tokens, at_once, written.lengths)
    )


def test_the_page_of_results_is_that_of_the_cards(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes" / "zoo")
    import page

    assert page.PAGE.read_text() == page.page()
    assert page.page().count("\n| `") == len(rnnzoo.zoo.list(trained=True))


def test_all_weights_together_are_small():
    files = (ROOT / "saved_models").glob("*/model.keras")
    assert sum(path.stat().st_size for path in files) < 80e6


# Names and cards.


def test_the_list_is_chosen_by_what_the_cards_say():
    everything = rnnzoo.zoo.list()
    assert sorted(everything) == everything and set(animals.BY_NAME) <= set(everything)
    for key in ("task", "cell", "form", "trained"):
        for name in everything:
            value = getattr(rnnzoo.zoo.card(name), key)
            chosen = rnnzoo.zoo.list(**{key: value})
            assert chosen == [n for n in everything if getattr(rnnzoo.zoo.card(n), key) == value]
    with pytest.raises(
        ValueError, match="task must be one of 'audio-classification', .*received task='txt'"
    ):
        rnnzoo.zoo.list(task="txt")
    with pytest.raises(ValueError, match="trained must be True or False"):
        rnnzoo.zoo.list(trained="yes")


def test_a_preset_is_listed_by_the_name_that_it_is_loaded_by(copy, monkeypatch):
    edited(copy, name="another")
    monkeypatch.setenv(HOME, str(copy.parent))
    names = rnnzoo.zoo.list(trained=True)
    assert "letters" in names and "another" not in names
    # One that cannot be read keeps none of the others from being listed.
    edited(copy, format=FORMAT + 1)
    with pytest.warns(UserWarning, match="the preset letters is not listed: .*of a newer rnnzoo"):
        assert rnnzoo.zoo.list(trained=True) == [name for name in names if name != "letters"]
    (copy / "card.json").unlink()
    (copy / "card.json").mkdir()
    assert "letters" not in rnnzoo.zoo.list()


def test_a_card_prints_what_it_knows():
    text = str(rnnzoo.zoo.card("zaremba.small"))
    for words in ("zaremba.small (an architecture", "2014", "115.91", "arXiv 1409.2329"):
        assert words in text
    assert "None" not in text


def test_a_card_is_the_same_after_it_was_written(home):
    card = read_card(home / "letters")
    assert type(card).from_json(card.to_json(), "card.json") == card
    assert (card.name, card.form, card.cell, card.labels) == (
        "letters", "many_to_one", "lstm", LABELS,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(animals.BY_NAME))
def test_each_architecture_is_built_and_compiled_as_its_card_says(name):
    card = animals.BY_NAME[name].card
    small = {"units": 26 if card.cell == "lstnet" else 4}
    small |= {"embedding": 3} if "zaremba" in name else {}
    model = card.compile(rnnzoo.zoo.build(name, **small))
    assert model.form == card.form
    assert isinstance(model.optimizer, keras.optimizers.get(card.training.optimizer).__class__)
    assert model.optimizer.global_clipnorm == card.training.clip


def test_smoothed_labels_are_those_of_keras():
    random = np.random.default_rng(0)
    y, logits = random.integers(0, 4, (2, 5)), random.normal(size=(2, 5, 4)).astype("float32")
    weights = random.integers(0, 2, (2, 5)).astype("float32")
    training = animals.BY_NAME["luong.pronounce"].card.training
    loss = keras.losses.deserialize(keras.losses.serialize(training.loss()))
    keras_way = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction="mean_with_sample_weight"
    )
    expected = keras_way(np.eye(4)[y], logits, weights)
    assert abs(float(loss(y, logits, weights) - expected)) < 1e-6
    with pytest.raises(ValueError, match="smoothing is of classes.*received smoothing=0.1"):
        dataclasses.replace(training, metric="error")


def test_a_card_names_a_cell_as_it_is_asked_for():
    for cell in ("simple_rnn", "min_gru", "lstm"):
        assert cell_of(rnnzoo.many_to_one(features=1, units=[2, 2], outputs=1, cell=cell)) == cell
    options = {"features": 1, "units": 2, "outputs": 1, "cell": "gru"}
    for more in ({"bidirectional": True}, {"scaling": "mean"}):
        assert cell_of(rnnzoo.one_to_one(**options, **more)) == "gru"
    both = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True))
    mixed = [keras.Input((None, 1)), both, keras.layers.SimpleRNN(2), keras.layers.Dense(1)]
    assert cell_of(rnnzoo.from_keras(keras.Sequential(mixed))) == "lstm, simple_rnn"


def test_zaremba_small_has_the_sizes_the_start_and_the_schedule_of_the_paper():
    card, model = rnnzoo.zoo.card("zaremba.small"), rnnzoo.zoo.build("zaremba.small")
    embedding, layer, output = 10_000 * 200, 4 * 200 * (400 + 1), 10_000 * 201
    assert model.count_params() == embedding + 2 * layer + output
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    assert 0.099 < np.abs(weights).max() <= 0.1 and abs(weights.mean()) < 1e-3
    rate = card.training.learning_rate(13, 2323)
    found = [float(keras.ops.convert_to_numpy(rate(epoch * 2323 + 1))) for epoch in range(13)]
    # For a sum over 20 steps the rate is 1 and the clip 5.
    assert np.allclose(np.array(found) / 20, [1.0] * 4 + [0.5**i for i in range(1, 10)])
    assert card.training.clip * 20 == 5
    first, second = (model.core.get_layer(f"lstm_{i}").get_weights() for i in (0, 1))
    assert not np.isclose(first[0], second[0]).mean() > 0.01


def test_what_is_not_in_the_zoo_is_refused_with_near_names():
    with pytest.raises(ValueError, match=r"'zaremba\.smal'\. Near ones: zaremba\.small"):
        rnnzoo.zoo.card("zaremba.smal")
    with pytest.raises(ValueError, match=r"Near ones: zaremba\.small"):
        rnnzoo.from_preset("zaremba.smal")
    with pytest.raises(ValueError, match=r"'qqqq'\. There are char_rnn"):
        rnnzoo.zoo.build("qqqq")
    with pytest.raises(ValueError, match="changes of zaremba.small must be .*received unit$"):
        rnnzoo.zoo.build("zaremba.small", unit=3)
    with pytest.raises(ValueError, match="the weights of zaremba.small must be on this machine"):
        rnnzoo.from_preset("zaremba.small")
    with pytest.raises(ValueError, match="preset must be a folder that exists; received"):
        rnnzoo.from_preset("/not/there")


# Presets.


def test_a_preset_is_found_by_name_and_by_folder(model, home, monkeypatch):
    batch, expected = read_golden(home / "letters")
    assert difference(outputs_of(model, batch), expected) < 1e-6
    with pytest.raises(ValueError, match="received name='letters'"):
        rnnzoo.from_preset("letters")
    monkeypatch.setenv(HOME, str(home))
    assert "letters" in rnnzoo.zoo.list(trained=True)
    for preset in ("letters", home / "letters", str(home / "letters")):
        read = rnnzoo.from_preset(preset)
        assert difference(outputs_of(read, batch), expected) < 1e-6
        assert read.vocabulary.tokens == model.vocabulary.tokens and not read.compiled
    monkeypatch.setenv(HOME, str(home / "nowhere"))
    with pytest.raises(ValueError, match="RNNZOO_HOME must be a folder"):
        rnnzoo.zoo.list()


def test_without_weights_the_architecture_comes(model, home):
    new = rnnzoo.from_preset(home / "letters", load_weights=False)
    assert [w.shape for w in new.get_weights()] == [w.shape for w in model.get_weights()]
    kernel = new.core.get_layer("lstm_0").get_weights()[0]
    assert np.any(kernel != model.core.get_layer("lstm_0").get_weights()[0])
    small = rnnzoo.from_preset("zaremba.small", load_weights=False)
    assert small.spec.inputs["inputs"].vocabulary == 10_000


def test_half_precision_is_stored_in_half_the_bytes_and_cast_when_read(tmp_path):
    model = rnnzoo.one_to_one(features=8, units=64, outputs=4)
    folders = {s: model.save_to_preset(tmp_path / s, storage=s) for s in ("float16", "float32")}
    size = {s: sum(map(len, stored(folder))) for s, folder in folders.items()}
    assert size["float16"] == size["float32"] / 2
    for read, given in zip(
        rnnzoo.from_preset(folders["float16"]).get_weights(), model.get_weights(), strict=True
    ):
        assert read.dtype == np.float32
        assert np.array_equal(read, given.astype("float16").astype("float32"))
    # The golden output is that of the stored weights.
    batch, expected = read_golden(folders["float16"])
    assert difference(outputs_of(rnnzoo.from_preset(folders["float16"]), batch), expected) < 1e-6
    model.core.get_layer("output_layer").bias.assign([1e5, 0, 0, 0])
    with pytest.raises(ValueError, match="storage='float16' holds values up to 65504; received"):
        model.save_to_preset(tmp_path / "large", storage="float16")
    assert {path.name for path in tmp_path.iterdir()} == {"float16", "float32"}


def stored(folder):
    """The bytes of each array of weights in a preset."""
    found = []
    with zipfile.ZipFile(folder / "model.keras") as archive:
        with h5py.File(archive.open("model.weights.h5")) as file:
            file.visititems(
                lambda _, one: found.append(one[()].tobytes()) if hasattr(one, "dtype") else None
            )
    return found


def test_neither_optimizer_nor_carried_state_is_kept(tmp_path):
    model = rnnzoo.one_to_one(features=2, units=3, outputs=2)
    model.compile("adam", "mse", run_eagerly=False)
    x = {"inputs": np.ones((2, 4, 2)), "reset": np.zeros((2, 4), bool)}
    model.fit(x, np.ones((2, 4, 2)), verbose=0, shuffle=False, batch_size=2)
    assert model.states["h_0"].any()
    read = rnnzoo.from_preset(model.save_to_preset(tmp_path / "carried"))
    assert not read.compiled and not len(read.states["h_0"])
    assert difference(read.get_weights(), model.get_weights()) == 0


@pytest.mark.parametrize("target", [{"target_vocabulary": 6}, {"target_features": 2}])
def test_an_encoder_decoder_is_a_preset_too(tmp_path, target):
    model = rnnzoo.encoder_decoder(source_vocabulary=5, units=3, attention="dot", **target)
    folder = rnnzoo.zoo.save(model, tmp_path / "both")
    read = rnnzoo.from_preset(folder)
    batch, expected = read_golden(folder)
    assert set(batch) == {"source", "target"}
    assert difference(outputs_of(read, batch), expected) < 1e-6
    with pytest.raises(ValueError, match="received outputs=3 for a model of form encoder_decoder"):
        rnnzoo.from_preset(folder, outputs=3)


def test_a_preset_that_stands_there_is_replaced_only_when_asked(model, copy):
    (copy / "1").mkdir()
    with pytest.raises(FileExistsError, match="folder must be new; received .* overwrite=True"):
        model.save_to_preset(copy)
    model.save_to_preset(copy, overwrite=True, notes="another")
    assert read_card(copy).notes == "another" and (copy / "1").is_dir()
    assert check(copy) and [path.name for path in copy.parent.iterdir()] == ["letters"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"licens": {}}, "what a card is told must be among name, task, .*received licens"),
        ({"parameters": 3}, "received parameters"),
        ({"licence": "MIT"}, "licence must be a dict of 'data' and 'weights'"),
        ({"licence": {"wheights": "MIT"}}, "licence must be a dict of"),
        ({"licence": {"data": 3}}, "licence must be a dict of"),
        ({"labels": ["cat"]}, r"labels must be .* for outputs of shape \(3,\)"),
        ({"labels": "cat"}, "labels must be a list"),
        ({"end": "z"}, "end must be a token of the vocabulary.*received end='z'"),
        ({"measured": "98 %"}, "measured must be a number"),
        ({"baseline": {"guess": "low"}}, "baseline must be a dict of numbers"),
        ({"year": 19}, "year must be an integer of at least 1900"),
        ({"notes": 3}, "notes must be a str"),
        ({"overwrite": "yes"}, "overwrite must be True or False"),
        ({"training": {"rate": 1}}, "training must be None or the Training of a card"),
        ({"storage": "int8"}, "storage must be one of 'float16', 'float32'"),
    ],
)
def test_what_a_card_cannot_be_told(model, tmp_path, told, words):
    with pytest.raises(ValueError, match=words):
        model.save_to_preset(tmp_path / "new", **told)
    assert not list(tmp_path.iterdir())


def test_outputs_of_inputs_of_yours_are_kept(tmp_path):
    model = rnnzoo.one_to_one(features=2, units=3, outputs=1)
    x = np.random.default_rng(0).normal(100, size=(3, 4, 2)).astype("float32")
    folder = model.save_to_preset(tmp_path / "mine", golden={"inputs": x})
    batch, expected = read_golden(folder)
    assert np.array_equal(batch["inputs"], x)
    assert difference(outputs_of(model, {"inputs": x}), expected) == 0
    for golden in ({}, {"inputs": x, "more": x}, x):
        with pytest.raises(ValueError, match="golden must be None or a dict of arrays for inputs"):
            model.save_to_preset(tmp_path / "other", golden=golden)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# Fine-tuning.


def test_a_new_head_stands_on_the_trained_layers(model, home):
    tuned = rnnzoo.from_preset(home / "letters", outputs=7, freeze_until="lstm_1")
    batch, _ = read_golden(home / "letters")
    assert outputs_of(tuned, batch).shape == (2, 7)
    assert [v.path.split("/")[-2] for v in tuned.trainable_variables] == ["output_layer"] * 2
    tuned.compile("sgd", "sparse_categorical_crossentropy")
    before = tuned.get_weights()
    tuned.fit(batch, np.array([0, 6]), verbose=0)
    changed = [np.any(a != b) for a, b in zip(before, tuned.get_weights())]
    assert changed == [False] * 7 + [True] * 2
    for a, b in zip(before[:7], model.get_weights()):
        assert np.array_equal(a, b)


def test_a_new_head_stands_on_a_model_of_keras_and_on_a_head_of_sequences(tmp_path):
    gru = keras.layers.GRU(4, name="read")
    stock = [keras.Input((None, 3)), gru, keras.layers.Dense(2), keras.layers.Softmax()]
    read = rnnzoo.from_keras(keras.Sequential(stock))
    tagged = rnnzoo.one_to_one(features=3, units=4, outputs=rnnzoo.heads.CRF(2))
    for model, last, shape in ((read, "read", (2, 5)), (tagged, "lstm_0", (2, 7, 5))):
        folder = model.save_to_preset(tmp_path / last)
        tuned = rnnzoo.from_preset(folder, outputs=5, freeze_until=last)
        batch, _ = read_golden(folder)
        assert outputs_of(tuned, batch).shape == shape
        assert len(tuned.trainable_variables) == 2
        trained = model.core.get_layer(last).get_weights()
        assert difference(tuned.core.get_layer(last).get_weights(), trained) == 0


def test_a_tuned_model_is_a_preset_again(home, tmp_path):
    tuned = rnnzoo.from_preset(home / "letters", outputs=7, freeze_until="lstm_0")
    read = rnnzoo.from_preset(tuned.save_to_preset(tmp_path / "tuned"))
    assert read_card(tmp_path / "tuned").parameters == tuned.count_params()
    assert difference(read.get_weights(), tuned.get_weights()) == 0
    assert len(read.trainable_variables) == len(tuned.trainable_variables) == 5


def test_changes_that_do_not_fit(home, tmp_path):
    bare = rnnzoo.many_to_one(features=2, units=3).save_to_preset(tmp_path / "bare")
    tied = rnnzoo.one_to_one(vocabulary=5, units=3, tied=True).save_to_preset(tmp_path / "tied")
    stock = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4)])
    plain = rnnzoo.from_keras(stock).save_to_preset(tmp_path / "plain")
    for folder in (bare, tied, plain):
        words = "outputs replaces the output layer.* from_keras with a Dense layer; .*outputs=4"
        with pytest.raises(ValueError, match=words):
            rnnzoo.from_preset(folder, outputs=4)
    with pytest.raises(ValueError, match="freeze_until must be one of 'embedding', 'lstm_0'"):
        rnnzoo.from_preset(home / "letters", freeze_until="lstm_9")
    with pytest.raises(ValueError, match="outputs must be an integer of at least 1"):
        rnnzoo.from_preset(home / "letters", outputs=0)
    with pytest.raises(ValueError, match="load_weights must be True or False"):
        rnnzoo.from_preset(home / "letters", load_weights="no")


# What was altered.


def edited(folder, **changes):
    card = json.loads((folder / "card.json").read_text()) | changes
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize("file", ["model.keras", "golden.npz"])
def test_an_altered_or_missing_file_is_refused_by_name(copy, file):
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(file)} must be the file .*altered or only"):
        rnnzoo.from_preset(copy)
    (copy / file).unlink()
    with pytest.raises(ValueError, match=f"must be whole; .* lacks {re.escape(file)}"):
        rnnzoo.from_preset(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": FORMAT + 1}, f"received format {FORMAT + 1}, of a newer rnnzoo"),
        ({"format": "1"}, "its format is '1'"),
        ({"colour": "red"}, r"unknown keys \['colour'\]"),
        ({"files": {}}, "must tell the sha256 of model.keras, golden.npz"),
        ({"files": "all"}, "files is no dict: 'all'"),
        ({"files": {"model.keras": 3}}, "files is no dict"),
        ({"licence": {"data": 3}}, "licence is no dict"),
        ({"labels": "cat"}, r"labels is no list\[str\] \| None: 'cat'"),
        ({"measured": "good"}, r"measured is no float \| None: 'good'"),
        ({"parameters": "many"}, r"parameters is no int \| None: 'many'"),
        ({"name": 3}, "name is no str: 3"),
        ({"training": {**TRAINING, "rate": "high"}}, "rate must be a number above 0"),
        ({"training": {**TRAINING, "clip": 0}}, "clip must be a number above 0"),
        ({"training": {**TRAINING, "warm": -1}}, "warm must be a number of 0 or more"),
        ({"training": {**TRAINING, "window": -3}}, "window must be"),
        ({"training": {"rate": 1}}, "must be the card of a preset; received one that is not"),
    ],
)
def test_a_card_that_cannot_be_read_is_refused(copy, changes, words):
    edited(copy, **changes)
    with pytest.raises(ValueError, match=words):
        rnnzoo.from_preset(copy)


def test_a_preset_takes_the_place_of_presets_only(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder" / "README.md").mkdir(parents=True)
    for name in ("file", "folder"):
        with pytest.raises(FileExistsError, match=f"folder must have room .*{name}.* in the way"):
            model.save_to_preset(tmp_path / name, overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["README.md", "file", "folder"]


def test_a_preset_is_called_as_its_folder_is(model, tmp_path):
    (tmp_path / "mine" / "inside").mkdir(parents=True)
    assert read_card(model.save_to_preset(tmp_path / "mine" / "inside" / "..")).name == "mine"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b"\xff"])
def test_what_is_no_card_is_refused(copy, content):
    (copy / "card.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"card\.json must be"):
        rnnzoo.from_preset(copy)
    (copy / "card.json").unlink()
    with pytest.raises(ValueError, match=r"received '.*letters', which lacks card\.json"):
        rnnzoo.from_preset(copy)


def test_a_model_of_others_is_refused(copy):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(copy / "model.keras")
    edited(copy, files={name: sha256(copy / name) for name in ("model.keras", "golden.npz")})
    with pytest.raises(ValueError, match="must hold a model of rnnzoo; received Sequential"):
        rnnzoo.from_preset(copy)


def test_a_class_that_is_not_known_is_named(tmp_path):
    class Mine(keras.layers.GRUCell):
        pass

    keras.saving.register_keras_serializable("mine")(Mine)
    folder = rnnzoo.one_to_one(features=1, units=2, cell=Mine, outputs=1).save_to_preset(
        tmp_path / "mine"
    )
    assert read_card(folder).cell == "mine"
    del keras.saving.get_custom_objects()["mine>Mine"]
    with pytest.raises(ValueError, match="mine.*Could not locate class 'Mine'. Import what is yo"):
        rnnzoo.from_preset(folder)
    with keras.saving.custom_object_scope({"mine>Mine": Mine}):
        assert rnnzoo.from_preset(folder).count_params()


def test_what_animals_are_made_of_is_known_to_a_program_that_imports_rnnzoo():
    # The zoo is imported later, and so is what serves.
    for path in (ROOT / "rnnzoo").rglob("*.py"):
        if path.parent.name in ("zoo", "serving"):
            assert "register_keras_serializable" not in path.read_text(), path


def test_a_card_without_training_cannot_compile(model, home):
    with pytest.raises(ValueError, match="the card of letters does not tell how it was trained"):
        read_card(home / "letters").compile(model)
    with pytest.raises(ValueError, match="model must be a model of rnnzoo; received Sequential"):
        rnnzoo.zoo.card("zaremba.small").compile(keras.Sequential())
    with pytest.raises(ValueError, match="model must be a model of rnnzoo; received Sequential"):
        rnnzoo.zoo.save(keras.Sequential(), "folder")


# The command.


def run(capsys, *arguments):
    status = main([*map(str, arguments)])
    return status, *capsys.readouterr()


def test_the_command_lists_and_tells(capsys, home):
    status, out, _ = run(capsys, "list", "--cell", "lstm")
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == rnnzoo.zoo.list(
        cell="lstm"
    )
    assert "115.91" in run(capsys, "card", "zaremba.small")[1]
    (told,) = re.findall("-m rnnzoo export .*", (ROOT / "README.md").read_text())
    assert all(format in told for format in FORMATS)
    assert run(capsys, "card", home / "letters")[1].startswith("letters\n")
    status, out, error = run(capsys, "card", "zaremba.smal")
    assert (status, out) == (2, "") and "Near ones: zaremba.small" in error


def test_the_command_ends_in_peace_where_nobody_reads_on(capsys, monkeypatch):
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w") as out, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        assert main(["list"]) == 0
    assert capsys.readouterr().err == ""


def test_the_command_classifies_a_text(capsys, model, home, monkeypatch):
    status, out, _ = run(capsys, "run", home / "letters", "abca")
    logits = outputs_of(model, {"inputs": model.vocabulary.encode("abca")[None]})[0]
    chances = np.exp(logits) / np.exp(logits).sum()
    assert status == 0
    assert out == f"abca\t{LABELS[chances.argmax()]}\t{chances.max():.3f}\n"
    status, _, error = run(capsys, "run", home / "letters", "xyz")
    assert status == 2 and "'x'" in error
    for errors, bytes_, words in (
        ("strict", b"abca\n \n\nabca", out + out),
        ("strict", b"ab\xff", "a text must be in UTF-8; received"),
        ("surrogateescape", b"ab\xff", "a text must be in UTF-8; received"),
    ):
        given = io.TextIOWrapper(io.BytesIO(bytes_), encoding="utf-8", errors=errors)
        monkeypatch.setattr("sys.stdin", given)
        assert words in "".join(map(str, run(capsys, "run", home / "letters", "-")))
    status, _, error = run(capsys, "run", home / "letters", "abca", "--length", 3, "--seed", 0)
    assert status == 2 and "--length, --seed must be left out: letters writes no text" in error


def test_the_command_goes_on_with_a_text(capsys, tmp_path):
    model = rnnzoo.one_to_one(vocabulary=rnnzoo.data.Vocabulary("abc"), units=4)
    folder = model.save_to_preset(tmp_path / "writer")
    _, out, _ = run(capsys, "run", folder, "ab", "--length", "5", "--temperature", "0")
    assert out == model.generate("ab", max_length=5).text[0] + "\n"
    end = model.save_to_preset(tmp_path / "ends", end=out[1])
    _, ended, _ = run(capsys, "run", end, "ab", "--length", "5", "--temperature", "0")
    assert ended == out.split(out[1])[0] + "\n"


def test_the_command_answers_a_text(capsys, tmp_path, monkeypatch):
    words = rnnzoo.data.Vocabulary(["go", "stop"], level="word")
    model = rnnzoo.encoder_decoder(source_vocabulary=words, target_vocabulary=words, units=4)
    folder = model.save_to_preset(tmp_path / "answers")
    lines = ["go stop", "stop"]
    told = model.generate(lines, max_length=5).text
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    status, out, _ = run(capsys, "run", folder, "-", "--length", "5")
    assert status == 0
    assert out.splitlines() == [f"{line}\t{answer}" for line, answer in zip(lines, told)]
    status, _, error = run(capsys, "run", folder)
    assert status == 2 and "answers must be given a text, or -" in error
    known = rnnzoo.data.Vocabulary(["go"], level="word", unknown=True)
    model = rnnzoo.encoder_decoder(source_vocabulary=known, target_vocabulary=words, units=4)
    with pytest.warns(UserWarning, match="the model knows no word of 'fly high', so that"):
        run(capsys, "run", model.save_to_preset(tmp_path / "few"), "fly high", "--length", "1")


def test_the_command_runs_what_reads_one_thing_and_answers_one(capsys, model, tmp_path):
    options = {"units": 2, "outputs": 2}
    kept = {"vocabulary": model.vocabulary, "units": 2}
    for i, other in enumerate(
        [
            rnnzoo.many_to_one(**kept, outputs={"a": 2, "b": 1}),
            rnnzoo.many_to_one(**kept, static={"age": 1}, outputs=2),
            rnnzoo.many_to_one(vocabulary=5, **options),
            rnnzoo.encoder_decoder(source_features=1, target_features=1, units=2),
        ]
    ):
        folder = other.save_to_preset(tmp_path / str(i))
        status, _, error = run(capsys, "run", folder, "abc")
        assert status == 2 and "run takes models of one input, of numbers or" in error
        assert f"in text; {i} has {', '.join(other.inputs_of_preset)} and" in error


def test_the_command_tells_the_probabilities_that_a_model_gives(capsys, model, tmp_path):
    sure = rnnzoo.many_to_one(vocabulary=model.vocabulary, units=2, outputs=3, activation="softmax")
    folder = sure.save_to_preset(tmp_path / "sure", labels=LABELS)
    chances = outputs_of(sure, {"inputs": model.vocabulary.encode("ab")[None]})[0]
    said = f"ab\t{LABELS[chances.argmax()]}\t{chances.max():.3f}\n"
    assert run(capsys, "run", folder, "ab")[1] == said


def test_the_command_reads_a_csv(capsys, tmp_path):
    model = rnnzoo.one_to_one(features=2, units=4, outputs=1)
    folder = model.save_to_preset(tmp_path / "numbers")
    (tmp_path / "two.csv").write_text("sequence,step,x,y\na,0,1,2\na,1,3,4\nb,0,5,6\n")
    status, out, _ = run(capsys, "run", folder, tmp_path / "two.csv")
    first = outputs_of(model, {"inputs": np.array([[[1, 2], [3, 4]]], "float32")})[0, :, 0]
    assert status == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[:2] for row in rows] == [["a", "0"], ["a", "1"], ["b", "0"]]
    assert np.allclose([float(row[2]) for row in rows[:2]], first, atol=1e-5)
    status, _, error = run(capsys, "run", folder, "text")
    assert status == 2 and "must be given a CSV file" in error
    (tmp_path / "two.csv").write_text("sequence,step,x\na,0,1\n")
    status, _, error = run(capsys, "run", folder, tmp_path / "two.csv")
    assert status == 2 and "step and 2 features; received 1 features: x" in error


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="an export needs a second process")
@pytest.mark.parametrize("name", rnnzoo.zoo.list(trained=True))
def test_each_trained_animal_is_exported_by_the_command(capsys, tmp_path, name):
    status, out, _ = run(capsys, "export", name, "tf_saved_model", "--to", tmp_path / "model" / "1")
    assert status == 0 and out.strip() == str(tmp_path / "model" / "1")
    served = rnnzoo.load_served(tmp_path / "model" / "1")
    batch, expected = read_golden(ROOT / "saved_models" / name)
    if "source" in batch:
        batch |= {f"{side}_lengths": np.full(2, 7, "int32") for side in ("source", "target")}
    elif expected.ndim == 2:
        batch["lengths"] = np.full(2, batch["inputs"].shape[1], "int32")
    assert difference(served.call(**batch)["outputs"], expected) < 1e-4
