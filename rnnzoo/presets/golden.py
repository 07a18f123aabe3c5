"""The batch whose outputs a preset keeps, to show that it computes what it did."""

from collections.abc import Mapping

import numpy as np

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
