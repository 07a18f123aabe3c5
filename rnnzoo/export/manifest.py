"""What lies beside a SavedModel for its users: `assets.extra/rnnzoo.json`, and its writing."""

import hashlib
import json
import pathlib
import platform
import re
from typing import Any

import keras
import numpy as np

from rnnzoo._version import __version__
from rnnzoo.core.spec import State

MANIFEST = pathlib.PurePath("assets.extra", "rnnzoo.json")
FORMAT = "rnnzoo served model 1"


def write_manifest(
    model: Any,
    path: pathlib.Path,
    format: str,
    tables: dict[str, dict],
    metrics: dict,
    tokenizers: dict[str, dict],
) -> None:
    """Writes `assets.extra/rnnzoo.json`, and each vocabulary as its `save` has it.

    Of a tokenizer of another library the manifest tells which it is.

    Args:
        model: the model.
        path: the folder of the export.
        format: its format.
        tables: for each signature its `inputs` and `outputs`, with dtype and shape of each.
        metrics: what to say of the model's worth.
        tokenizers: those of other libraries, by side: no graph holds one, and not every one is
            saved with the model.
    """
    sizes = _sizes(model)
    for table in tables.values():
        for name in sizes.keys() & table["inputs"].keys():
            table["inputs"][name]["vocabulary"] = sizes[name]
        for name, one in model.spec.inputs.items():
            if one.padding is not None and name in table["inputs"]:
                table["inputs"][name]["padding"] = one.padding
    extra = (path / MANIFEST).parent
    extra.mkdir(exist_ok=True)
    kept = dict(tokenizers)
    for side, vocabulary in model.vocabularies.items():
        if vocabulary is not None and getattr(vocabulary, "plain", True):
            file = extra / f"{side}_vocabulary.json"
            vocabulary.save(file)
            sha = hashlib.sha256(file.read_bytes()).hexdigest()
            kept[side] = {"file": file.name, "tokens": len(vocabulary), "sha256": sha}
            kept[side] |= tokenizers.get(side, {})
    manifest = {
        "format": FORMAT,
        "written_as": format,
        "form": model.form,
        "name": model.name,
        "state": _states(model),
        **_inputs(model),
        "signatures": tables,
        **({"files": file_hashes(path)} if format == "tf_saved_model" else {}),
        "vocabularies": kept,
        "weights_sha256": _weights_hash(model),
        "parameters": sum(int(np.prod(w.shape)) for w in weights_of(model)),
        "versions": _versions(),
        "metrics": metrics,
    }
    if model.spec.heads:
        manifest["heads"] = {name: _head(head) for name, head in model.spec.heads.items()}
    # One line for each list, as a reader would write it.
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[\s\d,null]*\]", lambda found: " ".join(found.group().split()), text)
    (path / MANIFEST).write_text(f"{text}\n", encoding="utf-8")


def _states(model: Any) -> dict[str, dict]:
    """What one stream's state is, and where it comes from."""

    def initial(state: State) -> str:
        if model.decodes:
            return "encode"
        return "zeros" if state.start is None else "initial_state"

    return {
        name: {"shape": list(state.shape), "dtype": state.dtype, "initial": initial(state)}
        for name, state in model.spec.states.items()
    }


def _inputs(model: Any) -> dict[str, list[str]]:
    """The names of the inputs of a step that have time, and of those that have none."""
    if model.decodes:
        return {"steps": ["inputs", *model.reader.beside], "static": [*model.reader.static]}
    steps = model.spec.step_inputs
    return {"steps": steps, "static": [name for name in model.spec.inputs if name not in steps]}


def _head(head: Any) -> dict[str, Any]:
    """What an output's numbers are the parameters of, and at which levels quantiles are told."""
    plain = keras.saving.serialize_keras_object(head)["config"]
    config = {"class": type(head).__name__, "config": plain}
    return {**config, "levels": list(head.levels)}


def _sizes(model: Any) -> dict[str, int]:
    """The number of tokens that an input of that name may be one of."""
    sizes = {name: one.vocabulary for name, one in model.spec.inputs.items()}
    sizes |= model.reader.vocabulary_sizes()
    return {name: size for name, size in sizes.items() if size is not None}


def weights_of(model: Any) -> list:
    """The weights that an export holds, each once."""
    weights = [w for part in model.cores for w in part.weights]
    return list({id(w): w for w in weights}.values())


def file_hashes(path: pathlib.Path) -> dict[str, str]:
    """SHA-256 of each file of the SavedModel at `path`, by its name in the folder.

    What the manifest keeps as `files`, and who loads the export compares.
    """
    found = [path / "saved_model.pb", *(path / "variables").glob("*"), *(path / "assets").glob("*")]
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(found)
    }


def _weights_hash(model: Any) -> str:
    digest = hashlib.sha256()
    for weight in weights_of(model):
        digest.update(f"{weight.path} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    import tensorflow as tf

    return {
        "rnnzoo": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
