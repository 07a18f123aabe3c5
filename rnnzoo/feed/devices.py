"""Training spread over devices and processes: who reads which rows, and whether they divide."""

from typing import Any

import numpy as np

from rnnzoo import backend
from rnnzoo.data.epochs import EpochDataset


def shared_out(x: Any) -> Any:
    """`x`; of a data set of `rnnzoo.data` each process reads its own rows from now on.

    Other data are what Keras takes them for: the rows of this process.

    Raises:
        ValueError: the processes have data sets that differ in seed, epoch or length.
    """
    index, count = backend.share()
    if count > 1 and isinstance(x, EpochDataset) and x.part == (0, 1):
        given = backend.from_all(np.array([x.seed, x.epoch, len(x), x.batch_size]))
        if (given != given[0]).any():
            raise ValueError(
                "all processes must have the same data set, of which each reads its own rows; "
                f"received (seed, epoch, batches, batch_size) = {given.tolist()}. Give "
                "rnnzoo.data.pack(shuffle=True) and others a seed, or start with "
                "keras.distribution.initialize(), which makes one for all."
            )
        x.shard(index, count)
    return x


def check_divides(rows: int) -> None:
    """ValueError where the devices of this process cannot have equally many of `rows` rows."""
    count = backend.share()[1]
    devices = backend.devices() // count
    if rows % devices:
        each = f" in each of {count} processes" if count > 1 else ""
        raise ValueError(
            "the rows of every batch must divide over the devices of keras.distribution, as each "
            f"trains equally many; received {rows} rows for {devices} devices{each}. Take a "
            f"multiple of {devices * count} rows a batch, or fewer devices: "
            "keras.distribution.DataParallel(devices=...)."
        )


def refuse_prediction() -> None:
    """ValueError where a part of what `predict` returns would be in other processes."""
    if backend.share()[1] > 1:
        raise ValueError(
            "predict must run in one process, where all outputs are; received "
            f"{backend.share()[1]} processes. Save the model and load it in one, or use evaluate."
        )
