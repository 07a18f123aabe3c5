"""Altered backups, exports and models are refused with a clear error, or are what they say."""

import hashlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import rnnzoo
from benchmarks import alterations
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
