"""Training in several processes (JAX only): who feeds which rows, and what each of them has."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def share() -> tuple[int, int]:
    """Which of how many parts of every batch this process feeds, `(index, count)`."""
    spread = keras.distribution.distribution()
    if spread is None or spread.num_processes == 1:
        return 0, 1
    return spread.data_shard_id, min(spread.num_processes, spread.num_model_replicas)


def devices() -> int:
    """Devices over which the rows of a batch are laid by `keras.distribution`, in all processes."""
    spread = keras.distribution.distribution()
    return 1 if spread is None else spread.num_model_replicas


def from_all(array: Any) -> np.ndarray:
    """What each process gave, `(processes, ...)`; all must give an array of one shape."""
    if share()[1] == 1:
        return np.asarray(array)[None]
    from jax.experimental import multihost_utils  # only JAX has more than one

    return np.asarray(multihost_utils.process_allgather(np.asarray(array)))


@contextlib.contextmanager
def written_once(path: Any) -> Iterator[Any]:
    """Where this process writes a file that all write together: the first one to `path`.

    All take the same steps, as each holds a part of the state and variables that Keras makes on
    the way are spread over all; what the others write is thrown away. They end together, too.
    """
    index, count = share()
    if count == 1:
        yield path
        return
    from jax.experimental import multihost_utils

    with contextlib.ExitStack() as after:
        after.callback(multihost_utils.sync_global_devices, "rnnzoo: a file is written")
        if index:
            folder = after.enter_context(tempfile.TemporaryDirectory())
            path = os.path.join(folder, os.path.basename(path))
        yield path
