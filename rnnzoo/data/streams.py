"""One long sequence as batches of contiguous lanes."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from rnnzoo.data.lanes import Lane, LaneDataset, check_lanes, check_window, same_lanes
from rnnzoo.data.reading import Reader, as_steps, as_targets


def stream(
    array: np.ndarray | Sequence,
    batch_size: int,
    window: int,
    *,
    targets: np.ndarray | Sequence | None = None,
    windows_per_batch: int = 1,
    vocabulary: int | None = None,
    check_finite: bool = False,
) -> LaneDataset:
    """One long sequence cut into `batch_size` contiguous lanes: a `keras.utils.PyDataset`.

    Lane i of a batch goes on where lane i of the batch before ended. A batch is
    `({"inputs", "reset"}, y, sample_weight)` with T = window * windows_per_batch:

    - `inputs`: `(batch_size, T)` int32 tokens or `(batch_size, T, features)` float32;
    - `reset`: `(batch_size, T)` bool, True only at the first step of all: the next pass over
      the data starts afresh, all other batches go on;
    - `y`: the step after each input, or the given targets (integers as int32, others float32);
    - `sample_weight`: `(batch_size, T)` float32, 1 on real steps and 0 on padding.

    No step is dropped. Lanes differ by at most one step; a shorter lane ends in one step of
    padding (zeros, weight 0). The last batch has fewer steps when T does not divide the lanes.
    So where there may be padding, put metrics into `compile(weighted_metrics=...)` and give
    the loss `reduction="mean_with_sample_weight"`, as in
    `keras.losses.SparseCategoricalCrossentropy(from_logits=True,
    reduction="mean_with_sample_weight")`: other reductions divide by all steps.

    Only the slices of a batch are read, so `array` may be a memory-mapped file of any size.

    Args:
        array: `(N,)` integer tokens or `(N, features)` numbers; an array, memmap or list.
        batch_size: number of lanes, at most the number of steps.
        window: steps of a window, at most the steps of the longest lane.
        targets: None: the next step, so that N steps give N - 1 inputs; or N targets, of any
            shape `(N, ...)`.
        windows_per_batch: windows in a batch, for `rnnzoo.TruncatedBPTT`.
        vocabulary: when given, tokens must lie in `[0, vocabulary)`. An array in memory is
            checked here, a memory-mapped one batch by batch.
        check_finite: whether NaN and infinity are errors; checked as `vocabulary` is.

    Returns:
        A data set with `len()`, `lanes`, `window`; `fit` cannot shuffle it.

    Raises:
        ValueError: on arguments that break these rules; the text names lane and step.

    Example:

    >>> import numpy as np
    >>> batches = stream(np.arange(10), batch_size=2, window=3)
    >>> len(batches)
    2
    >>> x, y, weight = batches[0]
    >>> x["inputs"]
    array([[0, 1, 2],
           [5, 6, 7]], dtype=int32)
    >>> x["reset"][0], y[0]
    (array([ True, False, False]), array([1, 2, 3], dtype=int32))
    >>> x, y, weight = batches[1]
    >>> y, weight
    (array([[4, 5],
           [9, 0]], dtype=int32), array([[1., 1.],
           [1., 0.]], dtype=float32))
    """
    array = as_steps(array, "array")
    reader = Reader.of_steps(array, vocabulary, check_finite)
    target_reader = reader
    if targets is not None:
        targets = as_targets(targets, "targets", len(array), of="step")
        target_reader = Reader.of_targets(targets, check_finite)
    steps = len(array) - (targets is None)
    batch_size = check_lanes(batch_size, steps, of="steps that have a target")
    longest = -(-steps // batch_size)
    window = check_window(window, longest, batch_size)
    lanes = _contiguous(steps, batch_size)
    for i, (_, offset, _, length) in enumerate(lanes):
        low, high = int(offset[0]), int(offset[0] + length[0])
        reader.check(array, f"array (lane {i})", low, high + (targets is None))
        if targets is not None:
            target_reader.check(targets, f"targets (lane {i})", low, high)
    return LaneDataset(
        [array],
        None if targets is None else [targets],
        (reader, target_reader),
        partial(same_lanes, lanes),
        lanes=batch_size,
        steps=longest,
        window=window,
        windows_per_batch=windows_per_batch,
        name="array",
    )


def _contiguous(steps: int, batch_size: int) -> list[Lane]:
    # Lane lengths of n and n + 1 leave at most one step of padding in a lane.
    short, longer = divmod(steps, batch_size)
    lanes, offset = [], 0
    for lane in range(batch_size):
        length = short + (lane < longer)
        lanes.append(Lane(*(np.array([v]) for v in (0, offset, 0, length))))
        offset += length
    return lanes
