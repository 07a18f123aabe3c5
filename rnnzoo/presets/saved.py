"""`load_model`: a file that `model.save` wrote, looked at before it is read."""

import io
import json
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import keras

from rnnzoo import _checks
from rnnzoo._files import LARGE, check_members
from rnnzoo.training.trainer import SequenceTrainer

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
# Times the bytes of its weights that a file may hold: the slots of an optimizer, and lanes.
_SHARE = 16
_UNKNOWN = re.compile("Could not locate (class|function) '[^']*'")


def load_model(
    path: str | os.PathLike,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
) -> Any:
    """The model in a file that `model.save` wrote, as `keras.saving.load_model` reads it.

    A file of unknown origin is read without harm: nothing in it is run, its sizes are looked at
    before they are believed, and whatever is wrong with it is one kind of error.

    Args:
        path: a file that ends in `.keras`.
        custom_objects: classes and functions by name that Keras does not know.
        compile: whether it is compiled as it was saved.

    Raises:
        ValueError: a file that is damaged or was altered, or that holds another model.
        OSError: a file that cannot be read.

    Example:

    >>> import pathlib, tempfile, rnnzoo
    >>> path = pathlib.Path(tempfile.mkdtemp(), "mine.keras")
    >>> rnnzoo.one_to_one(features=3, units=4, outputs=2).save(path)
    >>> rnnzoo.load_model(path).spec.inputs["inputs"].shape
    (3,)
    """
    path = _checks.path("path", path)
    _checks.flag("compile", compile)
    if custom_objects is not None:
        _checks.named("custom_objects", custom_objects, object, "classes or functions")
    path.open("rb").close()  # an error of its own where it cannot be read
    try:
        _check_sizes(path, custom_objects)
        model = keras.saving.load_model(path, custom_objects=custom_objects, compile=compile)
    except Exception as error:  # Keras, HDF5, zipfile and json raise almost anything
        if unknown := _UNKNOWN.search(str(error)):
            raise ValueError(
                f"path must be a model of classes that are known; received path={str(path)!r}: "
                f"{unknown[0][:200]}. Import what is yours before, registered by "
                "keras.saving.register_keras_serializable, or load within "
                "keras.saving.custom_object_scope."
            ) from error
        raise ValueError(
            "path must be a model as model.save wrote it, of classes that are known; received "
            f"path={str(path)!r}, which is damaged or was altered "
            f"({type(error).__name__}: {str(error)[:300]})"
        ) from error
    if not isinstance(model, SequenceTrainer):
        raise ValueError(
            f"path must hold a model of rnnzoo; received {type(model).__name__} in {str(path)!r}"
        )
    return model


def _check_sizes(path: pathlib.Path, custom_objects: Any) -> None:
    """ValueError where the file would unpack to far more than its model needs."""
    with zipfile.ZipFile(path) as members:
        check_members(members, LARGE, but=_WEIGHTS)
        config = json.loads(members.read(_CONFIG))
        held = members.getinfo(_WEIGHTS).file_size
        if held > LARGE:
            _check_size(held, config, custom_objects)
        unpacked = _unpacked(members.read(_WEIGHTS))
        if unpacked > LARGE:  # HDF5 packs its arrays, too
            _check_size(unpacked, config, custom_objects)


def _check_size(size: int, config: dict, custom_objects: Any) -> None:
    """ValueError where `size` bytes of weights are far more than the model of `config` has."""
    model = keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)
    needed = sum(8 * math.prod(one.shape) for one in model.weights)
    if size > LARGE + _SHARE * needed:
        raise ValueError(f"{_WEIGHTS} would take {size} bytes, and the model needs {needed}")


def _unpacked(content: bytes) -> int:
    """Bytes of the arrays in a file of HDF5."""
    sizes = []
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda _, one: sizes.append(getattr(one, "nbytes", 0)))
    return sum(sizes)
