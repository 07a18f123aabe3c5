"""Altered backups, exports and models are refused with a clear error, or are what they say."""

import hashlib
import io
import json
import re
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import rnnzoo
from benchmarks import alterations
from rnnzoo._files import LARGE
from rnnzoo.serving.exported import check_signatures, read_manifest
from rnnzoo.training.backup import folders

FORMS = [alterations.of_bytes, alterations.of_json]


@pytest.fixture(scope="module")
def model():
    vocabulary = rnnzoo.data.Vocabulary("abcd")
    model = rnnzoo.one_to_one(vocabulary=vocabulary, units=2, embedding=2)
    model.compile("sgd", "mse", jit_compile=False)
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return model.export(tmp_path_factory.mktemp("export") / "1")


@pytest.fixture(scope="module")
def backup(tmp_path_factory):
    model = rnnzoo.one_to_one(features=1, units=2, outputs=1)
    model.compile("sgd", "mse", jit_compile=False)
    folder = tmp_path_factory.mktemp("backup")
    x = np.zeros((4, 3, 1), "float32")
    model.fit(x, x, verbose=0, callbacks=[rnnzoo.BackupAndResume(folder)])
    return folder / "1"


@pytest.mark.parametrize("name", ["arrays.npz", "backup.json"])
@pytest.mark.parametrize("sealed", [False, True], ids=["found by checksum", "checksum altered too"])
def test_an_altered_backup_is_broken(backup, tmp_path, name, sealed):
    (tmp_path / "1").mkdir()
    contents = {path.name: path.read_bytes() for path in backup.iterdir()}
    forms = [alterations.of_bytes, alterations.of_zip if name == "arrays.npz" else FORMS[1]]
    refused = 0
    for case in range(150):
        rng = np.random.default_rng(case)
        altered = forms[case % 2](contents[name], rng)
        if altered == contents[name]:
            continue
        sums = contents["SHA256SUMS"]
        if sealed:
            before, after = (hashlib.sha256(c).hexdigest() for c in (contents[name], altered))
            sums = sums.replace(before.encode(), after.encode())
        for file, content in {**contents, name: altered, "SHA256SUMS": sums}.items():
            (tmp_path / "1" / file).write_bytes(content)
        try:
            found = folders.newest(tmp_path)
            assert sealed and found.rest.keys() and found.arrays.keys()
        except ValueError as error:
            refused += 1
            assert "must hold at least one that is whole" in str(error)
            assert "cut short or altered" in str(error) or "with its checksums" in str(error)
    assert refused > (40 if sealed else 140)


def test_an_altered_manifest_is_refused_or_tells_of_its_export(exported):
    path = exported / "assets.extra" / "rnnzoo.json"
    content = path.read_bytes()
    signatures = tf.saved_model.load(str(exported)).signatures
    refused = 0
    try:
        for case in range(300):
            path.write_bytes(FORMS[case % 2](content, np.random.default_rng(case)))
            try:
                manifest = read_manifest(exported)
                check_signatures(exported, manifest, signatures)
            except ValueError as error:
                refused += 1
                assert "must be a folder that rnnzoo.export wrote" in str(error) or (
                    "must describe the SavedModel beside it" in str(error)
                )
    finally:
        path.write_bytes(content)
    assert 150 < refused < 300


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("prompt_vocabulary.json", "../../secret.json"),
        ('"sha256": "', '"sha256": "0'),
        ('"dtype": "int32"', '"dtype": "int64"'),
    ],
)
def test_an_export_whose_manifest_says_something_else_is_not_served(exported, before, after):
    path = exported / "assets.extra" / "rnnzoo.json"
    content = path.read_text()
    assert before in content
    path.write_text(content.replace(before, after))
    try:
        with pytest.raises(ValueError, match="must"):
            rnnzoo.load_served(exported)
    finally:
        path.write_text(content)


