"""Pairs of source and target sequences of like length together in a batch, padded and masked."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import flag, positive_integer
from rnnzoo.data.buckets import BucketDataset, below_one_another
from rnnzoo.data.epochs import seed_of_order
from rnnzoo.data.padding import padded_lengths, round_up
from rnnzoo.data.reading import check_names, steps_of, vocabularies
from rnnzoo.data.steps import Steps
from rnnzoo.data.targets import static_values
from rnnzoo.data.tokens import TextVocabulary

# What a batch of pairs has where no input has a name of its own.
FLAGS = ("source_mask", "source_lengths", "target_mask", "target_lengths")
KEYS = ("source", "target", *FLAGS)


def pairs(
    sources: Iterable | Mapping[str, Iterable],
    targets: Iterable,
    batch_size: int = 32,
    *,
    shuffle: bool = False,
    seed: int | None = None,
    pad_to_multiple_of: int | None = None,
    static: Mapping[str, Iterable] | None = None,
    target_inputs: Mapping[str, Iterable] | None = None,
    source_vocabulary: int | TextVocabulary | Mapping | None = None,
    target_vocabulary: int | TextVocabulary | Mapping | None = None,
    check_finite: bool = False,
) -> "PairDataset":
    """Sources and their targets, like lengths together, padded: a `keras.utils.PyDataset`.

    For `encoder_decoder`. A batch is `({"source", "source_mask", "target", "target_mask"},)`:

    - `source`, `target`: `(rows, T)` int32 tokens or `(rows, T, features)` float32, zeros after
      the end; T is one of the few lengths of that side, as in `bucket`;
    - `source_mask`, `target_mask`: `(rows, T)` bool, True on real steps.

    Several inputs stand by their names in the place of "source", and beside all of it what is
    `static`, `(rows, ...)`, and the `target_inputs`, which have the steps of the target.

    Targets come without start and end tokens, which the model adds. Order and shuffling are
    those of `bucket`, by the length of both sides together.

    Args:
        sources: arrays, lists or tables, `(n,)` integer tokens or `(n, features)` numbers, and
            texts where there is a `Vocabulary`; any iterable. A dict of these by the names of
            several inputs, where numbers `(n,)` are one feature.
        targets: the same, one for each source.
        batch_size: rows of a batch.
        shuffle: whether each epoch has another order.
        seed: an integer; None draws one from NumPy's global generator. It is kept as `.seed`.
        pad_to_multiple_of: T is the longest of the side in the batch, rounded up to a multiple
            of this (1: not rounded), instead of one of few lengths.
        static: values `(...)` of each pair as a whole, by the names of inputs, each a list of one
            for each pair.
        target_inputs: what is known beforehand of each step of the targets, by the names of
            inputs, each one sequence for each target, of as many steps.
        source_vocabulary, target_vocabulary: the number of tokens, which must lie in
            `[0, vocabulary)`, or the `Vocabulary` that also encodes texts. Or a dict of these, by
            the names of the sources and of what is static, and by "target" and the names of
            the `target_inputs`.
        check_finite: whether NaN and infinity are errors.

    Returns:
        A data set with `len()`, `order` (indices of the pairs as served), `epoch`, `seed`.

    Raises:
        ValueError: on arguments that break these rules; the text names sequence and step.

    Example:

    >>> batches = pairs([[1, 2], [3]], [[4], [5, 6, 7]], batch_size=2)
    >>> x = batches[0][0]
    >>> x["source"], x["target"]
    (array([[3, 0],
           [1, 2]], dtype=int32), array([[5, 6, 7],
           [4, 0, 0]], dtype=int32))
    """
    batch_size = positive_integer("batch_size", batch_size)
    shuffle, check_finite = flag("shuffle", shuffle), flag("check_finite", check_finite)
    if pad_to_multiple_of is not None:
        positive_integer("pad_to_multiple_of", pad_to_multiple_of)
    _checks.seed("seed", seed)
    beside = {} if target_inputs is None else _named("target_inputs", target_inputs, ("target",))
    named = isinstance(sources, Mapping)
    given = _named("sources", sources, beside) if named else {"source": sources}
    fixed = () if static is None else check_names("static", static, {*KEYS, *given, *beside})
    place = "sources" if named else "source"
    known = vocabularies(
        source_vocabulary, [*given, *fixed], place, named, argument="source_vocabulary"
    )
    sides = {"source": _side(given, "sources", named, known, check_finite)}
    argument = "source_vocabulary"
    values = static_values(static, "static", sides["source"], known, check_finite, argument)
    known = vocabularies(
        target_vocabulary, ["target", *beside], "target", bool(beside), argument="target_vocabulary"
    )
    sides["target"] = _side({"target": targets}, "targets", False, known, check_finite)
    if beside:
        sides["target"] |= _side(beside, "target_inputs", True, known, check_finite)
    counts = [len(next(iter(side.values())).arrays) for side in sides.values()]
    if counts[0] != counts[1]:
        raise ValueError(
            "every source must have one target; "
            f"received {counts[0]} sources and {counts[1]} targets"
        )
    for side in sides.values():
        _check_lengths(*side.values())
    return PairDataset(
        sides,
        values,
        batch_size=batch_size,
        multiple=pad_to_multiple_of,
        shuffle=shuffle,
        seed=seed_of_order(seed, shuffle),
    )


def _named(argument: str, given: Any, taken: Iterable[str]) -> dict[str, Any]:
    """Inputs by name; a source may be called so among several."""
    others = {*KEYS, *taken} - ({"source"} if argument == "sources" else set())
    return {name: given[name] for name in check_names(argument, given, sorted(others))}


def _side(
    given: dict[str, Any], place: str, named: bool, known: dict[str, Any], check_finite: bool
) -> dict[str, Steps]:
    """The checked steps of the inputs `given` for one side, by name."""
    side = "source" if place == "sources" else "target"
    made = {}
    for name, values in given.items():
        argument = f"{side}_vocabulary" + f"[{name!r}]" * named
        label = f"{place}[{name!r}]" if named else place
        options = {"argument": argument, "column": named and name != "target"}
        made[name] = steps_of(values, label, known.get(name), check_finite, **options)
        made[name].check_all()
    return made


def _check_lengths(first: Steps, *others: Steps) -> None:
    for other in others:
        if not np.array_equal(first.lengths, other.lengths):
            raise ValueError(
                f"{other.name} must have the numbers of steps of {first.name}; received "
                f"{_checks.shown(other.lengths.tolist())} and "
                f"{_checks.shown(first.lengths.tolist())}"
            )


class PairDataset(BucketDataset):
    """Padded batches of sources and targets: what `rnnzoo.data.pairs` returns."""

    def __init__(
        self,
        sides: dict[str, dict[str, Steps]],
        static: dict[str, np.ndarray],
        *,
        multiple: int | None,
        **options: Any,
    ):
        super().__init__(
            sides["source"] | sides["target"], static, [], multiple=multiple, **options
        )
        of_sides = {side: next(iter(steps.values())).lengths for side, steps in sides.items()}
        self._inputs_of, self._lengths_of = sides, of_sides
        self._lengths = sum(of_sides.values())
        self._sides = {side: padded_lengths(v, multiple) for side, v in of_sides.items()}
        self._steps = None

    def _batch(self, index: int, epoch: int) -> tuple[Any, ...]:
        rows = self._planned_of(epoch)[index]
        own, x = self._own(len(rows)), {}
        for side, inputs in self._inputs_of.items():
            lengths = self._lengths_of[side]
            longest = round_up(lengths[rows].max(), self._sides[side])
            for name, steps in inputs.items():
                x[name] = below_one_another(steps, rows[own], longest)
            x[f"{side}_mask"] = np.arange(longest) < lengths[rows[own], None]
        return (x | {name: values[rows[own]] for name, values in self._static.items()},)
