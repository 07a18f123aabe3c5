"""What a backup says beside its arrays: the place in the data, and by whom it was written."""

import importlib
import platform
import random
import warnings
from typing import Any, NamedTuple

import keras
import numpy as np

_VERSION = 2
_NUMBER = (int, float, type(None))
_FIELDS = {
    "version": int,
    "epoch": int,
    "batch": int,
    "trained": int,
    "finished": bool,
    "seed": (int, type(None)),
    "learning_rate": _NUMBER,
    "batches": int,
    "names": list,
    "libraries": dict,
    "dtypes": dict,
    "callbacks": list,
    "history": dict,
    "epochs": list,
    "python_random": list,
    "numpy_random": list,
}


class Position(NamedTuple):
    """How far training has come.

    Attributes:
        epoch: the epoch to go on in, from 0.
        batch: batches of it that are trained, fewer than all.
        trained: batches trained in all.
    """

    epoch: int = 0
    batch: int = 0
    trained: int = 0


def written(position: Position, source: Any, rate: float | None, finished: bool) -> dict:
    """The part of a backup that is not of the model; `check` and `go_to` read it."""
    return {
        "version": _VERSION,
        **position._asdict(),
        "finished": finished,
        "seed": source.seed,
        "learning_rate": rate,
        "batches": source.batches,
        "names": source.names,
        "libraries": libraries(),
    }


def libraries() -> dict[str, str]:
    """The versions that the last bits of a result may depend on."""
    names = ["rnnzoo", "keras", "numpy", keras.backend.backend()]
    # Asked of the module: its package may be keras-nightly or tensorflow-cpu.
    versions = {name: importlib.import_module(name).__version__ for name in names}
    return {"python": platform.python_version(), **versions}


def check(arrays: dict[str, np.ndarray], rest: Any) -> None:
    """ValueError unless `rest` has all its fields, and they fit one another and the arrays."""
    if not isinstance(rest, dict) or rest.get("version") != _VERSION:
        raise ValueError(f"backup.json must be an object with version {_VERSION}")
    for name, kind in _FIELDS.items():
        value = rest.get(name, ...)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(
                f"backup.json must have a field {name!r} of another kind than there is"
            )
    if min(rest[name] for name in ("epoch", "batch", "trained", "seed") if rest[name]) < 0:
        raise ValueError("backup.json must count from 0")
    for name in ("checksums", "numpy_random"):
        if name not in arrays:
            raise ValueError(f"arrays.npz must hold {name!r}")
    shape = (rest["batch"] or rest["batches"], len(rest["names"]))
    if arrays["checksums"].shape != shape or rest["batch"] >= rest["batches"]:
        raise ValueError("backup.json and the checksums of the batches must agree")
    for values in (*rest["history"].values(), rest["callbacks"]):
        if not isinstance(values, list):
            raise ValueError("backup.json must hold lists of what was measured")
    held = [one.get("state") if isinstance(one, dict) else None for one in rest["callbacks"]]
    if not all(isinstance(state, dict) for state in held):
        raise ValueError("backup.json must hold one object for each callback")
    # Tried where it spoils nothing.
    set_random(random.Random(), np.random.RandomState(), arrays, rest)


def set_random(python: Any, numpy: Any, arrays: dict[str, np.ndarray], rest: dict) -> None:
    """Set two random generators, Python's and NumPy's, to the state that was kept."""
    version, state, gauss = rest["python_random"]
    kind, *numbers = rest["numpy_random"]
    python.setstate((version, tuple(state), gauss))
    numpy.set_state((kind, arrays["numpy_random"], *numbers))


def go_to(backup: Any, source: Any) -> Position:
    """The place that `backup` names, to which `source` has gone.

    Raises:
        ValueError: the data are not those of the backup.
    """
    rest = backup.rest
    given = libraries()
    if changed := {k: v for k, v in rest["libraries"].items() if given.get(k) != v}:
        now = ", ".join(f"{name} {given.get(name, 'not here')}" for name in changed)
        was = ", ".join(f"{name} {version}" for name, version in changed.items())
        warnings.warn(
            f"the backup {backup.path} was made with {was}; here is {now}. Training goes on and "
            "may differ in the last bits from one that was never stopped.",
            stacklevel=2,
        )
    for what, was, now in (
        ("batches in an epoch", rest["batches"], source.batches),
        ("arrays in a batch", rest["names"], source.names),
    ):
        if was != now:
            raise ValueError(_changed(backup.path, f"there were {was} {what}, now {now}"))
    position = Position(rest["epoch"], rest["batch"], rest["trained"])
    sums = backup.arrays["checksums"]
    epoch = position.epoch if position.batch else position.epoch - 1
    source.open(epoch)
    for index, row in enumerate(sums.tolist()):
        try:
            source.look(index)
        except (StopIteration, IndexError) as error:
            text = f"batch {index} of epoch {epoch} is missing now"
            raise ValueError(_changed(backup.path, text)) from error
        for name, was, now in zip(source.names[source.own], row[source.own], source.read[index]):
            if was != now:
                text = f"{name} of batch {index} of epoch {epoch} has other values now"
                raise ValueError(_changed(backup.path, text))
    if not position.batch:
        source.close()
    return position


def _changed(path: Any, difference: str) -> str:
    return (
        "a run must go on with the data that it began with, in the same order; received other "
        f"data than those of {str(path)!r}: {difference}. Give the data of that run (where they "
        "are shuffled, with the same seed), or another folder."
    )
