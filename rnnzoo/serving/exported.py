"""An export of rnnzoo as it is read: a manifest that is whole and true, values that fit it."""

import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from rnnzoo._checks import shown
from rnnzoo.data.files import read_bytes
from rnnzoo.data.reading import as_array
from rnnzoo.data.text import Vocabulary
from rnnzoo.data.tokenizer import Tokenizer
from rnnzoo.export.manifest import FORMAT, MANIFEST, file_hashes
from rnnzoo.export.traced import described_signatures

_SIDES = ("prompt", "source", "target")
# For the names of dtypes, the kinds of arrays that fit them.
_KINDS = {"float": "fiu", "bfloat": "fiu", "int": "iu", "uint": "iu", "bool": "b", "string": "UOS"}
_TEXTS = ("form", "written_as", "name", "weights_sha256")


def read_manifest(path: pathlib.Path) -> dict:
    """The manifest of the export at `path`; ValueError where there is none that we can read."""
    try:
        manifest = json.loads(read_bytes(path / MANIFEST))
        _check(manifest)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"path must be a folder that rnnzoo.export wrote, with {MANIFEST} of format "
            f"{FORMAT!r}; received {str(path)!r} ({type(error).__name__}: {error})"
        ) from error
    return manifest


def read_vocabularies(path: pathlib.Path, manifest: dict) -> dict[str, Vocabulary | Tokenizer]:
    """The vocabularies of the export at `path`, by side, as far as they are written there.

    Raises:
        ValueError: one that is not the file which was written.
        ImportError: a tokenizer whose library is not installed.
    """
    found = {}
    for side, entry in manifest["vocabularies"].items():
        if "file" not in entry:  # a tokenizer that the manifest can but name
            continue
        file = (path / MANIFEST).with_name(entry["file"])
        try:
            found[side] = (Tokenizer if "tokenizer" in entry else Vocabulary).load(file)
        except (OSError, RecursionError) as error:
            raise ValueError(
                "an export must have its vocabularies beside its manifest; received "
                f"{str(file)!r} ({type(error).__name__}: {error})"
            ) from error
        if hashlib.sha256(file.read_bytes()).hexdigest() != entry["sha256"]:
            raise ValueError(
                f"the vocabulary of an export must be the one that was written with it; received "
                f"{str(file)!r}, whose SHA-256 is not that of {MANIFEST}"
            )
        if len(found[side]) != entry["tokens"]:
            raise ValueError(
                f"{MANIFEST} must say how many tokens a vocabulary has; received "
                f"{entry['tokens']} for {str(file)!r}, which has {len(found[side])}"
            )
    return found


def load(path: pathlib.Path, manifest: dict) -> Any:
    """The SavedModel at `path` as TensorFlow has it, if it is the one that `manifest` tells of.

    Raises:
        ValueError: files with other contents than the manifest says (one of an older rnnzoo
            says nothing of them), a damaged SavedModel, other signatures.
    """
    import tensorflow as tf

    try:
        files = manifest.get("files")
        held = {} if files is None else file_hashes(path)
        wrong = [name for name in {**held, **(files or {})} if held.get(name) != files.get(name)]
        _need(not wrong, f"the contents of {', '.join(wrong)} are not those that were written")
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # a damaged file raises almost anything
        raise ValueError(
            f"path must be an export as rnnzoo.export wrote it; received {str(path)!r}, which is "
            f"damaged or was altered ({type(error).__name__}: {str(error)[:200]})"
        ) from error
    check_signatures(path, manifest, loaded.signatures)
    try:
        _check_meaning(manifest)
    except ValueError as error:
        raise ValueError(
            f"{MANIFEST} must describe the SavedModel beside it; received {str(path)!r}: {error}"
        ) from error
    return loaded


def check_signatures(path: pathlib.Path, manifest: dict, signatures: Any) -> None:
    """ValueError unless the manifest at `path` tells of the `signatures` beside it."""
    written = {
        name: {
            way: {
                key: {what: spec.get(what) for what in ("dtype", "shape")}
                for key, spec in table[way].items()
            }
            for way in ("inputs", "outputs")
        }
        for name, table in manifest["signatures"].items()
    }
    held = described_signatures(signatures)
    wrong = [name for name in {**held, **written} if held.get(name) != written.get(name)]
    if wrong:
        raise ValueError(
            f"{MANIFEST} must describe the SavedModel beside it; received {str(path)!r}, where "
            f"the signature {shown(wrong[0])} is another. Export the model anew."
        )


class Step(NamedTuple):
    """The signature by which an export is stepped, and what stands in it, each with its spec.

    Attributes:
        name: of the signature.
        inputs: what has steps.
        static: inputs that have none.
        states: what a step goes on from, and all else that it takes but a reset.
        outputs: what losses see.
    """

    name: str
    inputs: dict[str, dict]
    static: dict[str, dict]
    states: dict[str, dict]
    outputs: dict[str, dict]


def step_of(manifest: dict) -> Step:
    """How the export of a checked `manifest` is stepped.

    An export of rnnzoo 0.1 does not tell what has steps: there it is "inputs".
    """
    name = "decode_step" if "decode_step" in manifest["signatures"] else "step"
    table = manifest["signatures"].get(name, {"inputs": {}, "outputs": {}})
    given, gives = table["inputs"], table["outputs"]
    names = manifest.get("steps", ["inputs"])
    others = {k: v for k, v in given.items() if k not in (*names, "reset")}
    moved = {f"{key}_out" for key in given}
    return Step(
        name,
        {k: given[k] for k in names if k in given},
        {k: given[k] for k in manifest.get("static", []) if k in given},
        others,
        {k: v for k, v in gives.items() if k not in moved and k != "alignment"},
    )


