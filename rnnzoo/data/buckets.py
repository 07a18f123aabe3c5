"""Whole sequences of like length together in a batch, padded and masked."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import array, flag, positive_integer, refuse
from rnnzoo.data.classes import class_weights
from rnnzoo.data.epochs import EpochDataset, seed_of_order
from rnnzoo.data.padding import padded_lengths, round_up
from rnnzoo.data.reading import check_names, input_steps
from rnnzoo.data.steps import Steps
from rnnzoo.data.targets import per_sequence, static_values, target_steps, weight_steps
from rnnzoo.data.tokens import TextVocabulary

# How far shuffling moves a sequence in the order by length, in batches.
_NEIGHBOURHOOD = 2


def bucket(
    sequences: Iterable | Mapping[str, Iterable],
    targets: Iterable | None = None,
    batch_size: int = 32,
    *,
    shuffle: bool = False,
    seed: int | None = None,
    pad_to_multiple_of: int | None = None,
    sample_weight: Iterable | None = None,
    class_weight: Mapping[int, float] | None = None,
    per_step: bool = False,
    static: Mapping[str, Iterable] | None = None,
    state: Mapping[str, Iterable] | None = None,
    vocabulary: int | TextVocabulary | Mapping | None = None,
    check_finite: bool = False,
) -> "BucketDataset":
    """Whole sequences, like lengths together, padded: a `keras.utils.PyDataset`.

    A batch is `({"inputs", "mask"}, y)`, or `({"inputs", "mask"},)` without targets, or
    `({"inputs", "mask"}, y, sample_weight)` where weights are given:

    - `inputs`: `(rows, T)` int32 tokens or `(rows, T, features)` float32, zeros after the end;
      by the names of the inputs where `sequences` is a dict, and beside them those of `static`,
      and `state`, a dict, where that is given;
    - `mask`: `(rows, T)` bool, True on real steps;
    - `y`: `(rows, ...)`, integers as int32, others as float32;
    - `sample_weight`: `(rows,)` float32.

    With `per_step=True` targets and weights are those of steps: `y` is `(rows, T, ...)`, zeros
    after the end, and there always are weights, `(rows, T)`, 0 after the end.

    Every sequence comes once in an epoch. T is one of few lengths, for each of which XLA
    compiles anew: at most 8, chosen to leave the least padding, or at most 16 where 8 would
    leave more than a tenth of all steps. The number of batches is
    `ceil(sequences / batch_size)`; the last may have fewer rows.

    Without shuffling, batches come from the longest to the shortest, so that a lack of memory
    shows at once; `order` tells where each row belongs, and `as_given` puts results back. With
    it, sequences mix with others of about the same length (within about 2 batches in the order
    by length), and batches come in random order, by seed and epoch.

    Args:
        sequences: arrays, lists, tables or memmap views, `(n,)` integer tokens or
            `(n, features)` numbers, and texts or lists of words where there is a `Vocabulary`;
            any iterable (it is read into a list). A dict of these by the names of several
            inputs, where numbers `(n,)` are one feature. A word is one token of a vocabulary of
            words; of any other it is its tokens beside one another, -1 after them, as
            `rnnzoo.Characters` reads them.
        targets: None, or one target of the same shape for each sequence.
        batch_size: rows of a batch.
        shuffle: whether each epoch has another order.
        seed: an integer; None draws one from NumPy's global generator. It is kept as `.seed`.
        pad_to_multiple_of: T is the longest of the batch, rounded up to a multiple of this
            (1: not rounded), instead of one of few lengths.
        sample_weight: None, or one weight for each sequence; with `per_step`, a number or an
            array of one for each step. It needs `targets`.
        class_weight: weights of the classes, by class, as in `fit`; for targets that are
            classes or one-hot. It multiplies `sample_weight`; a class without one weighs 1.
        per_step: whether targets are arrays of one target for each step.
        static: values `(...)` of each sequence as a whole, by the names of inputs, each a list
            of one for each sequence; a real number is one feature.
        state: the states that each sequence begins with, by the names that the model's
            `initial_state` has, each a list of one for each sequence; None for the model's own.
        vocabulary: the number of tokens, which must lie in `[0, vocabulary)`, or the
            `Vocabulary` that also encodes texts; where inputs have names, a dict of these.
        check_finite: whether NaN and infinity are errors.

    Returns:
        A data set with `len()`, `order` (sequence indices as served), `epoch` (set it to
        resume a run), `seed`.

    Raises:
        ValueError: on arguments that break these rules; the text names sequence and step.

    Example:

    >>> import numpy as np
    >>> words = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6])]
    >>> batches = bucket(words, [0, 1, 1], batch_size=2)
    >>> x, y = batches[0]
    >>> x["inputs"], y
    (array([[1, 2, 3],
           [5, 6, 0]], dtype=int32), array([0, 1], dtype=int32))
    >>> x["mask"].sum(axis=1)
    array([3, 2])
    >>> batches.order
    array([0, 2, 1])
    """
    batch_size = positive_integer("batch_size", batch_size)
    shuffle, check_finite = flag("shuffle", shuffle), flag("check_finite", check_finite)
    if pad_to_multiple_of is not None:
        positive_integer("pad_to_multiple_of", pad_to_multiple_of)
    _checks.seed("seed", seed)
    inputs = input_steps(sequences, "sequences", vocabulary, check_finite, static=static)
    fixed = static_values(static, "static", inputs, vocabulary, check_finite)
    if state is not None:
        count = len(next(iter(inputs.values())).lengths)
        fixed["state"] = {
            name: per_sequence(state[name], f"state[{name!r}]", count, check_finite)
            for name in check_names("state", state, {"state"} & {*inputs, *fixed})
        }
    others = _others(inputs, targets, sample_weight, class_weight, flag("per_step", per_step))
    for steps in inputs.values():
        steps.check_all()
    return BucketDataset(
        inputs,
        fixed,
        others,
        batch_size=batch_size,
        multiple=pad_to_multiple_of,
        shuffle=shuffle,
        seed=seed_of_order(seed, shuffle),
    )


def _others(
    inputs: dict[str, Steps], targets: Any, sample_weight: Any, class_weight: Any, per_step: bool
) -> list[np.ndarray | Steps]:
    """Targets and weights as far as they are given: of sequences as arrays, of steps as `Steps`."""
    steps = next(iter(inputs.values()))
    given = {"sample_weight": sample_weight, "class_weight": class_weight}
    given = {name: value for name, value in given.items() if value is not None}
    if targets is None:
        if given or per_step:
            named = ", ".join(given) or "per_step=True"
            raise ValueError(f"{named} must come with targets; received targets=None")
        return []
    if per_step:
        note = ", as per_step=True"
        made = target_steps(targets, inputs, steps.check_finite, note).check_all()
        ones = np.ones(len(steps.lengths)) if sample_weight is None else sample_weight
        weights = weight_steps(ones, steps.lengths)
        if class_weight is not None:
            of_classes = [class_weights(class_weight, array) for array in made.arrays]
            arrays = [w * c for w, c in zip(weights.arrays, of_classes)]
            weights = Steps("sample_weight", arrays, "float32")
        return [made, weights]
    count = len(steps.lengths)
    others = [per_sequence(targets, "targets", count, steps.check_finite)]
    if not given:
        return others
    weights = np.ones(count, np.float32)
    if sample_weight is not None:
        weights = per_sequence(sample_weight, "sample_weight", count, True, least=0)
        weights = weights.astype(np.float32)
    if weights.ndim != 1:
        raise ValueError(
            f"sample_weight must be one number for each target; received shape {weights.shape}"
        )
    if class_weight is not None:
        weights = weights * class_weights(class_weight, others[0])
    return [*others, weights]


class BucketDataset(EpochDataset):
    """Padded batches of whole sequences: what `rnnzoo.data.bucket` returns.

    Attributes:
        batch_size: rows of a batch, at most.
        epoch: the epoch that is served; set it to resume.
        seed: the seed of the order.
    """

    def __init__(
        self,
        inputs: dict[str, Steps],
        static: dict[str, Any],
        others: list[np.ndarray | Steps],
        *,
        batch_size: int,
        multiple: int | None,
        shuffle: bool,
        seed: int,
    ):
        super().__init__(batch_size, seed)
        self._inputs, self._static, self._others = inputs, static, others
        self._per_step = bool(others) and isinstance(others[0], Steps)
        self._shuffle = shuffle
        self._lengths = next(iter(inputs.values())).lengths
        self._padded = padded_lengths(self._lengths, multiple)
        self._count = -(-len(self._lengths) // batch_size)
        self._left = len(self._lengths) % batch_size
        self._steps = int(self._padded[0]) if len(self._padded) == 1 else None

    @property
    def order(self) -> np.ndarray:
        """Indices of the sequences in the order in which the present epoch serves them."""
        return np.concatenate(self._planned_of(self.epoch))

    def as_given(self, served: Any) -> Any:
        """Results for the rows as the present epoch serves them, in the order of the sequences.

        Args:
            served: an array `(sequences, ...)`, or a nest of them, as `keras.Model.predict` of
                this data set gives.

        Raises:
            ValueError: another number of rows.
        """
        places = np.argsort(self.order)

        def put_back(values: Any) -> np.ndarray:
            rows = array("served", values)
            if rows.shape[:1] != places.shape:
                raise ValueError(
                    f"served must have a row for each of the {len(places)} sequences; "
                    f"received shape {rows.shape}"
                )
            return rows[places]

        try:
            return keras.tree.map_structure(put_back, served)
        except RecursionError:
            raise refuse("served", "an array, or a nest of some levels", served) from None

    def _plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        return self._shuffled(seed, epoch) if self._shuffle else self._sorted()

    def _sorted(self) -> list[np.ndarray]:
        order = np.argsort(-self._lengths, kind="stable")
        return np.split(order, range(self.batch_size, len(order), self.batch_size))

    def _shuffled(self, seed: int, epoch: int) -> list[np.ndarray]:
        random = np.random.default_rng([seed, epoch])
        # Sequences of one length first change places at random, then all move a little.
        order = random.permutation(len(self._lengths))
        order = order[np.argsort(self._lengths[order], kind="stable")]
        reach = _NEIGHBOURHOOD * self.batch_size
        rank = np.arange(len(order)) + random.uniform(0, reach, len(order))
        order = order[np.argsort(rank)]
        # Else the short batch would always hold the longest sequences.
        short = len(order) % self.batch_size
        cut = int(random.integers(len(self))) * self.batch_size
        last, rest = order[cut : cut + short], np.delete(order, slice(cut, cut + short))
        batches = rest.reshape(-1, self.batch_size)
        batches = [batches[i] for i in random.permutation(len(batches))]
        return [*batches, last] if short else batches

    def _batch(self, index: int, epoch: int) -> tuple[Any, ...]:
        rows = self._planned_of(epoch)[index]
        own = self._own(len(rows))
        longest = round_up(self._lengths[rows].max(), self._padded)
        rows, x = rows[own], {}
        for name, steps in self._inputs.items():
            x[name] = below_one_another(steps, rows, longest)
        x["mask"] = np.arange(longest) < self._lengths[rows, None]
        x |= keras.tree.map_structure(lambda values: values[rows], self._static)
        others = (
            below_one_another(other, rows, longest) if self._per_step else other[rows]
            for other in self._others
        )
        return x, *others

    def _without_steps(self) -> Iterable[str]:
        return self._static


def below_one_another(steps: Steps, rows: np.ndarray, longest: int) -> np.ndarray:
    """The sequences `rows` in an array `(rows, longest, ...)`, zeros after their ends."""
    values = np.zeros((len(rows), longest, *steps.shape), steps.dtype)
    for row, i in enumerate(rows):
        length = steps.lengths[i]
        values[row, :length] = steps.read(i, 0, length)
    return values
