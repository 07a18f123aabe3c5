"""The SavedModel: all signatures, run by TensorFlow alone."""

import pathlib
from typing import Any

import keras

from rnnzoo.backend import portable
from rnnzoo.export.signatures import Signature
from rnnzoo.export.traced import described_signatures, specs_of


def write_saved_model(
    signatures: dict[str, Signature], tables: list[Any], path: pathlib.Path
) -> dict[str, dict]:
    """Writes a SavedModel of `signatures`, and returns what they take and give.

    Args:
        signatures: by name.
        tables: the lookup tables that they use. Their weights come along by themselves, and
            would be written twice if the layers were tracked too.
        path: the folder to make.
    """
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    for table in tables:
        archive.track(table)
    with portable():
        for name, signature in signatures.items():
            specs = specs_of(signature)
            archive.add_endpoint(name, signature.function, input_signature=[specs])
        # What is served is not trained, so gradients stay out of the graph.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        archive.write_out(str(path), options, verbose=False)
    # As they stand in what was written.
    return described_signatures(tf.saved_model.load(str(path)).signatures)
