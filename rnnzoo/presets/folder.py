"""A preset on disk: `model.keras`, `card.json`, `README.md` and `golden.npz` in one folder."""

import hashlib
import os
import pathlib
import shutil
import zipfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo._files import check_members, folder_beside
from rnnzoo.backend.keras_internals import every_layer
from rnnzoo.core.scaling import MomentsCell
from rnnzoo.core.spec import Input
from rnnzoo.data.files import read_bytes
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.layers.stack import CELLS
from rnnzoo.presets.card import Card
from rnnzoo.presets.golden import given_batch, golden_batch
from rnnzoo.presets.saved import load_model
from rnnzoo.presets.storage import STORAGE, write_model
from rnnzoo.presets.told import check_told

MODEL, CARD, README, GOLDEN = "model.keras", "card.json", "README.md", "golden.npz"
# Those that are read again, and so checked.
SEALED = (MODEL, GOLDEN)
FILES = (*SEALED, README, CARD)
_RECURRENT = (RecurrentLayer, keras.layers.RNN)


def write_preset(
    model: Any,
    folder: str | os.PathLike,
    inputs: Mapping[str, Input],
    *,
    golden: Mapping[str, Any] | None = None,
    storage: str = "float32",
    overwrite: bool = False,
    **told: Any,
) -> pathlib.Path:
    """The folder, after the preset was written to it.

    The files are written aside and then moved, the card last: what is half there does not
    have the checksums of its card, and is refused when it is read.

    Args:
        model: a model of rnnzoo.
        folder: where to; other things that stand there stay.
        inputs: those of the model by name.
        golden: a batch of these, for which the outputs are kept; None takes random ones.
        storage: 'float32', or 'float16' for half the bytes.
        overwrite: replace a preset that stands there.
        told: what the card says, by the names of `Card`; what can be counted is counted.

    Raises:
        ValueError: words that are not of a card, a golden batch of other inputs.
        FileExistsError: there is a preset and `overwrite` is False; something else than a file
            or folder of a preset stands in its place.
    """
    folder = _checks.path("folder", folder)
    _checks.one_of("storage", storage, STORAGE)
    check_told(told, model)
    told = {name: value for name, value in told.items() if value is not None}
    if not _checks.flag("overwrite", overwrite) and (folder / CARD).exists():
        raise FileExistsError(
            f"folder must be new; received folder={str(folder)!r}, which holds a preset. Choose "
            "another, or pass overwrite=True."
        )
    blocked = [folder] if folder.exists() and not folder.is_dir() else []
    blocked += [folder / name for name in FILES if (folder / name).is_dir()]
    if blocked:
        raise FileExistsError(
            f"folder must have room for {', '.join(FILES)}; received folder={str(folder)!r}, where "
            f"{str(blocked[0])!r} is in the way. Choose another."
        )
    golden = golden_batch(inputs) if golden is None else given_batch(inputs, golden)
    told = {"name": os.path.basename(os.path.abspath(folder)), "task": "other", **told}
    known = {"form": model.form, "cell": cell_of(model), "parameters": model.count_params()}
    aside = folder_beside(folder)
    try:
        write_model(model, aside / MODEL, storage)
        _write_golden(load_model(aside / MODEL, compile=False), golden, aside / GOLDEN)
        card = Card(**told, **known, files={name: sha256(aside / name) for name in SEALED})
        (aside / README).write_text(card.readme(), encoding="utf-8")
        (aside / CARD).write_text(card.to_json(), encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            os.replace(aside / name, folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def read_card(folder: pathlib.Path) -> Card:
    """The card of a preset; ValueError where there is none, or none that can be read."""
    path = folder / CARD
    try:
        text = read_bytes(path).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"a preset must be a folder with {', '.join(FILES)}; received {str(folder)!r}, which "
            f"lacks {CARD}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8; received other bytes") from error
    return Card.from_json(text, str(path))


def read_preset(folder: pathlib.Path) -> tuple[Any, Card]:
    """The model of a preset, not compiled, and its card; nothing is read before it is checked.

    Raises:
        ValueError: a file that is missing or does not have the checksum of the card; a model
            that is not of rnnzoo.
    """
    card = check(folder)
    return load_model(folder / MODEL, compile=False), card


def read_golden(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The golden inputs by name, and the outputs (of several, by name) that belong to them."""
    check(folder)
    with zipfile.ZipFile(folder / GOLDEN) as archive:
        check_members(archive)
    with np.load(folder / GOLDEN, allow_pickle=False) as stored:
        parts: dict[str, dict] = {"x": {}, "y": {}}
        for name in stored.files:
            side, key = name.split(":", 1)
            parts[side][key] = stored[name]
    outputs = parts["y"]
    return parts["x"], outputs[""] if set(outputs) == {""} else outputs


def check(folder: pathlib.Path) -> Card:
    """The card of a preset all of whose files are as they were written."""
    card = read_card(folder)
    lacking = [name for name in SEALED if name not in card.files]
    if lacking:
        raise ValueError(f"{folder / CARD} must tell the sha256 of {', '.join(lacking)}")
    for name in SEALED:
        path = folder / name
        if not path.is_file():
            raise ValueError(
                f"a preset must be whole; received {str(folder)!r}, which lacks {name}: fetch or "
                "save it again"
            )
        found = sha256(path)
        if found != card.files[name]:
            raise ValueError(
                f"{path} must be the file that its card tells of, sha256 {card.files[name]}; "
                f"received one with {found}. It was altered or only half written: fetch or save "
                "it again."
            )
    return card


def sha256(path: pathlib.Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def outputs_of(model: Any, batch: dict[str, np.ndarray]) -> Any:
    """What `model` gives for a batch of whole sequences, as NumPy arrays."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(batch, training=False))


def cell_of(model: Any) -> str:
    """The names of the cells of a model, as `cell=` has them, in the order they first come."""
    layers = [layer for core in model.cores for layer in every_layer(core)]
    kinds = [getattr(one, "cell", one) for one in layers if isinstance(one, _RECURRENT)]
    # Those of a scaling measure, and learn nothing.
    kinds = [type(kind) for kind in kinds if not isinstance(kind, MomentsCell)]
    names = [kind.__name__.lower().removesuffix("cell") for kind in kinds]
    public = {name.replace("_", ""): name for name in CELLS}
    return ", ".join(dict.fromkeys(public.get(name, name) for name in names)) or "none"


def _write_golden(model: Any, golden: dict[str, np.ndarray], path: pathlib.Path) -> None:
    given = outputs_of(model, golden)
    given = given if isinstance(given, dict) else {"": given}
    arrays = {f"x:{name}": value for name, value in golden.items()}
    np.savez_compressed(path, **arrays, **{f"y:{name}": value for name, value in given.items()})