def has_time(shape: list) -> bool:
    """Whether an output of this shape has steps, whose number is open."""
    return len(shape) > 1 and shape[1] is None


def _check_meaning(manifest: dict) -> None:
    """ValueError unless form, states and sizes are those that the signatures show."""
    step = step_of(manifest)
    table = manifest["signatures"].get(step.name, {})
    given, gives = table.get("inputs", {}), table.get("outputs", {})
    if table:  # models of whole sequences have none
        _need(step.inputs and step.outputs, f"{manifest['form']} has inputs to step by")
    names = {"steps": step.inputs, "static": step.static} if table else {}
    for key, found in names.items():
        _need(set(manifest.get(key, found)) == set(found), f"{key} are inputs of a step")
    _need(all(len(v["shape"]) > 1 for v in step.inputs.values()), "steps have time")
    # Nothing is decided by the form, but people read it.
    timeless = not any(has_time(one["shape"]) for one in step.outputs.values())
    fits = {"encoder_decoder": step.name == "decode_step"}
    fits |= {"one_to_one": not timeless, "many_to_one": timeless} if table else {}
    _need(fits.get(manifest["form"], True), f"form {manifest['form']} is false")
    states = manifest["state"]
    for name, spec in states.items():
        held = given.get(name, {})
        wanted = [held.get("shape", [None])[1:], held.get("dtype")]
        _need([spec.get("shape"), spec.get("dtype")] == wanted, f"state {shown(name)} is false")
    moved = {key for key in given if f"{key}_out" in gives}
    _need(moved == set(states), f"state must be {', '.join(sorted(moved))}")
    for side, entry in manifest["vocabularies"].items():
        size = entry["tokens"]
        sizes = [
            table["inputs"][side]["vocabulary"]
            for table in manifest["signatures"].values()
            if "vocabulary" in table["inputs"].get(side, {})
        ]
        _need(all(size == known for known in sizes), f"the vocabulary of {side} has another size")


def _check(manifest: Any) -> None:
    """ValueError unless everything that a reader looks up is there, and of its kind."""
    _need(isinstance(manifest, dict), "it must be an object")
    _need(manifest.get("format") == FORMAT, f"format {shown(manifest.get('format'))}")
    for name in _TEXTS:
        _need(isinstance(manifest.get(name), str), f"{name} must be a text")
    for name in ("signatures", "vocabularies", "state"):
        _need(isinstance(manifest.get(name), dict), f"{name} must be an object")
    fine = all(isinstance(spec, dict) for spec in manifest["state"].values())
    _need(fine, "state must give shape and dtype of each")
    for name in ("steps", "static"):
        names = manifest.get(name, [])
        fine = isinstance(names, list) and all(isinstance(one, str) for one in names)
        _need(fine, f"{name} must be a list of names")
    files = manifest.get("files")
    fine = (
        files is None or isinstance(files, dict) and all(isinstance(v, str) for v in files.values())
    )
    _need(fine, "files must be an object of texts")
    for side, entry in manifest["vocabularies"].items():
        fine = side in _SIDES and isinstance(entry, dict) and "tokens" in entry
        fine = fine and isinstance(entry.get("tokenizer", ""), str)
        if fine and ("file" in entry or "tokenizer" not in entry):
            # A name that was altered could lead out of the folder.
            fine = entry.get("file") == f"{side}_vocabulary.json"
            fine = fine and isinstance(entry.get("sha256"), str)
        _need(fine, f"vocabularies must give file, tokens and sha256 of {', '.join(_SIDES)}")
    for name, table in manifest["signatures"].items():
        for way in ("inputs", "outputs"):
            tensors = table.get(way) if isinstance(table, dict) else None
            fine = isinstance(tensors, dict) and all(map(_is_tensor, tensors.values()))
            _need(fine, f"signature {shown(name)} must have {way} with dtype and shape")


def _is_tensor(spec: Any) -> bool:
    if not isinstance(spec, dict) or not isinstance(spec.get("shape"), list):
        return False
    size, low = spec.get("vocabulary", 1), spec.get("padding", 0)
    sizes = type(size) is int and size > 0 and type(low) is int and -1 <= low <= 0
    return isinstance(spec.get("dtype"), str) and sizes


def _need(fine: bool, rule: str) -> None:
    if not fine:
        raise ValueError(rule)


def fitting(name: str, value: Any, spec: dict) -> np.ndarray:
    """`value` as an array of dtype and shape of `spec`; ValueError where it does not fit."""
    array = as_array(value, name)
    wanted, dtype = spec["shape"], spec["dtype"]
    fits = array.ndim == len(wanted) and all(w in (None, n) for w, n in zip(wanted, array.shape))
    kind = _KINDS[dtype.rstrip("0123456789")]
    if not fits or (array.dtype.kind not in kind and array.size):
        shape = ", ".join("any" if size is None else str(size) for size in wanted)
        raise ValueError(
            f"{name} must have shape ({shape}) and dtype {dtype}; "
            f"received shape {array.shape}, dtype {array.dtype}"
        )
    if dtype == "string":
        return array
    size, low = spec.get("vocabulary"), spec.get("padding", 0)
    if size is not None and array.size and (array.min() < low or array.max() >= size):
        wrong = array[(array < low) | (array >= size)][0]
        raise ValueError(f"{name} must be token ids in {low} to {size - 1}; received {wrong}")
    with np.errstate(over="ignore"):
        fitted = array.astype(dtype, copy=False)
    if fitted.dtype.kind == "f" and not np.isfinite(fitted).all():
        wrong = array[~np.isfinite(fitted)][0]
        raise ValueError(f"{name} must be finite {dtype}; received {wrong}")
    return fitted
