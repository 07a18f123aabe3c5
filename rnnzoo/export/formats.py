"""An export in any of its formats; Keras must run on TensorFlow."""

import pathlib
import tempfile
from typing import Any

from rnnzoo.data.text import Vocabulary
from rnnzoo.decoding import Beam
from rnnzoo.export.full_precision import in_full_precision
from rnnzoo.export.litert import write_litert
from rnnzoo.export.manifest import weights_of, write_manifest
from rnnzoo.export.onnx import write_onnx
from rnnzoo.export.saved_model import write_saved_model
from rnnzoo.export.signatures import signatures_of
from rnnzoo.export.tables import TokenTable
from rnnzoo.export.triton import write_triton
from rnnzoo.export.warm_up import write_warm_up

FORMATS = ("tf_saved_model", "onnx", "litert", "triton")


def write(
    model: Any,
    path: pathlib.Path,
    *,
    format: str,
    beam: dict,
    metrics: dict,
    name: str,
    warm_up: bool,
    tokenizers: dict,
    feed: str | None = None,
) -> None:
    """Writes `model` to the folder `path`, with its manifest.

    Args:
        model: a model of one of the three forms.
        path: the folder to make.
        format: one of `FORMATS`.
        beam: the settings of `Beam` for the signature 'beam'.
        metrics: what the manifest says of the model's worth.
        name: the name that the model is served under.
        warm_up: whether to write requests for TensorFlow Serving beside a SavedModel.
        tokenizers: those of other libraries, by side, as the manifest names them.
        feed: the input that a model on numbers is fed, where several could be.
    """
    saved_model = format == "tf_saved_model"
    model = model if saved_model else in_full_precision(model)
    with tempfile.TemporaryDirectory() as folder:
        known = model.vocabularies
        tables = {
            side: TokenTable(one, pathlib.Path(folder), f"{side}_tokens")
            if isinstance(one, Vocabulary) and saved_model
            else None
            for side, one in known.items()
        }
        signatures = signatures_of(model, tables, Beam(**beam), feed, loops=saved_model)
        if saved_model:
            files = [one for table in tables.values() if table for one in table.tables]
            written = write_saved_model(signatures, files, path)
            if warm_up:
                first = next((one for one in known.values() if isinstance(one, Vocabulary)), None)
                write_warm_up(written, path, name, first.tokens[-1] if first else "")
        elif format == "onnx":
            written = write_onnx({k: s for k, s in signatures.items() if k in _PLAIN}, path)
        elif format == "litert":
            written = write_litert(signatures, weights_of(model), path)
        else:
            written = write_triton(signatures, path, name)
    write_manifest(model, path, format, written, metrics, tokenizers)


# Signatures without decoding loops and strings.
_PLAIN = ("serving_default", "initial_state", "step", "encode", "decode_step")
