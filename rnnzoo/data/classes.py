"""Weights of classes, brought to the targets that are of these classes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnzoo import _checks


def class_weights(class_weight: Any, targets: np.ndarray) -> np.ndarray:
    """The weight `(n,)` float32 of each of `targets`; 1 for a class without one.

    Args:
        class_weight: numbers of at least 0, by class.
        targets: classes `(n,)` or `(n, 1)`, or one-hot `(n, classes)`; of zeros alone are none.

    Raises:
        ValueError: a class that is no integer, a weight that is no number of at least 0, targets
            that are no classes.
    """
    if not isinstance(class_weight, Mapping):
        raise _checks.refuse("class_weight", "a dict of weights by class", class_weight)
    known = {
        _checks.integer("a class of class_weight", key, 0): _checks.number(
            f"class_weight[{key}]", weight, "a number of at least 0", lambda v: v >= 0
        )
        for key, weight in class_weight.items()
    }
    classes, places = np.unique(_classes(targets), return_inverse=True)
    weights = np.array([known.get(int(one), 1.0) for one in classes], np.float32)
    return weights[places.reshape(-1)]


def _classes(targets: np.ndarray) -> np.ndarray:
    """`targets` as classes `(n,)`, -1 for none."""
    if targets.ndim == 2 and targets.shape[1] > 1 and (targets >= 0).all():
        total = targets.sum(axis=1)
        if np.isclose(total, 1).all(where=total != 0):  # smoothed ones too
            return np.where(total == 0, -1, targets.argmax(axis=1))
    if targets.size == len(targets) and (targets == np.floor(targets)).all():
        return targets.reshape(-1)
    raise ValueError(
        "class_weight must come with targets that are classes, whole numbers (n,), or one-hot "
        f"(n, classes); received targets of dtype {targets.dtype}, shape {targets.shape}"
    )
