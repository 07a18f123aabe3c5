"""What lies beside a SavedModel for its users: `assets.extra/rnnzoo.json`, and its writing."""

import hashlib
import json
import pathlib
import platform
import re
from typing import Any

import keras
import numpy as np

from rnnzoo.backend.keras_internals import every_layer
from rnnzoo.core import size_and_vocabulary
from rnnzoo.data.text import Vocabulary
from rnnzoo.inputs import vocabulary_of
from rnnzoo.layers.recurrent import RecurrentLayer

MANIFEST = pathlib.PurePath("assets.extra", "rnnzoo.json")
FORMAT = "rnnzoo served model 1"


def vocabularies(model: Any) -> dict[str, Vocabulary | None]:
    """The vocabularies of a model by the side that they belong to; None where there is none."""
    if model.form != "encoder_decoder":
        return {"prompt": model.vocabulary}
    blueprint = model.blueprint
    return {
        side: size_and_vocabulary(getattr(blueprint, f"{side}_vocabulary"))[1]
        for side in ("source", "target")
    }


def _parts(model: Any) -> list[keras.Model]:
    """The functional models whose weights an export holds."""
    return [model.encoder, model.decoder] if model.form == "encoder_decoder" else [model.core]


def write_manifest(
    model: Any, path: pathlib.Path, format: str, tables: dict[str, dict], metrics: dict
) -> None:
    """Writes `assets.extra/rnnzoo.json`, and each vocabulary as `Vocabulary.save` has it.

    Args:
        model: the model.
        path: the folder of the export.
        format: its format.
        tables: for each signature its `inputs` and `outputs`, with dtype and shape of each.
        metrics: what to say of the model's worth.
    """
    sizes = _sizes(model)
    for table in tables.values():
        for name in sizes.keys() & table["inputs"].keys():
            table["inputs"][name]["vocabulary"] = sizes[name]
    extra = (path / MANIFEST).parent
    extra.mkdir(exist_ok=True)
    kept = {}
    for side, vocabulary in vocabularies(model).items():
        if vocabulary is not None:
            file = extra / f"{side}_vocabulary.json"
            vocabulary.save(file)
            sha = hashlib.sha256(file.read_bytes()).hexdigest()
            kept[side] = {"file": file.name, "tokens": len(vocabulary), "sha256": sha}
    manifest = {
        "format": FORMAT,
        "written_as": format,
        "form": model.form,
        "name": model.name,
        "state": _states(model),
        "signatures": tables,
        "vocabularies": kept,
        "weights_sha256": _weights_hash(model),
        "parameters": sum(int(np.prod(w.shape)) for w in weights_of(model)),
        "versions": _versions(),
        "metrics": metrics,
    }
    # One line for each list, as a reader would write it.
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[\s\d,null]*\]", lambda found: " ".join(found.group().split()), text)
    (path / MANIFEST).write_text(f"{text}\n", encoding="utf-8")


def _states(model: Any) -> dict[str, dict]:
    """What one stream's state is, and where it comes from."""
    pair = model.form == "encoder_decoder"
    inputs = model.decoder.input if pair else model.core.input
    names = model.state_names if pair else model.initial_state(1)
    learned = any(
        layer.learned_initial_state
        for part in _parts(model)
        for layer in every_layer(part)
        if isinstance(layer, RecurrentLayer)
    )
    initial = "encode" if pair else "initial_state" if learned else "zeros"
    return {
        name: {
            "shape": list(inputs[name].shape[1:]),
            "dtype": inputs[name].dtype,
            "initial": initial,
        }
        for name in names
    }


def _sizes(model: Any) -> dict[str, int]:
    """The number of tokens that an input of that name may be one of."""
    if model.form != "encoder_decoder":
        tokens = len(model.core.input["inputs"].shape) == 2
        return dict.fromkeys(("inputs", "prompt"), vocabulary_of(model.core)) if tokens else {}
    source, target = (model.blueprint.steps[side].vocabulary for side in ("source", "target"))
    sizes = {"source": source, "target": target, "inputs": model.blueprint.tokens}
    return {name: size for name, size in sizes.items() if size is not None}


def weights_of(model: Any) -> list:
    """The weights that an export holds, each once."""
    weights = [w for part in _parts(model) for w in part.weights]
    return list({id(w): w for w in weights}.values())


def _weights_hash(model: Any) -> str:
    digest = hashlib.sha256()
    for weight in weights_of(model):
        digest.update(f"{weight.path} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    import tensorflow as tf

    import rnnzoo

    return {
        "rnnzoo": rnnzoo.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
