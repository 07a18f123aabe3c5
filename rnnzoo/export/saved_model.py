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
    forget_gradients(path)
    # As they stand in what was written.
    return described_signatures(tf.saved_model.load(str(path)).signatures)


def forget_gradients(path: pathlib.Path) -> None:
    """Takes out of the SavedModel in `path` the names of gradients that were not saved with it.

    TensorFlow leaves a name at each operation with a gradient of its own, of rnnzoo's loops and
    of activations as `silu`, and warns of every function that holds one when it is loaded.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    # No public function writes one. It has a checksum of the file.
    from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved.meta_graphs:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                node.attr.pop("_gradient_op_type", None)
    file.write_bytes(saved.SerializeToString(deterministic=True))
    write_fingerprint(str(path))
