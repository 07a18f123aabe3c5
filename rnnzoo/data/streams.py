"""One long sequence as batches of contiguous lanes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from rnnzoo._checks import flag
from rnnzoo.data.lanes import Lane, LaneDataset, check_lanes, check_window, same_lanes
from rnnzoo.data.reading import input_steps
from rnnzoo.data.targets import lane_targets, lane_weights, static_values
from rnnzoo.data.tokens import TextVocabulary


def stream(
    array: np.ndarray | Sequence | Mapping[str, Any],
    batch_size: int,
    window: int,
    *,
    targets: np.ndarray | Sequence | str | None = None,
    windows_per_batch: int = 1,
    sample_weight: np.ndarray | Sequence | None = None,
    static: Mapping[str, Any] | None = None,
    vocabulary: int | TextVocabulary | Mapping | None = None,
    check_finite: bool = False,
) -> LaneDataset:
    """One long sequence cut into `batch_size` contiguous lanes: a `keras.utils.PyDataset`.

    Lane i of a batch goes on where lane i of the batch before ended. A batch is
    `({"inputs", "reset"}, y, sample_weight)` with T = window * windows_per_batch:

    - `inputs`: `(batch_size, T)` int32 tokens or `(batch_size, T, features)` float32; by the
      names of the inputs where `array` is a dict, and beside them `static`, `(batch_size, ...)`;
    - `reset`: `(batch_size, T)` bool, True only at the first step of all: the next pass over
      the data starts afresh, all other batches go on;
    - `y`: the step after each input, or the given targets (integers as int32, others float32);
    - `sample_weight`: `(batch_size, T)` float32, 1 or what is given on real steps, 0 on padding.

    No step is dropped. Lanes differ by at most one step; a shorter lane ends in one step of
    padding (zeros, weight 0). The last batch has fewer steps when T does not divide the lanes.
    So where there may be padding, put metrics into `compile(weighted_metrics=...)` and give
    the loss `reduction="mean_with_sample_weight"`, as in
    `keras.losses.SparseCategoricalCrossentropy(from_logits=True,
    reduction="mean_with_sample_weight")`: other reductions divide by all steps.

    Only the slices of a batch are read, so `array` may be a memory-mapped file of any size.

    Args:
        array: `(N,)` integer tokens or `(N, features)` numbers; an array, memmap, list, or a
            table or column of pandas. A text where there is a `Vocabulary`. A dict of these by
            the names of several inputs, all of N steps, where numbers `(N,)` are one feature:
            `dict(table)` has each column by its name.
        batch_size: number of lanes, at most the number of steps.
        window: steps of a window, at most the steps of the longest lane.
        targets: None: the next step, so that N steps give N - 1 inputs; or N targets, of any
            shape `(N, ...)`. Of several inputs, the name of the one whose next step it is.
        windows_per_batch: windows in a batch, for `rnnzoo.TruncatedBPTT`.
        sample_weight: None, or N weights. A step's weight counts where it is the target, so
            that the first has no use where targets are the next steps.
        static: one value of any shape for the whole sequence, by the names of inputs.
        vocabulary: the number of tokens, which must lie in `[0, vocabulary)`, or the
            `Vocabulary` that also encodes text; where inputs have names, a dict of these. An
            array in memory is checked here, a memory-mapped one batch by batch.
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
    check_finite = flag("check_finite", check_finite)
    inputs = input_steps(array, "array", vocabulary, check_finite, alone=True, static=static)
    fixed = static_values(static, "static", inputs, vocabulary, check_finite)
    targets, ahead = lane_targets(targets, inputs, check_finite)
    lengths = targets.lengths
    weights = lane_weights(sample_weight, lengths, alone=True)
    steps = int(lengths[0]) - ahead
    batch_size = check_lanes(batch_size, steps, of="steps of array that have a target")
    longest = -(-steps // batch_size)
    window = check_window(window, longest, batch_size)
    lanes = _contiguous(steps, batch_size)
    for i, (_, offset, _, length) in enumerate(lanes):
        low, high = int(offset[0]), int(offset[0] + length[0])
        for part in (*inputs.values(), targets):
            part.check(0, low, min(high + ahead, len(part.arrays[0])), f" (lane {i})")
    return LaneDataset(
        inputs,
        targets,
        weights,
        partial(same_lanes, lanes),
        ahead=ahead,
        lanes=batch_size,
        steps=longest,
        window=window,
        windows_per_batch=windows_per_batch,
        static=fixed,
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
