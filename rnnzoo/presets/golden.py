"""The batch whose outputs a preset keeps, to show that it computes what it did."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnzoo import _checks
from rnnzoo.core.spec import Input

ROWS, STEPS, SEVERAL = 2, 7, 5


def golden_batch(inputs: Mapping[str, Input]) -> dict[str, np.ndarray]:
    """Two rows of seven steps for each of `inputs` by name, always the same for the same inputs.

    Tokens are spread over the vocabulary, numbers are normal.
    """
    random = np.random.default_rng(0)
    batch = {}
    for name, one in inputs.items():
        own = (SEVERAL if size is None else size for size in one.shape)
        shape = (ROWS, *((STEPS,) if one.per_step else ()), *own)
        if one.vocabulary is None:
            batch[name] = random.normal(size=shape).astype("float32")
        else:
            batch[name] = random.integers(0, one.vocabulary, shape, dtype="int32")
    return batch


def given_batch(inputs: Mapping[str, Input], golden: Any) -> dict[str, np.ndarray]:
    """A golden batch as it was given, as arrays.

    Raises:
        ValueError: names that are not those of `inputs`.
    """
    if not isinstance(golden, Mapping) or set(golden) != set(inputs):
        named = list(golden) if isinstance(golden, Mapping) else golden
        raise _checks.refuse("golden", f"None or a dict of arrays for {', '.join(inputs)}", named)
    types = {name: "float32" if one.vocabulary is None else "int32" for name, one in inputs.items()}
    return {name: np.asarray(value, types[name]) for name, value in golden.items()}
