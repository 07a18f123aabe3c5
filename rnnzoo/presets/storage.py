"""`model.keras` of a preset: the trained weights and nothing else, in half the bytes if wished."""

import io
import pathlib
import zipfile
from typing import Any

import h5py
import numpy as np

WEIGHTS = "model.weights.h5"
STORAGE = ("float16", "float32")


def fresh(model: Any) -> Any:
    """The same architecture with new weights, not compiled, with no carried state."""
    return type(model).from_config(model.get_config())


def write_model(model: Any, path: pathlib.Path, storage: str) -> None:
    """Writes the weights of `model`, without its optimizer and its carried state.

    Args:
        model: a model of rnnzoo.
        path: a new file that ends in `.keras`.
        storage: 'float32' leaves values as they are, 'float16' rounds those of float32 to half
            precision; they are cast again when they are read. Keras reads either.

    Raises:
        ValueError: another storage, or weights that half precision cannot hold.
    """
    clean = fresh(model)
    for new, old in zip(clean.cores, model.cores, strict=True):
        new.set_weights(old.get_weights())
    clean.save(path)
    if storage == "float16":
        _halve(path)


def _halve(path: pathlib.Path) -> None:
    """Rewrite the file with the weights in float16."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO()
    with h5py.File(io.BytesIO(parts[WEIGHTS])) as old, h5py.File(content, "w") as new:
        _copy(old, new)
    parts[WEIGHTS] = content.getvalue()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def _copy(old: Any, new: Any) -> None:
    new.attrs.update(old.attrs)
    for name, one in old.items():
        if isinstance(one, h5py.Group):
            _copy(one, new.create_group(name))
            continue
        values = one[()]
        if values.dtype == np.float32:
            with np.errstate(over="ignore"):
                halved = values.astype(np.float16)
            if not np.array_equal(np.isfinite(halved), np.isfinite(values)):
                raise ValueError(
                    "storage='float16' holds values up to 65504; received weights up to "
                    f"{np.abs(values).max():g} in {one.name}: use storage='float32'"
                )
            values = halved
        new.create_dataset(name, data=values).attrs.update(one.attrs)