@pytest.mark.parametrize("planted", alterations.PLANTED, ids=lambda planted: planted["class_name"])
def test_code_planted_in_a_model_is_not_run(model, tmp_path, planted):
    path = tmp_path / "model.keras"
    model.save(path)
    content = alterations.with_json(path.read_bytes(), "config.json", ["config", "core"], planted)
    path.write_bytes(content)
    with pytest.raises((ValueError, TypeError)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.models.load_model(path)


def _with(model, path, /, **parts):
    """A file of `model` in which some members are others, by the name without its ending."""
    model.save(path)
    with zipfile.ZipFile(path) as old:
        held = {one.filename: old.read(one) for one in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in held.items():
            new.writestr(name, parts.get(name.split(".")[0], content))
    return path


def _config(model, path, **values):
    model.save(path)
    with zipfile.ZipFile(path) as members:
        config = json.loads(members.read("config.json"))
    config["config"] |= values
    return json.dumps(config).encode()


def _zeros_in_hdf5(size):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("a", (size,), "float32", compression="gzip", chunks=(1 << 20,))
    return content.getvalue()


DENSE = keras.saving.serialize_keras_object(keras.layers.Dense(1))
FIVE = keras.saving.serialize_keras_object(rnnzoo.data.Vocabulary("abcde"))
DEEP = b'{"config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DAMAGED = {
    "vocabulary is a layer": lambda m, p: {"config": _config(m, p, vocabulary=DENSE)},
    "vocabulary is a text": lambda m, p: {"config": _config(m, p, vocabulary="abcd")},
    "vocabulary of another size": lambda m, p: {"config": _config(m, p, vocabulary=FIVE)},
    "nested without end": lambda m, p: {"config": DEEP},
    "no JSON": lambda m, p: {"config": b"\xff"},
    "no weights": lambda m, p: {"model": b""},
    "weights of zeros": lambda m, p: {"model": bytes(2 * LARGE)},
    "config of zeros": lambda m, p: {"config": bytes(LARGE + 1)},
    "zeros packed in HDF5": lambda m, p: {"model": _zeros_in_hdf5(1 << 28)},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_model_is_one_kind_of_error(model, tmp_path, monkeypatch, case):
    path = tmp_path / "model.keras"
    assert rnnzoo.load_model(_with(model, path)).vocabulary.tokens == tuple("abcd")
    _with(model, path, **DAMAGED[case](model, path))
    if "zeros" in case:  # found by its size, and not by reading it
        monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("read"))
    with (
        warnings.catch_warnings(),
        pytest.raises(ValueError, match="path must be a model as") as raised,
    ):
        warnings.simplefilter("ignore")
        rnnzoo.load_model(path)
    assert "zeros" not in case or re.search("take (at most )?\\d+ bytes", str(raised.value))


def test_altered_models_are_refused_or_read(model, tmp_path):
    path = tmp_path / "model.keras"
    model.save(path)
    content, refused = path.read_bytes(), 0
    for case in range(20):
        kind = alterations.of_bytes if case % 4 == 0 else alterations.of_zip
        path.write_bytes(kind(content, np.random.default_rng(case)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert type(rnnzoo.load_model(path)) is type(model)
            except ValueError as error:
                assert re.match("path must (be|hold) a model", str(error))
                refused += 1
    assert 8 < refused < 20


def test_a_model_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="absent"):
        rnnzoo.load_model(tmp_path / "absent.keras")


def test_a_preset_is_looked_at_before_it_is_read(model, tmp_path):
    folder = model.save_to_preset(tmp_path / "mine")
    before = (folder / "card.json").read_text()
    sums = [hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest()]
    _with(model, folder / "model.keras", model=bytes(2 * LARGE))
    sums.append(hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest())
    (folder / "card.json").write_text(before.replace(*sums))
    with pytest.raises(ValueError, match="would take 134217728 bytes, and the model needs"):
        rnnzoo.from_preset(folder)
    (folder / "card.json").write_bytes(DEEP)
    with pytest.raises(ValueError, match="must be the card of a preset"):
        rnnzoo.from_preset(folder)
