"""The SavedModel itself: signatures traced by TensorFlow, and the manifest beside it."""

import pathlib
import tempfile
from typing import Any

import keras

from rnnzoo.decoding import Beam
from rnnzoo.layers.recurrent import portable
from rnnzoo.serving.manifest import parts, vocabularies, write_manifest
from rnnzoo.serving.signatures import Signature, pair_signatures, recurrent_signatures
from rnnzoo.serving.tables import TokenTable


def write_saved_model(model: Any, path: pathlib.Path, beam: dict, metrics: dict) -> None:
    """Writes `model` as a SavedModel with its manifest; Keras must run on TensorFlow.

    Args:
        model: a model of one of the three forms.
        path: the folder to make.
        beam: the settings of `Beam` for the signature 'beam'.
        metrics: what the manifest says of the model's worth.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        names = vocabularies(model)
        tables = {
            side: TokenTable(one, pathlib.Path(folder), f"{side}_tokens") if one else None
            for side, one in names.items()
        }
        archive = keras.export.ExportArchive()
        for part in parts(model):
            archive.track(part)
        for table in filter(None, tables.values()):
            for one in table.tables:
                archive.track(one)
        with portable():
            for name, signature in _signatures(model, tables, beam).items():
                specs = {
                    key: tf.TensorSpec((None, *shape), dtype, name=key)
                    for key, (shape, dtype) in signature.inputs.items()
                }
                archive.add_endpoint(name, signature.function, input_signature=[specs])
            archive.write_out(str(path), verbose=False)
    write_manifest(model, path, metrics)


def _signatures(model: Any, tables: dict, beam: dict) -> dict[str, Signature]:
    if model.form == "encoder_decoder":
        return pair_signatures(model, tables, Beam(**beam))
    return recurrent_signatures(model, tables["prompt"])
