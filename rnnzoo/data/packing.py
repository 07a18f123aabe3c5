"""Many sequences of different length, packed into lanes that are refilled as they get free."""

import heapq
from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import flag, positive_integer
from rnnzoo.data.epochs import seed_of_order
from rnnzoo.data.lanes import Lane, LaneDataset, check_lanes, check_window, same_lanes
from rnnzoo.data.reading import input_steps
from rnnzoo.data.steps import Steps
from rnnzoo.data.targets import lane_targets, lane_weights, repeated, static_values
from rnnzoo.data.tokens import TextVocabulary

_SORTED_PARTS = (0.0, 0.125, 0.25, 0.5, 1.0)


def pack(
    sequences: Iterable | Mapping[str, Iterable],
    batch_size: int,
    window: int,
    *,
    targets: Iterable | str | None = None,
    align: bool = False,
    shuffle: bool = False,
    seed: int | None = None,
    windows_per_batch: int = 1,
    sample_weight: Iterable | None = None,
    static: Mapping[str, Iterable] | None = None,
    vocabulary: int | TextVocabulary | Mapping | None = None,
    check_finite: bool = False,
) -> LaneDataset:
    """Whole sequences packed one after the other into lanes: a `keras.utils.PyDataset`.

    Each sequence goes whole into the lane that gets free first. Batches are those of
    `rnnzoo.data.stream`, `({"inputs", "reset"}, y, sample_weight)`, with `reset` True at the
    first step of each sequence, and the same advice: metrics into `weighted_metrics`, loss
    with `reduction="mean_with_sample_weight"`. Only `static` values differ: a lane holds several
    sequences, so they come at each step, `(batch_size, T, ...)`, as an input per step.

    Padding (zeros, weight 0) stands only at the end of lanes, or with `align=True` also after
    each sequence up to the next window. It has no `reset` of its own: with weight 0 it teaches
    nothing, the next sequence's `reset` cuts off what it did to the state, and a mark would
    only put a reset in the middle of an aligned window.

    With `shuffle=True` every epoch has its own order, made from `seed` and the epoch's number:
    which sequences share a lane, their order in it, and the order of lanes. Windows are never
    shuffled. Learning-rate schedules and Keras itself need the same number of windows and
    batches in every epoch, while sequences in random order fill the lanes unevenly. So the
    last sequences of the random order are placed longest first, which levels the lanes; how
    many (none, 1/8, 1/4, half, all) is the least that gives the number of windows that all
    sequences placed longest first need. The last batch is then padded to whole windows.

    Args:
        sequences: arrays, lists, tables or memmap views, `(n,)` integer tokens or
            `(n, features)` numbers, and texts or lists of words where there is a `Vocabulary`;
            any iterable (it is read into a list). A dict of these by the names of several
            inputs, where numbers `(n,)` are one feature. A word is one token of a vocabulary of
            words; of any other it is its tokens beside one another, -1 after them, as
            `rnnzoo.Characters` reads them.
        batch_size: number of lanes, at most the number of sequences.
        window: steps of a window, at most the steps of the longest lane.
        targets: None: the next step of the same sequence, so that a sequence of n steps gives
            n - 1 inputs; or for each sequence an array of as many targets, `(n, ...)`. Of
            several inputs, the name of the one whose next step it is.
        align: whether each sequence starts at the first step of a window.
        shuffle: whether each epoch has another order of sequences.
        seed: an integer; None draws one from NumPy's global generator. It is kept as `.seed`.
        windows_per_batch: windows in a batch, for `rnnzoo.TruncatedBPTT`.
        sample_weight: None, or for each sequence a number, or an array of n of them. A step's
            weight counts where it is the target, as in `stream`.
        static: values `(...)` of each sequence as a whole, by the names of inputs, each a list
            of one for each sequence.
        vocabulary: the number of tokens, which must lie in `[0, vocabulary)`, or the
            `Vocabulary` that also encodes texts; where inputs have names, a dict of these.
        check_finite: whether NaN and infinity are errors.

    Returns:
        A data set with `len()`, `lanes`, `window`, `epoch` (set it to resume a run), `seed`;
        `fit` cannot shuffle its batches.

    Raises:
        ValueError: on arguments that break these rules; the text names sequence and step.

    Example:

    >>> import numpy as np
    >>> songs = [np.array([1, 2, 3, 4]), np.array([5, 6, 7]), np.array([8, 9])]
    >>> batches = pack(songs, batch_size=2, window=3)
    >>> x, y, weight = batches[0]
    >>> x["inputs"]
    array([[1, 2, 3],
           [5, 6, 8]], dtype=int32)
    >>> x["reset"][1], y[1]
    (array([ True, False,  True]), array([6, 7, 9], dtype=int32))
    """
    align, shuffle = flag("align", align), flag("shuffle", shuffle)
    check_finite, seed = flag("check_finite", check_finite), _checks.seed("seed", seed)
    windows_per_batch = positive_integer("windows_per_batch", windows_per_batch)
    inputs = input_steps(sequences, "sequences", vocabulary, check_finite, static=static)
    fixed = static_values(static, "static", inputs, vocabulary, check_finite)
    targets, ahead = lane_targets(targets, inputs, check_finite)
    lengths = targets.lengths
    weights = lane_weights(sample_weight, lengths)
    steps = _steps_with_target(targets, ahead)
    batch_size = check_lanes(batch_size, len(steps), of="sequences, as a lane holds whole ones")
    grain = positive_integer("window", window) if align else 1
    costs = (-(-steps // grain) * grain).tolist()
    for part in (*inputs.values(), targets):
        part.check_all()
    plan, window, longest, seed = _plans(costs, steps, batch_size, window, shuffle, seed)
    return LaneDataset(
        inputs | {name: repeated(name, values, lengths) for name, values in fixed.items()},
        targets,
        weights,
        plan,
        ahead=ahead,
        lanes=batch_size,
        steps=longest,
        window=window,
        windows_per_batch=windows_per_batch,
        seed=seed,
    )


def _steps_with_target(targets: Steps, ahead: int) -> np.ndarray:
    """Steps of each sequence that have a target; ValueError where there is none."""
    steps = targets.lengths - ahead
    short = np.flatnonzero(steps < 1)
    if len(short):
        raise ValueError(
            "every one of sequences must have at least 2 steps, as each step's target is the "
            f"next one; received {len(short)} shorter, the first is {targets.name}[{short[0]}] "
            "(leave them out or give targets)"
        )
    return steps


def _plans(costs, steps, batch_size, window, shuffle, seed):
    """The plan of each epoch, the window checked, the steps of a lane, and the seed."""
    order = range(len(costs))
    if shuffle:
        order = sorted(order, key=costs.__getitem__, reverse=True)
    rows, longest = _refill(order, costs, batch_size)
    window, seed = check_window(window, longest, batch_size), seed_of_order(seed, shuffle)
    if not shuffle:
        lanes = [_lane(row, costs, steps) for row in rows]
        return partial(same_lanes, lanes), window, longest, seed
    windows = -(-longest // window)
    plan = partial(_shuffled, costs, steps, batch_size, window, windows)
    return plan, window, windows * window, seed


def _refill(order, costs: list[int], batch_size: int) -> tuple[list[list[int]], int]:
    """Sequences of each lane when the next always goes to the lane that is free first."""
    rows: list[list[int]] = [[] for _ in range(batch_size)]
    loads = [(0, lane) for lane in range(batch_size)]
    for i in order:
        load, lane = loads[0]
        rows[lane].append(i)
        heapq.heapreplace(loads, (load + costs[i], lane))
    return rows, max(load for load, _ in loads)


def _lane(row: list[int], costs: list[int], steps: np.ndarray) -> Lane:
    ends = np.cumsum([costs[i] for i in row])
    begin = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    return Lane(np.array(row), np.zeros(len(row), np.int64), begin, steps[row])


def _shuffled(costs, steps, batch_size, window, windows, seed, epoch) -> list[Lane]:
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(costs)).tolist()
    for part in _SORTED_PARTS:
        cut = len(order) - round(part * len(order))
        level = sorted(order[cut:], key=costs.__getitem__, reverse=True)
        rows, longest = _refill(order[:cut] + level, costs, batch_size)
        if -(-longest // window) == windows:
            break
    # The levelling put short sequences last in their lanes; a lane's order does not change
    # its length, so it can be shuffled now.
    rows = [random.permutation(row).tolist() for row in rows]
    return [_lane(rows[i], costs, steps) for i in random.permutation(batch_size)]
