"""All that a model in training consists of, as arrays by name, and back."""

import random
from typing import Any

import keras
import numpy as np

from rnnzoo import backend
from rnnzoo.training.backup import record
from rnnzoo.training.backup.remembered import Remembered, pack, unpack

_KINDS = ("trainable", "non_trainable", "optimizer", "metrics")


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables of a training state by name: weights, carry, seeds, optimizer, metrics.

    The carries of evaluation and of windows are left out: they are set anew each time.
    """
    passing = {
        id(v) for carry in (model.evaluation_carry, model.window_carry) for v in carry.variables
    }
    optimizer = model.optimizer.variables
    groups = (model.trainable_variables, model.non_trainable_variables, optimizer)
    return {
        f"{kind}/{i}": variable
        for kind, variables in zip(_KINDS, (*groups, model.metrics_variables))
        for i, variable in enumerate(v for v in variables if id(v) not in passing)
    }


def take(
    model: keras.Model, remembered: Remembered
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The training state as `(arrays, the rest)`; the rest is fit for JSON."""
    arrays = {
        f"{name}/{replica}": value
        for name, variable in variables_of(model).items()
        for replica, value in enumerate(backend.values_of(variable))
    }
    dtypes = {name: value.dtype.name for name, value in arrays.items()}
    arrays = {name: _plain(value) for name, value in arrays.items()}
    callbacks = remembered.take(arrays)
    kind, keys, *numbers = np.random.get_state()
    arrays["numpy_random"] = keys
    history = model.history
    rest = {
        "dtypes": dtypes,
        "callbacks": callbacks,
        "history": {
            name: [pack(v, f"history/{name}/{i}", arrays) for i, v in enumerate(values)]
            for name, values in history.history.items()
        },
        "epochs": [int(epoch) for epoch in history.epoch],
        "python_random": random.getstate(),
        "numpy_random": [kind, *numbers],
        "shapes": None if model.shapes is None else model.shapes.state(),
    }
    return arrays, rest


def put(
    model: keras.Model, remembered: Remembered, arrays: dict[str, np.ndarray], rest: dict
) -> None:
    """Set the training state to what `take` gave."""
    for name, variable in variables_of(model).items():
        values = [arrays[f"{name}/{i}"] for i in range(len(backend.values_of(variable)))]
        dtypes = [rest["dtypes"][f"{name}/{i}"] for i in range(len(values))]
        backend.set_values(variable, [v.view(np.dtype(d)) for v, d in zip(values, dtypes)])
    remembered.put(rest["callbacks"], arrays)
    model.history.history = {
        name: [unpack(value, arrays) for value in values]
        for name, values in rest["history"].items()
    }
    model.history.epoch = list(rest["epochs"])
    record.set_random(random, np.random, arrays, rest)
    if model.shapes is not None and rest.get("shapes"):
        model.shapes.restore(rest["shapes"])


def check(model: keras.Model, arrays: dict[str, np.ndarray], rest: dict, path: Any) -> None:
    """ValueError unless the arrays at `path` are those of a model like this one."""
    wanted = {
        f"{name}/{replica}": (variable.path, value)
        for name, variable in variables_of(model).items()
        for replica, value in enumerate(backend.values_of(variable))
    }
    held = {name for name in arrays if name.split("/")[0] in _KINDS}
    for name in sorted(held ^ set(wanted)):
        what = wanted[name][0] if name in wanted else name
        holder = "the model" if name in wanted else "the backup"
        raise ValueError(_another_model(path, f"only {holder} has {what}"))
    for name, (what, value) in wanted.items():
        given = (arrays[name].shape, rest["dtypes"].get(name))
        if given != (value.shape, value.dtype.name):
            own = f"{value.dtype.name}{list(value.shape)}"
            held = f"{given[1]}{list(given[0])}"
            raise ValueError(_another_model(path, f"{what} is {own} here and {held} there"))


def _another_model(path: Any, difference: str) -> str:
    return (
        "a backup must be of the same model, optimizer, metrics, lanes and replicas; received "
        f"{str(path)!r}, where {difference}. Build what was trained, or give another folder."
    )


def finite(arrays: dict[str, np.ndarray], rest: dict) -> bool:
    """Whether every weight and state is a finite number; metrics do not count."""
    return all(
        np.isfinite(value.view(np.dtype(rest["dtypes"][name])).astype("float32")).all()
        for name, value in arrays.items()
        if name.split("/")[0] in _KINDS[:2] and "float" in rest["dtypes"][name]
    )


def _plain(value: np.ndarray) -> np.ndarray:
    """`value`, a bfloat16 as integers of the same bits: NumPy files know no other floats."""
    return value if value.dtype.kind in "fiub" else value.view(f"u{value.dtype.itemsize}")
