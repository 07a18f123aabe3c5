"""What comes with each step or sequence: targets, sample weights, static values."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rnnzoo.data.reading import as_array, encoded, listed
from rnnzoo.data.steps import Steps
from rnnzoo.data.vocabularies import size_and_vocabulary


def as_targets(value: Any, name: str, count: int, of: str) -> np.ndarray:
    """`value` as an array of `count` targets, any shape `(count, ...)`.

    Raises:
        ValueError: another number of targets, or targets that are no numbers.
    """
    if not hasattr(value, "__len__") and isinstance(value, Iterable):
        value = listed(value, name)
    array = as_array(value, name)
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{name} must be numbers; received dtype {array.dtype}")
    if array.ndim == 0 or len(array) != count:
        raise ValueError(
            f"{name} must have one entry for each {of}, that is {count}; "
            f"received shape {array.shape}"
        )
    return array


def target_steps(given: Any, inputs: dict[str, Steps], check_finite: bool, note: str = "") -> Steps:
    """The targets at every step of the sequences of `inputs`, of any shape `(steps, ...)`."""
    steps = next(iter(inputs.values()))
    if steps.alone:
        array = as_targets(given, "targets", steps.lengths[0], of="step")
        return Steps("targets", [array], kind_of(array), None, check_finite, alone=True)
    arrays = listed(given, "targets")
    if len(arrays) != len(steps.lengths):
        raise ValueError(
            f"targets must have one array for each of the {len(steps.lengths)} sequences; "
            f"received {len(arrays)}"
        )
    arrays = [
        as_targets(one, f"targets[{i}]", steps.lengths[i], of=f"step of {steps.name}[{i}]{note}")
        for i, one in enumerate(arrays)
    ]
    kinds = [(kind_of(one), one.shape[1:]) for one in arrays]
    for i, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise ValueError(
                "all targets must have the same shape per step and be all integers or none; "
                f"received {kinds[0][0]} {kinds[0][1]} for targets[0] and "
                f"{kind[0]} {kind[1]} for targets[{i}]"
            )
    return Steps("targets", arrays, kinds[0][0], None, check_finite)


def lane_targets(given: Any, inputs: dict[str, Steps], check_finite: bool) -> tuple[Steps, int]:
    """The targets of lanes, and by how many steps they are ahead of the inputs: 0 or 1."""
    if given is None and "inputs" in inputs and len(inputs) == 1:
        return inputs["inputs"], 1
    if given is None or isinstance(given, str):
        if given not in inputs:
            raise ValueError(
                "of several inputs, targets must be arrays, or the name of the input whose next "
                f"step is the target, one of {', '.join(inputs)}; received targets={given!r}"
            )
        return inputs[given], 1
    return target_steps(given, inputs, check_finite), 0


def lane_weights(given: Any, lengths: np.ndarray, alone: bool = False) -> Steps:
    """The weights of steps as targets; 1 where none are given."""
    if given is None:
        ones = [np.broadcast_to(np.float32(1), (length,)) for length in lengths]
        return Steps("sample_weight", ones, "float32")
    return weight_steps(given, lengths, alone)


def repeated(name: str, values: np.ndarray, lengths: np.ndarray) -> Steps:
    """Values `(sequences, ...)` at each step of their sequences; they take no memory."""
    arrays = [
        np.broadcast_to(value, (length, *value.shape)) for value, length in zip(values, lengths)
    ]
    return Steps(name, arrays, kind_of(values))


def weight_steps(given: Any, lengths: np.ndarray, alone: bool = False) -> Steps:
    """The sample weights at every step, from one number for a sequence or one for each step."""
    values = [given] if alone else listed(given, "sample_weight")
    if len(values) != len(lengths):
        raise ValueError(
            f"sample_weight must have one entry for each of the {len(lengths)} sequences, a number "
            f"or one for each step; received {len(values)}"
        )
    arrays = []
    for i, (value, length) in enumerate(zip(values, lengths)):
        name = "sample_weight" if alone else f"sample_weight[{i}]"
        array = as_array(value, name)
        fits = array.shape == (length,) or (array.shape == () and not alone)
        if array.dtype.kind not in "iufb" or not fits:
            raise ValueError(
                f"{name} must be {'' if alone else 'a number or '}{length} numbers, one for each "
                f"step; received dtype {array.dtype}, shape {array.shape}"
            )
        arrays.append(np.broadcast_to(array, (length,)))
    weights = Steps("sample_weight", arrays, "float32", check_finite=True, alone=alone, least=0)
    return weights.check_all()


def per_sequence(
    given: Any,
    name: str,
    count: int,
    check_finite: bool,
    vocabulary: Any = None,
    argument: str = "vocabulary",
    least: float = -np.inf,
) -> np.ndarray:
    """One value `(count, ...)` for each sequence: int32 for integers, float32 for all else.

    Words become ids, as those of a sequence do, where there is a vocabulary.
    """
    size, words = size_and_vocabulary(argument, vocabulary)
    if words is not None:
        given = encoded(given, name, words)
    array = as_targets(given, name, count, of="sequence")
    if size is not None and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, as it has a vocabulary; received {array.dtype}")
    steps = Steps(
        name, [array], kind_of(array), size, check_finite, True, argument, least, unit="sequence"
    )
    return np.array(steps.check_all().read(0, 0, count))


def static_values(
    given: Any,
    name: str,
    inputs: dict[str, Steps],
    vocabulary: Any,
    check_finite: bool,
    argument: str = "vocabulary",
) -> dict[str, np.ndarray]:
    """One value `(sequences, ...)` for each sequence, by name; none where `given` is None.

    A real number is one feature, `(sequences, 1)`, as in a column of steps.
    """
    if given is None:
        return {}
    steps = next(iter(inputs.values()))
    known = vocabulary if isinstance(vocabulary, Mapping) else {}
    count, found = len(steps.lengths), {}
    for key in given:
        values = [given[key]] if steps.alone else given[key]
        place = f"{name}[{key!r}]"
        known_by = f"{argument}[{key!r}]"
        one = per_sequence(values, place, count, check_finite, known.get(key), known_by)
        found[key] = one[:, None] if one.ndim == 1 and one.dtype.kind == "f" else one
    return found


def kind_of(array: np.ndarray) -> str:
    """The dtype that values come back in: int32 for integers, float32 for all else."""
    return "int32" if array.dtype.kind in "iu" else "float32"
